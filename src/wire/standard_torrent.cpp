#include "wire/standard_torrent.h"

#include <cstring>
#include <libtorrent/bencode.hpp>
#include <libtorrent/entry.hpp>
#include <libtorrent/hasher.hpp>

#include "core/merkle.h"
#include "core/piece_plan.h"
#include "wire/codec.h"

namespace mesh {

std::string encode_info(const ContentId& id, std::int64_t size, const std::vector<lt::sha1_hash>& pieces) {
  lt::entry info(lt::entry::dictionary_t);
  info["length"] = size;
  info["name"] = id.hex();
  info["piece length"] = piece_length_for(size);
  std::string hashes;
  for (const auto& hash : pieces) hashes.append(hash.data(), 20);
  info["pieces"] = hashes;
  std::string out;
  lt::bencode(std::back_inserter(out), info);
  return out;
}

InfoHash infohash_of(const std::string& info) {
  const auto hash = lt::hasher(lt::span<char const>(info.data(), static_cast<std::ptrdiff_t>(info.size()))).final();
  InfoHash out;
  std::memcpy(out.bytes.data(), hash.data(), 20);
  return out;
}

std::int64_t length_of_standard_torrent(const std::string& info) {
  try {
    const auto node = parse_bencode(info);
    return node.type() == lt::bdecode_node::dict_t ? node.dict_find_int_value("length") : 0;
  } catch (const CodecError&) {
    return 0;
  }
}

std::optional<StandardTorrent> read_standard_torrent(const std::string& info, const ContentId& id, std::int64_t size) {
  if (size <= 0 || size > most_torrent_bytes) return std::nullopt;
  try {
    const auto node = parse_bencode(info);
    if (node.type() != lt::bdecode_node::dict_t) return std::nullopt;
    const auto pieces = node.dict_find_string_value("pieces");
    if (pieces.size() != static_cast<std::size_t>(piece_count_for(size)) * 20) return std::nullopt;
    StandardTorrent out;
    for (std::size_t i = 0; i < pieces.size(); i += 20) out.pieces.emplace_back(pieces.data() + i);
    if (encode_info(id, size, out.pieces) != info) return std::nullopt;
    out.own = sha256(info);
    out.infohash = infohash_of(info);
    out.info = info;
    return out;
  } catch (const CodecError&) {
    return std::nullopt;
  }
}

}  // namespace mesh
