#include <map>
#include <numeric>

#include "core/piece_plan.h"
#include "test.h"

using mesh::StripeGate;

TEST_CASE("stripes: alone, nothing is held back") {
  StripeGate gate(100, 1);
  gate.set_getters({1});
  CHECK(gate.update(std::vector<bool>(100), std::vector<int>(100, 1), 1).empty());
}

TEST_CASE("stripes: shares cover all pieces once, and nearly evenly") {
  std::vector<std::uint64_t> getters(8);
  std::iota(getters.begin(), getters.end(), 1);
  std::vector<int> owners(512);
  std::map<std::uint64_t, int> share;
  for (const auto self : getters) {
    StripeGate gate(512, self);
    gate.set_getters(getters);
    for (const auto& [piece, priority] : gate.update(std::vector<bool>(512), std::vector<int>(512, 1), 1))
      if (priority == StripeGate::own) ++owners[static_cast<std::size_t>(piece)], ++share[self];
  }
  for (const int n : owners) CHECK(n == 1);
  for (const auto& [self, n] : share) CHECK((n > 32 && n < 110));
}

TEST_CASE("stripes: a piece opens when another getter has it, all open when the share is done") {
  StripeGate gate(64, 1);
  gate.set_getters({1, 2});
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
  StripeGate before(1000, 1), after(1000, 1);
  before.set_getters({1, 2, 3, 4});
  after.set_getters({1, 2, 3});
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
