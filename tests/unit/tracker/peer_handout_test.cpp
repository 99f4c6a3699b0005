#include "peer_handout.h"

#include <map>
#include <set>

#include "test.h"

using namespace mesh;

TEST_CASE("hand-out: bounded, sources first, nobody twice") {
  std::mt19937 random(1);
  std::vector<HandoutMember> members;
  for (NodeKey i = 0; i < 1000; ++i) members.push_back({i, i < 20});
  const auto out = hand_out(members, {}, random);
  CHECK(out.size() == 14);
  CHECK(std::set(out.begin(), out.end()).size() == 14);
  int sources = 0;
  for (const auto node : out) sources += node < 20;
  CHECK(sources == 8);
}

TEST_CASE("hand-out: in a small swarm every pair is introduced, in a large one degrees stay bounded") {
  std::mt19937 random(2);
  const auto grow = [&](NodeKey n) {
    std::vector<HandoutMember> members = {{0, true}};
    std::map<NodeKey, int> degree;
    std::size_t edges = 0;
    for (NodeKey i = 1; i <= n; ++i) {
      const auto peers = hand_out(members, {}, random);
      edges += peers.size();
      for (const auto p : peers) ++degree[p], ++degree[i];
      members.push_back({i, false});
    }
    return std::pair(edges, degree);
  };
  CHECK(grow(14).first == 14 * 15 / 2);
  const auto [edges, degree] = grow(1000);
  CHECK(edges <= 14 * 1000);
  for (const auto& [node, d] : degree)
    if (node != 0) CHECK(d < 300);
}

TEST_CASE("hand-out: a source is not introduced to thousands of getters") {
  std::vector<HandoutMember> members{{1, true}};
  std::mt19937 random(1);
  int introduced = 0;
  for (NodeKey newcomer = 2; newcomer <= 2'000; ++newcomer) {
    const auto peers = hand_out(members, {}, random);
    CHECK(peers.size() == std::min<std::size_t>(members.size(), 14));
    if (std::ranges::count(peers, NodeKey{1}) > 0) ++introduced;
    members.push_back({newcomer, false});
  }
  // The first 500, and as many again for each time that the swarm grows by a factor of e.
  CHECK(introduced > 900);
  CHECK(introduced < 1500);
}
