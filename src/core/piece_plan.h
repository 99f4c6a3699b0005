// Which pieces a file is cut into. Pure; any thread.
#pragma once

#include <cstdint>

namespace mesh {

/// Files up to this size travel whole on the node channel; larger ones as torrents.
inline constexpr std::int64_t small_file_bytes = 64 * 1024;

/// The piece length of a torrent of `size` bytes, a function of the size alone: a power of two from 64 KiB to 16 MiB,
/// such that the file has at most 1,024 pieces where that is possible; beyond 2 TiB as much more as leaves it 128 Ki
/// pieces, whose roots fit one message. Of a `size` that no torrent has: as of the largest.
[[nodiscard]] std::int64_t piece_length_for(std::int64_t size);
[[nodiscard]] int piece_count_for(std::int64_t size);
/// No torrent is larger: libtorrent takes no file of 2^44 - 2^14 bytes, just under 16 TiB.
inline constexpr std::int64_t most_torrent_bytes = (std::int64_t{1} << 44) - 32 * 1024;

/// So many getters of a URL fetch from its origin at once, at most.
inline constexpr int most_url_fetchers = 8;

}  // namespace mesh
