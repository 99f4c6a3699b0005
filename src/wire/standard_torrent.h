// Standard torrents: of a file of the mesh, for BitTorrent clients of another make. BEP 3 as it is, with the SHA-1 of
// the pieces; one file, named by its content id in hex, piece length by piece_length_for. Pure; any thread.
#pragma once

#include <cstdint>
#include <libtorrent/sha1_hash.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/digest.h"

namespace mesh {

namespace lt = libtorrent;

/// The info dictionary (BEP 3) of such a torrent, or of one that has something else in place of SHA-1.
[[nodiscard]] std::string encode_info(const ContentId& id, std::int64_t size, const std::vector<lt::sha1_hash>& pieces);
[[nodiscard]] InfoHash infohash_of(const std::string& info);

struct StandardTorrent {
  ContentId own;  ///< its swarm's, no content's
  InfoHash infohash;
  std::string info;
  std::vector<lt::sha1_hash> pieces;  ///< their SHA-1, as it says
};
/// The length that an info dictionary says; 0 where it says none.
[[nodiscard]] std::int64_t length_of_standard_torrent(const std::string& info);
/// One that came from elsewhere; nothing unless `info` is, byte for byte, what encode_info makes for this file. Whether
/// the hashes are right only the bytes say.
[[nodiscard]] std::optional<StandardTorrent> read_standard_torrent(const std::string& info, const ContentId& id,
                                                                   std::int64_t size);

}  // namespace mesh
