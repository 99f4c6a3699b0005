#include "peer_handout.h"

#include <algorithm>

namespace mesh {

std::vector<NodeKey> hand_out(std::span<const HandoutMember> members, const HandoutLimits& limits,
                              std::mt19937& random) {
  std::vector<HandoutMember> shuffled(members.begin(), members.end());
  std::ranges::shuffle(shuffled, random);
  std::ranges::stable_partition(shuffled, &HandoutMember::complete);
  const auto complete = std::ranges::count(shuffled, true, &HandoutMember::complete);
  const auto served = complete * limits.getters_per_source;
  const auto getters = static_cast<std::ptrdiff_t>(shuffled.size()) - complete;
  const bool no_source =
      getters >= served && std::uniform_int_distribution<std::ptrdiff_t>(0, getters)(random) >= served;
  if (no_source) shuffled.erase(shuffled.begin(), shuffled.begin() + complete);
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
