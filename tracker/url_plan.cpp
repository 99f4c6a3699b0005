#include "url_plan.h"

#include <algorithm>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/piece_plan.h"

namespace mesh {
namespace {

using std::chrono::seconds;

constexpr auto silent_after = seconds(60);   // a member that says nothing has gone
constexpr auto stalled_after = seconds(45);  // an owner that fetches nothing gives the piece to another
constexpr auto forgotten_after = seconds(5);
constexpr auto restart_grace = std::chrono::milliseconds(2500);
constexpr int most_changes = 6;
constexpr std::int64_t least_run_bytes = 256 * 1024;
constexpr std::int64_t most_run_bytes = std::int64_t{32} << 20;
constexpr std::size_t most_error_bytes = 1000;
constexpr std::size_t most_news = 20'000;  // in one answer

}  // namespace

bool UrlPlan::is_over() const {
  return std::ranges::all_of(members_, [](const auto& pair) { return pair.second.whole; });
}

int UrlPlan::able_members() const {
  return static_cast<int>(
      std::ranges::count_if(members_, [](const auto& pair) { return pair.second.able && !pair.second.whole; }));
}

void UrlPlan::release(NodeKey node) {
  for (auto& piece : pieces_)
    if (piece.owner == node) piece.owner = 0;
  if (first_ == node) first_ = 0;
}

void UrlPlan::leave(NodeKey node) {
  if (members_.erase(node) == 0) return;
  release(node);
  // What it alone had is to be fetched again.
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    if (!pieces_[i].fetched) continue;
    pieces_[i].fetched = std::ranges::any_of(members_, [&](const auto& pair) {
      return pair.second.whole || (i < pair.second.have.size() && pair.second.have[i] != '\0');
    });
  }
}

void UrlPlan::expire(TimePoint now) {
  std::vector<NodeKey> gone;
  for (const auto& [key, member] : members_)
    if (!member.whole && now - member.seen > silent_after) gone.push_back(key);
  for (const auto key : gone) leave(key);
  for (auto& piece : pieces_)
    if (piece.owner != 0 && !piece.fetched && now - piece.since > stalled_after) piece.owner = 0;
}

void UrlPlan::begin_anew() {
  ++epoch_;
  pieces_.clear();
  news_.clear();
  for (auto& [key, member] : members_) member.have.clear();
}

void UrlPlan::take_facts(NodeKey node, const UrlFacts& said, TimePoint now) {
  if (said.size < 0 || said == facts_) return;
  if (const auto fault = url_facts_fault(said); !fault.empty())
    throw Error(Status::failed, "no sensible facts of a URL: " + fault);
  if (plain_ && said.size == facts_.size) return;
  auto facts = said;
  if (facts_.size >= 0) {
    if (changes_ <= most_changes) earlier_.push_back(facts_);
    // Servers that take turns, or one that calls each answer another: then none of that counts.
    plain_ = said.size == facts_.size && (servers_take_turns(earlier_, facts_, said) || changes_ == most_changes);
    if (plain_) facts = without_validator(std::move(facts));
    // The word of the one who asks now counts: it has asked last. All begin anew.
    if (!plain_ && ++changes_ > most_changes) {
      error_ = "the origin has something else each time that it is asked";
      status_ = Status::failed;
      return;
    }
    begin_anew();
  }
  facts_ = facts;
  const bool asked_first = std::exchange(first_, 0) == node;
  const auto count = static_cast<std::size_t>(piece_count_for(facts.size));
  pieces_.assign(count, Piece{});
  if (!asked_first) return;
  // Its first question was for these; without ranges, for everything.
  const auto length = piece_length_for(facts.size);
  const auto asked = facts.ranges ? static_cast<std::size_t>((url_first_bytes + length - 1) / length) : count;
  for (std::size_t i = 0; i < std::min(asked, count); ++i) {
    pieces_[i].owner = node;
    pieces_[i].since = now;
  }
}

void UrlPlan::take_pieces(NodeKey node, const OriginReport& said, TimePoint now) {
  for (const auto& one : said.pieces) {
    if (one.index < 0 || static_cast<std::size_t>(one.index) >= pieces_.size() || !one.root.is_set())
      throw Error(Status::failed, "no sensible piece of a URL");
    auto& piece = pieces_[static_cast<std::size_t>(one.index)];
    if (piece.owner == node) {
      piece.owner = 0;
      for (auto& other : pieces_)
        if (other.owner == node) other.since = now;
    }
    piece.fetched = true;
    if (piece.root == one.root) continue;
    if (piece.root.is_set()) {
      // The same facts and other bytes: two versions that the origin does not tell apart.
      error_ = "the origin's file changed while it was fetched";
      status_ = Status::failed;
      broken_ = true;
      return;
    }
    piece.root = one.root;
    piece.by = node;
    news_.push_back(one.index);
  }
  auto& have = members_[node].have;
  have = said.have.size() == pieces_.size() ? said.have : std::string();
  for (std::size_t i = 0; i < have.size(); ++i) {
    if (have[i] == '\0' || !pieces_[i].root.is_set()) continue;
    pieces_[i].fetched = true;
    if (pieces_[i].owner == node) pieces_[i].owner = 0;
  }
}

void UrlPlan::assign(NodeKey node, OriginAssignment& orders, TimePoint now) {
  if (now < hold_until_) return;
  if (facts_.size < 0) {
    if (first_ == 0) first_ = node;
    orders.first = first_ == node;
    return;
  }
  // What it has not fetched while it did nothing, it does not know of.
  for (auto& piece : pieces_)
    if (piece.owner == node && now - piece.since > forgotten_after) piece.owner = 0;
  std::set<NodeKey> fetchers;
  int free = 0;
  for (const auto& piece : pieces_) {
    if (piece.owner != 0) fetchers.insert(piece.owner);
    if (piece.owner == 0 && !piece.fetched) ++free;
  }
  const int most = facts_.ranges ? most_url_fetchers : 1;
  if (free == 0 || (!fetchers.contains(node) && static_cast<int>(fetchers.size()) >= most)) return;
  const auto length = piece_length_for(facts_.size);
  const auto in_pieces = [&](std::int64_t bytes) { return std::max<std::int64_t>(1, bytes / length); };
  // Long runs first, short ones in the end, so that all are done at about the same time.
  const auto sharing = std::min(most, std::max(1, able_members()));
  auto run = std::clamp<std::int64_t>(free / (3 * sharing), in_pieces(least_run_bytes), in_pieces(most_run_bytes));
  const auto is_free = [](const Piece& piece) { return piece.owner == 0 && !piece.fetched; };
  const auto begin = std::ranges::find_if(pieces_, is_free);
  auto end = begin;
  for (auto piece = begin; piece != pieces_.end(); ++piece) {
    // Without ranges all of the file is sent again, so that one pass must bring whatever is missing.
    if (facts_.ranges && (!is_free(*piece) || piece - begin >= run)) break;
    if (!is_free(*piece)) continue;
    piece->owner = node;
    piece->since = now;
    end = piece + 1;
  }
  orders.begin = static_cast<int>(begin - pieces_.begin());
  orders.end = static_cast<int>(end - pieces_.begin());
}

OriginAssignment UrlPlan::turn(NodeKey node, const OriginReport& said, TimePoint now) {
  expire(now);
  if (said.leave) {
    leave(node);
    return {};
  }
  // A member of an earlier plan, of before this tracker was started: the others will say what they have, too.
  if (said.epoch != 0 && (said.epoch > epoch_ || said.epoch < epoch_ - 10) && facts_.size < 0 && said.facts.size >= 0)
    hold_until_ = now + restart_grace;
  auto& member = members_[node];
  member.seen = now;
  if (said.whole) member.whole = true;
  if (!said.error.empty()) {
    member.able = false;
    release(node);
    error_ = said.error.substr(0, most_error_bytes);
    status_ = said.status;
  }
  // Who is behind the times is told the news first.
  if (facts_.size < 0 || said.epoch == epoch_) take_facts(node, said.facts, now);
  OriginAssignment out;
  const bool current = said.epoch == epoch_;
  // Facts that it has from elsewhere may be others than these.
  if (facts_.size >= 0 && (current || said.facts == facts_)) take_pieces(node, said, now);
  if (said.idle && member.able && !member.whole) assign(node, out, now);
  out.epoch = epoch_;
  out.facts = facts_;
  auto at = current ? static_cast<std::size_t>(std::clamp<int>(said.known, 0, static_cast<int>(news_.size()))) : 0;
  for (; at < news_.size() && out.pieces.size() < most_news; ++at) {
    const auto& piece = pieces_[static_cast<std::size_t>(news_[at])];
    out.pieces.push_back({news_[at], piece.root, piece.by});
  }
  out.known = static_cast<int>(at);
  out.over = std::ranges::any_of(members_, [](const auto& pair) { return pair.second.whole; });
  out.pause = std::clamp(static_cast<int>(members_.size()) * 5, 100, 2000);
  const bool all_fetched =
      facts_.size >= 0 && std::ranges::all_of(pieces_, [](const Piece& piece) { return piece.fetched; });
  if (broken_ || (!out.over && !all_fetched && (able_members() == 0 || changes_ > most_changes))) {
    out.error = error_;
    out.status = status_;
  }
  return out;
}

}  // namespace mesh
