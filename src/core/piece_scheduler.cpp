#include "core/piece_scheduler.h"

#include <algorithm>

namespace mesh {
namespace {

/// Updates come ten times a second: whoever was to be asked first for a piece has had time enough by then.
constexpr int patience_updates = 20;
/// What is to be read next comes before what is rarer: holes are filled.
constexpr int urgent_pieces = 8;
constexpr int near_pieces = 64;

/// SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014).
std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/// Rendezvous hashing: whether `self` comes first for this piece among `getters`, `except` left out.
bool comes_first(std::size_t piece, std::uint64_t self, const std::vector<std::uint64_t>& getters,
                 std::uint64_t except = 0) {
  const auto weight = [piece](std::uint64_t id) { return std::pair(mix(id ^ mix(piece)), id); };
  return std::ranges::none_of(getters, [&](std::uint64_t id) { return id != except && weight(id) > weight(self); });
}

}  // namespace

PieceScheduler::PieceScheduler(const Options& options)
    : options_(options), pieces_(static_cast<std::size_t>(options.pieces)) {
  options_.window = std::max(options_.window, 1);
}

PieceScheduler::CursorId PieceScheduler::add_cursor(int piece) {
  cursors_[++last_cursor_] = {piece, false};
  return last_cursor_;
}

void PieceScheduler::move_cursor(CursorId cursor, int piece) {
  if (const auto it = cursors_.find(cursor); it != cursors_.end()) it->second = {piece, false};
}

void PieceScheduler::wait_at_cursor(CursorId cursor) {
  if (const auto it = cursors_.find(cursor); it != cursors_.end()) it->second.is_waiting = true;
}

int PieceScheduler::slowest_cursor() const {
  int out = -1;
  for (const auto& [id, cursor] : cursors_) out = out < 0 ? cursor.piece : std::min(out, cursor.piece);
  return out;
}

bool PieceScheduler::is_hungry() const {
  // Where nothing is dropped, the window is ahead of all readers and always has something to ask for.
  return options_.whole || !options_.drops ||
         std::ranges::any_of(cursors_, [](const auto& known) { return known.second.is_waiting; });
}

void PieceScheduler::set_getters(std::uint64_t self, const std::vector<std::uint64_t>& getters) {
  self_ = self;
  getters_ = getters;
  for (std::size_t i = 0; i < pieces_.size(); ++i) assign(pieces_[i], i);
}

void PieceScheduler::set_known(int piece, std::uint64_t by) {
  auto& one = pieces_.at(static_cast<std::size_t>(piece));
  one.known = true;
  one.by = by;
  fetchers_.insert(by);
  assign(one, static_cast<std::size_t>(piece));
}

void PieceScheduler::assign(Piece& piece, std::size_t index) const {
  if (options_.sharing != Sharing::offered) piece.mine = comes_first(index, self_, getters_, piece.by);
}

/// Which pieces readers need next.
void PieceScheduler::look_at_cursors(const std::vector<bool>& have) {
  fronts_.clear();
  const int last = options_.pieces - 1;
  for (auto& [id, cursor] : cursors_) {
    int front = std::min(cursor.piece, last);
    while (!options_.drops && front < last && have[static_cast<std::size_t>(front)]) ++front;
    fronts_.insert(front);
  }
  position_ = fronts_.empty() ? last : *fronts_.begin();
}

bool PieceScheduler::is_wanted(int index) const {
  if (options_.whole) return true;
  const int ahead = index - position_;
  return !fronts_.empty() && ahead >= 0 && ahead < options_.window;
}

/// What is read next first, whoever has it.
std::uint8_t PieceScheduler::by_nearness(int index) const {
  auto front = fronts_.upper_bound(index);
  if (front == fronts_.begin()) return 4;
  const int ahead = index - *--front;
  return ahead < urgent_pieces ? 7 : ahead < near_pieces ? 6 : 4;
}

bool PieceScheduler::may_be_asked_for(Piece& piece, int holders) const {
  if (piece.open || options_.sharing != Sharing::first_hop) return true;
  if (piece.known && holders > 0) ++piece.waited;
  const bool about_all_fetch = getters_.size() <= 2 * fetchers_.size();
  // What is open stays so: it was asked for.
  piece.open = piece.known && (about_all_fetch || piece.mine || holders > 1 || piece.waited > patience_updates);
  return piece.open;
}

PieceScheduler::Changes PieceScheduler::update(const std::vector<bool>& have, std::span<const int> availability) {
  Changes changes;
  if (!is_at_work()) return changes;
  look_at_cursors(have);
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    if (have[i]) continue;
    auto& piece = pieces_[i];
    const int index = static_cast<int>(i);
    const int holders = i < availability.size() ? availability[i] : 0;
    const bool is_open = may_be_asked_for(piece, holders);
    const std::uint8_t wanted = is_open && is_wanted(index) ? by_nearness(index) : 0;
    if (wanted == piece.priority) continue;
    piece.priority = wanted;
    changes.emplace_back(index, wanted);
  }
  return changes;
}

}  // namespace mesh
