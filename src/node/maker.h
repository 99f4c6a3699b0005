// From bytes to a torrent: hashing a file once for both of its names, and the info dictionary.
//
// The torrent is a function of the content alone: one file, BitTorrent v1 (BEP 3), named by the content id in hex,
// piece length by piece_length_for. Thread-safe; hash_file blocks and uses `threads` threads.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <string_view>

#include "core/digest.h"
#include "disk/state_db.h"
#include "disk/storage.h"
#include "wire/mesh_key.h"

namespace mesh {

struct HashedFile {
  ContentId id;
  PieceLayout layout;
};

/// Reads `size` bytes of `fd` (holes are not read). Throws Error(failed) with the system's reason, or when `stop` is
/// set.
[[nodiscard]] HashedFile hash_file(int fd, std::int64_t size, unsigned threads, const std::atomic<bool>& stop);

/// Which of the pieces that `have` (a byte a piece) says are in `fd` are there: those whose SHA-256 root is the one in
/// `roots` (32 bytes a piece) and in the layout, or, where that has none, whose SHA-1 is the layout's where that
/// `is_known`. Reads them all; throws as hash_file does.
[[nodiscard]] std::string still_there(const PieceLayout& layout, bool is_known, int fd, std::string have,
                                      std::string_view roots, unsigned threads, const std::atomic<bool>& stop);

/// The SHA-256 of all that an open file has from its beginning, in hex. Throws Error(failed); Error(interrupted) when
/// `stop` is set.
[[nodiscard]] std::string sha256_of(int fd, const std::atomic<bool>& stop);

[[nodiscard]] StoredTorrent make_torrent(const HashedFile& file);

/// The pieces of a torrent that came from elsewhere; nothing unless its `info` is, byte for byte, one that make_torrent
/// could have made for content `id`. Roots of which `id` is not the root are left out.
[[nodiscard]] std::optional<PieceLayout> read_torrent(const StoredTorrent& torrent);

/// The same torrent as it is in the swarms of a key, whose authority it names (libtorrent's SSL torrents): content id
/// and key make its infohash. Without a key it is the torrent itself.
[[nodiscard]] StoredTorrent seal(const StoredTorrent& torrent, const MeshKey* key);

struct Unsealed {
  StoredTorrent torrent;
  PieceLayout layout;
  const MeshKey* key = nullptr;
};
/// Back again, of a torrent that came from elsewhere; nothing unless it is, byte for byte, one that make_torrent and,
/// with one of `keys`, `seal` could have made. The result lives as long as `keys`.
[[nodiscard]] std::optional<Unsealed> unseal(const StoredTorrent& sealed, const MeshKeysPtr& keys);

/// The same pieces as another, private (BEP 27) torrent, with this name in place of the content's and a random salt:
/// its infohash cannot be guessed. Its id is its own, no content's.
[[nodiscard]] StoredTorrent salt(const StoredTorrent& torrent, const std::string& name);

/// A .torrent file around an info dictionary.
[[nodiscard]] std::string torrent_file(std::string_view info, const std::vector<std::string>& announce_urls);

}  // namespace mesh
