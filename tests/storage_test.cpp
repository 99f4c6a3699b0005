#include "disk/storage.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "core/piece_plan.h"
#include "node/maker.h"
#include "process.h"
#include "test.h"

using namespace mesh;
using namespace mesh::test;

namespace {

struct Scratch {
  Scratch() {
    std::string name = (fs::temp_directory_path() / "meshswarm-storage-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error(name);
    path = name;
  }
  ~Scratch() { fs::remove_all(path); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  fs::path path;
};

Fd open_file(const fs::path& path, int flags) { return Fd(::open(path.c_str(), flags | O_CLOEXEC, 0600)); }

HashedFile hashed(const fs::path& path) {
  const std::atomic<bool> stop = false;
  const Fd fd = open_file(path, O_RDONLY);
  return hash_file(fd.get(), static_cast<std::int64_t>(fs::file_size(path)), 3, stop);
}

FileStamp stamp(const fs::path& path) {
  struct stat s {};
  ::stat(path.c_str(), &s);
  return stamp_of(s);
}

/// Writes every piece of `bytes` that is not verified, block by block, `backwards` or in order.
void fill(Storage& storage, const std::string& bytes, bool backwards) {
  const auto& layout = storage.layout();
  for (int piece = 0; piece < layout.count(); ++piece) {
    if (storage.verified()[static_cast<std::size_t>(piece)] != 0) continue;
    std::vector<int> starts;
    for (int at = 0; at < layout.length_of(piece); at += block_bytes) starts.push_back(at);
    if (backwards) std::ranges::reverse(starts);
    for (const int at : starts) {
      const auto length = std::min<std::int64_t>(block_bytes, layout.length_of(piece) - at);
      REQUIRE_FALSE(storage.write(piece, at,
                                  {bytes.data() + piece * layout.piece_length + at, static_cast<std::size_t>(length)}));
    }
    lt::sha1_hash hash;
    REQUIRE_FALSE(storage.hash(piece, hash));
    CHECK(hash == layout.hashes[static_cast<std::size_t>(piece)]);
  }
}

}  // namespace

TEST_CASE("storage: what is downloaded is hashed on its way, in any order, and holes stay holes") {
  const Scratch scratch;
  auto bytes = noise(1'000'000, 1);
  std::fill(bytes.begin() + 65536, bytes.begin() + 3 * 65536, '\0');  // two whole pieces
  std::fill(bytes.begin() + 400'000, bytes.begin() + 440'000, '\0');  // and a part of one
  write_file(scratch.path / "source", bytes);
  const auto file = hashed(scratch.path / "source");
  CHECK(file.id == content_id_of_bytes(bytes));
  for (const int variant : {0, 1, 2, 3}) {
    const bool backwards = variant % 2 != 0;
    auto layout = file.layout;
    if (variant >= 2) layout.roots.clear();  // as from a node that does not know them
    const auto part = scratch.path / std::to_string(variant);
    Fd fd = open_file(part, O_RDWR | O_CREAT);
    REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(bytes.size())) == 0);
    Storage storage(layout, std::move(fd), "", "");
    CHECK(std::ranges::count(storage.verified(), '\1') == 2);  // the zeros are known
    CHECK_FALSE(storage.content_id());
    fill(storage, bytes, backwards);
    CHECK(storage.content_id() == file.id);
    CHECK(read_file(part) == bytes);
    struct stat s {};
    ::stat(part.c_str(), &s);
    CHECK(s.st_blocks * 512 < static_cast<std::int64_t>(bytes.size()) - 2 * 65536);
  }
}

TEST_CASE("storage: what comes twice is checked as it is on the disk") {
  const Scratch scratch;
  const auto bytes = noise(65536, 3);
  write_file(scratch.path / "source", bytes);
  const auto file = hashed(scratch.path / "source");
  const auto wrong = noise(block_bytes, 4);
  const std::string zeros(block_bytes, '\0');
  for (const auto& second : {wrong, zeros}) {
    Fd fd = open_file(scratch.path / "part", O_RDWR | O_CREAT | O_TRUNC);
    REQUIRE(::ftruncate(fd.get(), 65536) == 0);
    Storage storage(file.layout, std::move(fd), "", "");
    lt::sha1_hash hash;
    for (int at = 0; at < 65536; at += block_bytes)
      REQUIRE_FALSE(storage.write(0, at, {bytes.data() + at, block_bytes}));
    REQUIRE_FALSE(storage.write(0, block_bytes, second));
    REQUIRE_FALSE(storage.hash(0, hash));
    CHECK(hash != file.layout.hashes[0]);
    CHECK_FALSE(storage.is_complete());
    storage.clear(0);
    fill(storage, bytes, true);
    CHECK(read_file(scratch.path / "part") == bytes);
  }
}

TEST_CASE("storage: a piece is right by its root, whatever SHA-1 says of it") {
  const Scratch scratch;
  const auto bytes = noise(200'000, 8);
  write_file(scratch.path / "source", bytes);
  const auto file = hashed(scratch.path / "source");
  REQUIRE(file.layout.roots.size() == 4);
  auto wrong = bytes;
  wrong[3 * 65536 + 5] ^= 1;
  // A torrent whose maker lied: its last piece's SHA-1 is that of other bytes.
  auto layout = file.layout;
  layout.hashes[3] = lt::hasher(lt::span<const char>(wrong).subspan(std::ptrdiff_t{3} * 65536)).final();
  const auto attempt = [&](const std::string& what, const PieceLayout& said) {
    Fd fd = open_file(scratch.path / "part", O_RDWR | O_CREAT | O_TRUNC);
    REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(bytes.size())) == 0);
    Storage storage(said, std::move(fd), "", "");
    for (int at = 3 * 65536; at < static_cast<int>(what.size()); at += block_bytes)
      REQUIRE_FALSE(
          storage.write(3, at - 3 * 65536, std::string_view(what).substr(static_cast<std::size_t>(at), block_bytes)));
    lt::sha1_hash hash;
    REQUIRE_FALSE(storage.hash(3, hash));
    CHECK((storage.verified()[3] != 0) == (hash == said.hashes[3]));
    return storage.verified()[3] != 0;
  };
  CHECK(attempt(bytes, layout));
  CHECK_FALSE(attempt(wrong, layout));
  layout.roots.clear();  // then there is nothing better, until the whole has a content id
  CHECK_FALSE(attempt(bytes, layout));
  CHECK(attempt(wrong, layout));
}

TEST_CASE("storage: a provisional piece is right by its root alone") {
  const Scratch scratch;
  const auto bytes = noise(200'000, 9);
  write_file(scratch.path / "source", bytes);
  auto layout = hashed(scratch.path / "source").layout;
  const auto roots = std::exchange(layout.roots, {});
  Fd fd = open_file(scratch.path / "part", O_RDWR | O_CREAT);
  REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(bytes.size())) == 0);
  // The bytes have the SHA-1 that stands for the piece: what is a placeholder to us may be chosen by others.
  const auto storage = Storage::provisional(layout, std::move(fd), "", "");
  const auto take = [&] {
    for (int at = 0; at < 65536; at += block_bytes)
      REQUIRE_FALSE(storage->write(0, at, {bytes.data() + at, block_bytes}));
    lt::sha1_hash hash;
    REQUIRE_FALSE(storage->hash(0, hash));
    CHECK((storage->verified()[0] != 0) == (hash == layout.hashes[0]));
    return storage->verified()[0] != 0;
  };
  CHECK_FALSE(take());  // no root is expected
  storage->expect(0, roots[1]);
  CHECK_FALSE(take());
  storage->expect(0, roots[0]);
  CHECK(take());
  CHECK_FALSE(storage->found_layout());
}

TEST_CASE("storage: a piece of which a block could not be written is not verified by what was there before") {
  const Scratch scratch;
  const auto bytes = noise(65536, 5);
  write_file(scratch.path / "source", bytes);
  const auto file = hashed(scratch.path / "source");
  write_file(scratch.path / "part", bytes);
  Storage storage(file.layout, open_file(scratch.path / "part", O_RDWR), "", "");
  lt::sha1_hash hash;
  {
    // No file may grow beyond half a piece: the rest of a write fails.
    const auto before = ::signal(SIGXFSZ, SIG_IGN);
    rlimit limit{};
    ::getrlimit(RLIMIT_FSIZE, &limit);
    const rlimit less{32768, limit.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &less);
    for (int at = 0; at < 65536; at += block_bytes)
      CHECK(static_cast<bool>(storage.write(0, at, {bytes.data() + at, block_bytes})) == (at >= 32768));
    ::setrlimit(RLIMIT_FSIZE, &limit);
    ::signal(SIGXFSZ, before);
  }
  CHECK(storage.hash(0, hash).value() == EFBIG);
  CHECK_FALSE(storage.is_complete());
  for (int at = 32768; at < 65536; at += block_bytes)
    REQUIRE_FALSE(storage.write(0, at, {bytes.data() + at, block_bytes}));
  REQUIRE_FALSE(storage.hash(0, hash));
  CHECK(storage.is_complete());
  storage.retire();
  CHECK(storage.write(0, 0, {bytes.data(), block_bytes}));
}

TEST_CASE("storage: a download goes on from a snapshot") {
  const Scratch scratch;
  const auto bytes = noise(700'000, 2);
  write_file(scratch.path / "source", bytes);
  const auto file = hashed(scratch.path / "source");
  Fd fd = open_file(scratch.path / "part", O_RDWR | O_CREAT);
  REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(bytes.size())) == 0);
  Storage::Snapshot snapshot;
  {
    Storage first(file.layout, std::move(fd), "", "");
    REQUIRE_FALSE(first.write(0, 0, {bytes.data(), block_bytes}));
    lt::sha1_hash hash;
    REQUIRE_FALSE(first.hash(0, hash));  // the rest of the piece is missing
    CHECK(hash != file.layout.hashes[0]);
    first.clear(0);
    for (int at = 0; at < 65536; at += block_bytes)
      REQUIRE_FALSE(first.write(1, at, {bytes.data() + 65536 + at, block_bytes}));
    REQUIRE_FALSE(first.hash(1, hash));
    snapshot = first.sync();
    REQUIRE_FALSE(snapshot.error);
  }
  const auto still = [&](const PieceLayout& layout, bool is_known) {
    const Fd part = open_file(scratch.path / "part", O_RDONLY);
    return still_there(layout, is_known, part.get(), snapshot.have, snapshot.roots, 2, false);
  };
  auto layout = file.layout;
  CHECK(still(layout, true) == snapshot.have);
  layout.hashes[1] = layout.hashes[0];
  CHECK(still(layout, true) == snapshot.have);
  layout.roots.clear();
  CHECK(still(layout, false) == snapshot.have);
  CHECK(still(layout, true)[1] == 0);
  layout = file.layout;
  layout.roots[1] = layout.roots[0];
  CHECK(still(layout, true)[1] == 0);
  Storage second(file.layout, open_file(scratch.path / "part", O_RDWR), snapshot.have, snapshot.roots);
  CHECK(second.verified()[0] == 0);
  CHECK(second.verified()[1] == 1);
  fill(second, bytes, false);
  CHECK(second.content_id() == file.id);
  CHECK(read_file(scratch.path / "part") == bytes);
}

TEST_CASE("storage: a failed piece's zeros are written over what was there") {
  const Scratch scratch;
  std::string bytes = noise(200'000, 3);
  std::fill(bytes.begin(), bytes.begin() + block_bytes, '\0');
  write_file(scratch.path / "source", bytes);
  const auto file = hashed(scratch.path / "source");
  Fd fd = open_file(scratch.path / "part", O_RDWR | O_CREAT);
  REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(bytes.size())) == 0);
  Storage storage(file.layout, std::move(fd), "", "");
  const auto wrong = noise(65536, 4);
  for (int at = 0; at < 65536; at += block_bytes) REQUIRE_FALSE(storage.write(0, at, {wrong.data() + at, block_bytes}));
  lt::sha1_hash hash;
  REQUIRE_FALSE(storage.hash(0, hash));
  CHECK(storage.verified()[0] == 0);
  storage.clear(0);
  fill(storage, bytes, false);
  CHECK(read_file(scratch.path / "part") == bytes);
}

TEST_CASE("storage: what is served is never written, and a change is noticed before its bytes are sent") {
  const Scratch scratch;
  const auto path = scratch.path / "file";
  write_file(path, noise(300'000, 5));
  const auto file = hashed(path);
  std::string fault;
  Storage storage(file.layout, open_file(path, O_RDONLY), stamp(path), [&](const std::string& why) { fault = why; });
  std::vector<char> block(block_bytes);
  CHECK_FALSE(storage.read(0, 0, block));
  CHECK(storage.write(0, 0, block) == std::errc::read_only_file_system);
  const auto edited = "edited" + read_file(path).substr(6);
  {
    const Fd fd = open_file(path, O_WRONLY);
    REQUIRE(::pwrite(fd.get(), "edited", 6, 0) == 6);
  }
  CHECK_FALSE(storage.read_cached(0, 0, block));
  CHECK(storage.read(0, 0, block));
  CHECK_FALSE(fault.empty());
  CHECK(read_file(path) == edited);
}

TEST_CASE("storage: a dropped piece takes no room and cannot be read, the others can") {
  const Scratch scratch;
  const auto bytes = noise(5 * 64 * 1024, 3);
  write_file(scratch.path / "source", bytes);
  const auto source = hashed(scratch.path / "source");
  Fd fd = open_file(scratch.path / "spool", O_RDWR | O_CREAT);
  REQUIRE(::ftruncate(fd.get(), source.layout.size) == 0);
  Storage storage(source.layout, std::move(fd), "", "");
  fill(storage, bytes, false);
  REQUIRE(source.layout.count() == 5);
  const auto blocks = [&] {
    struct stat s {};
    return ::stat((scratch.path / "spool").c_str(), &s) == 0 ? s.st_blocks : -1;
  };
  const auto before = blocks();
  storage.drop(1);
  CHECK(blocks() < before);
  CHECK(storage.is_dropped(1));
  std::string out(16 * 1024, '\0');
  CHECK(storage.read(1, 0, out) == std::errc::no_message_available);
  CHECK_FALSE(storage.read_cached(1, 0, out));
  CHECK_FALSE(storage.read(2, 0, out));
  CHECK((out == bytes.substr(2 * 64 * 1024, out.size())));
  CHECK(storage.content_id() == source.id);  // what it was is known all the same
}

TEST_CASE("storage: readers go on while it is frozen") {
  const Scratch scratch;
  const auto bytes = noise(2'000'000, 6);
  write_file(scratch.path / "source", bytes);
  const auto file = hashed(scratch.path / "source");
  Fd fd = open_file(scratch.path / "part", O_RDWR | O_CREAT);
  REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(bytes.size())) == 0);
  Storage storage(file.layout, std::move(fd), "", "");
  fill(storage, bytes, false);
  std::atomic<bool> stop = false;
  std::atomic<int> bad = 0;
  std::vector<std::jthread> readers;
  for (int i = 0; i < 3; ++i)
    readers.emplace_back([&] {
      std::vector<char> block(block_bytes);
      while (!stop)
        if (storage.read(1, 0, block) ||
            std::string_view(block.data(), block.size()) != std::string_view(bytes).substr(65536, block_bytes))
          ++bad;
    });
  for (int i = 0; i < 50; ++i)
    storage.freeze(open_file(scratch.path / "part", O_RDONLY), stamp(scratch.path / "part"), {});
  stop = true;
  readers.clear();
  CHECK(bad == 0);
}

TEST_CASE("torrents: only what make_torrent could have made is read") {
  const Scratch scratch;
  write_file(scratch.path / "f", noise(200'000, 7));
  const auto file = hashed(scratch.path / "f");
  const auto torrent = make_torrent(file);
  REQUIRE(read_torrent(torrent));
  CHECK(read_torrent(torrent)->roots == file.layout.roots);
  auto other = torrent;
  // Roots that the content id does not follow from are as good as none.
  for (const auto& roots : {std::string(), torrent.roots.substr(32), torrent.roots + torrent.roots,
                            torrent.roots.substr(32) + torrent.roots.substr(0, 32)}) {
    other.roots = roots;
    REQUIRE(read_torrent(other));
    CHECK(read_torrent(other)->roots.empty());
  }
  other = torrent;
  other.id = ContentId{};
  CHECK_FALSE(read_torrent(other));
  other = torrent;
  other.infohash = InfoHash{};
  CHECK_FALSE(read_torrent(other));
  for (std::size_t i = 0; i < torrent.info.size(); i += 7) {
    other = torrent;
    other.info[i] = static_cast<char>(other.info[i] ^ 1);
    CHECK_FALSE(read_torrent(other));
    other.info = torrent.info.substr(0, i);
    CHECK_FALSE(read_torrent(other));
  }
}

TEST_CASE("torrents: a file of one piece has its content id for a root") {
  const Scratch scratch;
  write_file(scratch.path / "f", noise(20'000, 7));
  const auto torrent = make_torrent(hashed(scratch.path / "f"));
  CHECK(torrent.roots.empty());
  const auto read = read_torrent(torrent);
  REQUIRE(read);
  CHECK(read->roots == std::vector<Sha256>{torrent.id});
}

TEST_CASE("torrents: their roots are kept where an earlier version had none") {
  const Scratch scratch;
  write_file(scratch.path / "f", noise(200'000, 7));
  const auto torrent = make_torrent(hashed(scratch.path / "f"));
  auto without = torrent;
  without.roots.clear();
  StateDb db(scratch.path / "state.db");
  db.put_torrent(without);
  REQUIRE(db.find_torrent(torrent.id));
  CHECK(db.find_torrent(torrent.id)->roots.empty());
  db.put_torrent(torrent);
  db.put_torrent(without);
  REQUIRE(db.find_torrent(torrent.infohash));
  CHECK(db.find_torrent(torrent.infohash)->roots == torrent.roots);
  CHECK(db.find_torrent(torrent.id)->roots == torrent.roots);
}
