#include "core/merkle.h"

#include <bit>
#include <libtorrent/hasher.hpp>

#include "core/piece_plan.h"

namespace mesh {
namespace {

Sha256 finish(lt::hasher256& hasher) {
  const lt::sha256_hash sum = hasher.final();
  Sha256 out;
  std::copy(sum.data(), sum.data() + 32, out.bytes.begin());
  return out;
}

Sha256 parent(const Sha256& left, const Sha256& right) {
  lt::hasher256 hasher;
  hasher.update({left.bytes.data(), 32});
  hasher.update({right.bytes.data(), 32});
  return finish(hasher);
}

std::vector<std::string_view> cut(std::string_view bytes, std::size_t length) {
  std::vector<std::string_view> out;
  out.reserve(bytes.size() / length + 1);
  for (std::size_t at = 0; at < bytes.size(); at += length) out.push_back(bytes.substr(at, length));
  return out;
}

/// Each pair's parent, of an even number of nodes.
std::vector<Sha256> parents(const std::vector<Sha256>& nodes) {
  static_assert(sizeof(Sha256) == 32);
  std::vector<Sha256> out(nodes.size() / 2);
  sha256_each(cut({reinterpret_cast<const char*>(nodes.data()), nodes.size() * 32}, 64), out);
  return out;
}

}  // namespace

Sha256 sha256(std::string_view bytes) {
  lt::hasher256 hasher;
  // libtorrent's hasher asserts on an empty update.
  if (!bytes.empty()) hasher.update({bytes.data(), static_cast<std::ptrdiff_t>(bytes.size())});
  return finish(hasher);
}

Sha256 merkle_root(std::span<const Sha256> layer, std::size_t width, const Sha256& pad) {
  if (width == 0) width = std::bit_ceil(std::max<std::size_t>(layer.size(), 1));
  std::vector<Sha256> nodes(layer.begin(), layer.end());
  Sha256 filler = pad;
  for (; width > 1; width /= 2) {
    if (nodes.size() % 2 != 0) nodes.push_back(filler);
    nodes = parents(nodes);
    filler = parent(filler, filler);
  }
  return nodes.empty() ? filler : nodes.front();
}

Sha256 piece_root(std::span<const Sha256> leaves, std::int64_t piece_length) {
  return merkle_root(leaves, static_cast<std::size_t>(piece_length / block_bytes), Sha256{});
}

ContentId content_id_of_pieces(std::span<const Sha256> roots, std::int64_t piece_length) {
  return merkle_root(roots, 0, piece_root({}, piece_length));
}

std::vector<Sha256> read_roots(std::string_view text, std::int64_t size, const ContentId& id) {
  std::vector<Sha256> out;
  if (size <= 0 || size > most_torrent_bytes) return out;
  const auto pieces = static_cast<std::size_t>(piece_count_for(size));
  if (pieces == 1) {
    if (text.empty()) out.push_back(id);
    return out;
  }
  if (text.size() / 32 != pieces || text.size() % 32 != 0) return out;
  for (const auto root : cut(text, 32)) out.push_back(*Sha256::from(root));
  if (content_id_of_pieces(out, piece_length_for(size)) != id) out.clear();
  return out;
}

ContentId content_id_of_leaves(std::span<const Sha256> leaves) { return merkle_root(leaves, 0, Sha256{}); }

std::vector<std::string_view> blocks_of(std::string_view bytes) { return cut(bytes, block_bytes); }

void append_leaves(std::span<const std::string_view> blocks, std::vector<Sha256>& leaves) {
  const auto before = leaves.size();
  leaves.resize(before + blocks.size());
  sha256_each(blocks, std::span(leaves).subspan(before));
}

Sha256 root_of_leaves(std::span<const Sha256> leaves, std::int64_t piece_length, bool only_piece) {
  return only_piece ? content_id_of_leaves(leaves) : piece_root(leaves, piece_length);
}

Sha256 root_of_piece(std::string_view bytes, std::int64_t piece_length, bool only_piece) {
  std::vector<Sha256> leaves;
  append_leaves(blocks_of(bytes), leaves);
  return root_of_leaves(leaves, piece_length, only_piece);
}

ContentId content_id_of_bytes(std::string_view bytes) {
  std::vector<Sha256> leaves;
  append_leaves(blocks_of(bytes), leaves);
  return leaves.empty() ? sha256(bytes) : content_id_of_leaves(leaves);
}

}  // namespace mesh
