// Many small files that several nodes get at once: they travel as packs, and what a pack does not bring comes
// otherwise.
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "process.h"
#include "test.h"

using namespace mesh::test;
using std::chrono::seconds;

namespace {

/// `count` files of `size` bytes in a few directories below "d"; the bytes differ.
void write_tree(const Mesh& mesh, const std::string& node, int count, std::size_t size) {
  for (int i = 0; i < count; ++i)
    write_file(mesh.files(node) / "d" / std::to_string(i % 7) / ("f" + std::to_string(i)),
               noise(size, static_cast<std::uint64_t>(i)));
}

bool is_equal(const Mesh& mesh, const std::string& a, const std::string& b) {
  const auto ran = mesh.run({"diff", "-r", (mesh.files(a) / "d").string(), (mesh.files(b) / "d").string()});
  INFO(ran.out << ran.err);
  CHECK(ran.status == 0);
  return ran.status == 0;
}

std::unique_ptr<Process> begin(Mesh& mesh, const std::string& node, std::vector<std::string> more = {}) {
  std::vector<std::string> words{program("meshget"), "--files", mesh.files(node).string(), "d"};
  words.insert(words.end(), more.begin(), more.end());
  return mesh.start(words, "get-" + node);
}

/// What this node has loaded under the path "d": a pack is called after its directory.
nlohmann::json pack_of(const Mesh& mesh, const std::string& node) {
  const auto status = mesh.file(node, {"status", "--json"});
  const auto all = nlohmann::json::parse(status.out, nullptr, false);
  if (!all.is_array() || all.empty()) return nullptr;
  for (const auto& one : all[0]["transfers"])
    if (one.value("path", "") == "d") return one;
  return nullptr;
}

}  // namespace

TEST_CASE("several nodes get a directory at once: as a pack, which one node makes and all hand on") {
  Mesh mesh;
  write_tree(mesh, "n0", 300, 30'000);
  ::chmod((mesh.files("n0") / "d/3/f3").c_str(), 0750);
  const auto image = std::string(500'000, '\0') + noise(100'000, 99);
  write_file(mesh.files("n0") / "d/sparse.img", image);
  for (const char* node : {"n0", "n1", "n2", "n3"}) mesh.start_node(node);
  REQUIRE(mesh.copies_become(309));
  std::vector<std::unique_ptr<Process>> gets;
  for (const char* node : {"n1", "n2", "n3"}) gets.push_back(begin(mesh, node));
  for (auto& get : gets) CHECK(get->wait(seconds(60)) == 0);
  for (const char* node : {"n1", "n2", "n3"}) {
    CHECK(is_equal(mesh, "n0", node));
    CHECK(mesh.log(node).find("do not come as a pack") == std::string::npos);
    struct stat s {};
    REQUIRE(::stat((mesh.files(node) / "d/3/f3").c_str(), &s) == 0);
    CHECK((s.st_mode & 07777) == 0750);
    REQUIRE(::stat((mesh.files(node) / "d/sparse.img").c_str(), &s) == 0);
    CHECK(s.st_blocks * 512 < 200'000);
  }
  const auto made = pack_of(mesh, "n0");
  REQUIRE(made.is_object());
  CHECK(made.value("state", "") == "seeding");
  CHECK(pack_of(mesh, "n1").is_object());
  // What is here already is not got again, and what few are missing comes without one.
  fs::remove(mesh.files("n1") / "d/3/f3");
  REQUIRE(eventually([&] { return mesh.get("n1", {"d"}).status == 0 && fs::exists(mesh.files("n1") / "d/3/f3"); }));
}

TEST_CASE("what happens to its maker's other files is nothing to a pack; nor is that the maker gets its files again") {
  Mesh mesh;
  write_tree(mesh, "n0", 400, 50'000);  // 20 MB
  mesh.start_node("n0", {"--max-up", megabytes_a_second(8)});
  mesh.start_node("n1");
  REQUIRE(mesh.copies_become(408));
  auto get = begin(mesh, "n1");
  REQUIRE(eventually([&] { return pack_of(mesh, "n0").is_object(); }));
  for (int i = 0; get->is_running(); ++i) {
    write_file(mesh.files("n0") / "other", noise(1000, static_cast<std::uint64_t>(i)));
    write_file(mesh.files("n0") / "d/new", noise(2000, static_cast<std::uint64_t>(i)));
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  CHECK(get->wait(seconds(60)) == 0);
  CHECK(mesh.log("n1").find("do not come as a pack") == std::string::npos);
  fs::remove(mesh.files("n0") / "d/new");
  CHECK(is_equal(mesh, "n0", "n1"));
  CHECK(pack_of(mesh, "n0").is_object());
  // It is asked for by who has made it.
  fs::remove_all(mesh.files("n0") / "d");
  REQUIRE(eventually([&] { return mesh.get("n0", {"d"}).status == 0 && fs::exists(mesh.files("n0") / "d/3/f3"); }));
  CHECK(is_equal(mesh, "n0", "n1"));
}

TEST_CASE("in a mesh with a key packs are as closed as all else") {
  Mesh mesh;
  const auto key = mesh.root() / "key";
  REQUIRE(mesh.run({"/bin/sh", "-c", "\"$0\" new > \"$1\"", program("meshkey"), key.string()}).status == 0);
  mesh.close(key.string());
  mesh.start_tracker();
  write_tree(mesh, "n0", 200, 30'000);
  for (const char* node : {"n0", "n1", "n2"}) mesh.start_node(node);
  REQUIRE(mesh.lists("n1", "d/3/f199", 30'000));
  for (const char* node : {"n1", "n2"}) {
    CHECK(mesh.get(node, {"d"}).status == 0);
    CHECK(is_equal(mesh, "n0", node));
  }
  CHECK(pack_of(mesh, "n0").is_object());
}

TEST_CASE(
    "what the maker of a pack cannot give comes otherwise: a file that is open for writing, one that it reads wrong") {
  Mesh mesh;
  write_tree(mesh, "n0", 200, 30'000);
  write_tree(mesh, "n1", 200, 30'000);
  mesh.start_node("n1");
  REQUIRE(mesh.copies_become(208));
  // All are hashed, so that what they must be is known.
  mesh.start_node("n3");
  REQUIRE(mesh.get("n3", {"d"}).status == 0);
  mesh.stop_node("n3", SIGTERM);
  mesh.stop_node("n1", SIGTERM);
  mesh.set_environment("n0", {"LD_PRELOAD=" MESH_FAULT_SHIM, "ASAN_OPTIONS=verify_asan_link_order=0", "MESH_FAULT=flip",
                              "MESH_FAULT_FILE=f150"});
  mesh.start_node("n0");
  REQUIRE(mesh.copies_become(208));
  const int open = ::open((mesh.files("n0") / "d/2/f100").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  REQUIRE(open >= 0);
  mesh.start_node("n2");
  auto get = begin(mesh, "n2");
  const bool came = eventually([&] { return fs::exists(mesh.files("n2") / "d/3/f199"); });
  INFO(mesh.log("get-n2") << mesh.log("n2") << mesh.log("n0"));
  REQUIRE(came);
  ::close(open);
  static_cast<void>(get->wait(seconds(60)));
  CHECK(mesh.log("n2").find("do not come as a pack") == std::string::npos);
  CHECK(pack_of(mesh, "n0").is_object());
  mesh.start_node("n1");
  REQUIRE(eventually([&] { return mesh.get("n2", {"d"}).status == 0; }));
  mesh.stop_node("n0", SIGKILL);
  CHECK(is_equal(mesh, "n1", "n2"));
}

TEST_CASE(
    "the maker of a pack is killed in the middle: what another has comes from there, and what nobody has is an error") {
  Mesh mesh;
  write_tree(mesh, "n0", 400, 60'000);  // 24 MB
  mesh.start_node("n0", {"--max-up", megabytes_a_second(3)});
  for (const char* node : {"n1", "n2"}) mesh.start_node(node);
  REQUIRE(mesh.copies_become(408));
  auto get = begin(mesh, "n1");
  const auto came = [&] {
    std::size_t out = 0;
    std::error_code ignored;
    for (auto it = fs::recursive_directory_iterator(mesh.files("n1") / "d", ignored);
         it != fs::recursive_directory_iterator(); it.increment(ignored))
      if (it->is_regular_file(ignored)) ++out;
    return out;
  };
  REQUIRE(eventually([&] { return came() > 0; }));
  mesh.stop_node("n0", SIGKILL);
  SECTION("nobody else has the rest") {
    CHECK(get->wait(seconds(90)) == 3);  // not found, by now
    const auto err = mesh.log("get-n1");
    CHECK(err.find("d/") != std::string::npos);
    const auto here = came();
    CHECK(here > 0);
    CHECK(here < 400);
    // When it is back, the rest comes.
    mesh.start_node("n0");
    CHECK(mesh.get("n1", {"d"}).status == 0);
    CHECK(is_equal(mesh, "n0", "n1"));
  }
  SECTION("it comes back") {
    mesh.start_node("n0");
    const auto status = get->wait(seconds(90));
    CHECK((status == 0 || status == 3));  // 3: it was back too late
    CHECK(mesh.get("n1", {"d"}).status == 0);
    CHECK(is_equal(mesh, "n0", "n1"));
  }
}

TEST_CASE("a get of a directory is cancelled, and one with a limit of its own, and without a tracker") {
  Mesh mesh;
  write_tree(mesh, "n0", 300, 60'000);  // 18 MB
  mesh.start_node("n0", {"--max-up", megabytes_a_second(4)});
  for (const char* node : {"n1", "n2", "n3"}) mesh.start_node(node);
  REQUIRE(mesh.copies_become(308));
  auto get = begin(mesh, "n1");
  REQUIRE(eventually([&] { return pack_of(mesh, "n1").is_object(); }));
  CHECK(mesh.file("n1", {"cancel", "d"}).status == 0);
  CHECK(get->wait(seconds(30)) != 0);
  REQUIRE(eventually([&] { return pack_of(mesh, "n1").is_null(); }));
  // A limit holds for one get alone: without a swarm.
  auto limited = begin(mesh, "n2", {"--max-down", "100M"});
  CHECK(limited->wait(seconds(60)) == 0);
  CHECK(is_equal(mesh, "n0", "n2"));
  mesh.stop_tracker(SIGKILL);
  CHECK(mesh.get("n3", {"d"}).status == 0);
  CHECK(is_equal(mesh, "n0", "n3"));
  CHECK(mesh.get("n1", {"d"}).status == 0);
  CHECK(is_equal(mesh, "n0", "n1"));
}

TEST_CASE("where there is no room for a pack beside its files, they come without") {
  Mesh mesh;
  const auto small = mesh.files("n1");
  fs::create_directories(small);
  if (::geteuid() != 0 || ::mount("tmpfs", small.c_str(), "tmpfs", 0, "size=24m") != 0) {
    WARN("SKIPPED: needs root and a mount of its own to fill a disk");
    return;
  }
  write_tree(mesh, "n0", 300, 50'000);  // 15 MB
  mesh.start_node("n0");
  mesh.start_node("n1");
  REQUIRE(mesh.copies_become(308));
  CHECK(mesh.get("n1", {"d"}).status == 0);
  CHECK(is_equal(mesh, "n0", "n1"));
  CHECK(mesh.log("n1").find("no room for its spool") != std::string::npos);
  mesh.stop_node("n1", SIGTERM);
  ::umount2(small.c_str(), MNT_DETACH);
}

TEST_CASE("what a pack has left on the disk gives way to a file that needs the room") {
  Mesh mesh;
  const auto small = mesh.files("n1");
  fs::create_directories(small);
  if (::geteuid() != 0 || ::mount("tmpfs", small.c_str(), "tmpfs", 0, "size=48m") != 0) {
    WARN("SKIPPED: needs root and a mount of its own to fill a disk");
    return;
  }
  write_tree(mesh, "n0", 300, 50'000);  // 15 MB
  write_file(mesh.files("n0") / "image", noise(24'000'000, 7));
  mesh.start_node("n0");
  mesh.start_node("n1");
  REQUIRE(mesh.copies_become(309));
  REQUIRE(mesh.get("n1", {"d"}).status == 0);
  CHECK(pack_of(mesh, "n1").is_object());
  const auto ran = mesh.get("n1", {"image"});
  INFO(ran.err);
  CHECK(ran.status == 0);
  CHECK(is_equal(mesh, "n0", "n1"));
  mesh.stop_node("n1", SIGTERM);
  ::umount2(small.c_str(), MNT_DETACH);
}
