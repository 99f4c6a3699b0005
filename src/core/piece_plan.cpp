#include "core/piece_plan.h"

#include <algorithm>

namespace mesh {
namespace {

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

/// The pieces of `self`'s stripe.
std::vector<bool> share(std::size_t pieces, std::uint64_t self, const std::vector<std::uint64_t>& getters) {
  std::vector<bool> out(pieces);
  for (std::size_t piece = 0; piece < pieces; ++piece) out[piece] = comes_first(piece, self, getters);
  return out;
}

/// Updates come ten times a second: whoever was to be asked first for a piece has had time enough by then.
constexpr int patience_updates = 20;
/// What is to be read next comes before what is rarer: holes are filled.
constexpr int urgent_pieces = 8;
constexpr int near_pieces = 64;

}  // namespace

/// A piece is handed on when it is whole: the fewer bytes it has, the sooner. The more there are, the more messages.
constexpr std::int64_t most_pieces = 1024;
constexpr std::int64_t most_roots = 128 * 1024;

std::int64_t piece_length_for(std::int64_t size) {
  size = std::min(size, most_torrent_bytes);
  std::int64_t length = 64 * 1024;
  while (length < 16 * 1024 * 1024 && size > length * most_pieces) length *= 2;
  while (size > length * most_roots) length *= 2;
  return length;
}

int piece_count_for(std::int64_t size) {
  const auto length = piece_length_for(size);
  return static_cast<int>((std::min(size, most_torrent_bytes) + length - 1) / length);
}

OrderedGate::OrderedGate(int pieces) : priority_(static_cast<std::size_t>(pieces), 255) {}  // none: all are set first

PieceGate::Changes OrderedGate::update(const std::vector<bool>& have, std::span<const int>, int) {
  const auto next = static_cast<int>(std::ranges::find(have, false) - have.begin());
  Changes changes;
  for (std::size_t i = 0; i < priority_.size(); ++i) {
    if (have[i]) continue;
    const int ahead = static_cast<int>(i) - next;
    const std::uint8_t wanted = ahead < urgent_pieces ? 7 : ahead < near_pieces ? 6 : 4;
    if (wanted == priority_[i]) continue;
    priority_[i] = wanted;
    changes.emplace_back(static_cast<int>(i), wanted);
  }
  return changes;
}

StreamGate::StreamGate(int pieces, int window)
    : window_(std::max(window, 1)),
      mine_(static_cast<std::size_t>(pieces), true),
      priority_(static_cast<std::size_t>(pieces), 255) {}  // none: the first update sets all

void StreamGate::set_getters(std::uint64_t self, const std::vector<std::uint64_t>& getters) {
  getters_ = getters.size();
  mine_ = share(mine_.size(), self, getters);
}

void StreamGate::set_reader(int position, bool starving) {
  if (starving)
    reach_ = std::min(std::max(reach_, 1) * 2, window_);
  else if (position != position_)
    reach_ = std::max(1, reach_ - 1);
  position_ = position;
}

PieceGate::Changes StreamGate::update(const std::vector<bool>& have, std::span<const int> availability, int sources) {
  const bool shared = getters_ >= 2 && static_cast<std::size_t>(sources) < getters_;
  Changes changes;
  for (std::size_t i = 0; i < priority_.size(); ++i) {
    if (have[i]) continue;
    const int ahead = static_cast<int>(i) - position_;
    const bool elsewhere = i < availability.size() && availability[i] > sources;
    const int nearness = ahead < 8 ? 2 : ahead < 32 ? 1 : 0;
    std::uint8_t wanted = 0;
    if (ahead >= 0 && ahead < window_) {
      // The source has the others' pieces too: it must be asked for those of this stripe first.
      if (!shared || mine_[i] || (ahead < reach_ && !elsewhere))
        wanted = static_cast<std::uint8_t>(5 + nearness);
      else if (elsewhere)
        wanted = static_cast<std::uint8_t>(2 + nearness);
    }
    if (wanted == priority_[i]) continue;
    priority_[i] = wanted;
    changes.emplace_back(static_cast<int>(i), wanted);
  }
  return changes;
}

UrlGate::UrlGate(int pieces) : pieces_(static_cast<std::size_t>(pieces)) {}

void UrlGate::assign(Known& piece, std::size_t index) const {
  piece.mine = comes_first(index, self_, getters_, piece.by);
}

void UrlGate::set_getters(std::uint64_t self, const std::vector<std::uint64_t>& getters) {
  self_ = self;
  getters_ = getters;
  for (std::size_t i = 0; i < pieces_.size(); ++i) assign(pieces_[i], i);
}

void UrlGate::set_known(int piece, std::uint64_t by) {
  auto& one = pieces_.at(static_cast<std::size_t>(piece));
  one.known = true;
  one.by = by;
  fetchers_.insert(by);
  assign(one, static_cast<std::size_t>(piece));
}

PieceGate::Changes UrlGate::update(const std::vector<bool>& have, std::span<const int> availability, int) {
  const bool about_all_fetch = getters_.size() <= 2 * fetchers_.size();
  Changes changes;
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    auto& piece = pieces_[i];
    if (have[i]) continue;
    const int holders = i < availability.size() ? availability[i] : 0;
    if (piece.known && holders > 0) ++piece.waited;
    const bool open = piece.known && (about_all_fetch || piece.mine || holders > 1 || piece.waited > patience_updates);
    const std::uint8_t wanted = open ? 4 : 0;
    // What is open stays so: it was asked for.
    if (wanted == piece.priority || piece.priority == 4) continue;
    piece.priority = wanted;
    changes.emplace_back(static_cast<int>(i), wanted);
  }
  return changes;
}

}  // namespace mesh
