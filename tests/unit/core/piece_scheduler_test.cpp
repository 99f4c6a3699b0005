// What to ask for now: demand times sharing.
#include "core/piece_scheduler.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "test.h"

using mesh::PieceScheduler;
using Sharing = PieceScheduler::Sharing;

namespace {

PieceScheduler::Options whole(int pieces, Sharing sharing = Sharing::offered) {
  PieceScheduler::Options out;
  out.pieces = pieces;
  out.sharing = sharing;
  return out;
}

PieceScheduler::Options read(int pieces, int window, bool drops = false) {
  PieceScheduler::Options out;
  out.pieces = pieces;
  out.whole = false;
  out.window = window;
  out.drops = drops;
  return out;
}

/// What the priorities are after all updates so far.
struct Priorities {
  explicit Priorities(std::size_t pieces) : have(pieces), availability(pieces, 1) {}
  void update(PieceScheduler& scheduler) {
    for (const auto& [piece, priority] : scheduler.update(have, availability)) of[piece] = priority;
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
  CHECK(scheduler.update(std::vector<bool>(100), {}).empty());
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
  CHECK(scheduler.update(now.have, {}).empty());
  now.have[2] = true;
  const auto changes = scheduler.update(now.have, {});
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
    scheduler.wait_at_cursor(slow);
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
