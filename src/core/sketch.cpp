#include "core/sketch.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <numeric>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/merkle.h"
#include "core/piece_plan.h"

namespace mesh {
namespace {

constexpr std::int64_t finest = 8 * 1024;
constexpr std::int64_t coarsest = std::int64_t{1} << 20;
constexpr std::int64_t most_chunks = std::int64_t{1} << 20;
constexpr std::int64_t chunks_in_a_segment = 2048;
constexpr std::int64_t longest_segment = std::int64_t{64} << 20;
constexpr std::int64_t least_read = std::int64_t{1} << 20;
constexpr std::uint64_t hash_mask = (std::uint64_t{1} << 40) - 1;
constexpr int length_bits = 24;
/// How many bits fewer, or more, a cut takes behind, or before, the average: lengths come closer to it.
constexpr int normalization = 2;

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) from a fixed seed: every node cuts alike.
constexpr std::array<std::uint64_t, 256> make_gear() {
  std::array<std::uint64_t, 256> out{};
  std::uint64_t state = 0;
  for (auto& value : out) {
    state += 0x9E3779B97F4A7C15U;
    std::uint64_t x = state;
    x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9U;
    x = (x ^ (x >> 27U)) * 0x94D049BB133111EBU;
    value = x ^ (x >> 31U);
  }
  return out;
}
constexpr auto gear = make_gear();

constexpr std::uint64_t top_bits(int bits) { return ~std::uint64_t{0} << (64U - static_cast<unsigned>(bits)); }

/// How long the first chunk of `bytes` is.
std::size_t first_cut(std::string_view bytes, const ChunkPlan& plan) {
  const auto length = std::min(bytes.size(), static_cast<std::size_t>(plan.longest()));
  const auto middle = std::min(length, static_cast<std::size_t>(plan.average));
  const int bits = std::countr_zero(static_cast<std::uint64_t>(plan.average));
  const auto strict = top_bits(bits + normalization);
  const auto lax = top_bits(bits - normalization);
  auto at = std::min(length, static_cast<std::size_t>(plan.shortest()));
  std::uint64_t hash = 0;
  for (; at < middle; ++at) {
    hash = (hash << 1U) + gear[static_cast<unsigned char>(bytes[at])];
    if ((hash & strict) == 0) return at + 1;
  }
  for (; at < length; ++at) {
    hash = (hash << 1U) + gear[static_cast<unsigned char>(bytes[at])];
    if ((hash & lax) == 0) return at + 1;
  }
  return length;
}

}  // namespace

std::int64_t ChunkPlan::length_of(int index, std::int64_t size) const {
  return std::min(segment, size - index * segment);
}

ChunkPlan chunk_plan_for(std::int64_t size) {
  ChunkPlan out;
  out.average = finest;
  while (out.average < coarsest && size / out.average > most_chunks) out.average *= 2;
  // No piece lies in two.
  out.segment = std::max(std::min(out.average * chunks_in_a_segment, longest_segment), piece_length_for(size));
  return out;
}

std::uint64_t chunk_hash(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()) & hash_mask; }

std::vector<Chunk> cut_chunks(std::int64_t length, const ChunkPlan& plan, const ReadSegment& read) {
  std::vector<Chunk> out;
  out.reserve(static_cast<std::size_t>(length / plan.average + 1));
  std::vector<char> buffer(static_cast<std::size_t>(std::min(length, std::max(least_read, plan.longest() * 4))));
  std::size_t held = 0;  // bytes at the buffer's beginning that are in no chunk yet
  for (std::int64_t at = 0; at < length || held > 0;) {
    const auto more = std::min<std::size_t>(buffer.size() - held, static_cast<std::size_t>(length - at));
    if (more > 0) read(at, {buffer.data() + held, more});
    at += static_cast<std::int64_t>(more);
    std::string_view bytes(buffer.data(), held + more);
    // Where more follows, a cut may lie beyond what is here.
    while (!bytes.empty() && (at == length || std::ssize(bytes) >= plan.longest())) {
      const auto cut = first_cut(bytes, plan);
      out.push_back({chunk_hash(bytes.substr(0, cut)), static_cast<std::int64_t>(cut)});
      bytes.remove_prefix(cut);
    }
    held = bytes.size();
    std::memmove(buffer.data(), bytes.data(), held);
  }
  return out;
}

std::string tell_chunks(std::span<const Chunk> chunks) {
  std::string out;
  out.reserve(chunks.size() * told_chunk_bytes);
  for (const auto& chunk : chunks) {
    const auto both = chunk.hash | static_cast<std::uint64_t>(chunk.length) << 40U;
    for (unsigned i = 0; i < told_chunk_bytes; ++i) out.push_back(static_cast<char>(both >> (8 * i) & 0xFFU));
  }
  return out;
}

std::size_t most_told_bytes(const ChunkPlan& plan) {
  return static_cast<std::size_t>(plan.segment / plan.shortest() + 1) * told_chunk_bytes;
}

std::optional<std::vector<Chunk>> read_chunks(std::string_view told, std::int64_t length, const ChunkPlan& plan) {
  if (told.size() % told_chunk_bytes != 0 || told.size() > most_told_bytes(plan)) return std::nullopt;
  std::vector<Chunk> out;
  out.reserve(told.size() / told_chunk_bytes);
  for (std::size_t at = 0; at < told.size(); at += told_chunk_bytes) {
    std::uint64_t both = 0;
    for (unsigned i = 0; i < told_chunk_bytes; ++i)
      both |= std::uint64_t{static_cast<unsigned char>(told[at + i])} << (8 * i);
    Chunk chunk{both & hash_mask, static_cast<std::int64_t>(both >> 40U)};
    length -= chunk.length;
    // Only the last of a segment may be shorter than any other.
    if (chunk.length <= 0 || chunk.length > plan.longest() || length < 0 ||
        (length > 0 && chunk.length < plan.shortest()))
      return std::nullopt;
    out.push_back(chunk);
  }
  if (length != 0) return std::nullopt;
  return out;
}

bool is_zero_chunk(const Chunk& chunk) {
  // A run of zeros is cut at the same length again and again; of each average that is one.
  static const auto known = [] {
    std::vector<Chunk> out;
    const std::string zeros(static_cast<std::size_t>(coarsest * 4), '\0');
    for (ChunkPlan plan{finest, 0}; plan.average <= coarsest; plan.average *= 2) {
      const auto length = first_cut(zeros, plan);
      out.push_back({chunk_hash(std::string_view(zeros).substr(0, length)), static_cast<std::int64_t>(length)});
    }
    return out;
  }();
  return std::ranges::find(known, chunk) != known.end();
}

std::uint64_t ChunkIndex::key_of(const Chunk& chunk) {
  return chunk.hash << static_cast<unsigned>(length_bits) | static_cast<std::uint64_t>(chunk.length);
}

void ChunkIndex::add(std::int64_t offset, std::span<const Chunk> chunks) {
  for (const auto& chunk : chunks) {
    if (!is_zero_chunk(chunk)) places_.push_back({key_of(chunk), offset});
    offset += chunk.length;
  }
}

void ChunkIndex::sort() {
  std::ranges::sort(places_, {}, [](const Place& place) { return std::pair(place.key, place.offset); });
}

std::int64_t ChunkIndex::find(const Chunk& chunk) const {
  const auto key = key_of(chunk);
  const auto it = std::ranges::lower_bound(places_, key, {}, &Place::key);
  return it != places_.end() && it->key == key ? it->offset : -1;
}

std::vector<BlockGuess> guess_blocks(std::int64_t offset, std::span<const Chunk> chunks, std::int64_t size,
                                     const ChunkIndex& seed, std::int64_t seed_size) {
  std::vector<BlockGuess> out;
  std::vector<BlockGuess> beside;  // blocks next to those that chunks touch: where chunks were cut otherwise
  const auto block_length = [&](std::int64_t block) {
    return std::min<std::int64_t>(block_bytes, size - block * block_bytes);
  };
  const auto add = [&](std::vector<BlockGuess>& to, std::int64_t block, std::int64_t shift) {
    const auto from = block * block_bytes + shift;
    if (block >= 0 && block * block_bytes < size && from >= 0 && from + block_length(block) <= seed_size)
      to.push_back({block, shift, false});
  };
  const auto segment_end = std::accumulate(chunks.begin(), chunks.end(), offset,
                                           [](std::int64_t sum, const Chunk& chunk) { return sum + chunk.length; });
  const auto first_of_all = offset / block_bytes;
  const auto last_of_all = (segment_end - 1) / block_bytes;
  std::int64_t zeros_from = -1;  // where the run of zeros began that the last chunk belongs to
  for (const auto& chunk : chunks) {
    const auto begin = offset;
    const auto end = offset + chunk.length;
    offset = end;
    if (end > size) break;
    if (is_zero_chunk(chunk)) {
      if (zeros_from < 0) zeros_from = begin;
      // Blocks that end in this chunk, and began in it or in one of zeros before it.
      auto block = std::max(begin / block_bytes, (zeros_from + block_bytes - 1) / block_bytes);
      for (; block * block_bytes < size && block * block_bytes + block_length(block) <= end; ++block)
        out.push_back({block, 0, true});
      continue;
    }
    zeros_from = -1;
    const auto found = seed.find(chunk);
    if (found < 0) continue;
    const auto shift = found - begin;
    const auto first = begin / block_bytes;
    const auto last = (end - 1) / block_bytes;
    for (auto block = first; block <= last; ++block) add(out, block, shift);
    if (first > first_of_all) add(beside, first - 1, shift);
    if (last < last_of_all) add(beside, last + 1, shift);
  }
  out.insert(out.end(), beside.begin(), beside.end());
  std::ranges::stable_sort(out, {}, &BlockGuess::block);
  // Of each block, each shift once: where it came up first.
  std::vector<BlockGuess> unique;
  unique.reserve(out.size());
  for (const auto& guess : out) {
    auto known = unique.rbegin();
    while (known != unique.rend() && known->block == guess.block && *known != guess) ++known;
    if (known == unique.rend() || known->block != guess.block) unique.push_back(guess);
  }
  return unique;
}

}  // namespace mesh
