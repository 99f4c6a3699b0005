// Which nodes answer for a directory, or for a swarm: those with the highest weights of (key, node), so that everybody
// who knows the same nodes names the same ones, and one that comes or goes changes only what is its own (rendezvous
// hashing: Thaler and Ravishankar, IEEE/ACM ToN 1998). Pure; any one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/digest.h"

namespace mesh {

/// How many nodes keep what is known of a directory.
inline constexpr std::size_t keepers_of_each = 3;
/// Seconds after which a keeper is known as one to everybody, and has been told everything: its word alone serves.
inline constexpr std::int64_t proven_after = 300;

/// What a directory is in the ring, or a swarm, or a URL, of which the digest names it.
[[nodiscard]] std::uint64_t ring_key(std::string_view directory);
template <std::size_t N>
[[nodiscard]] std::uint64_t ring_key(const Digest<N>& digest) {
  std::uint64_t out = 0;
  for (std::size_t i = 0; i < 8; ++i) out = out << 8 | static_cast<unsigned char>(digest.bytes[i]);
  return out;
}

class KeeperRing {
 public:
  KeeperRing() = default;
  /// By instance (wire/identity.h).
  explicit KeeperRing(std::vector<std::string> nodes);
  /// The `count` nodes of the highest weights, the highest first; fewer where there are fewer. Takes a time that grows
  /// with the nodes.
  [[nodiscard]] std::vector<std::string> keepers(std::uint64_t key, std::size_t count = keepers_of_each) const;
  [[nodiscard]] std::size_t size() const { return nodes_.size(); }
  bool operator==(const KeeperRing&) const = default;

 private:
  std::vector<std::pair<std::uint64_t, std::string>> nodes_;  ///< with their hashes
};

}  // namespace mesh
