#include "core/super_seed_policy.h"

#include <algorithm>
#include <deque>
#include <map>
#include <numeric>
#include <set>

#include "swarm_sim.h"
#include "test.h"

using mesh::SuperSeedPolicy;
using mesh::test::SimNode;
using mesh::test::SimOptions;
using mesh::test::simulate;
using std::chrono::milliseconds;

namespace {

SuperSeedPolicy::Time at(int ms) { return SuperSeedPolicy::Time(milliseconds(1'000'000 + ms)); }

std::map<std::uint64_t, std::vector<int>> by_getter(const std::vector<SuperSeedPolicy::Offer>& offers) {
  std::map<std::uint64_t, std::vector<int>> out;
  for (const auto& offer : offers) out[offer.to].push_back(offer.piece);
  return out;
}

std::vector<SimNode> equal(int getters) { return std::vector<SimNode>(static_cast<std::size_t>(getters) + 1); }

/// The last of them, against the time of one copy over the slowest part of its way.
double last(const std::vector<double>& took) {
  CHECK(std::ranges::none_of(took, [](double t) { return t < 0; }));
  return *std::ranges::max_element(took);
}

}  // namespace

TEST_CASE("offers: while one copy is not out, no piece goes to two getters") {
  SuperSeedPolicy book(64, 65536, 1);
  std::vector<int> offered(64);
  std::vector<std::pair<std::uint64_t, int>> open;
  for (std::uint64_t getter = 1; getter <= 4; ++getter) book.join(getter, std::vector<bool>(64), at(0));
  for (int ms = 0; book.unoffered() > 0; ms += 10) {
    for (const auto& offer : book.next(at(ms))) {
      ++offered[static_cast<std::size_t>(offer.piece)];
      open.emplace_back(offer.to, offer.piece);
    }
    REQUIRE_FALSE(open.empty());
    book.sent(open.front().first, 65536, at(ms));
    book.has(open.front().first, open.front().second, at(ms));
    open.erase(open.begin());
  }
  CHECK(std::ranges::count(offered, 0) == 0);
  // The last answer may have been followed by offers of a second copy.
  CHECK(std::accumulate(offered.begin(), offered.end(), 0) <= 64 + 16);
}

TEST_CASE("offers: who comes first does not run dry while he is alone, and leaves enough to who comes next") {
  SuperSeedPolicy book(1024, 1 << 20, 1);
  book.join(1, std::vector<bool>(1024), at(0));
  const auto first = by_getter(book.next(at(0)))[1];
  CHECK(first.size() == 16);
  book.join(2, std::vector<bool>(1024), at(1));
  for (std::size_t i = 0; i < 10; ++i) {
    book.sent(1, 1 << 20, at(2));
    book.has(1, first[i], at(2));
  }
  auto offers = by_getter(book.next(at(2)));
  CHECK(offers[2].size() == 2);
  CHECK(offers[1].empty());
  // Who has everything is nobody to share with.
  SuperSeedPolicy other(1024, 1 << 20, 1);
  other.join(1, std::vector<bool>(1024, true), at(0));
  other.join(2, std::vector<bool>(1024), at(0));
  CHECK(by_getter(other.next(at(0)))[2].size() >= 8);
}

TEST_CASE("offers: who reads through a window is offered what lies in it, and what it has read is not offered again") {
  SuperSeedPolicy book(100, 65536, 1);
  book.join(1, std::vector<bool>(100), at(0), {true, 20, 8});
  std::set<int> had;
  for (int ms = 0; ms < 5000 && had.size() < 80; ms += 10) {
    for (const auto& offer : book.next(at(ms))) {
      const int front = 20 + static_cast<int>(std::ranges::count_if(had, [&](int p) { return had.contains(p); }));
      CHECK(offer.piece >= 20);
      CHECK(offer.piece < front + 8);
      CHECK(had.insert(offer.piece).second);
      book.sent(1, 65536, at(ms));
      book.has(1, offer.piece, at(ms));
      if (offer.piece > 30) book.lost(1, offer.piece - 10);  // a bounded spool drops what it has handed out
    }
  }
  CHECK(had.size() == 80);
  CHECK(book.next(at(6000)).empty());
}

TEST_CASE("offers: a late reader is offered its own window, though others have that and lack what comes later") {
  SuperSeedPolicy book(100, 65536, 1);
  std::vector<bool> half(100);
  std::fill(half.begin(), half.begin() + 50, true);
  book.join(1, half, at(0), {true, 0, 10});
  static_cast<void>(book.next(at(0)));
  book.join(2, std::vector<bool>(100), at(10), {true, 0, 10});
  const auto offers = by_getter(book.next(at(10)));
  REQUIRE_FALSE(offers.at(2).empty());
  for (const int piece : offers.at(2)) CHECK(piece < 10);
}

TEST_CASE("offers: what a reader needs next does not wait for a slow getter to hand it on") {
  SuperSeedPolicy book(10'000, 65536, 1);
  book.join(1, std::vector<bool>(10'000), at(0));
  book.join(2, std::vector<bool>(10'000), at(0), {true, 0, 0});
  std::map<int, int> with_slow;  // when it was offered to the slow one, at last
  std::deque<int> queue;         // of the reader
  std::map<int, int> took;       // how long the reader waited for it from then on
  for (int ms = 0; ms < 6000; ms += 10) {
    book.sent(1, 100, at(ms));  // it moves, but hardly
    for (const auto& offer : book.next(at(ms)))
      offer.to == 1 ? static_cast<void>(with_slow[offer.piece] = ms) : queue.push_back(offer.piece);
    if (queue.empty()) continue;
    const int piece = queue.front();
    queue.pop_front();
    book.sent(2, 65536, at(ms));
    book.has(2, piece, at(ms));
    if (const auto it = with_slow.find(piece); it != with_slow.end()) took[piece] = ms - it->second;
  }
  REQUIRE(took.size() >= 2);
  for (const auto& [piece, ms] : took) CHECK(ms > 1500);
  CHECK(took.begin()->second < 2500);  // what is read next; the others in their turn
}

TEST_CASE("offers: whoever has the most to hand on waits; who handed on is next") {
  SuperSeedPolicy book(100, 65536, 1);
  book.join(1, std::vector<bool>(100), at(0));
  book.join(2, std::vector<bool>(100), at(0));
  auto first = by_getter(book.next(at(0)));
  REQUIRE(first[1].size() == first[2].size());
  // Getter 1 finishes all of its pieces; getter 2 none, but takes what getter 1 has.
  for (const int piece : first[1]) book.has(1, piece, at(100));
  auto second = by_getter(book.next(at(100)));
  CHECK(second[2].empty());
  const auto fewer = second[1].size();
  for (const int piece : first[1]) book.has(2, piece, at(200));
  CHECK(by_getter(book.next(at(200)))[1].size() + fewer >= first[1].size());
}

TEST_CASE("offers: what a stuck getter was offered goes to others, and it comes back when it moves") {
  SuperSeedPolicy book(8, 65536, 1);
  book.join(1, std::vector<bool>(8), at(0));
  book.join(2, std::vector<bool>(8), at(0));
  const auto first = by_getter(book.next(at(0)));
  std::vector<int> all;
  for (int ms = 100; ms <= 4000; ms += 100) {
    book.sent(2, 1, at(ms));
    for (const auto& offer : book.next(at(ms))) {
      CHECK(offer.to == 2);
      all.push_back(offer.piece);
    }
    if (ms == 100)
      for (const int piece : first.at(2)) book.has(2, piece, at(ms));
    for (const int piece : all) book.has(2, piece, at(ms));
  }
  for (const int piece : first.at(1)) CHECK(std::ranges::find(all, piece) != all.end());
  book.sent(1, 100, at(4100));
  CHECK_FALSE(by_getter(book.next(at(4100)))[1].empty());
}

TEST_CASE("offers: getters that take next to nothing do not keep the others waiting") {
  constexpr int pieces = 64;
  constexpr std::uint64_t slow = 12;
  constexpr std::uint64_t getters = 20;
  SuperSeedPolicy book(pieces, 65536, 1);
  for (std::uint64_t getter = 1; getter <= getters; ++getter) book.join(getter, std::vector<bool>(pieces), at(0));
  std::map<std::uint64_t, int> got;
  for (int ms = 0; ms < 60'000; ms += 50) {
    // A byte now and then: never so long without one that it counts as stuck.
    if (ms % 500 == 0)
      for (std::uint64_t getter = 1; getter <= slow; ++getter) book.sent(getter, 1, at(ms));
    for (const auto& offer : book.next(at(ms))) {
      if (offer.to <= slow) continue;
      book.sent(offer.to, 65536, at(ms));
      book.has(offer.to, offer.piece, at(ms));
      ++got[offer.to];
    }
  }
  for (auto getter = slow + 1; getter <= getters; ++getter) CHECK(got[getter] == pieces);
}

TEST_CASE("offers: who has no use for what it was offered is offered something else after a while") {
  SuperSeedPolicy book(16, 65536, 1);
  book.join(1, std::vector<bool>(16), at(0));
  std::set<int> offered;
  for (int ms = 0; ms < 60'000; ms += 100)
    for (const auto& offer : book.next(at(ms))) offered.insert(offer.piece);
  CHECK(offered.size() > 8);
}

TEST_CASE("offers: a piece that a getter lost is offered to it again") {
  SuperSeedPolicy book(4, 65536, 1);
  book.join(1, {true, true, true, true}, at(0));
  CHECK(book.next(at(0)).empty());
  book.lost(1, 2);
  book.lost(1, 2);
  book.lost(1, 9);
  book.lost(7, 1);
  const auto again = book.next(at(1));
  REQUIRE(again.size() == 1);
  CHECK(again.front().piece == 2);
}

TEST_CASE("offers: in order, as long as somebody wants that") {
  SuperSeedPolicy book(1000, 65536, 1);
  book.join(1, std::vector<bool>(1000), at(0));
  book.join(2, std::vector<bool>(1000), at(0), {true, 0, 0});
  std::set<int> offered;
  for (int ms = 0; book.unoffered() > 0; ms += 10) {
    for (const auto& offer : book.next(at(ms))) {
      if (offered.size() < 1000) CHECK(offer.piece < static_cast<int>(offered.size()) + 32);
      offered.insert(offer.piece);
      book.sent(offer.to, 65536, at(ms));
      book.has(offer.to, offer.piece, at(ms));
    }
  }
  book.leave(2);
  book.join(3, std::vector<bool>(1000), at(60'000));
  book.leave(1);
  bool late = false;
  for (const auto& offer : book.next(at(60'000))) late = late || offer.piece > 100;
  CHECK(late);
}

TEST_CASE("offers: a getter that leaves takes nothing with it") {
  SuperSeedPolicy book(16, 65536, 1);
  book.join(1, std::vector<bool>(16), at(0));
  CHECK_FALSE(book.next(at(0)).empty());
  book.leave(1);
  CHECK(book.unoffered() == 16);
  book.leave(1);
  book.has(1, 3, at(1));
  book.sent(1, 10, at(1));
  book.join(2, std::vector<bool>(16, true), at(2));
  CHECK(book.unoffered() == 0);
  CHECK(book.next(at(2)).empty());  // it has everything
  book.has(2, 99, at(3));
  book.has(2, -1, at(3));
}

TEST_CASE("offers: one getter alone is offered as much as its link takes") {
  SuperSeedPolicy book(1024, 65536, 1);
  book.join(1, std::vector<bool>(1024), at(0));
  std::vector<int> open;
  std::size_t most = 0;
  int got = 0;
  // A link of 64 MB/s, with 100 ms between a piece and the news of it.
  for (int ms = 0; got < 1024 && ms < 60'000; ++ms) {
    for (const auto& offer : book.next(at(ms))) open.push_back(offer.piece);
    most = std::max(most, open.size());
    if (ms < 100 || open.empty()) continue;
    book.sent(1, 65536, at(ms));
    book.has(1, open.front(), at(ms));
    open.erase(open.begin());
    ++got;
  }
  CHECK(got == 1024);
  CHECK(most > 200);
}

// What the policies make of a swarm, in units of the time that one copy takes. The least that is possible is
// 1 + floor(log2 n) / pieces (Mundinger, Weber and Weiss 2008).
TEST_CASE("simulated swarms: the last of n equal getters is little later than one alone") {
  for (const int n : {1, 8, 16}) {
    const auto result = simulate(equal(n), SimOptions{512, 0.01, 4, 1});
    INFO(n << " getters: last " << last(result.took) << ", source sent " << result.source_sent);
    CHECK(last(result.took) < 1.25);
    CHECK(result.source_sent < 1.25);
  }
}

TEST_CASE("simulated swarms: slow getters do not hold up fast ones") {
  auto nodes = equal(8);
  for (std::size_t i = 5; i <= 8; ++i) nodes[i].up = nodes[i].down = 0.2;
  const auto result = simulate(nodes, SimOptions{512, 0.01, 4, 1});
  CHECK(last({result.took.begin(), result.took.begin() + 4}) < 1.5);
  CHECK(last(result.took) < 5.5);
}

TEST_CASE("simulated swarms: who joins late, and who leaves at once") {
  auto nodes = equal(8);
  for (std::size_t i = 1; i <= 8; ++i) nodes[i].arrives = 0.28 * static_cast<double>(i - 1);
  CHECK(last(simulate(nodes, SimOptions{512, 0.01, 4, 1}).took) < 1.4);
  for (auto& node : nodes) node.leaves_when_done = true;
  nodes[0].leaves_when_done = false;
  CHECK(last(simulate(nodes, SimOptions{512, 0.01, 4, 1}).took) < 1.6);
}
