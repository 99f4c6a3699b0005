#include "core/keeper_ring.h"

#include <algorithm>
#include <map>
#include <set>

#include "test.h"

using namespace mesh;

namespace {

std::vector<std::string> nodes(int count) {
  std::vector<std::string> out;
  for (int i = 0; i < count; ++i) {
    const auto digits = std::to_string(i);
    out.push_back(std::string(32 - digits.size(), '0') + digits);
  }
  return out;
}

std::string directory(int number) { return "dir/" + std::to_string(number); }

}  // namespace

TEST_CASE("keepers: whoever knows the same nodes names the same ones, in whatever order it knows them") {
  auto some = nodes(100);
  const KeeperRing ring(some);
  std::ranges::reverse(some);
  const KeeperRing other(some);
  for (int i = 0; i < 100; ++i) {
    const auto all = ring.keepers(ring_key(directory(i)));
    REQUIRE(all.size() == keepers_of_each);
    CHECK(std::set<std::string>(all.begin(), all.end()).size() == keepers_of_each);
    CHECK(all == other.keepers(ring_key(directory(i))));
    // More of them begin with the same.
    auto more = ring.keepers(ring_key(directory(i)), 8);
    more.resize(keepers_of_each);
    CHECK(more == all);
  }
  CHECK(KeeperRing(nodes(2)).keepers(ring_key("")).size() == 2);
  CHECK(KeeperRing().keepers(ring_key("")).empty());
}

TEST_CASE("keepers: directories are spread evenly over 1,000 nodes") {
  const KeeperRing ring(nodes(1000));
  std::map<std::string, int> load;
  for (int i = 0; i < 20'000; ++i)
    for (const auto& node : ring.keepers(ring_key(directory(i)))) ++load[node];
  CHECK(load.size() == 1000);
  // 60 each on average; of a binomial distribution, hardly ever twice that.
  for (const auto& [node, count] : load) CHECK(count < 110);
}

TEST_CASE("keepers: of 10,000 nodes one that comes or goes changes its own share alone") {
  auto some = nodes(10'000);
  const KeeperRing before(some);
  const auto gone = some.back();
  some.pop_back();
  const KeeperRing after(some);
  for (int i = 0; i < 300; ++i) {
    const auto key = ring_key(directory(i));
    auto old = before.keepers(key, keepers_of_each + 1);
    std::erase(old, gone);
    if (old.size() > keepers_of_each) old.resize(keepers_of_each);
    CHECK(after.keepers(key) == old);
  }
}
