// Archives that mean well and archives that do not, unpacked by one process: libarchive, files and threads.
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "core/error.h"
#include "library/tree_records.h"
#include "process.h"
#include "test.h"
#include "unpack/tree.h"
#include "unpack/unpacker.h"

using namespace mesh;
namespace fs = std::filesystem;

namespace {

/// A temporary directory with an archive to be written, and a place to unpack it.
struct Place {
  Place() {
    auto name = (fs::temp_directory_path() / "mesh-unpack-test-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    root = name;
    fs::create_directories(root / "state");
    fs::create_directories(root / "out");
  }
  ~Place() { fs::remove_all(root); }
  fs::path root;
  [[nodiscard]] fs::path archive() const { return root / "x.tar"; }
};

struct Item {
  std::string path;
  int type = AE_IFREG;
  std::string data{};  ///< or where a link leads
  bool hard = false;
  int mode = 0644;
};

/// Writes an archive without any of the checks that an honest tool makes.
void write_archive(
    const fs::path& file, const std::vector<Item>& items,
    const std::function<void(archive*)>& format = [](archive* a) { archive_write_set_format_pax(a); }) {
  archive* out = archive_write_new();
  format(out);
  REQUIRE(archive_write_open_filename(out, file.c_str()) == ARCHIVE_OK);
  for (const auto& item : items) {
    archive_entry* entry = archive_entry_new();
    archive_entry_set_pathname(entry, item.path.c_str());
    archive_entry_set_perm(entry, static_cast<mode_t>(item.mode));
    archive_entry_set_uid(entry, ::geteuid());
    archive_entry_set_gid(entry, ::getegid());
    archive_entry_set_mtime(entry, 1'000'000'000, 5);
    archive_entry_set_size(entry, 0);
    if (item.hard) {
      archive_entry_set_hardlink(entry, item.data.c_str());
    } else {
      archive_entry_set_filetype(entry, static_cast<unsigned>(item.type));
      if (item.type == AE_IFLNK) archive_entry_set_symlink(entry, item.data.c_str());
      if (item.type == AE_IFREG) archive_entry_set_size(entry, static_cast<la_int64_t>(item.data.size()));
      if (item.type == AE_IFCHR) archive_entry_set_rdev(entry, makedev(1, 3));
    }
    REQUIRE(archive_write_header(out, entry) >= ARCHIVE_WARN);
    if (!item.hard && item.type == AE_IFREG && !item.data.empty())
      archive_write_data(out, item.data.data(), item.data.size());
    archive_entry_free(entry);
  }
  archive_write_close(out);
  archive_write_free(out);
}

/// Bytes that come in small parts, as from a network.
class Trickle final : public ArchiveSource {
 public:
  explicit Trickle(std::string bytes) : bytes_(std::move(bytes)) {}
  std::span<const char> next() override {
    const auto size = std::min<std::size_t>(1000, bytes_.size() - at_);
    at_ += size;
    return {bytes_.data() + at_ - size, size};
  }

 private:
  std::string bytes_;
  std::size_t at_ = 0;
};

struct Result {
  std::string error;
  Unpacked unpacked;
};

/// Unpacks it from a file and from a stream, which must agree; what is left is in out/.
Result try_unpack(const Place& place, const UnpackLimits& limits = {}) {
  Result out;
  for (const bool stream : {true, false}) {
    fs::remove_all(place.root / "out");
    fs::create_directories(place.root / "out");
    const Fd into(::open((place.root / "out").c_str(), O_RDONLY | O_DIRECTORY));
    const auto run = [&] {
      if (stream) {
        Trickle source(test::read_file(place.archive()));
        return unpack(source, into.get(), limits, "x.tar");
      }
      const Fd file(::open(place.archive().c_str(), O_RDONLY));
      return unpack(file.get(), into.get(), limits, "x.tar");
    };
    std::string error;
    try {
      out.unpacked = run();
    } catch (const Error& e) {
      CHECK(e.status() == Status::failed);
      error = e.what();
      CHECK(error.starts_with("x.tar: "));
    }
    if (stream) out.error = error;
    CHECK(error.empty() == out.error.empty());
  }
  return out;
}

bool says(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("unpacking: files, links, modes, times; every format and filter") {
  const Place place;
  const auto bytes = test::noise(300'000, 1);
  const std::vector<Item> items = {
      {"top", AE_IFDIR, "", false, 0755},        {"./top/./file", AE_IFREG, bytes, false, 04751},
      {"top/empty", AE_IFREG, "", false, 0600},  {"top/deep/er/x", AE_IFREG, "x"},
      {"top/link", AE_IFLNK, "deep/../file"},    {"top/abs", AE_IFLNK, "/etc/passwd"},
      {"top/closed", AE_IFDIR, "", false, 0500}, {"top/closed/in", AE_IFREG, "in"}};
  using Format = std::function<void(archive*)>;
  const std::vector<std::pair<std::string, Format>> formats = {
      {"pax", [](archive* a) { archive_write_set_format_pax(a); }},
      {"ustar", [](archive* a) { archive_write_set_format_ustar(a); }},
      {"gnutar", [](archive* a) { archive_write_set_format_gnutar(a); }},
      {"cpio", [](archive* a) { archive_write_set_format_cpio_newc(a); }},
      {"zip", [](archive* a) { archive_write_set_format_zip(a); }},
      {"gzip", [](archive* a) { archive_write_set_format_pax(a), archive_write_add_filter_gzip(a); }},
      {"bzip2", [](archive* a) { archive_write_set_format_pax(a), archive_write_add_filter_bzip2(a); }},
      {"xz", [](archive* a) { archive_write_set_format_pax(a), archive_write_add_filter_xz(a); }},
      {"zstd", [](archive* a) { archive_write_set_format_pax(a), archive_write_add_filter_zstd(a); }},
      {"lz4", [](archive* a) { archive_write_set_format_pax(a), archive_write_add_filter_lz4(a); }}};
  UnpackLimits limits;
  limits.keep_setid = true;
  for (const auto& [name, format] : formats) {
    INFO(name);
    write_archive(place.archive(), items, format);
    if (name == "zip") {
      CHECK_FALSE(is_streamable(test::read_file(place.archive()).substr(0, 512)));
      const Fd into(::open((place.root / "out").c_str(), O_RDONLY | O_DIRECTORY));
      const Fd file(::open(place.archive().c_str(), O_RDONLY));
      fs::remove_all(place.root / "out/top");
      CHECK(unpack(file.get(), into.get(), limits, "x.zip").top == "top");
    } else {
      CHECK(is_streamable(test::read_file(place.archive()).substr(0, 512)));
      const auto result = try_unpack(place, limits);
      CHECK(result.error.empty());
      CHECK(result.unpacked.top == "top");
      CHECK(result.unpacked.skipped.empty());
    }
    const auto top = place.root / "out/top";
    CHECK((test::read_file(top / "file") == bytes));
    CHECK((test::read_file(top / "link") == bytes));
    CHECK(test::read_file(top / "deep/er/x") == "x");
    CHECK(fs::read_symlink(top / "abs") == "/etc/passwd");
    struct stat s {};
    REQUIRE(::stat((top / "file").c_str(), &s) == 0);
    CHECK((s.st_mode & 07777) == 04751);
    CHECK(s.st_mtim.tv_sec == 1'000'000'000);
    REQUIRE(::stat((top / "closed").c_str(), &s) == 0);
    CHECK((s.st_mode & 07777) == 0500);
    ::chmod((top / "closed").c_str(), 0700);
  }
}

TEST_CASE("unpacking: what an archive may not do") {
  const Place place;
  const Item top{"top", AE_IFDIR, "", false, 0755};
  const auto outside = place.root / "outside";
  fs::create_directories(outside);
  test::write_file(outside / "secret", "untouched");
  struct Hostile {
    std::string name;
    std::vector<Item> items;
    std::string error;
  };
  std::string deep = "top";
  for (int i = 0; i < 300; ++i) deep += "/d";
  const std::vector<Hostile> all = {
      {"traversal", {top, {"top/../../outside/new", AE_IFREG, "x"}}, "'..'"},
      {"absolute", {top, {(outside / "new").string(), AE_IFREG, "x"}}, "absolute"},
      {"link out", {top, {"top/l", AE_IFLNK, "../outside"}}, "link out of"},
      {"link out by a detour", {top, {"top/l", AE_IFLNK, "a/../../../outside"}}, "link out of"},
      {"write through a link", {top, {"top/l", AE_IFLNK, outside.string()}, {"top/l/new", AE_IFREG, "x"}}, "l/new"},
      {"write through a link to a directory",
       {top, {"top/d", AE_IFDIR, "", false, 0755}, {"top/l", AE_IFLNK, "d"}, {"top/l/new", AE_IFREG, "x"}},
       "l/new"},
      {"hard link out", {top, {"top/h", AE_IFREG, "../outside/secret", true}}, "hard link out"},
      {"absolute hard link", {top, {"top/h", AE_IFREG, (outside / "secret").string(), true}}, "hard link out"},
      {"hard link through a link",
       {top, {"top/l", AE_IFLNK, outside.string()}, {"top/h", AE_IFREG, "top/l/secret", true}},
       "top/h"},
      {"two at the top", {top, {"other/x", AE_IFREG, "x"}}, "more than one top-level entry: top, other"},
      {"a file at the top", {{"top", AE_IFREG, "x"}}, "is no directory"},
      {"a link at the top", {{"top", AE_IFLNK, "/tmp"}}, "is no directory"},
      {"nothing", {}, "nothing in it"},
      {"too deep", {top, {deep, AE_IFREG, "x"}}, "nested deeper than 256"}};
  for (const auto& one : all) {
    INFO(one.name);
    write_archive(place.archive(), one.items);
    const auto result = try_unpack(place);
    CHECK(says(result.error, one.error));
    INFO(result.error);
    CHECK_FALSE(fs::exists(outside / "new"));
    CHECK(test::read_file(outside / "secret") == "untouched");
    CHECK(fs::hard_link_count(outside / "secret") == 1);
  }
}

TEST_CASE("unpacking: limits, truncation, garbage") {
  const Place place;
  const Item top{"top", AE_IFDIR, "", false, 0755};
  const auto gzip = [](archive* a) { archive_write_set_format_pax(a), archive_write_add_filter_gzip(a); };
  // Zeros pack a thousand to one.
  write_archive(place.archive(), {top, {"top/zeros", AE_IFREG, std::string(100 << 20, '\0')}}, gzip);
  CHECK(says(try_unpack(place).error, "--max-ratio"));
  UnpackLimits limits;
  limits.ratio = 10'000;
  CHECK(try_unpack(place, limits).error.empty());
  limits.bytes = 50 << 20;
  CHECK(says(try_unpack(place, limits).error, "--max-unpacked"));
  std::vector<Item> many{top};
  for (int i = 0; i < 200; ++i) many.push_back({"top/" + std::to_string(i), AE_IFREG, "x"});
  write_archive(place.archive(), many);
  limits = {};
  limits.entries = 100;
  CHECK(says(try_unpack(place, limits).error, "--max-entries"));

  write_archive(place.archive(), {top, {"top/noise", AE_IFREG, test::noise(100'000, 1)}}, gzip);
  const auto whole = test::read_file(place.archive());
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{20}, whole.size() / 2, whole.size() - 5}) {
    INFO(size);
    test::write_file(place.archive(), whole.substr(0, size));
    CHECK_FALSE(try_unpack(place).error.empty());
  }
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    test::write_file(place.archive(), test::noise(5000, seed));
    CHECK_FALSE(try_unpack(place).error.empty());
  }
}

TEST_CASE("unpacking as root: devices and extended attributes; as another user they are left out with a line") {
  const Place place;
  const Item top{"top", AE_IFDIR, "", false, 0755};
  write_archive(place.archive(), {top, {"top/null", AE_IFCHR}, {"top/pipe", AE_IFIFO}, {"top/x", AE_IFREG, "x"}});
  const auto result = try_unpack(place);
  CHECK(result.error.empty());
  CHECK(fs::is_fifo(place.root / "out/top/pipe"));
  if (fs::exists(place.root / "out/top/null")) {
    struct stat s {};
    REQUIRE(::lstat((place.root / "out/top/null").c_str(), &s) == 0);
    CHECK(s.st_rdev == makedev(1, 3));
  } else {
    REQUIRE(result.unpacked.skipped.size() == 1);
    CHECK(says(result.unpacked.skipped[0], "1 devices are left out"));
  }
}

TEST_CASE("a tree is put in place at once, replaced while it is as it was, and kept when it was changed") {
  const Place place;
  const auto parent_path = place.root / "files";
  fs::create_directories(parent_path);
  const Fd parent(::open(parent_path.c_str(), O_RDONLY | O_DIRECTORY));
  const TreeRecords records(place.root / "state");
  const auto put = [&](const std::string& content, bool force, std::uint64_t source) {
    TempTree temp(place.root / "state/unpack", "t-");
    test::write_file(temp.path() / "tree/a/file", content);
    TreeRecord record;
    record.source = *ContentId::from(std::string(32, static_cast<char>(source)));
    TreePlace at;
    at.parent = parent.get();
    at.path = parent_path.string();
    at.force = force;
    return place_tree(temp, "tree", at, records, record);
  };
  CHECK_FALSE(put("one", false, 1).replaced);
  CHECK(records.contains(parent.get(), "tree"));
  CHECK_FALSE(records.contains(parent.get(), "other"));
  CHECK(records.find_unpacked(parent_path.string(), *ContentId::from(std::string(32, '\1')), {})->path ==
        (parent_path / "tree").string());
  CHECK(put("two", false, 2).replaced);
  CHECK(test::read_file(parent_path / "tree/a/file") == "two");
  CHECK_FALSE(records.find_unpacked(parent_path.string(), *ContentId::from(std::string(32, '\1')), {}));
  CHECK(std::distance(fs::directory_iterator(place.root / "state/trees"), {}) == 1);

  // A change that leaves size and time alone is one.
  struct stat before {};
  REQUIRE(::stat((parent_path / "tree/a/file").c_str(), &before) == 0);
  test::write_file(parent_path / "tree/a/file", "TWO");
  const timespec times[2] = {before.st_atim, before.st_mtim};
  REQUIRE(::utimensat(AT_FDCWD, (parent_path / "tree/a/file").c_str(), times, 0) == 0);
  CHECK_THROWS_WITH(put("three", false, 3), Catch::Contains("changed here since it was unpacked"));
  CHECK(test::read_file(parent_path / "tree/a/file") == "TWO");
  CHECK(put("three", true, 3).replaced);
  CHECK(test::read_file(parent_path / "tree/a/file") == "three");
  // Somebody's own.
  fs::remove_all(parent_path / "tree");
  test::write_file(parent_path / "tree/mine", "mine");
  CHECK_FALSE(records.contains(parent.get(), "tree"));
  CHECK_THROWS_WITH(put("four", false, 4), Catch::Contains("was not unpacked from this archive"));
  CHECK(test::read_file(parent_path / "tree/mine") == "mine");
  CHECK(fs::is_empty(place.root / "state/unpack"));
}

TEST_CASE("torn and hostile records of trees are no records") {
  const Place place;
  const Fd root(::open(place.root.c_str(), O_RDONLY | O_DIRECTORY));
  const TreeRecords records(place.root / "state");
  fs::create_directories(place.root / "tree");
  records.put(root.get(), "tree", {(place.root / "tree").string(), {}, {}, "d", false});
  REQUIRE(records.find(root.get(), "tree"));
  const auto file = fs::directory_iterator(place.root / "state/trees")->path();
  const auto good = test::read_file(file);
  for (std::size_t size = 0; size < good.size(); ++size) {
    test::write_file(file, good.substr(0, size));
    CHECK_FALSE(records.find(root.get(), "tree"));
    CHECK_FALSE(records.find_unpacked(place.root.string(), {}, {}));
  }
  test::write_file(file, test::noise(100'000, 1));
  CHECK_FALSE(records.find(root.get(), "tree"));
}

TEST_CASE("unpacking: no file gives other users of the machine the rights of who unpacked it") {
  const Place place;
  write_archive(place.archive(),
                {{"top", AE_IFDIR, "", false, 02755},
                 {"top/su", AE_IFREG, "x", false, 04755},
                 {"top/sg", AE_IFREG, "x", false, 02755}},
                [](archive* a) { archive_write_set_format_pax(a); });
  const auto result = try_unpack(place);
  CHECK(result.error.empty());
  CHECK(result.unpacked.dropped_setid);
  REQUIRE(result.unpacked.skipped.size() == 1);
  CHECK(says(result.unpacked.skipped.front(), "--keep-setid"));
  for (const char* name : {"su", "sg"}) {
    struct stat s {};
    REQUIRE(::stat((place.root / "out/top" / name).c_str(), &s) == 0);
    CHECK((s.st_mode & 07777) == 0755);
  }
}
