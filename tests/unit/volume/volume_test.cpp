// Places as they are described, names of versions, headers of images, tables of mounts.
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "core/qcow2.h"
#include "core/version_name.h"
#include "disk/mount_table.h"
#include "disk/tool.h"
#include "test.h"
#include "volume/place_options.h"

using namespace mesh;

namespace {

namespace fs = std::filesystem;

struct Directory {
  fs::path path = fs::temp_directory_path() / ("meshswarm-unit-volume-" + std::to_string(::getpid()));
  Directory() { fs::create_directories(path); }
  ~Directory() { fs::remove_all(path); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
};

std::string big_endian(std::uint64_t value, int bytes) {
  std::string out;
  for (int i = bytes - 1; i >= 0; --i) out += static_cast<char>(value >> (8 * i));
  return out;
}

std::string header(std::uint32_t version, std::uint64_t size, std::uint64_t features, const std::string& format) {
  auto out = "QFI\xfb" + big_endian(version, 4) + big_endian(0, 8) + big_endian(0, 4) + big_endian(16, 4) +
             big_endian(size, 8) + std::string(40, '\0');
  if (version == 3) out += big_endian(features, 8) + std::string(20, '\0') + big_endian(104, 4);
  if (!format.empty()) {
    out += big_endian(0xe2792aca, 4) + big_endian(format.size(), 4) + format;
    out.resize((out.size() + 7) / 8 * 8);
  }
  return out + std::string(16, '\0');
}

}  // namespace

TEST_CASE("places: mosaic's files, and what is wrong with them") {
  const Directory directory;
  const auto file = directory.path / "x.mos";
  const auto read = [&](const std::string& text) {
    std::ofstream(file) << text;
    return read_place(file);
  };
  auto place = read("type: fsimg\nlocation: there/v/\ndefault_fs: xfs\nlayout:\n  fs: a/b\n");
  CHECK(place.type == PlaceType::loop);
  CHECK(place.location == directory.path / "there/v");
  CHECK(place.default_fs == "xfs");
  CHECK(place.metadata == "a/b");
  place = read("type: auto\nlocation: /abs\n");
  CHECK(place.location == "/abs");
  CHECK(place.default_fs == "ext4");
  for (const char* bad :
       {"", "x", "[]", "type: auto\n", "location: /x\n", "type: auto\nlocation: ''\n", "type: [a]\nlocation: /x\n",
        "type: auto\nlocation: /x\ndefault_fs: ../x\n", "type: auto\nlocation: /x\nlayout: y\n",
        "type: auto\nlocation: /x\nlayout:\n  fs: ../y\n", "type: auto\nlocation: /x\nlayout:\n  vol: y\n",
        "type: thin\nlocation: /x\n", "type: auto\nlocation: /x\nvolumeMap: a b\n", "type: auto\nlocation: {a: b\n"}) {
    CAPTURE(bad);
    try {
      static_cast<void>(read(bad));
      CHECK(false);
    } catch (const Error& error) {
      CHECK(error.status() == Status::usage);
      CHECK(std::string(error.what()).starts_with(file.string() + ": "));
    }
  }
}

TEST_CASE("names of versions: there and back, in one spelling") {
  FileEntry entry;
  entry.path = "vm/100%/a@b,c.qcow2";
  entry.size = 12;
  entry.mtime = -5;
  CHECK(version_name(entry) == "vm%2F100%25%2Fa@b,c.qcow2@12,-5");
  auto read = read_version_name(version_name(entry));
  REQUIRE(read);
  CHECK(read->path == entry.path);
  CHECK(read->size == 12);
  CHECK(read->mtime == -5);
  CHECK_FALSE(read->id.is_set());
  entry.id.bytes[3] = 7;
  read = read_version_name(version_name(entry));
  REQUIRE(read);
  CHECK(read->id == entry.id);
  for (const char* bad :
       {"", "@", "a", "a@1", "a@1,", "a@,1", "a@-1,1", "a@01,1", "a@1,+1", "a@1,1,", "a@1,1,00", "a/b@1,1", "a%2fb@1,1",
        "a%@1,1", "..@1,1", "%2Fa@1,1", ".mesh%2Fx@1,1", "a@1,1 ", "a@99999999999999999999,1"}) {
    CAPTURE(bad);
    CHECK_FALSE(read_version_name(bad));
  }
}

TEST_CASE("qcow2: the size of the disk, its backing file's format, and bytes elsewhere") {
  auto facts = read_qcow2(header(3, 1 << 30, 0, "raw"));
  REQUIRE(facts);
  CHECK(facts->size == 1 << 30);
  CHECK(facts->backing_format == "raw");
  CHECK_FALSE(facts->is_elsewhere);
  facts = read_qcow2(header(3, 5, 4, ""));
  REQUIRE(facts);
  CHECK(facts->is_elsewhere);
  facts = read_qcow2(header(2, 5, 0, "qcow2"));
  REQUIRE(facts);
  CHECK(facts->backing_format == "qcow2");
  CHECK_FALSE(read_qcow2(header(4, 5, 0, "")));
  CHECK_FALSE(read_qcow2(header(3, std::uint64_t{1} << 62, 0, "")));
  CHECK_FALSE(read_qcow2(header(3, 5, 0, "").substr(0, 100)));
  CHECK_FALSE(read_qcow2(std::string(200, '\0')));
  // An extension that would end behind all there is.
  auto cut = header(3, 5, 0, "raw");
  cut.replace(108, 4, big_endian(0xffffffff, 4));
  facts = read_qcow2(cut);
  REQUIRE(facts);
  CHECK(facts->backing_format.empty());
}

TEST_CASE("tables of mounts: escapes, optional fields") {
  const Directory directory;
  const auto table = (directory.path / "mountinfo").string();
  std::ofstream(table)
      << R"(36 35 98:0 /a\040b /mnt/with\040blank rw,noatime master:1 shared:2 - ext4 /dev/root rw,x=\134
37 36 7:3 / /mnt rw - fuse.meshmount mesh\011x ro
)";
  const auto entries = mount_table(table);
  REQUIRE(entries.size() == 2);
  CHECK(entries[0].device == "98:0");
  CHECK(entries[0].root == "/a b");
  CHECK(entries[0].at == "/mnt/with blank");
  CHECK(entries[0].type == "ext4");
  CHECK(entries[0].file_system_options == "rw,x=\\");
  CHECK(entries[1].source == "mesh\tx");
  CHECK(mount_table("/nonexistent").empty());
}

TEST_CASE("programs of others: what they say, how they end, and that there are none") {
  auto ran = run_tool({"sh", "-c", "echo out; echo err >&2; exit 3"});
  CHECK(ran.status == 3);
  CHECK(ran.out == "out\n");
  CHECK(ran.err == "err\n");
  ran = run_tool({"sh", "-c", "kill -9 $$"});
  CHECK(ran.status == 128 + 9);
  CHECK(run_tool({"no-such-program"}).status == 127);
  CHECK(run_tool({"cat"}).status == 0);  // stdin is empty
  CHECK(run_tool({"sh", "-c", "seq 100000; seq 100000 >&2"}).status == 0);
  try {
    static_cast<void>(must_run({"sh", "-c", "echo why >&2; echo more >&2; false"}, "it"));
    CHECK(false);
  } catch (const Error& error) {
    CHECK(std::string(error.what()) == "it: why");
  }
}
