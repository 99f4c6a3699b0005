// A segment's chunks as another node tells them, and where they would have a search look.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/merkle.h"
#include "core/sketch.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mesh;
  if (size < 4) return 0;
  // A content of up to 16 MiB in one segment, or of two, and a seed that has some of its chunks.
  const std::int64_t length = (std::int64_t{data[0]} << 16 | data[1] << 8 | data[2]) + 1;
  const auto plan = chunk_plan_for(length);
  const std::string_view told(reinterpret_cast<const char*>(data) + 3, size - 3);
  const auto chunks = read_chunks(told, std::min(length, plan.segment), plan);
  if (!chunks) return 0;
  std::int64_t sum = 0;
  for (const auto& chunk : *chunks) sum += chunk.length;
  if (sum != std::min(length, plan.segment) || tell_chunks(*chunks) != told) std::abort();
  ChunkIndex seed;
  const std::int64_t seed_size = sum / 2 + 1;
  seed.add(0, std::span(*chunks).first(chunks->size() / 2));
  seed.sort();
  for (const std::int64_t offset : {std::int64_t{0}, length - sum}) {
    std::int64_t last = 0;
    for (const auto& guess : guess_blocks(offset, *chunks, length, seed, seed_size)) {
      const auto begin = guess.block * block_bytes;
      const auto end = std::min(begin + block_bytes, length);
      if (guess.block < last || begin >= length) std::abort();
      if (!guess.is_zero && (begin + guess.shift < 0 || end + guess.shift > seed_size)) std::abort();
      last = guess.block;
    }
  }
  return 0;
}
