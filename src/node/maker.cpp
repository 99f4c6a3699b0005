#include "node/maker.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <libtorrent/bencode.hpp>
#include <libtorrent/entry.hpp>
#include <libtorrent/hasher.hpp>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/piece_plan.h"
#include "wire/codec.h"

namespace mesh {
namespace {

constexpr std::int64_t read_bytes = 128 * 1024;  // stays in the L2 cache between the two hashes
constexpr std::int64_t most_torrent_bytes = std::int64_t{1} << 50;
constexpr int most_roots = 128 * 1024;  // 4 MiB of them, 2 TiB of file: a torrent is one message

struct HashedPiece {
  lt::sha1_hash sha1;
  std::vector<Sha256> leaves;
};

bool is_hole(int fd, std::int64_t begin, std::int64_t length) {
  const auto data = ::lseek(fd, begin, SEEK_DATA);
  return (data < 0 && errno == ENXIO) || data >= begin + length;
}

/// Hashes [begin, begin + length) of the file; a hole is zeros, and not read.
HashedPiece hash_piece(int fd, std::int64_t begin, std::int64_t length, bool hole, bool with_sha1,
                       std::vector<char>& buffer) {
  HashedPiece out;
  lt::hasher sha1;
  if (hole) std::fill(buffer.begin(), buffer.end(), '\0');
  for (std::int64_t at = 0; at < length;) {
    const auto part = std::min(read_bytes, length - at);
    for (std::int64_t got = 0; !hole && got < part;) {
      const auto n = ::pread(fd, buffer.data() + got, static_cast<std::size_t>(part - got), begin + at + got);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) throw Error(Status::failed, std::generic_category().message(errno));
      if (n == 0) throw Error(Status::failed, "became shorter while it was hashed");
      got += n;
    }
    if (with_sha1) sha1.update({buffer.data(), static_cast<std::ptrdiff_t>(part)});
    append_leaves(blocks_of({buffer.data(), static_cast<std::size_t>(part)}), out.leaves);
    at += part;
  }
  out.sha1 = sha1.final();
  return out;
}

/// Calls `work(piece, buffer)` for each piece, on so many threads. Throws what the first of them to fail threw.
template <class Work>
void for_each_piece(int pieces, std::int64_t size, unsigned threads, const std::atomic<bool>& stop, const Work& work) {
  std::atomic<int> next = 0;
  std::mutex mutex;
  std::string trouble;
  const auto run = [&] {
    std::vector<char> buffer(static_cast<std::size_t>(std::min(size, read_bytes)));
    for (int piece = next++; piece < pieces; piece = next++) {
      try {
        if (stop) throw Error(Status::failed, "the node is shutting down");
        work(piece, buffer);
      } catch (const std::exception& error) {
        const std::lock_guard lock(mutex);
        trouble = error.what();
        next = pieces;
      }
    }
  };
  std::vector<std::jthread> helpers;
  for (unsigned i = 1; i < std::min(threads, static_cast<unsigned>(pieces)); ++i) helpers.emplace_back(run);
  run();
  helpers.clear();
  if (!trouble.empty()) throw Error(Status::failed, trouble);
}

Sha256 root_of(const HashedPiece& piece, const PieceLayout& layout) {
  return layout.count() == 1 ? content_id_of_leaves(piece.leaves) : piece_root(piece.leaves, layout.piece_length);
}

std::string encode_info(const ContentId& id, const PieceLayout& layout) {
  lt::entry info(lt::entry::dictionary_t);
  info["length"] = layout.size;
  info["name"] = id.hex();
  info["piece length"] = layout.piece_length;
  std::string pieces;
  for (const auto& hash : layout.hashes) pieces.append(hash.data(), 20);
  info["pieces"] = pieces;
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

}  // namespace

HashedFile hash_file(int fd, std::int64_t size, unsigned threads, const std::atomic<bool>& stop) {
  HashedFile out;
  out.layout.size = size;
  out.layout.piece_length = piece_length_for(size);
  if (size == 0) {
    out.id = sha256({});
    return out;
  }
  const int pieces = piece_count_for(size);
  out.layout.hashes.resize(static_cast<std::size_t>(pieces));
  auto& roots = out.layout.roots;
  roots.resize(static_cast<std::size_t>(pieces));
  // Sparse images are mostly the same piece of zeros.
  std::once_flag zeros_once;
  HashedPiece zeros;
  for_each_piece(pieces, size, threads, stop, [&](int piece, std::vector<char>& buffer) {
    const auto begin = piece * out.layout.piece_length;
    const auto at = static_cast<std::size_t>(piece);
    const bool hole = piece + 1 < pieces && is_hole(fd, begin, out.layout.piece_length);
    if (hole)
      std::call_once(zeros_once, [&] { zeros = hash_piece(fd, begin, out.layout.piece_length, true, true, buffer); });
    const HashedPiece hashed = hole ? zeros : hash_piece(fd, begin, out.layout.length_of(piece), false, true, buffer);
    out.layout.hashes[at] = hashed.sha1;
    roots[at] = root_of(hashed, out.layout);
  });
  out.id = pieces == 1 ? roots.front() : content_id_of_pieces(roots, out.layout.piece_length);
  return out;
}

std::string still_there(const PieceLayout& layout, bool is_known, int fd, std::string have, std::string_view roots,
                        unsigned threads, const std::atomic<bool>& stop) {
  const auto pieces = static_cast<std::size_t>(layout.count());
  if (have.size() != pieces || roots.size() != pieces * 32) return std::string(pieces, '\0');
  const bool by_sha1 = is_known && layout.roots.empty();
  std::once_flag zeros_once;
  HashedPiece zeros;
  for_each_piece(layout.count(), layout.size, threads, stop, [&](int piece, std::vector<char>& buffer) {
    const auto at = static_cast<std::size_t>(piece);
    if (have[at] == 0) return;
    const auto begin = piece * layout.piece_length;
    const auto length = layout.length_of(piece);
    const bool hole = length == layout.piece_length && is_hole(fd, begin, length);
    if (hole) std::call_once(zeros_once, [&] { zeros = hash_piece(fd, begin, length, true, by_sha1, buffer); });
    const HashedPiece hashed = hole ? zeros : hash_piece(fd, begin, length, false, by_sha1, buffer);
    const auto root = root_of(hashed, layout);
    const bool same = root.view() == roots.substr(at * 32, 32) && (layout.roots.empty() || root == layout.roots[at]);
    if (!same || (by_sha1 && hashed.sha1 != layout.hashes[at])) have[at] = '\0';
  });
  return have;
}

std::string sha256_of(int fd, const std::atomic<bool>& stop) {
  lt::hasher256 hasher;
  std::vector<char> buffer(static_cast<std::size_t>(read_bytes));
  for (off_t at = 0;;) {
    if (stop) throw Error(Status::interrupted, "stopped");
    const auto n = ::pread(fd, buffer.data(), buffer.size(), at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw Error(Status::failed, std::generic_category().message(errno));
    if (n == 0) break;
    hasher.update({buffer.data(), static_cast<std::ptrdiff_t>(n)});
    at += n;
  }
  const auto sum = hasher.final();
  return to_hex({sum.data(), 32});
}

StoredTorrent make_torrent(const HashedFile& file) {
  StoredTorrent out;
  out.id = file.id;
  out.info = encode_info(file.id, file.layout);
  out.infohash = infohash_of(out.info);
  if (file.layout.count() > 1 && file.layout.count() <= most_roots)
    for (const auto& root : file.layout.roots) out.roots += root.view();
  return out;
}

namespace {

/// What an info dictionary says of its pieces, where that could be a torrent of this project.
std::optional<PieceLayout> layout_of(const lt::bdecode_node& node) {
  if (node.type() != lt::bdecode_node::dict_t) return std::nullopt;
  PieceLayout layout;
  layout.size = node.dict_find_int_value("length");
  layout.piece_length = node.dict_find_int_value("piece length");
  const auto pieces = node.dict_find_string_value("pieces");
  if (layout.size <= 0 || layout.size > most_torrent_bytes || layout.piece_length != piece_length_for(layout.size))
    return std::nullopt;
  if (pieces.size() != static_cast<std::size_t>(piece_count_for(layout.size)) * 20) return std::nullopt;
  for (std::size_t i = 0; i < pieces.size(); i += 20) layout.hashes.emplace_back(pieces.data() + i);
  return layout;
}

}  // namespace

StoredTorrent seal(const StoredTorrent& torrent, const MeshKey* key) {
  if (key == nullptr) return torrent;
  StoredTorrent out = torrent;
  out.info.pop_back();  // the end of the dictionary, in which this key is the last
  out.info += "8:ssl-cert" + std::to_string(key->authority.size()) + ":" + key->authority + "e";
  out.infohash = infohash_of(out.info);
  return out;
}

StoredTorrent salt(const StoredTorrent& torrent, const std::string& name) {
  lt::entry info(parse_bencode(torrent.info));
  info["name"] = name;
  info["private"] = 1;
  info["salt"] = random_secret().hex();
  StoredTorrent out;
  lt::bencode(std::back_inserter(out.info), info);
  out.infohash = infohash_of(out.info);
  out.id = sha256(out.info);
  return out;
}

std::optional<Unsealed> unseal(const StoredTorrent& sealed, const MeshKeysPtr& keys) {
  try {
    const auto node = parse_bencode(sealed.info);
    auto layout = layout_of(node);
    if (!layout) return std::nullopt;
    layout->roots = layout->count() == 1
                        ? std::vector{sealed.id}
                        : read_roots(sealed.roots, layout->hashes.size(), layout->piece_length, sealed.id);
    Unsealed out;
    out.torrent = make_torrent({sealed.id, *layout});
    out.layout = std::move(*layout);
    if (keys) {
      const auto authority = node.dict_find_string_value("ssl-cert");
      const auto it = std::ranges::find(keys->all(), std::string_view(authority.data(), authority.size()),
                                        [](const MeshKey& key) { return std::string_view(key.authority); });
      if (it == keys->all().end()) return std::nullopt;
      out.key = &*it;
    }
    const auto again = seal(out.torrent, out.key);
    if (again.info != sealed.info || again.infohash != sealed.infohash) return std::nullopt;
    return out;
  } catch (const CodecError&) {
    return std::nullopt;
  }
}

std::optional<PieceLayout> read_torrent(const StoredTorrent& torrent) {
  auto read = unseal(torrent, nullptr);
  return read ? std::optional(std::move(read->layout)) : std::nullopt;
}

std::string torrent_file(std::string_view info, const std::vector<std::string>& announce_urls) {
  lt::entry file(lt::entry::dictionary_t);
  if (!announce_urls.empty()) file["announce"] = announce_urls.front();
  if (announce_urls.size() > 1) {
    lt::entry::list_type tiers;
    for (const auto& url : announce_urls) tiers.emplace_back(lt::entry::list_type{lt::entry(url)});
    file["announce-list"] = tiers;
  }
  file["created by"] = "meshswarm";
  file["info"] = lt::entry(lt::entry::preformatted_type(info.begin(), info.end()));
  std::string out;
  lt::bencode(std::back_inserter(out), file);
  return out;
}

}  // namespace mesh
