// What to ask for now: demand times sharing.
#include "core/piece_scheduler.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "test.h"

using mesh::PieceScheduler;
using Sharing = PieceScheduler::Sharing;
using std::chrono::milliseconds;

namespace {

PieceScheduler::Clock::time_point at(int ms) { return PieceScheduler::Clock::time_point(milliseconds(1'000'000 + ms)); }

PieceScheduler::Options whole(int pieces, Sharing sharing = Sharing::offered) {
  PieceScheduler::Options out;
  out.pieces = pieces;
  out.sharing = sharing;
  return out;
}

PieceScheduler::Options read(int pieces, int window, bool drops = false) {
  PieceScheduler::Options out;
  out.pieces = pieces;
  out.sharing = Sharing::striped;
  out.whole = false;
  out.window = window;
  out.drops = drops;
  return out;
}

/// What the priorities are after all updates so far.
struct Priorities {
  explicit Priorities(std::size_t pieces) : have(pieces), availability(pieces, 1) {}
  void update(PieceScheduler& scheduler, int ms = 0) {
    for (const auto& [piece, priority] : scheduler.update(have, availability, 1, at(ms))) of[piece] = priority;
  }
  [[nodiscard]] std::ptrdiff_t asked_for() const {
    return std::ranges::count_if(of, [](const auto& pair) { return pair.second > 0; });
  }
  std::vector<bool> have;
  std::vector<int> availability;
  std::map<int, int> of;
};

}  // namespace

TEST_CASE("scheduler: a file that nobody reads has its pieces as sources offer them") {
  PieceScheduler scheduler(whole(100));
  CHECK(scheduler.takes_offers());
  CHECK_FALSE(scheduler.is_ordered());
  CHECK(scheduler.update(std::vector<bool>(100), {}, 1, at(0)).empty());
}

TEST_CASE("scheduler: of a whole file that is read along, nothing is held back, and what is read next comes first") {
  PieceScheduler scheduler(whole(100));
  const auto cursor = scheduler.add_cursor(0);
  CHECK(scheduler.is_ordered());
  Priorities now(100);
  now.have[0] = now.have[1] = now.have[50] = true;
  now.update(scheduler);
  CHECK(now.of.size() == 97);
  CHECK(now.of[2] == 7);
  CHECK(now.of[20] < 7);
  CHECK(now.of[99] < now.of[20]);
  CHECK(now.of[99] > 0);
  CHECK(scheduler.update(now.have, {}, 1, at(0)).empty());
  now.have[2] = true;
  const auto changes = scheduler.update(now.have, {}, 1, at(0));
  REQUIRE_FALSE(changes.empty());
  CHECK(changes.front().second == 7);
  // A second reader elsewhere is served as well.
  const auto other = scheduler.add_cursor(90);
  now.update(scheduler);
  CHECK(now.of[3] == 7);
  CHECK(now.of[90] == 7);
  CHECK(now.of[89] == 4);
  // When nobody reads any more, all are alike again.
  scheduler.remove_cursor(cursor);
  scheduler.remove_cursor(other);
  now.update(scheduler);
  for (int piece = 3; piece < 100; ++piece) CHECK((now.have[static_cast<std::size_t>(piece)] || now.of[piece] == 4));
}

TEST_CASE("scheduler: a window ahead of the reader, the nearest first, nothing behind it") {
  PieceScheduler scheduler(read(100, 20));
  scheduler.add_cursor(10);
  Priorities now(100);
  now.update(scheduler);
  CHECK(now.of.size() == 100);  // the first update speaks of every piece
  CHECK(now.of[9] == 0);
  CHECK(now.of[10] == 7);
  CHECK(now.of[29] > 0);
  CHECK(now.of[29] < now.of[12]);
  CHECK(now.of[30] == 0);
}

TEST_CASE("scheduler: the window goes ahead of what is here, but where pieces are dropped it keeps to the slowest") {
  for (const bool drops : {false, true}) {
    PieceScheduler scheduler(read(100, 10, drops));
    const auto slow = scheduler.add_cursor(0);
    scheduler.add_cursor(30);
    Priorities now(100);
    std::fill(now.have.begin(), now.have.begin() + 40, true);
    now.update(scheduler);
    CHECK((now.of[45] > 0) == !drops);
    CHECK(scheduler.slowest_cursor() == 0);
    // A full window and a slow reader: that nothing comes is nobody's fault.
    CHECK(scheduler.is_hungry() == !drops);
    scheduler.wait_at_cursor(slow, at(0));
    CHECK(scheduler.is_hungry());
    scheduler.remove_cursor(slow);
    now.update(scheduler);
    CHECK(scheduler.slowest_cursor() == 30);
    CHECK((now.of[45] > 0) == !drops);  // where pieces are dropped, all of its window is here
  }
}

TEST_CASE("scheduler: a lazy reader of what sources offer has its window and nothing else, and nobody has nothing") {
  auto options = whole(100);
  options.whole = false;
  options.window = 20;
  PieceScheduler scheduler(options);
  Priorities now(100);
  now.update(scheduler);
  CHECK(now.of.size() == 100);
  CHECK(now.asked_for() == 0);
  const auto cursor = scheduler.add_cursor(50);
  now.update(scheduler);
  CHECK(now.asked_for() == 20);
  CHECK(now.of[50] == 7);
  CHECK(now.of[69] == 6);
  scheduler.move_cursor(cursor, 100);  // past the end: it has read all
  now.update(scheduler);
  CHECK(now.asked_for() == 1);
  scheduler.remove_cursor(cursor);
  now.update(scheduler);
  CHECK(now.asked_for() == 0);
}

TEST_CASE("scheduler: who waits no more reaches less far with each piece, and has to wait anew") {
  PieceScheduler scheduler(read(64, 64));
  const auto cursor = scheduler.add_cursor(0);
  scheduler.set_getters(1, {1, 2, 3, 4});
  Priorities now(64);
  scheduler.wait_at_cursor(cursor, at(0));
  for (const int ms : {0, 1600, 3200, 4800}) now.update(scheduler, ms);
  const auto reached = now.asked_for();
  scheduler.move_cursor(cursor, 0);
  CHECK(scheduler.is_hungry());  // its window always has something to ask for
  now.update(scheduler, 10'000);
  CHECK(now.asked_for() == reached);  // it had not waited since
  for (int piece = 1; piece < 10; ++piece) {
    now.have[static_cast<std::size_t>(piece - 1)] = true;
    scheduler.move_cursor(cursor, piece);
    now.update(scheduler, 10'000);
  }
  std::ptrdiff_t others = 0;
  PieceScheduler fresh(read(64, 64));
  fresh.add_cursor(9);
  fresh.set_getters(1, {1, 2, 3, 4});
  Priorities anew(64);
  anew.have = now.have;
  anew.update(fresh);
  for (int piece = 9; piece < 64; ++piece) others += (now.of[piece] > 0) != (anew.of[piece] > 0) ? 1 : 0;
  CHECK(others == 0);
}

TEST_CASE("scheduler: readers that start together ask the source for different pieces, whoever waits reaches further") {
  std::vector<int> asked(64);
  for (std::uint64_t self = 1; self <= 4; ++self) {
    PieceScheduler scheduler(read(64, 64));
    scheduler.add_cursor(0);
    scheduler.set_getters(self, {1, 2, 3, 4});
    Priorities now(64);
    now.update(scheduler);
    for (const auto& [piece, priority] : now.of)
      if (priority > 0) ++asked[static_cast<std::size_t>(piece)];
  }
  CHECK(asked[0] == 4);  // the first bytes at once
  for (std::size_t i = 1; i < asked.size(); ++i) CHECK(asked[i] == 1);

  PieceScheduler scheduler(read(64, 64));
  const auto cursor = scheduler.add_cursor(0);
  scheduler.set_getters(1, {1, 2, 3, 4});
  Priorities now(64);
  now.update(scheduler);
  const auto calm = now.asked_for();
  scheduler.wait_at_cursor(cursor, at(0));
  now.update(scheduler, 1000);
  CHECK(now.asked_for() == calm);
  for (const int ms : {1600, 3200, 4800, 6400}) now.update(scheduler, ms);
  CHECK(now.asked_for() > calm);
  // And a piece that another getter has is open whoever's it is.
  PieceScheduler other(read(64, 64));
  other.add_cursor(0);
  other.set_getters(1, {1, 2, 3, 4});
  for (const auto& [piece, priority] : other.update(std::vector<bool>(64), std::vector<int>(64, 2), 1, at(0)))
    CHECK(priority > 0);
}

TEST_CASE(
    "scheduler: getters that share a whole file ask the source for a stripe each, whether somebody reads or not") {
  std::vector<int> asked(64);
  for (std::uint64_t self = 1; self <= 4; ++self) {
    PieceScheduler scheduler(whole(64, Sharing::striped));
    scheduler.set_getters(self, {1, 2, 3, 4});
    Priorities now(64);
    now.update(scheduler);
    for (const auto& [piece, priority] : now.of)
      if (priority > 0) ++asked[static_cast<std::size_t>(piece)];
    // Who reads from the middle reaches for what comes next, and not for what lies behind.
    const auto before = now.asked_for();
    scheduler.add_cursor(32);
    now.update(scheduler);
    CHECK(now.asked_for() <= before + 1);
  }
  // The last piece is where a window would be without a reader.
  for (std::size_t i = 0; i + 1 < asked.size(); ++i) CHECK(asked[i] == 1);
}

TEST_CASE("scheduler, URL: nothing before its root is known; where few fetch, one getter asks first") {
  constexpr int pieces = 64;
  std::vector<std::uint64_t> getters(20);
  std::iota(getters.begin(), getters.end(), 1);
  std::vector<int> asked(pieces);
  for (const auto self : getters) {
    PieceScheduler scheduler(whole(pieces, Sharing::first_hop));
    CHECK_FALSE(scheduler.takes_offers());
    scheduler.set_getters(self, getters);
    Priorities now(pieces);
    now.update(scheduler);
    CHECK(now.of.size() == pieces);
    CHECK(now.asked_for() == 0);
    for (int i = 0; i < pieces; ++i) scheduler.set_known(i, 1);
    now.update(scheduler);
    for (const auto& [piece, priority] : now.of)
      if (priority > 0 && self != 1) ++asked[static_cast<std::size_t>(piece)];
    // Handed on: open.
    now.availability.assign(pieces, 2);
    now.update(scheduler);
    CHECK(now.asked_for() == pieces);
  }
  for (const int n : asked) CHECK(n == 1);

  PieceScheduler scheduler(whole(1, Sharing::first_hop));
  scheduler.set_getters(2, getters);
  for (std::uint64_t by = 1; by <= 10; ++by) scheduler.set_known(0, by);
  Priorities now(1);
  now.update(scheduler);
  CHECK(now.asked_for() == 1);
}

TEST_CASE("scheduler, URL: whoever was to be asked first is not waited for without end, and readers come first") {
  constexpr int pieces = 32;
  std::vector<std::uint64_t> getters(20);
  std::iota(getters.begin(), getters.end(), 1);
  PieceScheduler scheduler(whole(pieces, Sharing::first_hop));
  scheduler.set_getters(2, getters);
  const auto cursor = scheduler.add_cursor(0);
  for (int i = 0; i < pieces; ++i) scheduler.set_known(i, 1);
  Priorities now(pieces);
  now.update(scheduler);
  CHECK(now.asked_for() < pieces);
  for (int i = 0; i < 30; ++i) now.update(scheduler);
  CHECK(now.asked_for() == pieces);
  CHECK(now.of[0] == 7);
  CHECK(now.of[20] == 6);
  scheduler.remove_cursor(cursor);
  now.update(scheduler);
  CHECK(now.of[0] == 4);
}
