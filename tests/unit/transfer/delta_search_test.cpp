// What is found of a content in other files, whoever says what its blocks are.
#include "transfer/delta_search.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <map>
#include <mutex>
#include <thread>

#include "core/piece_plan.h"
#include "process.h"
#include "test.h"
#include "transfer/delta_source.h"
#include "wire/flow.h"

using namespace mesh;
using mesh::test::noise;

namespace {

constexpr std::size_t mb = 1 << 20;

Fd file_of(const std::string& bytes) {
  Fd fd(::memfd_create("seed", MFD_CLOEXEC));
  REQUIRE(::pwrite(fd.get(), bytes.data(), bytes.size(), 0) == std::ssize(bytes));
  return fd;
}

/// Says what the blocks of a content are, or, when it is told to, something else.
struct Teller final : BlockInfo {
  Teller(std::string content, const PieceLayout& of) : bytes(std::move(content)), layout(of) {}
  Task<std::vector<std::vector<Sha256>>> leaves(std::vector<int> pieces) override {
    std::vector<std::vector<Sha256>> out(pieces.size());
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      asked_pieces.push_back(pieces[i]);
      if (knows_no_leaves) continue;
      const auto begin = static_cast<std::size_t>(pieces[i] * layout.piece_length);
      append_leaves(blocks_of(std::string_view(bytes).substr(begin, static_cast<std::size_t>(layout.piece_length))),
                    out[i]);
    }
    co_return out;
  }
  Task<std::vector<std::vector<Chunk>>> chunks(std::vector<int> segments) override {
    asked_chunks += segments.size();
    std::vector<std::vector<Chunk>> out(segments.size());
    for (std::size_t i = 0; i < segments.size() && !sketch.empty(); ++i) {
      const auto plan = chunk_plan_for(std::ssize(bytes));
      const auto begin = static_cast<std::size_t>(segments[i] * plan.segment);
      out[i] = cut_chunks(plan.length_of(segments[i], std::ssize(sketch)), plan,
                          [&](std::int64_t offset, std::span<char> to) {
                            sketch.copy(to.data(), to.size(), begin + static_cast<std::size_t>(offset));
                          });
    }
    co_return out;
  }
  std::string bytes;
  const PieceLayout& layout;
  std::string sketch = bytes;  ///< of what it tells; empty: it tells none
  bool knows_no_leaves = false;
  std::vector<int> asked_pieces;
  std::size_t asked_chunks = 0;
};

struct Search {
  explicit Search(std::string content) : wanted(std::move(content)), workers(io) {
    const auto source = file_of(wanted);
    file = hash_file(source.get(), std::ssize(wanted), 2, never);
    part = Fd(::memfd_create("part", MFD_CLOEXEC));
    REQUIRE(::ftruncate(part.get(), std::ssize(wanted)) == 0);
    storage = std::make_shared<Storage>(file.layout, Fd(::dup(part.get())), "", "");
    teller.emplace(wanted, file.layout);
  }
  ~Search() {
    workers.stop();
    workers.join();
  }
  /// Bytes that it found.
  std::int64_t in(const std::vector<std::string>& seeds) {
    std::vector<DeltaSeed> files;
    for (const auto& seed : seeds) {
      DeltaSeed one;
      one.file = file_of(seed);
      one.size = std::ssize(seed);
      files.push_back(std::move(one));
    }
    return among(std::move(files));
  }
  std::int64_t among(std::vector<DeltaSeed> files) {
    FoundInStorage found(*storage);
    DeltaSearch::Options options;
    options.patience = patience;
    options.check = [this] {
      if (on_check) on_check();
    };
    DeltaSearch search(workers, file, *teller, found, options);
    io.restart();
    if (!run_to_its_end(io, search.run(std::move(files)))) throw std::runtime_error("the search did not end");
    return search.found_bytes();
  }
  /// Everything that is said to be here is what it should be; bytes that are said to be here.
  std::int64_t check_part() const {
    std::string there(wanted.size(), '\0');
    REQUIRE(::pread(part.get(), there.data(), there.size(), 0) == std::ssize(there));
    std::int64_t sum = 0;
    for (std::size_t at = 0; at < wanted.size(); at += block_bytes) {
      const auto piece = static_cast<int>(static_cast<std::int64_t>(at) / file.layout.piece_length);
      const auto block = static_cast<int>(static_cast<std::int64_t>(at) % file.layout.piece_length / block_bytes);
      if (!storage->has_block(piece, block)) continue;
      const auto right = std::string_view(wanted).substr(at, block_bytes);
      CHECK(std::string_view(there).substr(at, block_bytes) == right);
      sum += std::ssize(right);
    }
    CHECK(storage->missing() == std::ssize(wanted) - sum);
    return sum;
  }

  std::string wanted;
  std::atomic<bool> never = false;
  boost::asio::io_context io;
  Workers workers;
  HashedFile file;
  Fd part;
  StoragePtr storage;
  std::optional<Teller> teller;
  std::function<void()> on_check;
  std::chrono::milliseconds patience = std::chrono::minutes(10);  // sanitizers are slow
};

std::string changed(std::string bytes, std::size_t every) {
  for (std::size_t at = 100; at < bytes.size(); at += every) bytes[at] = static_cast<char>(~bytes[at]);
  return bytes;
}

}  // namespace

TEST_CASE("of a version changed here and there all other blocks are found, without a sketch") {
  const auto old = noise(4 * mb + 5000, 1);
  Search search(changed(old, 10 * block_bytes));
  const auto found = search.in({old});
  CHECK(found == search.check_part());
  CHECK(search.storage->missing() <= 27 * block_bytes);
  CHECK(search.teller->asked_chunks == 0);
}

TEST_CASE("what is the same needs neither leaves nor a sketch") {
  const auto old = noise(4 * mb + 5000, 2);
  Search search(old);
  CHECK(search.in({old}) == std::ssize(old));
  CHECK(search.storage->is_complete());
  CHECK(search.check_part() == std::ssize(old));
  CHECK(search.teller->asked_pieces.empty());
}

TEST_CASE("blocks that have moved are found, in several seeds") {
  const auto a = noise(3 * mb, 3);
  const auto b = noise(3 * mb, 4);
  Search search("five!" + a + b.substr(100'001));
  const auto found = search.in({a, b});
  CHECK(found == search.check_part());
  CHECK(search.storage->missing() <= 12 * block_bytes);
}

TEST_CASE("zeros are known by their leaves and their chunks") {
  const auto old = noise(2 * mb, 5);
  Search search(noise(mb / 2, 6) + std::string(mb + 5000, '\0') + "x" + old);
  const auto known = std::ssize(search.wanted) - search.storage->missing();  // pieces of zeros, by their root
  const auto found = search.in({old});
  CHECK(known + found == search.check_part());
  CHECK(search.storage->missing() < std::int64_t{mb});
}

TEST_CASE("of a seed that has nothing in common nothing is taken, and few leaves are asked for") {
  Search search(noise(64 * mb, 7));
  CHECK(search.in({noise(8 * mb, 8)}) == 0);
  CHECK(search.check_part() == 0);
  CHECK(search.teller->asked_pieces.size() <= 16);
}

TEST_CASE("a hostile sketch costs time, and no wrong byte") {
  const auto old = noise(4 * mb, 9);
  const auto fresh = "moved" + old.substr(0, 3 * mb) + noise(mb, 10);
  SECTION("of something else that the seed has") {
    Search search(fresh);
    search.teller->sketch = "elsewhere" + old.substr(mb) + old.substr(0, mb) + std::string(5, 'x');
    search.teller->sketch.resize(search.wanted.size());
    static_cast<void>(search.in({old}));
    search.check_part();
  }
  SECTION("of nothing but zeros") {
    Search search(fresh);
    search.teller->sketch.assign(search.wanted.size(), '\0');
    const auto found = search.in({old});
    CHECK(found == search.check_part());
  }
  SECTION("none at all") {
    Search search(fresh);
    search.teller->sketch.clear();
    CHECK(search.in({old}) == 0);
  }
}

TEST_CASE("without anybody to tell leaves, whole pieces are found") {
  const auto old = noise(4 * mb, 11);
  auto fresh = old;
  fresh[5] = static_cast<char>(~fresh[5]);
  Search search(fresh);
  search.teller->knows_no_leaves = true;
  const auto found = search.in({old});
  CHECK(found == search.check_part());
  CHECK(search.storage->missing() == search.file.layout.piece_length);
}

TEST_CASE("a seed that is cut short, or written to, while it is read costs time, and no wrong byte") {
  const auto old = noise(24 * mb, 12);
  const auto fresh = GENERATE(false, true) ? changed(old, 5 * block_bytes) : "put in front" + old;
  for (const int kind : {0, 1}) {
    Search search(fresh);
    DeltaSeed seed;
    seed.file = file_of(old);
    seed.size = std::ssize(old);
    const int fd = seed.file.get();
    int checks = 0;
    std::uint64_t random = 99;
    search.on_check = [&] {
      ++checks;
      if (kind == 0 && checks == 3) REQUIRE(::ftruncate(fd, std::ssize(old) / 3) == 0);
      for (int i = 0; kind == 1 && i < 100; ++i) {
        random = random * 6364136223846793005U + 1442695040888963407U;
        const char wrong = 'w';
        REQUIRE(::pwrite(fd, &wrong, 1, static_cast<off_t>((random >> 20U) % old.size())) == 1);
      }
    };
    std::vector<DeltaSeed> seeds;
    seeds.push_back(std::move(seed));
    const auto found = search.among(std::move(seeds));
    CHECK(found == search.check_part());
    CHECK(checks > 2);
  }
}

TEST_CASE("a search ends when it is not wanted any more") {
  const auto old = noise(8 * mb, 13);
  Search search(changed(old, 3 * block_bytes));
  int checks = 0;
  search.on_check = [&] {
    if (++checks == 3) throw Error(Status::interrupted, "stopped");
  };
  CHECK_THROWS_AS(search.in({old}), Error);
  search.check_part();
}

TEST_CASE("a search that finds less than the links would bring ends in time") {
  const auto old = noise(8 * mb, 14);
  Search search("moved" + old);
  search.patience = std::chrono::milliseconds(0);
  search.on_check = [] { std::this_thread::sleep_for(std::chrono::milliseconds(300)); };
  CHECK_THROWS_WITH(search.in({old}), "it takes longer than to fetch it");
  search.check_part();
}
