#include <algorithm>
#include <map>
#include <numeric>

#include "core/piece_plan.h"
#include "test.h"

using mesh::StreamGate;
using mesh::StripeGate;

TEST_CASE("stripes: alone, nothing is held back") {
  StripeGate gate(100);
  gate.set_getters(1, {1});
  CHECK(gate.update(std::vector<bool>(100), std::vector<int>(100, 1), 1).empty());
}

TEST_CASE("stripes: shares cover all pieces once, and nearly evenly") {
  std::vector<std::uint64_t> getters(8);
  std::iota(getters.begin(), getters.end(), 1);
  std::vector<int> owners(512);
  std::map<std::uint64_t, int> share;
  for (const auto self : getters) {
    StripeGate gate(512);
    gate.set_getters(self, getters);
    for (const auto& [piece, priority] : gate.update(std::vector<bool>(512), std::vector<int>(512, 1), 1))
      if (priority == StripeGate::own) ++owners[static_cast<std::size_t>(piece)], ++share[self];
  }
  for (const int n : owners) CHECK(n == 1);
  for (const auto& [self, n] : share) CHECK((n > 32 && n < 110));
}

TEST_CASE("stripes: a piece opens when another getter has it, all open when the share is done") {
  StripeGate gate(64);
  gate.set_getters(1, {1, 2});
  std::vector<bool> have(64);
  std::vector<int> availability(64, 1);
  std::map<int, int> priority;
  for (const auto& [piece, p] : gate.update(have, availability, 1)) priority[piece] = p;
  const auto closed =
      std::ranges::find_if(priority, [](const auto& pair) { return pair.second == StripeGate::closed; })->first;
  availability[static_cast<std::size_t>(closed)] = 2;
  const auto opened = gate.update(have, availability, 1);
  REQUIRE(opened.size() == 1);
  CHECK(opened[0] == std::pair<int, std::uint8_t>(closed, StripeGate::open));
  for (const auto& [piece, p] : priority)
    if (p == StripeGate::own) have[static_cast<std::size_t>(piece)] = true;
  for (const auto& [piece, p] : gate.update(have, availability, 1)) CHECK(p == StripeGate::open);
  CHECK(gate.update(have, availability, 1).empty());
}

TEST_CASE("stripes: a leave moves its share alone") {
  StripeGate before(1000), after(1000);
  before.set_getters(1, {1, 2, 3, 4});
  after.set_getters(1, {1, 2, 3});
  const auto owned = [](StripeGate& gate) {
    std::vector<int> out;
    for (const auto& [piece, p] : gate.update(std::vector<bool>(1000), std::vector<int>(1000, 1), 1))
      if (p == StripeGate::own) out.push_back(piece);
    return out;
  };
  const auto a = owned(before), b = owned(after);
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
