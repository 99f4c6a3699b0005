// Sketches: what a content looks like, in 8 bytes for each chunk of it, so that who has a similar file finds where its
// bytes lie in the other one, however far they have moved.
//
// Chunks are cut where the bytes themselves say so (content-defined chunking: Muthitacharoen, Chen, Mazières, SOSP
// 2001; the gear hash and the two masks of FastCDC: Xia et al., USENIX ATC 2016). A chunk that two files have in common
// is an anchor: it says at which shift the bytes around it are worth comparing, and no more than that. So a sketch may
// be wrong or hostile, and costs time; what is compared is proved by leaves (core/merkle.h). docs/decisions/0025.
//
// A content is cut in segments, each for itself, so that parts of a sketch can be made, and several at once.
// Pure; any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mesh {

/// How a content of a size is cut: a function of that alone, so that both sides cut alike.
struct ChunkPlan {
  std::int64_t average = 0;  ///< bytes of a chunk, a power of two: 8 KiB, more where that were over 2^20 chunks
  std::int64_t segment = 0;  ///< bytes, each cut for itself: 2,048 chunks or 64 MiB, but one piece at least

  [[nodiscard]] std::int64_t shortest() const { return average / 4; }
  [[nodiscard]] std::int64_t longest() const { return average * 4; }
  [[nodiscard]] int segments(std::int64_t size) const { return static_cast<int>((size + segment - 1) / segment); }
  [[nodiscard]] std::int64_t length_of(int index, std::int64_t size) const;
};
[[nodiscard]] ChunkPlan chunk_plan_for(std::int64_t size);

struct Chunk {
  std::uint64_t hash = 0;  ///< 40 bits of XXH3
  std::int64_t length = 0;
  bool operator==(const Chunk&) const = default;
};
/// The hash of a chunk with these bytes.
[[nodiscard]] std::uint64_t chunk_hash(std::string_view bytes);

/// The chunks of a segment of this length. `read` is called for stretches of it, in order: at most a MiB at once where
/// chunks are of 8 KiB, 16 MiB at the coarsest. What it throws goes through.
using ReadSegment = std::function<void(std::int64_t offset, std::span<char> out)>;
[[nodiscard]] std::vector<Chunk> cut_chunks(std::int64_t length, const ChunkPlan& plan, const ReadSegment& read);

/// As they are told and kept: of each 5 bytes of the hash and 3 of the length, little-endian.
inline constexpr std::size_t told_chunk_bytes = 8;
[[nodiscard]] std::string tell_chunks(std::span<const Chunk> chunks);
/// Back again; nothing unless they are the chunks of a segment of this length.
[[nodiscard]] std::optional<std::vector<Chunk>> read_chunks(std::string_view told, std::int64_t length,
                                                            const ChunkPlan& plan);
/// The most bytes that a segment's chunks can take.
[[nodiscard]] std::size_t most_told_bytes(const ChunkPlan& plan);

/// Where chunks lie in a seed. 16 bytes for each.
class ChunkIndex {
 public:
  /// The chunks of a segment that begins at `offset`. Chunks of nothing but zeros are left out: they are everywhere.
  void add(std::int64_t offset, std::span<const Chunk> chunks);
  /// To be called when all are added, before anything is looked for.
  void sort();
  /// Where a chunk lies first; -1: nowhere.
  [[nodiscard]] std::int64_t find(const Chunk& chunk) const;
  [[nodiscard]] bool empty() const { return places_.empty(); }

 private:
  struct Place {
    std::uint64_t key = 0;
    std::int64_t offset = 0;
  };
  [[nodiscard]] static std::uint64_t key_of(const Chunk& chunk);
  std::vector<Place> places_;
};

/// Whether a chunk is nothing but zeros, as runs of them are cut.
[[nodiscard]] bool is_zero_chunk(const Chunk& chunk);

/// Where a block of the wanted content may be found.
struct BlockGuess {
  std::int64_t block = 0;  ///< 16 KiB each, from the content's beginning
  std::int64_t shift = 0;  ///< to be added to the block's offset: where to look in the seed
  bool is_zero = false;    ///< then nowhere: it should be nothing but zeros
  bool operator==(const BlockGuess&) const = default;
};
/// Guesses for the blocks that the chunks of a segment at `offset` touch, and for those beside them, by block, the
/// likeliest first, and none twice. `size` is the wanted content's. A block may have several guesses; chunks of zeros
/// make some for blocks that lie wholly in them.
[[nodiscard]] std::vector<BlockGuess> guess_blocks(std::int64_t offset, std::span<const Chunk> chunks,
                                                   std::int64_t size, const ChunkIndex& seed, std::int64_t seed_size);

}  // namespace mesh
