#include "library/block_facts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "core/merkle.h"
#include "core/piece_plan.h"
#include "core/sketch.h"
#include "library/maker.h"
#include "process.h"
#include "test.h"

using namespace mesh;
using namespace mesh::test;

namespace {

struct Scratch {
  Scratch() {
    std::string name = (fs::temp_directory_path() / "meshswarm-facts-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error(name);
    path = name;
  }
  ~Scratch() { fs::remove_all(path); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  fs::path path;
};

struct Content {
  Content(const fs::path& directory, std::size_t size, std::uint64_t seed) : bytes(noise(size, seed)) {
    write_file(directory / "content", bytes);
    const Fd fd(::open((directory / "content").c_str(), O_RDONLY | O_CLOEXEC));
    const std::atomic<bool> never = false;
    file = hash_file(fd.get(), static_cast<std::int64_t>(size), 1, never);
  }
  [[nodiscard]] std::vector<Sha256> leaves(int piece) const {
    std::vector<Sha256> out;
    const auto length = static_cast<std::size_t>(file.layout.piece_length);
    append_leaves(blocks_of(std::string_view(bytes).substr(static_cast<std::size_t>(piece) * length, length)), out);
    return out;
  }
  std::string bytes;
  HashedFile file;
};

std::size_t files_in(const fs::path& directory) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

}  // namespace

TEST_CASE("leaves are found again, those of other pieces are not known") {
  const Scratch scratch;
  const Content content(scratch.path, 300'000, 1);
  BlockFacts facts(scratch.path / "blocks");
  CHECK(facts.find_leaves(content.file.id, content.file.layout, 0).empty());
  const int last = content.file.layout.count() - 1;
  facts.put_leaves(content.file.id, content.file.layout, last, content.leaves(last));
  CHECK(facts.find_leaves(content.file.id, content.file.layout, last) == content.leaves(last));
  CHECK(facts.find_leaves(content.file.id, content.file.layout, 0).empty());
  // As another run of the program finds them.
  const BlockFacts again(scratch.path / "blocks");
  CHECK(again.find_leaves(content.file.id, content.file.layout, last) == content.leaves(last));
}

TEST_CASE("leaves that a crash has torn, or somebody has changed, are not known") {
  const Scratch scratch;
  const Content content(scratch.path, 300'000, 2);
  BlockFacts facts(scratch.path / "blocks");
  facts.put_leaves(content.file.id, content.file.layout, 1, content.leaves(1));
  const auto file = scratch.path / "blocks" / (content.file.id.hex() + ".leaves");
  auto bytes = read_file(file);
  bytes.back() = static_cast<char>(~bytes.back());
  write_file(file, bytes);
  CHECK(facts.find_leaves(content.file.id, content.file.layout, 1).empty());
  write_file(file, bytes.substr(0, bytes.size() / 2));
  CHECK(facts.find_leaves(content.file.id, content.file.layout, 1).empty());
}

TEST_CASE("a segment's chunks are found again, and nothing that cannot be") {
  const Scratch scratch;
  const Content content(scratch.path, 300'000, 3);
  BlockFacts facts(scratch.path / "blocks");
  const auto plan = chunk_plan_for(300'000);
  const auto told = tell_chunks(cut_chunks(300'000, plan, [&](std::int64_t offset, std::span<char> out) {
    content.bytes.copy(out.data(), out.size(), static_cast<std::size_t>(offset));
  }));
  const auto own = BlockFacts::From::this_node;
  CHECK_FALSE(facts.find_chunks(content.file.id, 300'000, 0, own));
  facts.put_chunks(content.file.id, 300'000, 0, told, BlockFacts::From::anybody);
  CHECK_FALSE(facts.find_chunks(content.file.id, 300'000, 0, own));
  CHECK(facts.find_chunks(content.file.id, 300'000, 0, BlockFacts::From::anybody) == told);
  facts.forget_told(content.file.id);
  CHECK_FALSE(facts.find_chunks(content.file.id, 300'000, 0, BlockFacts::From::anybody));
  facts.put_chunks(content.file.id, 300'000, 0, told, own);
  CHECK(facts.find_chunks(content.file.id, 300'000, 0, own) == told);
  CHECK_FALSE(facts.find_chunks(content.file.id, 299'999, 0, own));
  const auto file = scratch.path / "blocks" / (content.file.id.hex() + ".sketch");
  write_file(file, std::string(200, '\xff'));
  CHECK_FALSE(facts.find_chunks(content.file.id, 300'000, 0, own));
}

TEST_CASE("what was written last stays within the bound") {
  const Scratch scratch;
  BlockFacts facts(scratch.path / "blocks", 40'000);
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    const Content content(scratch.path, 300'000, seed);
    facts.put_leaves(content.file.id, content.file.layout, 0, content.leaves(0));
    CHECK_FALSE(facts.find_leaves(content.file.id, content.file.layout, 0).empty());
  }
  CHECK(files_in(scratch.path / "blocks") <= 40'000 / 4096 + 40'000 / 8 / 128 + 1);
}
