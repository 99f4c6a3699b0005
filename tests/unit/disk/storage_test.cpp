#include "disk/storage.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libtorrent/hasher.hpp>
#include <thread>

#include "core/piece_plan.h"
#include "library/maker.h"
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
  for (const bool backwards : {false, true}) {
    const auto part = scratch.path / std::to_string(backwards);
    Fd fd = open_file(part, O_RDWR | O_CREAT);
    REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(bytes.size())) == 0);
    Storage storage(file.layout, std::move(fd), "", "");
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

TEST_CASE("storage: a piece is right by its root, whatever stands for it in the torrent") {
  const Scratch scratch;
  const auto bytes = noise(200'000, 8);
  write_file(scratch.path / "source", bytes);
  const auto file = hashed(scratch.path / "source");
  REQUIRE(file.layout.roots.size() == 4);
  auto wrong = bytes;
  wrong[3 * 65536 + 5] ^= 1;
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
  layout.roots.clear();  // a provisional one, whose pieces nobody has named yet
  CHECK_FALSE(attempt(bytes, layout));
  CHECK_FALSE(attempt(wrong, layout));
}

TEST_CASE("storage: a provisional piece is right by its root alone") {
  const Scratch scratch;
  const auto bytes = noise(200'000, 9);
  write_file(scratch.path / "source", bytes);
  auto layout = hashed(scratch.path / "source").layout;
  const auto roots = std::exchange(layout.roots, {});
  Fd fd = open_file(scratch.path / "part", O_RDWR | O_CREAT);
  REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(bytes.size())) == 0);
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
  CHECK(storage->root(0) == roots[0]);
  CHECK_FALSE(storage->root(1));
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
  const auto still = [&](const PieceLayout& layout) {
    const Fd part = open_file(scratch.path / "part", O_RDONLY);
    return verify_pieces(layout, part.get(), snapshot.have, snapshot.roots, 2, false);
  };
  auto layout = file.layout;
  CHECK(still(layout) == snapshot.have);
  layout.roots.clear();
  CHECK(still(layout) == snapshot.have);
  layout = file.layout;
  layout.roots[1] = layout.roots[0];
  CHECK(still(layout)[1] == 0);
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
  int touched = 0;
  Storage storage(file.layout, open_file(path, O_RDONLY),
                  {stamp(path), [&](const std::string& why) { fault = why; }, [&] { ++touched; }});
  std::vector<char> block(block_bytes);
  CHECK_FALSE(storage.read(0, 0, block));
  CHECK(storage.write(0, 0, block) == std::errc::read_only_file_system);
  // Of metadata alone nothing comes but a word.
  CHECK(touched == 0);
  REQUIRE(::chmod(path.c_str(), 0600) == 0);
  CHECK_FALSE(storage.read(0, 0, block));
  CHECK_FALSE(storage.read(0, 0, block));
  CHECK(touched == 1);
  CHECK(fault.empty());
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
    storage.freeze(open_file(scratch.path / "part", O_RDONLY), Storage::Watch{stamp(scratch.path / "part"), {}, {}});
  stop = true;
  readers.clear();
  CHECK(bad == 0);
}

TEST_CASE("torrents: only what a content id and a key make is recognised") {
  const Scratch scratch;
  write_file(scratch.path / "f", noise(200'000, 7));
  const auto file = hashed(scratch.path / "f");
  const auto roots = roots_of(file);
  const auto torrent = make_torrent(file);
  const auto keys = std::make_shared<const MeshKeys>(
      parse_keys("meshswarm-key-1 " + std::string(64, '5') + "\nmeshswarm-key-1 " + std::string(64, '6'), "test"));
  const auto size = file.layout.size;
  const auto read = verify_torrent(file.id, size, roots, torrent.infohash, nullptr);
  REQUIRE(read);
  CHECK(read->file.layout.roots == file.layout.roots);
  CHECK(read->file.layout.hashes == file.layout.hashes);
  for (const auto& other :
       {std::string(), roots.substr(32), roots + roots, roots.substr(32) + roots.substr(0, 32), roots + "x"})
    CHECK_FALSE(verify_torrent(file.id, size, other, torrent.infohash, nullptr));
  CHECK_FALSE(verify_torrent(ContentId{}, size, roots, torrent.infohash, nullptr));
  CHECK_FALSE(verify_torrent(file.id, size, roots, InfoHash{}, nullptr));
  CHECK_FALSE(
      verify_torrent(file.id, size + 1, roots, torrent.infohash, nullptr));  // the roots alone do not say the size
  for (const auto wrong : {std::int64_t{0}, std::int64_t{-1}, size * 2, most_torrent_bytes + 1, INT64_MAX})
    CHECK_FALSE(verify_torrent(file.id, wrong, roots, torrent.infohash, nullptr));
  // Under a key its infohash is another, and tells which key it is.
  CHECK_FALSE(verify_torrent(file.id, size, roots, torrent.infohash, keys));
  for (const auto& key : keys->all()) {
    const auto sealed = make_torrent(file, &key);
    const auto known = verify_torrent(file.id, size, roots, sealed.infohash, keys);
    REQUIRE(known);
    CHECK(known->key == &key);
    CHECK_FALSE(verify_torrent(file.id, size, roots, sealed.infohash, nullptr));
  }
}

TEST_CASE("torrents: a file of one piece has its content id for a root, and neither tells nor keeps it") {
  const Scratch scratch;
  write_file(scratch.path / "f", noise(20'000, 7));
  const auto file = hashed(scratch.path / "f");
  CHECK(roots_of(file).empty());
  const auto read = verify_torrent(file.id, file.layout.size, "", make_torrent(file).infohash, nullptr);
  REQUIRE(read);
  CHECK(read->file.layout.roots == std::vector<Sha256>{file.id});
  CHECK_FALSE(verify_torrent(file.id, file.layout.size, file.id.view(), make_torrent(file).infohash, nullptr));
  StateDb db(scratch.path / "state.db");
  store_roots(db, file);
  CHECK(db.find_roots(file.id).empty());
  REQUIRE(load_roots(db, file.id, file.layout.size));
}

TEST_CASE("torrents: what is kept of a file is of use only while it makes its content id") {
  const Scratch scratch;
  write_file(scratch.path / "f", noise(200'000, 7));
  const auto file = hashed(scratch.path / "f");
  StateDb db(scratch.path / "state.db");
  CHECK_FALSE(load_roots(db, file.id, file.layout.size));
  store_roots(db, file);
  REQUIRE(load_roots(db, file.id, file.layout.size));
  CHECK(load_roots(db, file.id, file.layout.size)->layout.roots == file.layout.roots);
  db.put_roots(file.id, std::string(32 * 4, 'x'));
  CHECK_FALSE(load_roots(db, file.id, file.layout.size));
}

TEST_CASE("torrents: other clients get one with the SHA-1 of the pieces, and no other is taken from others") {
  const Scratch scratch;
  auto bytes = noise(300'000, 7);
  std::fill(bytes.begin() + 65536, bytes.begin() + 2 * 65536, '\0');
  write_file(scratch.path / "f", bytes);
  {
    const Fd fd = open_file(scratch.path / "f", O_RDWR);
    REQUIRE(::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 65536, 65536) == 0);
  }
  const std::atomic<bool> stop = false;
  std::vector<lt::sha1_hash> sha1;
  const Fd fd = open_file(scratch.path / "f", O_RDONLY);
  const auto file = hash_file(fd.get(), static_cast<std::int64_t>(bytes.size()), 2, stop, &sha1);
  CHECK(file.id == hashed(scratch.path / "f").id);
  REQUIRE(sha1.size() == 5);
  for (std::size_t i = 0; i < 5; ++i) {
    const auto piece = std::string_view(bytes).substr(i * 65536, 65536);
    CHECK(sha1[i] == lt::hasher(lt::span<const char>(piece.data(), static_cast<std::ptrdiff_t>(piece.size()))).final());
  }
  const auto info = encode_info(file.id, file.layout.size, sha1);
  const auto read = read_standard_torrent(info, file.id, file.layout.size);
  REQUIRE(read);
  CHECK(read->pieces == sha1);
  CHECK(read->info == info);
  CHECK(read->own != file.id);
  CHECK(read->infohash != make_torrent(file).infohash);
  CHECK_FALSE(read_standard_torrent(info, ContentId{}, file.layout.size));
  CHECK_FALSE(read_standard_torrent(info, file.id, file.layout.size + 1));
  CHECK_FALSE(read_standard_torrent(make_torrent(file, nullptr).info.substr(1), file.id, file.layout.size));
  const auto pieces_at = info.find("6:pieces") + 12;
  for (std::size_t i = 0; i < info.size(); ++i) {
    auto other = info;
    other[i] = static_cast<char>(other[i] ^ 1);
    // Hashes may be any: whether they are right only the bytes say.
    const bool is_hash = i >= pieces_at && i + 1 < info.size();
    CHECK(read_standard_torrent(other, file.id, file.layout.size).has_value() == is_hash);
    CHECK_FALSE(read_standard_torrent(info.substr(0, i), file.id, file.layout.size));
  }
  StateDb db(scratch.path / "state.db");
  CHECK_FALSE(db.find_standard_torrent(file.id));
  db.put_standard_torrent({file.id, read->infohash, info});
  REQUIRE(db.find_standard_torrent(file.id));
  CHECK(db.find_standard_torrent(file.id)->info == info);
  REQUIRE(db.find_standard_torrent(read->infohash));
  CHECK(db.find_standard_torrent(read->infohash)->id == file.id);
}
