#include "core/sketch.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "core/merkle.h"
#include "test.h"

namespace mesh {
namespace {

std::string random_bytes(std::size_t size, std::uint64_t seed) {
  std::string out(size, '\0');
  std::uint64_t x = seed * 0x9E3779B97F4A7C15U + 1;
  for (auto& byte : out) {
    x ^= x << 13U;
    x ^= x >> 7U;
    x ^= x << 17U;
    byte = static_cast<char>(x >> 32U);
  }
  return out;
}

std::vector<Chunk> cut(std::string_view bytes, const ChunkPlan& plan) {
  return cut_chunks(std::ssize(bytes), plan, [&](std::int64_t offset, std::span<char> out) {
    bytes.substr(static_cast<std::size_t>(offset)).copy(out.data(), out.size());
  });
}

/// Of the wanted content's blocks, those that some guess names rightly.
std::size_t found_blocks(const std::string& wanted, const std::string& seed) {
  const auto size = static_cast<std::int64_t>(wanted.size());
  const auto plan = chunk_plan_for(size);
  ChunkIndex index;
  for (std::int64_t at = 0; at < std::ssize(seed); at += plan.segment)
    index.add(
        at,
        cut(std::string_view(seed).substr(static_cast<std::size_t>(at), static_cast<std::size_t>(plan.segment)), plan));
  index.sort();
  std::vector<bool> found(static_cast<std::size_t>((size + block_bytes - 1) / block_bytes));
  for (std::int64_t at = 0; at < size; at += plan.segment) {
    const auto segment =
        std::string_view(wanted).substr(static_cast<std::size_t>(at), static_cast<std::size_t>(plan.segment));
    const auto chunks = cut(segment, plan);
    for (const auto& guess : guess_blocks(at, chunks, size, index, std::ssize(seed))) {
      const auto from = static_cast<std::size_t>(guess.block * block_bytes);
      const auto block = std::string_view(wanted).substr(from, block_bytes);
      const auto there =
          guess.is_zero ? std::string(block.size(), '\0')
                        : seed.substr(static_cast<std::size_t>(guess.block * block_bytes + guess.shift), block.size());
      if (there == block) found[static_cast<std::size_t>(guess.block)] = true;
    }
  }
  return static_cast<std::size_t>(std::ranges::count(found, true));
}

}  // namespace

TEST_CASE("chunks cover a segment, within their limits") {
  const auto plan = chunk_plan_for(1 << 20);
  CHECK(plan.average == 8192);
  const auto bytes = random_bytes(1 << 20, 1);
  const auto chunks = cut(bytes, plan);
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    sum += chunks[i].length;
    CHECK(chunks[i].length <= plan.longest());
    if (i + 1 < chunks.size()) CHECK(chunks[i].length >= plan.shortest());
  }
  CHECK(sum == 1 << 20);
  // The average is about what it says.
  CHECK(chunks.size() > 80);
  CHECK(chunks.size() < 200);
  CHECK(cut("", plan).empty());
}

TEST_CASE("all nodes cut alike, for ever") {
  // Of the numbers 0, 1, 2 ... as 4 bytes each: a sketch that another version made must be understood.
  std::string bytes;
  for (std::uint32_t i = 0; i < 32768; ++i)
    for (unsigned k = 0; k < 4; ++k) bytes.push_back(static_cast<char>((i * 2654435761U) >> (8 * k) & 0xFFU));
  const auto told = tell_chunks(cut(bytes, chunk_plan_for(std::ssize(bytes))));
  CHECK(sha256(told).hex().substr(0, 16) == "56119b684bf54a68");
}

TEST_CASE("a large content has coarser chunks, so that its sketch stays within bounds") {
  CHECK(chunk_plan_for(std::int64_t{8} << 30).average == 8192);
  CHECK(chunk_plan_for(std::int64_t{100} << 30).average == 128 << 10);
  CHECK(chunk_plan_for(std::int64_t{16} << 40).average == 1 << 20);
  for (const std::int64_t size : {std::int64_t{1}, std::int64_t{100} << 30, std::int64_t{16} << 40})
    CHECK(most_told_bytes(chunk_plan_for(size)) < 100'000);
}

TEST_CASE("what is told of chunks is read back, and nothing else is taken") {
  const auto plan = chunk_plan_for(300'000);
  const auto chunks = cut(random_bytes(300'000, 2), plan);
  const auto told = tell_chunks(chunks);
  REQUIRE(read_chunks(told, 300'000, plan));
  CHECK(*read_chunks(told, 300'000, plan) == chunks);
  CHECK_FALSE(read_chunks(told, 300'001, plan));
  CHECK_FALSE(read_chunks(told, 299'999, plan));
  CHECK_FALSE(read_chunks(told.substr(1), 300'000, plan));
  CHECK_FALSE(read_chunks(told.substr(8), 300'000, plan));
  CHECK_FALSE(read_chunks("", 300'000, plan));
  CHECK_FALSE(read_chunks(std::string(told.size(), '\0'), 300'000, plan));
  CHECK_FALSE(read_chunks(std::string(told.size(), '\xff'), 300'000, plan));
  // Chunks that are too short, of which there could be any number.
  std::string crumbs;
  for (int i = 0; i < 100; ++i) crumbs += tell_chunks(std::vector<Chunk>{{1, 100}});
  CHECK_FALSE(read_chunks(crumbs, 10'000, plan));
}

TEST_CASE("bytes that have moved are found where they are now") {
  const auto old = random_bytes(2 << 20, 3);
  SECTION("a few put in front") {
    const auto fresh = "12345" + old;
    CHECK(found_blocks(fresh, old) >= 127);  // of 129
  }
  SECTION("a part taken out, another put elsewhere") {
    const auto fresh = old.substr(0, 300'000) + old.substr(400'123, 700'000) + random_bytes(50'001, 4) +
                       old.substr(1'500'000) + old.substr(0, 100'000);
    const auto blocks = (fresh.size() + block_bytes - 1) / block_bytes;
    CHECK(found_blocks(fresh, old) >= blocks - 12);
  }
  SECTION("nothing in common") { CHECK(found_blocks(random_bytes(1 << 20, 5), old) == 0); }
  SECTION("zeros need no seed") {
    const auto fresh = random_bytes(100'000, 6) + std::string(600'000, '\0') + random_bytes(100'000, 7);
    CHECK(found_blocks(fresh, old) >= 30);
  }
}

TEST_CASE("a hostile sketch makes no guess outside of the seed, and no more than there are blocks") {
  const std::int64_t size = 1 << 20;
  const auto plan = chunk_plan_for(size);
  const auto seed = random_bytes(100'000, 8);
  ChunkIndex index;
  index.add(0, cut(seed, plan));
  index.sort();
  // The seed's own chunks again and again, in any order.
  auto known = cut(seed, plan);
  known.pop_back();
  std::vector<Chunk> chunks;
  std::int64_t sum = 0;
  for (std::size_t i = 0; sum + plan.longest() < size; ++i) {
    chunks.push_back(known[i * 7 % known.size()]);
    sum += chunks.back().length;
  }
  const auto guesses = guess_blocks(0, chunks, size, index, std::ssize(seed));
  CHECK(guesses.size() <= 4 * chunks.size() + static_cast<std::size_t>(size / block_bytes));
  for (const auto& guess : guesses) {
    CHECK(guess.block * block_bytes + guess.shift >= 0);
    CHECK(guess.block * block_bytes + guess.shift + block_bytes <= std::ssize(seed));
  }
  // Chunks that lead beyond the content's end.
  CHECK(guess_blocks(size - 10, chunks, size, index, std::ssize(seed)).empty());
}

}  // namespace mesh
