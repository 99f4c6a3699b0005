// A swarm in simulated time: the policies that a real one runs (OfferBook, hand_out, rarest first), over links that
// divide what they can carry among a few transfers. What is left out: TCP, and the time that messages spend in queues
// other than `latency`. Deterministic.
#pragma once

#include <cstdint>
#include <vector>

namespace mesh::test {

struct SimNode {
  double up = 1;  ///< copies of the file in one unit of time ("ideal")
  double down = 1;
  double arrives = 0;  ///< in units of time
  bool leaves_when_done = false;
};

struct SimOptions {
  int pieces = 1024;
  double latency = 0.01;  ///< until others know of a piece, in units of time
  int transfers = 4;      ///< that a link divides itself among
  std::uint32_t seed = 1;
};

struct SimResult {
  std::vector<double> took;  ///< of each getter, from its arrival; negative where it never ended
  double source_sent = 0;    ///< copies
};

/// Node 0 is the source; the others are getters.
[[nodiscard]] SimResult simulate(const std::vector<SimNode>& nodes, const SimOptions& options);

}  // namespace mesh::test
