#include <algorithm>
#include <map>

#include "core/piece_plan.h"
#include "test.h"

using mesh::OrderedGate;
using mesh::StreamGate;

TEST_CASE("ordered: nothing is held back, what is read next comes first") {
  OrderedGate gate(100);
  std::vector<bool> have(100);
  have[0] = have[1] = have[50] = true;
  std::map<int, int> priority;
  for (const auto& [piece, p] : gate.update(have, {}, 1)) priority[piece] = p;
  CHECK(priority.size() == 97);
  CHECK(priority[2] == 7);
  CHECK(priority[20] < 7);
  CHECK(priority[99] < priority[20]);
  CHECK(priority[99] > 0);
  CHECK(gate.update(have, {}, 1).empty());
  have[2] = true;
  const auto changes = gate.update(have, {}, 1);
  REQUIRE_FALSE(changes.empty());
  CHECK(changes.front().second == 7);
}

TEST_CASE("stream: a window ahead of the reader, the nearest first, nothing behind it") {
  StreamGate gate(100, 20);
  gate.set_reader(10, false);
  std::map<int, int> priority;
  for (const auto& [piece, p] : gate.update(std::vector<bool>(100), std::vector<int>(100, 1), 1)) priority[piece] = p;
  CHECK(priority.size() == 100);  // the first update speaks of every piece
  CHECK(priority[9] == 0);
  CHECK(priority[10] == 7);
  CHECK(priority[29] > 0);
  CHECK(priority[29] < priority[12]);
  CHECK(priority[30] == 0);
}

TEST_CASE("stream: readers that start together ask the source for different pieces, whoever waits reaches further") {
  std::vector<int> asked(64);
  for (std::uint64_t self = 1; self <= 4; ++self) {
    StreamGate gate(64, 64);
    gate.set_getters(self, {1, 2, 3, 4});
    for (const auto& [piece, p] : gate.update(std::vector<bool>(64), std::vector<int>(64, 1), 1))
      if (p > 0) ++asked[static_cast<std::size_t>(piece)];
  }
  CHECK(asked[0] == 4);  // the first bytes at once
  for (std::size_t i = 1; i < asked.size(); ++i) CHECK(asked[i] == 1);

  StreamGate gate(64, 64);
  gate.set_getters(1, {1, 2, 3, 4});
  const auto open = [&](int position, bool starving) {
    gate.set_reader(position, starving);
    static std::map<int, int> priority;
    for (const auto& [piece, p] : gate.update(std::vector<bool>(64), std::vector<int>(64, 1), 1)) priority[piece] = p;
    return std::ranges::count_if(priority, [](const auto& pair) { return pair.second > 0; });
  };
  const auto calm = open(0, false);
  open(0, true);
  open(0, true);
  CHECK(open(0, true) > calm);
  // And a piece that another getter has is open whoever's it is.
  StreamGate other(64, 64);
  other.set_getters(1, {1, 2, 3, 4});
  for (const auto& [piece, p] : other.update(std::vector<bool>(64), std::vector<int>(64, 2), 1)) CHECK(p > 0);
}
