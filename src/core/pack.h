// Packs: many small files as one content, so that they travel as a swarm does. A pack is a list of files sorted by
// path, and its content their bytes, one file after another. Whoever holds the same versions can make it, and whoever
// wants the same files knows it by the same id (docs/decisions/0023). Pure; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/digest.h"

namespace mesh {

/// Of packs that a node has loaded, and nobody downloads here any more.
inline constexpr std::int64_t most_pack_bytes = std::int64_t{1} << 30;

/// A version of a small file as it is listed.
struct PackFile {
  std::string path;
  std::int64_t size = 0;
  std::int64_t mtime = 0;  ///< nanoseconds since the epoch
  ContentId id{};          ///< where somebody has hashed it
  bool operator==(const PackFile&) const = default;
  template <class V>
  void describe(V& v) {
    v("p", path), v("s", size), v("m", mtime), v("c", id);
  }
};

/// What names a list of files: SHA-256 of what it says.
using PackId = Digest<32>;

/// No larger file travels in a pack.
inline constexpr std::int64_t packed_file_bytes = std::int64_t{4} << 20;

struct PackLimits {
  std::int64_t least_bytes = std::int64_t{4} << 20;  ///< of all files together: fewer are there sooner without
  std::size_t least_files = 4;
  /// A pack ends at the next directory whose name says so when it has as much: a difference in one directory leaves
  /// the other packs as they are.
  std::int64_t good_bytes = std::int64_t{32} << 20;
  std::int64_t most_bytes = std::int64_t{64} << 20;
  std::size_t most_files = 8192;
  std::size_t most_path_bytes = std::size_t{2} << 20;
};

[[nodiscard]] PackId pack_id(std::span<const PackFile> files);
/// What a pack is called for people: the directory that all of it lies in, or "." for the files directory itself.
[[nodiscard]] std::string pack_name(std::span<const PackFile> files);

/// Where packs begin and end in `files`, which are sorted by path. What lies in none of them is too little for one.
[[nodiscard]] std::vector<std::pair<std::size_t, std::size_t>> cut_packs(std::span<const PackFile> files,
                                                                         const PackLimits& limits = {});

/// What keeps a list that came from the network from being a pack, in words; empty where nothing does.
[[nodiscard]] std::string pack_fault(std::span<const PackFile> files, const PackLimits& limits = {});

/// Whether these are indices of files, ascending.
[[nodiscard]] bool are_indices(std::span<const std::uint32_t> left_out, std::size_t files);

/// The bytes of a pack that was made without some.
[[nodiscard]] std::int64_t pack_size(std::span<const PackFile> files, std::span<const std::uint32_t> left_out);

}  // namespace mesh
