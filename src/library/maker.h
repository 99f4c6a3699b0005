// From bytes to torrents: hashing a file, and the info dictionaries of its swarms.
//
// In the mesh a torrent is a function of the content alone: one file in the form of BitTorrent v1 (BEP 3), named by the
// content id in hex, piece length by piece_length_for, and where BEP 3 has the pieces' SHA-1, the beginning of their
// SHA-256 merkle roots, by which nodes check them. So SHA-1 is computed of nothing but what other clients are to get:
// they have a torrent of their own of the same bytes, the standard one (wire/standard_torrent.h, docs/decisions/0016).
// Thread-safe; hash_file blocks and uses `threads` threads.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/digest.h"
#include "disk/storage.h"
#include "library/state_db.h"
#include "wire/mesh_key.h"
#include "wire/standard_torrent.h"

namespace mesh {

struct HashedFile {
  ContentId id;
  PieceLayout layout;
};

/// Reads `size` bytes of `fd` (holes are not read). `sha1`: where each piece's SHA-1 goes, if it is wanted. Throws
/// Error(failed) with the system's reason, or when `stop` is set.
[[nodiscard]] HashedFile hash_file(int fd, std::int64_t size, unsigned threads, const std::atomic<bool>& stop,
                                   std::vector<lt::sha1_hash>* sha1 = nullptr);

/// Which of the pieces that `have` (a byte a piece) says are in `fd` are there: those whose SHA-256 root is the one in
/// `roots` (32 bytes a piece) and in the layout, where that has any. Reads them all; throws as hash_file does.
[[nodiscard]] std::string verify_pieces(const PieceLayout& layout, int fd, std::string have, std::string_view roots,
                                        unsigned threads, const std::atomic<bool>& stop);

/// The SHA-256 of all that an open file has from its beginning, in hex. Throws Error(failed); Error(interrupted) when
/// `stop` is set.
[[nodiscard]] std::string sha256_of(int fd, const std::atomic<bool>& stop);

/// The roots as they are told and kept: 32 bytes each, none of a file of one piece, whose root its id is.
[[nodiscard]] std::string roots_of(const HashedFile& file);
/// Back again; nothing unless content `id` follows from them.
[[nodiscard]] std::optional<HashedFile> read_file_of(const ContentId& id, std::int64_t size, std::string_view roots);

/// Remembers what was hashed.
void store_roots(StateDb& db, const HashedFile& file);
/// What is remembered of content `id`; nothing where that does not make sense.
[[nodiscard]] std::optional<HashedFile> load_roots(StateDb& db, const ContentId& id, std::int64_t size);

/// What a swarm is of, for libtorrent.
struct SwarmSpec {
  ContentId id;  ///< the content's, or one of its own
  InfoHash infohash;
  std::string info;  ///< the bencoded info dictionary
};

/// The torrent of the mesh, or of a mesh with a key, whose authority it names (libtorrent's SSL torrents): anybody who
/// connects to it is shown that, so a secret stands beside it, without which the infohash cannot be computed.
[[nodiscard]] SwarmSpec make_torrent(const HashedFile& file, const MeshKey* key = nullptr);

/// Under which of `keys` its torrent has this infohash, so that a swarm stays with the key under which it began while
/// keys change; the first one where `infohash` is not set. Null in a mesh without keys; throws Error where none does.
[[nodiscard]] const MeshKey* key_of(const HashedFile& file, const InfoHash& infohash, const MeshKeysPtr& keys);

struct VerifiedTorrent {
  HashedFile file;
  const MeshKey* key = nullptr;  ///< under which `torrent` is; lives as long as the keys
  SwarmSpec torrent;
};
/// A torrent of the mesh that came from elsewhere; nothing unless its id follows from the roots, and its infohash from
/// those and, where there are any, one of `keys`.
[[nodiscard]] std::optional<VerifiedTorrent> verify_torrent(const ContentId& id, std::int64_t size,
                                                            std::string_view roots, const InfoHash& infohash,
                                                            const MeshKeysPtr& keys);

/// A standard torrent made private (BEP 27), with this name in place of the content's and a random salt: its infohash
/// cannot be guessed.
[[nodiscard]] SwarmSpec make_guest_torrent(const std::string& standard_info, const std::string& name);

/// A .torrent file around an info dictionary.
[[nodiscard]] std::string torrent_file(std::string_view info, const std::vector<std::string>& announce_urls);

}  // namespace mesh
