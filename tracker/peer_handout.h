// Which members of a swarm a newcomer is introduced to. Pure; any thread.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "core/version.h"

namespace mesh {

struct HandoutLimits {
  int sources = 8;  ///< members with all the bytes, at most
  int peers = 14;   ///< members in all, at most
  /// Members without all the bytes that each source is introduced to, more or less: of more, a random choice gets no
  /// source, and what it lacks from the others. Less than the connections that a source accepts.
  int getters_per_source = 500;
};

struct HandoutMember {
  NodeKey node = 0;
  bool complete = false;
};

/// A random choice of `members` within the limits, sources first. As each newcomer connects to those before it, every
/// pair of a small swarm is introduced exactly once, and a large one becomes a random graph of bounded out-degree.
[[nodiscard]] std::vector<NodeKey> hand_out(std::span<const HandoutMember> members, const HandoutLimits& limits,
                                            std::mt19937& random);

}  // namespace mesh
