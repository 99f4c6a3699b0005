#include <algorithm>
#include <map>
#include <numeric>

#include "core/piece_plan.h"
#include "test.h"

using mesh::OrderedGate;
using mesh::StreamGate;

namespace {

/// The pieces that a getter asks for at first.
std::vector<int> asked_first(std::uint64_t self, const std::vector<std::uint64_t>& getters, int pieces) {
  OrderedGate gate(pieces, 4 * pieces);
  gate.set_getters(self, getters);
  std::vector<int> out;
  const auto count = static_cast<std::size_t>(pieces);
  for (const auto& [piece, priority] : gate.update(std::vector<bool>(count), std::vector<int>(count, 1), 1))
    if (priority > 0) out.push_back(piece);
  return out;
}

}  // namespace

TEST_CASE("ordered: alone, the whole window is asked for") { CHECK(asked_first(1, {1}, 100).size() == 100); }

TEST_CASE("ordered: shares cover all pieces once, and nearly evenly") {
  std::vector<std::uint64_t> getters(8);
  std::iota(getters.begin(), getters.end(), 1);
  std::vector<int> owners(512);
  for (const auto self : getters) {
    const auto share = asked_first(self, getters, 512);
    CHECK((share.size() > 32 && share.size() < 110));
    for (const int piece : share) ++owners[static_cast<std::size_t>(piece)];
  }
  for (const int n : owners) CHECK(n == 1);
}

TEST_CASE("ordered: a piece opens when another getter has it, and stays open") {
  OrderedGate gate(64, 256);
  gate.set_getters(1, {1, 2});
  const std::vector<bool> have(64);
  std::vector<int> availability(64, 1);
  std::map<int, int> priority;
  for (const auto& [piece, p] : gate.update(have, availability, 1)) priority[piece] = p;
  const auto closed = std::ranges::find_if(priority, [](const auto& pair) { return pair.second == 0; })->first;
  availability[static_cast<std::size_t>(closed)] = 2;
  const auto opened = gate.update(have, availability, 1);
  REQUIRE(opened.size() == 1);
  CHECK(opened[0].first == closed);
  CHECK(opened[0].second > 0);
  CHECK(gate.update(have, availability, 1).empty());
}

TEST_CASE("ordered: a leave moves its share alone") {
  const auto a = asked_first(1, {1, 2, 3, 4}, 1000), b = asked_first(1, {1, 2, 3}, 1000);
  for (const int piece : a) CHECK(std::ranges::find(b, piece) != b.end());
  CHECK(b.size() > a.size());
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
