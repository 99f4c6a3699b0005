#include "core/keeper_ring.h"

#include <algorithm>

#include "core/merkle.h"

namespace mesh {
namespace {

/// SplitMix64's last step (Steele, Lea and Flood, OOPSLA 2014): each bit of the input changes half of the output's.
std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

}  // namespace

std::uint64_t ring_key(std::string_view directory) { return ring_key(sha256("directory " + std::string(directory))); }

KeeperRing::KeeperRing(std::vector<std::string> nodes) {
  std::ranges::sort(nodes);
  nodes_.reserve(nodes.size());
  for (auto& node : nodes) {
    const auto hash = ring_key(sha256(node));
    nodes_.emplace_back(hash, std::move(node));
  }
}

std::vector<std::string> KeeperRing::keepers(std::uint64_t key, std::size_t count) const {
  using Weighed = std::pair<std::uint64_t, const std::string*>;
  std::vector<Weighed> best;  // few: kept sorted
  for (const auto& [hash, node] : nodes_) {
    const auto weight = mix(key ^ mix(hash));
    if (best.size() == count && weight <= best.back().first) continue;
    const auto at = std::ranges::find_if(best, [&](const Weighed& one) { return weight > one.first; });
    best.insert(at, {weight, &node});
    if (best.size() > count) best.pop_back();
  }
  std::vector<std::string> out;
  for (const auto& [weight, node] : best) out.push_back(*node);
  return out;
}

}  // namespace mesh
