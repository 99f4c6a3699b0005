// Which pieces a file is cut into, and which of them a getter wants first. Pure; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace mesh {

/// Files up to this size travel whole on the node channel; larger ones as torrents.
inline constexpr std::int64_t small_file_bytes = 64 * 1024;

/// The piece length of a torrent of `size` bytes, a function of the size alone: a power of two from 64 KiB to 16 MiB,
/// such that the file has at most 512 pieces where that is possible.
[[nodiscard]] std::int64_t piece_length_for(std::int64_t size);
[[nodiscard]] int piece_count_for(std::int64_t size);

/// Stripes: while one copy is not yet out, every byte that the source sends twice delays everyone. So each getter wants
/// a share of the pieces of its own from the source first, and leaves the others alone until a getter has them, or
/// until its own share is done. Shares come from rendezvous hashing over the swarm's getters, so a join or a leave
/// moves 1/n.
class StripeGate {
 public:
  enum : std::uint8_t { closed = 0, open = 4, own = 7 };  // libtorrent's piece priorities

  /// `self` and `getters` are ids that the tracker gave; a gate over fewer than two getters closes nothing.
  StripeGate(int pieces, std::uint64_t self);
  void set_getters(std::vector<std::uint64_t> getters);

  /// The pieces whose priority changes, given what this getter has, how many connected peers have each piece (counting
  /// `sources` peers that have all of them).
  [[nodiscard]] std::vector<std::pair<int, std::uint8_t>> update(const std::vector<bool>& have,
                                                                 std::span<const int> availability, int sources);

 private:
  std::uint64_t self_;
  std::vector<std::uint64_t> getters_;
  std::vector<bool> mine_;
  std::vector<std::uint8_t> priority_;
};

}  // namespace mesh
