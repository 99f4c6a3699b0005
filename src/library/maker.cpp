#include "library/maker.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <libtorrent/bencode.hpp>
#include <libtorrent/entry.hpp>
#include <libtorrent/hasher.hpp>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "core/piece_plan.h"
#include "wire/codec.h"

namespace mesh {
namespace {

constexpr std::int64_t read_bytes = 256 * 1024;  // sixteen blocks, and in the L2 cache until they are hashed

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

/// Calls `work(piece, buffer)` for each piece, on so many threads. Throws what one of them threw.
template <class Work>
void for_each_piece(int pieces, std::int64_t size, unsigned threads, const std::atomic<bool>& stop, const Work& work) {
  const auto make_buffer = [&] { return std::vector<char>(static_cast<std::size_t>(std::min(size, read_bytes))); };
  for_each_index(pieces, threads, make_buffer, [&](int piece, std::vector<char>& buffer) {
    if (stop) throw Error(Status::failed, "the node is shutting down");
    work(piece, buffer);
  });
}

/// What stands where BEP 3 has SHA-1.
void set_hashes(PieceLayout& layout) {
  layout.hashes.clear();
  for (const auto& root : layout.roots) layout.hashes.emplace_back(root.view().data());
}

}  // namespace

HashedFile hash_file(int fd, std::int64_t size, unsigned threads, const std::atomic<bool>& stop,
                     std::vector<lt::sha1_hash>* sha1) {
  if (size > most_torrent_bytes) throw Error(Status::failed, "is larger than a torrent can be, 16 TiB");
  HashedFile out;
  out.layout.size = size;
  out.layout.piece_length = piece_length_for(size);
  if (size == 0) {
    out.id = sha256({});
    return out;
  }
  const int pieces = piece_count_for(size);
  const bool with_sha1 = sha1 != nullptr;
  if (with_sha1) sha1->resize(static_cast<std::size_t>(pieces));
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
      std::call_once(zeros_once,
                     [&] { zeros = hash_piece(fd, begin, out.layout.piece_length, true, with_sha1, buffer); });
    const HashedPiece hashed =
        hole ? zeros : hash_piece(fd, begin, out.layout.length_of(piece), false, with_sha1, buffer);
    if (with_sha1) (*sha1)[at] = hashed.sha1;
    roots[at] = root_of_leaves(hashed.leaves, out.layout.piece_length, pieces == 1);
  });
  set_hashes(out.layout);
  out.id = pieces == 1 ? roots.front() : content_id_of_pieces(roots, out.layout.piece_length);
  return out;
}

std::string verify_pieces(const PieceLayout& layout, int fd, std::string have, std::string_view roots, unsigned threads,
                          const std::atomic<bool>& stop) {
  const auto pieces = static_cast<std::size_t>(layout.count());
  if (have.size() != pieces || roots.size() != pieces * 32) return std::string(pieces, '\0');
  std::once_flag zeros_once;
  HashedPiece zeros;
  for_each_piece(layout.count(), layout.size, threads, stop, [&](int piece, std::vector<char>& buffer) {
    const auto at = static_cast<std::size_t>(piece);
    if (have[at] == 0) return;
    const auto begin = piece * layout.piece_length;
    const auto length = layout.length_of(piece);
    const bool hole = length == layout.piece_length && is_hole(fd, begin, length);
    if (hole) std::call_once(zeros_once, [&] { zeros = hash_piece(fd, begin, length, true, false, buffer); });
    const HashedPiece hashed = hole ? zeros : hash_piece(fd, begin, length, false, false, buffer);
    const auto root = root_of_leaves(hashed.leaves, layout.piece_length, pieces == 1);
    const bool same = root.view() == roots.substr(at * 32, 32) && (layout.roots.empty() || root == layout.roots[at]);
    if (!same) have[at] = '\0';
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

std::string roots_of(const HashedFile& file) {
  std::string out;
  if (file.layout.count() <= 1) return out;
  out.reserve(file.layout.roots.size() * 32);
  for (const auto& root : file.layout.roots) out += root.view();
  return out;
}

std::optional<HashedFile> read_file_of(const ContentId& id, std::int64_t size, std::string_view roots) {
  HashedFile out;
  out.id = id;
  auto& layout = out.layout;
  layout.roots = read_roots(roots, size, id);
  if (layout.roots.empty()) return std::nullopt;
  layout.size = size;
  layout.piece_length = piece_length_for(size);
  set_hashes(layout);
  return out;
}

void store_roots(StateDb& db, const HashedFile& file) {
  if (const auto roots = roots_of(file); !roots.empty()) db.put_roots(file.id, roots);
}

std::optional<HashedFile> load_roots(StateDb& db, const ContentId& id, std::int64_t size) {
  return read_file_of(id, size, size > 0 && piece_count_for(size) > 1 ? db.find_roots(id) : std::string());
}

SwarmSpec make_torrent(const HashedFile& file, const MeshKey* key) {
  SwarmSpec out;
  out.id = file.id;
  out.info = encode_info(file.id, file.layout.size, file.layout.hashes);
  if (key != nullptr) {
    out.info.pop_back();  // the end of the dictionary, in which these keys are the last
    const auto secret = infohash_secret(*key, file.id.view(), file.layout.size);
    out.info += "4:salt" + std::to_string(secret.size()) + ":" + secret;
    out.info += "8:ssl-cert" + std::to_string(key->authority.size()) + ":" + key->authority + "e";
  }
  out.infohash = infohash_of(out.info);
  return out;
}

const MeshKey* key_of(const HashedFile& file, const InfoHash& infohash, const MeshKeysPtr& keys) {
  if (!keys) return nullptr;
  if (!infohash.is_set()) return &keys->first();
  const auto under = [&](const MeshKey& one) { return make_torrent(file, &one).infohash == infohash; };
  const auto it = std::ranges::find_if(keys->all(), under);
  if (it == keys->all().end()) throw Error(Status::failed, "does not have the key of that swarm");
  return &*it;
}

std::optional<VerifiedTorrent> verify_torrent(const ContentId& id, std::int64_t size, std::string_view roots,
                                              const InfoHash& infohash, const MeshKeysPtr& keys) {
  auto file = read_file_of(id, size, roots);
  if (!file) return std::nullopt;
  std::vector<const MeshKey*> under;
  if (keys)
    for (const auto& key : keys->all()) under.push_back(&key);
  else
    under.push_back(nullptr);
  for (const auto* key : under)
    if (auto torrent = make_torrent(*file, key); torrent.infohash == infohash)
      return VerifiedTorrent{std::move(*file), key, std::move(torrent)};
  return std::nullopt;
}

SwarmSpec make_guest_torrent(const std::string& standard_info, const std::string& name) {
  lt::entry info(parse_bencode(standard_info));
  info["name"] = name;
  info["private"] = 1;
  info["salt"] = random_secret().hex();
  SwarmSpec out;
  lt::bencode(std::back_inserter(out.info), info);
  out.infohash = infohash_of(out.info);
  out.id = sha256(out.info);
  return out;
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
