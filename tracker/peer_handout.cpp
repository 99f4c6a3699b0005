#include "peer_handout.h"

#include <algorithm>

namespace mesh {

std::vector<NodeKey> hand_out(std::span<const HandoutMember> members, const HandoutLimits& limits,
                              std::mt19937& random) {
  std::vector<HandoutMember> shuffled(members.begin(), members.end());
  std::ranges::shuffle(shuffled, random);
  std::ranges::stable_partition(shuffled, &HandoutMember::complete);
  std::vector<NodeKey> out;
  int sources = 0;
  for (const auto& member : shuffled) {
    if (static_cast<int>(out.size()) >= limits.peers) break;
    if (member.complete && ++sources > limits.sources) continue;
    out.push_back(member.node);
  }
  return out;
}

}  // namespace mesh
