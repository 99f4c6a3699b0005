// SHA-256 merkle trees by the rules of BEP 52: leaves are 16 KiB blocks (the last one as long as it is), the leaf layer
// is padded to a power of two with zero hashes. Pure; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/digest.h"

namespace mesh {

inline constexpr int block_bytes = 16 * 1024;

using Sha256 = Digest<32>;

[[nodiscard]] Sha256 sha256(std::string_view bytes);

/// out[i] = sha256(messages[i]), side by side in the lanes that the processor has for it (docs/decisions/0015). `out`
/// is as long as `messages`, and not where they are. A thread that hashes much keeps 200 KB for it.
void sha256_each(std::span<const std::string_view> messages, std::span<Sha256> out);

/// The 16 KiB blocks of `bytes`.
[[nodiscard]] std::vector<std::string_view> blocks_of(std::string_view bytes);

/// The SHA-256 of each block, appended to `leaves`.
void append_leaves(std::span<const std::string_view> blocks, std::vector<Sha256>& leaves);

/// The root over `layer`, padded to `width` nodes (a power of two; 0: to the next power of two) with `pad`.
[[nodiscard]] Sha256 merkle_root(std::span<const Sha256> layer, std::size_t width, const Sha256& pad);

/// The root of one piece, padded to the full piece length, from its blocks' hashes.
[[nodiscard]] Sha256 piece_root(std::span<const Sha256> leaves, std::int64_t piece_length);

/// The content id from the piece roots (a file of more than one piece), all padded to the full piece length.
[[nodiscard]] ContentId content_id_of_pieces(std::span<const Sha256> roots, std::int64_t piece_length);

/// The pieces' roots of a torrent of `size` bytes, from what is told and kept of them: 32 bytes each, nothing of a file
/// of one piece, whose root its id is. None unless they make the content `id`.
[[nodiscard]] std::vector<Sha256> read_roots(std::string_view text, std::int64_t size, const ContentId& id);

/// The content id of a file of one piece, from its blocks' hashes.
[[nodiscard]] ContentId content_id_of_leaves(std::span<const Sha256> leaves);

/// The root of one piece, from its blocks' hashes; of a file of one piece, its content id.
[[nodiscard]] Sha256 root_of_leaves(std::span<const Sha256> leaves, std::int64_t piece_length, bool only_piece);

/// The same of one that is held in memory.
[[nodiscard]] Sha256 root_of_piece(std::string_view bytes, std::int64_t piece_length, bool only_piece);

/// The content id of a file that is held in memory.
[[nodiscard]] ContentId content_id_of_bytes(std::string_view bytes);

}  // namespace mesh
