// A new version of a file, of which only what changed comes: real processes on loopback.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "process.h"
#include "test.h"

using namespace mesh::test;
using nlohmann::json;
using std::chrono::seconds;

namespace {

constexpr std::size_t mb = 1 << 20;
constexpr std::size_t block = 16 * 1024;

/// `count` blocks of it, evenly spread, are other ones.
std::string changed(std::string bytes, std::size_t count, std::uint64_t seed) {
  const auto fresh = noise(count * block, seed);
  const auto blocks = bytes.size() / block;
  for (std::size_t i = 0; i < count; ++i) bytes.replace(i * blocks / count * block, block, fresh, i * block, block);
  return bytes;
}

struct Got {
  int status = -1;
  std::int64_t reused = 0;
  std::int64_t fetched = 0;
  std::int64_t from_sources = 0;
  std::string err;
};

Got read_got(const Ran& ran) {
  Got out;
  out.status = ran.status;
  out.err = ran.err;
  const auto said = json::parse(ran.out, nullptr, false);
  if (said.is_discarded()) return out;
  for (const auto& file : said.at("files")) {
    out.reused += file.at("bytes_reused").get<std::int64_t>();
    out.fetched += file.at("bytes_fetched").get<std::int64_t>();
    out.from_sources += file.at("from_sources").get<std::int64_t>();
  }
  return out;
}

/// A node that has new versions, and one that has old ones.
struct Versions : Mesh {
  /// What is looked for is found, however slow the programs are.
  Versions() { ::setenv("MESH_TEST_SEARCH_MS", "120000", 1); }
  /// What the source has is the newest.
  void has(const std::string& node, const std::string& path, const std::string& bytes) const {
    fs::create_directories((files(node) / path).parent_path());
    write_file(files(node) / path, bytes);
    if (node != "source")
      fs::last_write_time(files(node) / path, fs::file_time_type::clock::now() - std::chrono::hours(1));
  }
  void begin(const std::vector<std::string>& getters = {"getter"}) {
    start_node("source");
    for (const auto& getter : getters) start_node(getter);
  }
  [[nodiscard]] Got get_json(const std::string& node, std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), "--json");
    return read_got(get(node, std::move(arguments), seconds(120)));
  }
};

}  // namespace

TEST_CASE("a new version: only the blocks that changed come") {
  Versions mesh;
  const auto old = noise(12 * mb + 777, 1);
  const auto fresh = changed(old, 40, 2);
  mesh.has("source", "vm/disk.img", fresh);
  mesh.has("getter", "vm/disk.img", old);
  mesh.begin();
  REQUIRE(mesh.lists("getter", "vm/disk.img", fresh.size()));
  const auto got = mesh.get_json("getter", {"--force", "vm/disk.img"});
  CHECK(got.status == 0);
  CHECK(got.fetched == 40 * static_cast<std::int64_t>(block));
  CHECK(got.reused == std::ssize(fresh) - got.fetched);
  CHECK(read_file(mesh.files("getter") / "vm/disk.img") == fresh);
}

TEST_CASE(
    "bytes put in front: a sketch says where the others are; a sibling whose name differs in digits is looked at") {
  Versions mesh;
  const auto old = noise(12 * mb, 3);
  mesh.has("source", "vm/disk-10.img", "12345" + old);
  mesh.has("getter", "vm/disk-9.img", old);
  mesh.begin();
  REQUIRE(mesh.lists("getter", "vm/disk-10.img", old.size() + 5));
  const auto got = mesh.get_json("getter", {"vm/disk-10.img"});
  CHECK(got.status == 0);
  CHECK(got.fetched <= 5 * static_cast<std::int64_t>(block));
  CHECK(read_file(mesh.files("getter") / "vm/disk-10.img") == "12345" + old);
  CHECK(read_file(mesh.files("getter") / "vm/disk-9.img") == old);
}

TEST_CASE("--seed names a file of any name, here or elsewhere on the machine; --no-seed has all come") {
  Versions mesh;
  const auto old = noise(6 * mb, 4);
  const auto fresh = changed(old, 10, 5);
  for (const auto* name : {"a", "b", "c", "d"})
    mesh.has("source", name, changed(fresh, 1, 6 + static_cast<unsigned char>(*name)));
  mesh.has("getter", "old", old);
  mesh.has("getter", "d", old);
  write_file(mesh.root() / "elsewhere", old);
  mesh.begin();
  for (const auto* name : {"a", "b", "c", "d"}) REQUIRE(mesh.lists("getter", name, fresh.size()));
  CHECK(mesh.get_json("getter", {"a"}).reused == 0);
  CHECK(mesh.get_json("getter", {"b", "--seed", "old"}).reused > std::ssize(old) * 9 / 10);
  fs::remove(mesh.files("getter") / "a");
  fs::remove(mesh.files("getter") / "b");
  CHECK(mesh.get_json("getter", {"c", "--seed", (mesh.root() / "elsewhere").string()}).reused >
        std::ssize(old) * 9 / 10);
  const auto all = mesh.get_json("getter", {"d", "--force", "--no-seed"});
  CHECK(all.reused == 0);
  CHECK(all.fetched == std::ssize(fresh));
  const auto none = mesh.get("getter", {"a", "--seed", "nowhere"});
  CHECK(none.status == 3);
  CHECK(none.err.find("nowhere: is no file here") != std::string::npos);
  CHECK(mesh.get("getter", {"a", "--seed", "../no seed of this test"}).status == 2);
  CHECK(mesh.file("getter", {"get", "--on", "all", "a", "--seed", (mesh.root() / "elsewhere").string()}).status == 2);
}

TEST_CASE("getters of a new version serve each other, and the source sends little more than the difference") {
  Versions mesh;
  const auto old = noise(16 * mb, 7);
  const auto fresh = changed(old, 200, 8);
  const std::vector<std::string> getters{"g1", "g2", "g3", "g4"};
  mesh.has("source", "disk.img", fresh);
  for (const auto& getter : getters) mesh.has(getter, "disk.img", old);
  mesh.start_node("source", {"--max-up", megabytes_a_second(4)});
  for (const auto& getter : getters) mesh.start_node(getter);
  for (const auto& getter : getters) REQUIRE(mesh.lists(getter, "disk.img", fresh.size()));
  std::vector<Got> got(getters.size());
  {
    std::vector<std::jthread> running;
    for (std::size_t i = 0; i < getters.size(); ++i)
      running.emplace_back([&, i] { got[i] = mesh.get_json(getters[i], {"--force", "disk.img"}); });
  }
  const auto difference = 200 * static_cast<std::int64_t>(block);
  std::int64_t sent = 0;
  for (std::size_t i = 0; i < getters.size(); ++i) {
    CHECK(got[i].status == 0);
    CHECK(got[i].fetched < difference * 5 / 4);
    CHECK(read_file(mesh.files(getters[i]) / "disk.img") == fresh);
    sent += got[i].from_sources;
  }
  CHECK(sent < difference * 2);
}

TEST_CASE("a user's own file is kept, and its bytes are used for what replaces it") {
  Versions mesh;
  const auto own = noise(6 * mb, 9);
  const auto theirs = changed(own, 5, 10);
  mesh.has("source", "disk.img", theirs);
  mesh.has("getter", "disk.img", own);
  mesh.begin();
  REQUIRE(mesh.lists("getter", "disk.img", theirs.size()));
  const auto refused = mesh.get("getter", {"--from", "source", "disk.img"});
  CHECK(refused.status == 1);
  CHECK(read_file(mesh.files("getter") / "disk.img") == own);
  CHECK(mesh.get_json("getter", {"--from", "source", "--force", "disk.img"}).reused >
        5 * static_cast<std::int64_t>(mb));
  CHECK(read_file(mesh.files("getter") / "disk.img") == theirs);
}

TEST_CASE("a get of which everything is here already ends without a swarm") {
  Versions mesh;
  const auto old = noise(8 * mb, 11);
  // Of the old one's blocks alone, in another order.
  const auto fresh = old.substr(4 * mb) + old.substr(0, 4 * mb);
  mesh.has("source", "disk-2.img", fresh);
  mesh.has("getter", "disk-1.img", old);
  mesh.begin();
  REQUIRE(mesh.lists("getter", "disk-2.img", fresh.size()));
  const auto got = mesh.get_json("getter", {"disk-2.img"});
  CHECK(got.status == 0);
  CHECK(got.fetched == 0);
  CHECK(got.reused == std::ssize(fresh));
  CHECK(read_file(mesh.files("getter") / "disk-2.img") == fresh);
}

TEST_CASE("a seed that is written to all the time is no harm") {
  Versions mesh;
  const auto old = noise(24 * mb, 12);
  const auto fresh = "moved" + changed(old, 100, 13);
  mesh.has("source", "disk-2.img", fresh);
  mesh.has("getter", "disk-1.img", old);
  mesh.begin();
  REQUIRE(mesh.lists("getter", "disk-2.img", fresh.size()));
  std::atomic<bool> over = false;
  std::jthread writer([&] {
    std::fstream file(mesh.files("getter") / "disk-1.img", std::ios::in | std::ios::out | std::ios::binary);
    for (std::uint64_t i = 1; !over; ++i) {
      file.seekp(static_cast<std::streamoff>(i * 7919 % old.size()));
      file.put('w').flush();
    }
  });
  const auto got = mesh.get_json("getter", {"disk-2.img"});
  over = true;
  writer.join();
  CHECK(got.status == 0);
  CHECK(read_file(mesh.files("getter") / "disk-2.img") == fresh);
}

TEST_CASE("a node that is killed while it reuses goes on, with the right bytes") {
  Versions mesh;
  const auto old = noise(24 * mb, 14);
  const auto fresh = changed(old, 300, 15);
  mesh.has("source", "disk.img", fresh);
  mesh.has("getter", "disk.img", old);
  mesh.begin();
  REQUIRE(mesh.lists("getter", "disk.img", fresh.size()));
  std::uint64_t random = 4711;
  for (int round = 0; round < 5; ++round) {
    REQUIRE(mesh.file("getter", {"get", "--force", "--max-down", megabytes_a_second(1), "disk.img"}).status == 0);
    random = random * 6364136223846793005U + 1442695040888963407U;
    ::usleep(static_cast<useconds_t>(random >> 40U) % 400'000);
    mesh.stop_node("getter", SIGKILL);
    // Whole, or not there yet: the old one stays until the new one is whole.
    const auto there = read_file(mesh.files("getter") / "disk.img");
    CHECK((there == old || there == fresh));
    mesh.start_node("getter");
  }
  const auto got = mesh.get_json("getter", {"--force", "disk.img"});
  CHECK(got.status == 0);
  CHECK(read_file(mesh.files("getter") / "disk.img") == fresh);
}

TEST_CASE("meshfile diff says how much a get would fetch, and fetches nothing") {
  Versions mesh;
  const auto old = noise(8 * mb, 16);
  const auto fresh = changed(old, 30, 17);
  mesh.has("source", "vm/disk-2.img", fresh);
  mesh.has("source", "small", "a few bytes");
  mesh.has("source", "other.img", noise(4 * mb, 18));
  mesh.has("getter", "vm/disk-1.img", old);
  write_file(mesh.root() / "elsewhere", fresh);
  mesh.begin();
  REQUIRE(mesh.lists("getter", "vm/disk-2.img", fresh.size()));
  REQUIRE(mesh.lists("getter", "other.img", 4 * mb));
  const auto diff = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "diff");
    return mesh.file("getter", std::move(arguments));
  };
  const auto line = [](const std::string& path, std::size_t fetch, std::size_t reuse) {
    return path + '\t' + std::to_string(fetch) + '\t' + std::to_string(reuse) + '\n';
  };
  CHECK(diff({"vm/disk-2.img"}).out == line("vm/disk-2.img", 30 * block, fresh.size() - 30 * block));
  CHECK(diff({"vm/disk-2.img", (mesh.root() / "elsewhere").string()}).out == line("vm/disk-2.img", 0, fresh.size()));
  CHECK(diff({"other.img"}).out == line("other.img", 4 * mb, 0));
  CHECK(diff({"small"}).out == line("small", 11, 0));
  CHECK_FALSE(fs::exists(mesh.files("getter") / "vm/disk-2.img"));
  const auto as_json = json::parse(diff({"--json", "vm/disk-2.img"}).out);
  CHECK(as_json.at("fetch") == 30 * block);
  CHECK(diff({"nothing"}).status == 3);
  CHECK(diff({"vm/disk-2.img", "nothing"}).status == 3);
  CHECK(mesh.get("getter", {"vm/disk-2.img"}).status == 0);
  CHECK(diff({"vm/disk-2.img"}).out == line("vm/disk-2.img", 0, fresh.size()));
}

TEST_CASE("id: and a content id bring that version, whichever is the newest") {
  const bool has_tracker = GENERATE(true, false);
  CAPTURE(has_tracker);
  Versions mesh;
  const auto first = noise(3 * mb, 19);
  const auto second = changed(first, 20, 20);
  mesh.has("archive", "vm/disk.img", first);
  mesh.has("archive", "vm/small", "of long ago");
  mesh.has("source", "vm/disk.img", second);
  mesh.has("source", "vm/small", "of today");
  if (has_tracker) {
    for (const auto* node : {"source", "archive", "getter"}) mesh.start_node(node);
  } else {
    mesh.stop_tracker(SIGKILL);
    mesh.start_node_with("source", {}, "scanned");
    for (const auto* node : {"archive", "getter"})
      mesh.start_node_with(node, {"--peer", mesh.listen("source")}, "scanned");
  }
  REQUIRE(eventually([&] {
    const auto ran = mesh.file("getter", {"info", "--json", "vm/disk.img"});
    return ran.status == 0 && json::parse(ran.out).at("versions").size() == 2;
  }));
  // Nobody has hashed them yet: both are, when each has been asked for.
  CHECK(mesh.get("getter", {"--from", "archive", "vm/disk.img"}).status == 0);
  CHECK(mesh.get("getter", {"vm/disk.img"}).status == 0);
  CHECK(read_file(mesh.files("getter") / "vm/disk.img") == second);
  const auto shown = mesh.file("getter", {"info", "--json", "vm/disk.img"}).out;
  std::string id;
  const auto said = json::parse(shown);
  for (const auto& version : said.at("versions"))
    for (const auto& holder : version.at("holders"))
      if (holder == "archive") id = version.at("content_id").get<std::string>();
  REQUIRE(id.size() == 64);
  const auto got = mesh.get_json("getter", {"--force", "id:" + id});
  CHECK(got.status == 0);
  CHECK(read_file(mesh.files("getter") / "vm/disk.img") == first);
  CHECK(got.reused >= std::ssize(first) - 20 * static_cast<std::int64_t>(block));
  const auto again = mesh.get("getter", {"id:" + id});
  CHECK(again.status == 0);
  CHECK(again.out == (mesh.files("getter") / "vm/disk.img").string() + "\n");
  CHECK(mesh.get("getter", {"id:" + std::string(64, 'a')}).status == 3);
  CHECK(mesh.get("getter", {"id:abc"}).status == 2);
}

TEST_CASE("blocks that were reused are known after a restart, though the seed is gone") {
  Versions mesh;
  const auto old = noise(12 * mb, 21);
  const auto fresh = changed(old, 200, 22);
  mesh.has("source", "disk-2.img", fresh);
  mesh.has("getter", "disk-1.img", old);
  mesh.begin();
  REQUIRE(mesh.lists("getter", "disk-2.img", fresh.size()));
  REQUIRE(mesh.file("getter", {"get", "--max-down", "64K", "disk-2.img"}).status == 0);
  const auto has_reused = [&] {
    const auto said = json::parse(mesh.file("getter", {"status", "--json"}).out);
    for (const auto& transfer : said.at(0).at("transfers"))
      if (transfer.at("bytes_reused") > 6 * mb && transfer.at("state") == "downloading") return true;
    return false;
  };
  REQUIRE(eventually(has_reused));
  // At its end a node writes down what has arrived.
  mesh.stop_node("getter", SIGTERM);
  fs::remove(mesh.files("getter") / "disk-1.img");
  SECTION("they are used") {
    mesh.start_node("getter");
    const auto got = mesh.get_json("getter", {"disk-2.img"});
    CHECK(got.status == 0);
    CHECK(got.fetched <= 200 * static_cast<std::int64_t>(block));
  }
  SECTION("what became of them meanwhile is seen") {
    for (const auto& part : fs::directory_iterator(mesh.files("getter") / ".mesh/parts")) {
      std::fstream file(part.path(), std::ios::in | std::ios::out | std::ios::binary);
      for (std::size_t at = 0; at < fresh.size(); at += 3 * block + 5)
        file.seekp(static_cast<std::streamoff>(at)).put('x');
    }
    mesh.start_node("getter");
    const auto got = mesh.get_json("getter", {"disk-2.img"});
    CHECK(got.status == 0);
  }
  CHECK(read_file(mesh.files("getter") / "disk-2.img") == fresh);
}

TEST_CASE("where the file system shares extents, what is reused takes no more room") {
  Versions mesh;
  const auto place = mesh.files("getter");
  fs::create_directories(place);
  const auto disk = (mesh.root() / "disk").string();
  const auto made = mesh.run({"sh", "-c",
                              "truncate -s 400M " + disk + " && mkfs.xfs -q -m reflink=1 " + disk +
                                  " && mount -o loop " + disk + " " + place.string()});
  if (made.status != 0) {
    WARN("SKIPPED: needs root, a loop device and mkfs.xfs: " << made.err);
    return;
  }
  const std::shared_ptr<void> unmounted(nullptr, [&](void*) {
    mesh.stop_node("getter", SIGTERM);
    static_cast<void>(mesh.run({"umount", "-l", place.string()}));
  });
  const auto old = noise(48 * mb, 23);
  const auto fresh = changed(old, 20, 24) + std::string(mb, '\0');
  mesh.has("source", "disk-2.img", fresh);
  // In place of zeros it has something else.
  mesh.has("getter", "disk-1.img", old + noise(mb, 25));
  mesh.begin();
  REQUIRE(mesh.lists("getter", "disk-2.img", fresh.size()));
  ::sync();
  const auto before = fs::space(place).free;
  const auto got = mesh.get_json("getter", {"disk-2.img"});
  CHECK(got.status == 0);
  CHECK(got.fetched == 20 * static_cast<std::int64_t>(block));
  CHECK(read_file(place / "disk-2.img") == fresh);
  ::sync();
  CHECK(before - fs::space(place).free < 10 * mb);
}

TEST_CASE("tar: of a new archive unpacks it while only what changed comes") {
  Versions mesh;
  const auto pack = [&](const std::string& node, const std::string& name, const std::string& first) {
    const auto tree = mesh.root() / "trees" / name / "fs";
    fs::create_directories(tree);
    write_file(tree / "a", first);
    for (int i = 0; i < 8; ++i) write_file(tree / ("b" + std::to_string(i)), noise(mb, 30 + static_cast<unsigned>(i)));
    fs::create_directories(mesh.files(node));
    const auto archive = mesh.files(node) / name;
    REQUIRE(mesh.run({"tar", "-C", tree.parent_path().string(), "--sort=name", "-cf", archive.string(), "fs"}).status ==
            0);
    return read_file(archive);
  };
  const auto fresh = pack("source", "fs-2.tar", "longer than the one before");
  pack("getter", "fs-1.tar", noise(40'000, 29));
  mesh.begin();
  REQUIRE(mesh.lists("getter", "fs-2.tar", fresh.size()));
  const auto got = mesh.get("getter", {"tar:fs-2.tar"});
  CHECK(got.status == 0);
  CHECK(read_file(mesh.files("getter") / "fs-2.tar") == fresh);
  CHECK(read_file(mesh.files("getter") / "fs/a") == "longer than the one before");
  CHECK(read_file(mesh.files("getter") / "fs/b7") == noise(mb, 37));
  CHECK(mesh.log("getter").find("were here already, from sources") != std::string::npos);
}

TEST_CASE("of many that ask what the blocks are most are told by those that asked before") {
  Versions mesh;
  const auto old = noise(8 * mb, 40);
  mesh.has("source", "disk-2.img", "moved" + old);
  std::vector<std::string> getters;
  for (int i = 0; i < 8; ++i) {
    getters.push_back("g" + std::to_string(i));
    mesh.has(getters.back(), "disk-1.img", old);
  }
  mesh.begin(getters);
  for (const auto& getter : getters) REQUIRE(mesh.lists(getter, "disk-2.img", old.size() + 5));
  std::vector<Got> got(getters.size());
  {
    std::vector<std::jthread> running;
    for (std::size_t i = 0; i < getters.size(); ++i)
      running.emplace_back([&, i] { got[i] = mesh.get_json(getters[i], {"disk-2.img"}); });
  }
  std::size_t told_by_getters = 0;
  for (std::size_t i = 0; i < getters.size(); ++i) {
    CHECK(got[i].status == 0);
    CHECK(got[i].reused > 7 * static_cast<std::int64_t>(mb));
    CHECK(read_file(mesh.files(getters[i]) / "disk-2.img") == "moved" + old);
    const auto log = mesh.log(getters[i]);
    const auto at = log.find("; told of by ");
    REQUIRE(at != std::string::npos);
    if (log.substr(at, log.find('\n', at) - at).find(" g") != std::string::npos) ++told_by_getters;
  }
  CHECK(told_by_getters >= 1);
}
