// What a minimega user does with `file ...`, and more: gets that the node remembers, orders to other nodes, deleting,
// streams, disk images with backing files, limits. Whole swarms of real processes on loopback.
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>
#include <regex>
#include <set>
#include <sstream>

#include "process.h"
#include "test.h"

using namespace mesh::test;
using nlohmann::json;
using std::chrono::seconds;

namespace {

constexpr std::size_t mb = 1 << 20;

/// Slow enough that a test can act while a file is on its way.
const std::vector<std::string> slow = {"--max-up", megabytes_a_second(2)};

bool says(const Ran& ran, const std::string& text) { return (ran.out + ran.err).find(text) != std::string::npos; }

std::string state_of(const Mesh& mesh, const std::string& node, const std::string& what) {
  const auto status = json::parse(mesh.file(node, {"status", "--json"}).out);
  for (const auto& get : status.at(0).at("gets"))
    if (get.at("whats").at(0) == what) return get.at("state");
  return {};
}

bool has_socket(pid_t pid) {
  std::error_code ec;
  for (const auto& fd : fs::directory_iterator("/proc/" + std::to_string(pid) + "/fd", ec))
    if (fs::read_symlink(fd, ec).string().starts_with("socket:")) return true;
  return false;
}

void set_time(const fs::path& file, std::int64_t when) {
  const timespec times[2] = {{when, 0}, {when, 0}};
  REQUIRE(::utimensat(AT_FDCWD, file.c_str(), times, 0) == 0);
}

/// The whole of a stream, by way of a file: tests compare bytes.
Ran stream_to(const Mesh& mesh, const std::string& node, std::vector<std::string> arguments, const fs::path& output) {
  std::string command = program("meshfile") + " --files " + mesh.files(node).string() + " stream";
  for (const auto& argument : arguments) command += " " + argument;
  return mesh.run({"sh", "-c", command + " > " + output.string()});
}

/// A get of n1 from n0, which sends slowly, that fails when nobody listens.
void fail_unheard(const Mesh& mesh) {
  write_file(mesh.files("n0") / "late", noise(4 * mb, 99));
  REQUIRE(mesh.file("n1", {"get", "late"}).status == 0);
  write_file(mesh.files("n1") / "late", "somebody's own");
  REQUIRE(eventually([&] { return state_of(mesh, "n1", "late") == "failed"; }));
  CHECK(read_file(mesh.files("n1") / "late") == "somebody's own");
}

}  // namespace

TEST_CASE("meshfile get returns at once, status shows it, wait waits, and says how it ended") {
  Mesh mesh;
  const auto bytes = noise(12 * mb, 1);
  write_file(mesh.files("n0") / "x", bytes);
  mesh.start_node("n0", slow);
  mesh.start_node("n1");
  CHECK(mesh.file("n1", {"get", "/x"}).status == 0);
  CHECK_FALSE(fs::exists(mesh.files("n1") / "x"));
  CHECK(eventually([&] { return state_of(mesh, "n1", "/x") == "running"; }));
  CHECK(mesh.file("n1", {"wait", "x"}).status == 0);
  CHECK((read_file(mesh.files("n1") / "x") == bytes));
  CHECK(state_of(mesh, "n1", "/x").empty());
  // How it ended is known afterwards, by the name of the file as well.
  CHECK(mesh.file("n1", {"wait", "file:x"}).status == 0);
  CHECK(mesh.file("n1", {"wait", "y"}).status == 3);

  // What fails at once is told at once.
  CHECK(eventually([&] {
    const auto mistyped = mesh.file("n1", {"get", "missing"});
    return mistyped.status == 3 && says(mistyped, "missing: not found on any of 2 nodes");
  }));
  CHECK(eventually([&] { return mesh.get("n1", {"--detach", "missing"}).status == 3; }));
  static_cast<void>(mesh.file("n1", {"wait"}));  // a machine so slow that it took longer than a second
  CHECK(mesh.file("n1", {"wait"}).status == 0);
  // What failed later is kept until somebody has heard of it, also over a restart.
  fail_unheard(mesh);
  mesh.stop_node("n1", SIGKILL);
  mesh.start_node("n1");
  CHECK(state_of(mesh, "n1", "late") == "failed");
  const auto told = mesh.file("n1", {"wait"});
  CHECK(told.status == 1);
  CHECK(says(told, "late: "));
  CHECK(mesh.file("n1", {"wait"}).status == 0);
  CHECK(mesh.file("n1", {"get", "../x"}).status == 2);
}

TEST_CASE("get --on: others get it, one may refuse, one is not there") {
  Mesh mesh;
  const auto bytes = noise(2 * mb, 1);
  write_file(mesh.files("n0") / "d/x", bytes);
  mesh.start_node("n0");
  mesh.start_node("n1");
  mesh.start_node("n2", {"--refuse", "get"});
  const auto asked = mesh.file("n0", {"get", "--on", "n1,n2,n9", "/d"});
  CHECK(asked.status == 5);
  CHECK(says(asked, "n1: gets it"));
  CHECK(says(asked, "n2: does not get for other nodes"));
  CHECK(says(asked, "n9: no node of this name is in the mesh"));
  CHECK(mesh.file("n0", {"wait", "--on", "n1", "d"}).status == 0);
  CHECK((read_file(mesh.files("n1") / "d/x") == bytes));
  CHECK_FALSE(fs::exists(mesh.files("n2") / "d"));
  // A failure over there is a failure here.
  const auto asked_for_none = mesh.file("n0", {"get", "--on", "n1", "none"});
  // What fails within a second is told at once.
  const auto failed = asked_for_none.status != 0 ? asked_for_none : mesh.file("n0", {"wait", "--on", "n1", "none"});
  CHECK(failed.status == 3);
  CHECK(says(failed, "n1: none: not found"));
  CHECK(mesh.file("n0", {"get", "--on", "all", "d"}).status == 5);
}

TEST_CASE("cancel stops a get and keeps its partial, or drops it; a part of a get as well") {
  Mesh mesh;
  write_file(mesh.files("n0") / "d/a", noise(100 * mb, 1));  // never whole before the end of this
  write_file(mesh.files("n0") / "d/b", noise(100'000, 2));
  mesh.start_node("n0", slow);
  mesh.start_node("n1");
  const auto begun = [&] {
    return eventually([&] {
      const auto status = json::parse(mesh.file("n1", {"status", "--json"}).out);
      for (const auto& transfer : status.at(0).at("transfers"))
        if (transfer.at("path") == "d/a" && transfer.at("done") > 500'000) return true;
      return false;
    });
  };
  CHECK(mesh.file("n1", {"get", "d"}).status == 0);
  REQUIRE(begun());
  CHECK(mesh.file("n1", {"cancel", "d"}).status == 0);
  CHECK(state_of(mesh, "n1", "d").empty());
  CHECK(partials(mesh, "n1") == 1);
  CHECK(mesh.file("n1", {"cancel", "d"}).status == 3);

  CHECK(mesh.file("n1", {"get", "d"}).status == 0);
  REQUIRE(begun());
  // Only one file of it: the rest arrives, and the get says that something was stopped.
  CHECK(mesh.file("n1", {"cancel", "--discard", "d/a"}).status == 0);
  CHECK(mesh.file("n1", {"wait", "d"}).status == 130);
  CHECK(partials(mesh, "n1") == 0);
  CHECK(fs::exists(mesh.files("n1") / "d/b"));
  CHECK_FALSE(fs::exists(mesh.files("n1") / "d/a"));

  // A cancelled get does not come back with a restart, nor does what was cancelled of one.
  CHECK(mesh.file("n1", {"get", "d"}).status == 0);
  REQUIRE(begun());
  CHECK(mesh.file("n1", {"cancel", "/"}).status == 0);
  mesh.stop_node("n1", SIGKILL);
  mesh.start_node("n1");
  CHECK(state_of(mesh, "n1", "d").empty());

  // A meshget in the foreground ends as well.
  auto get = mesh.start({program("meshget"), "--files", mesh.files("n1").string(), "d/a"}, "get");
  REQUIRE(begun());
  CHECK(mesh.file("n1", {"cancel", "d/a", "--discard"}).status == 0);
  CHECK(get->wait(seconds(20)) == 130);
  CHECK(partials(mesh, "n1") == 0);
}

TEST_CASE("delete: what it names and nothing else, here or on all nodes") {
  Mesh mesh;
  const auto outside = mesh.root() / "outside";
  write_file(outside / "precious", "p");
  for (const char* node : {"n0", "n1", "n2"}) {
    write_file(mesh.files(node) / "vm/a.qcow2", "a");
    write_file(mesh.files(node) / "vm/b.qcow2", "b");
    write_file(mesh.files(node) / "vm/deep/c", "c");
    write_file(mesh.files(node) / "keep", "k");
  }
  fs::create_directory_symlink(outside, mesh.files("n0") / "out");
  fs::create_directory_symlink(outside, mesh.files("n0") / "vm/deep/out");
  fs::create_directory_symlink("vm", mesh.files("n0") / "inside");
  mesh.start_node("n0");
  mesh.start_node("n1");
  mesh.start_node("n2", {"--refuse", "delete"});
  CHECK(mesh.file("n0", {"delete", "/vm/*.qcow2"}).status == 0);
  CHECK_FALSE(fs::exists(mesh.files("n0") / "vm/a.qcow2"));
  CHECK(fs::exists(mesh.files("n0") / "vm/deep/c"));
  CHECK(json::parse(mesh.file("n1", {"list", "vm/a.qcow2", "--json"}).out).at(0).at("holders") == 2);

  // Nothing behind a link, nothing outside, nothing by "..".
  CHECK(mesh.file("n0", {"delete", "out/precious"}).status == 1);
  CHECK(mesh.file("n0", {"delete", "inside/deep/c"}).status == 1);
  CHECK(mesh.file("n0", {"delete", "../outside/precious"}).status == 2);
  CHECK(mesh.file("n0", {"delete", outside.string() + "/precious"}).status == 3);
  CHECK(mesh.file("n0", {"delete", ".mesh/state.db"}).status == 2);
  CHECK(mesh.file("n0", {"delete", "vm/nothing"}).status == 3);
  CHECK(mesh.file("n0", {"delete", "vm/*.none"}).status == 3);
  CHECK(fs::exists(outside / "precious"));
  CHECK(fs::exists(mesh.files("n0") / "vm/deep/c"));
  CHECK(mesh.file("n0", {"delete", "out"}).status == 0);
  CHECK_FALSE(fs::is_symlink(mesh.files("n0") / "out"));
  CHECK(fs::exists(outside / "precious"));

  mesh.stop_node("n1", SIGTERM);
  const auto all = mesh.file("n0", {"delete", "--mesh", "vm"});
  CHECK(all.status == 5);
  CHECK(says(all, "n0: deleted"));
  CHECK(says(all, "n2: does not delete for other nodes"));
  CHECK(says(all, "n1: is not in the mesh now; what it has of this comes back with it"));
  CHECK_FALSE(fs::exists(mesh.files("n0") / "vm"));
  CHECK(fs::exists(mesh.files("n2") / "vm/a.qcow2"));
  CHECK(fs::exists(outside / "precious"));

  // The root: emptied and kept, with the state directory; the node goes on.
  CHECK(mesh.file("n0", {"delete", "/"}).status == 0);
  std::vector<std::string> left;
  for (const auto& item : fs::directory_iterator(mesh.files("n0"))) left.push_back(item.path().filename().string());
  CHECK(left == std::vector<std::string>{".mesh"});
  CHECK(mesh.get("n0", {"keep"}).status == 0);
}

TEST_CASE("delete of what is on its way: here it is dropped; at the source the getters are told") {
  Mesh mesh;
  write_file(mesh.files("n0") / "x", noise(100 * mb, 1));
  mesh.start_node("n0", slow);
  mesh.start_node("n1");
  CHECK(mesh.file("n1", {"get", "x"}).status == 0);
  CHECK(eventually([&] { return partials(mesh, "n1") == 1; }));
  CHECK(mesh.file("n1", {"delete", "x"}).status == 0);
  CHECK(partials(mesh, "n1") == 0);
  CHECK(state_of(mesh, "n1", "x").empty());
  CHECK(mesh.file("n1", {"get", "x"}).status == 0);
  CHECK(eventually([&] { return partials(mesh, "n1") == 1; }));
  CHECK(mesh.file("n0", {"delete", "x"}).status == 0);
  const auto ended = mesh.file("n1", {"wait", "x"});
  CHECK((ended.status == 1 || ended.status == 3));
  CHECK(says(ended, "x: "));
  CHECK_FALSE(fs::exists(mesh.files("n1") / "x"));
}

TEST_CASE("stream: the bytes in order, nothing left behind, from the swarm, and small and local files too") {
  Mesh mesh;
  const auto bytes = noise(12 * mb + 5, 1);
  write_file(mesh.files("n0") / "vm/x", bytes);
  write_file(mesh.files("n0") / "small", "a few bytes");
  write_file(mesh.files("n0") / "empty", "");
  fs::create_symlink("vm/x", mesh.files("n0") / "link");
  for (const char* node : {"n0", "n1", "n2"}) mesh.start_node(node);
  const auto out = mesh.root() / "out";
  const auto got = [&](const std::string& node, std::vector<std::string> arguments) {
    const auto ran = stream_to(mesh, node, std::move(arguments), out);
    CHECK(ran.err.empty());
    return ran.status == 0 ? read_file(out) : "status " + std::to_string(ran.status);
  };
  CHECK((got("n1", {"/vm/x"}) == bytes));
  CHECK((got("n1", {"link"}) == bytes));
  CHECK((got("n0", {"vm/x"}) == bytes));
  CHECK(got("n1", {"small"}) == "a few bytes");
  CHECK(got("n1", {"empty"}).empty());
  CHECK((got("n2", {"--spool", "1M", "vm/x"}) == bytes));
  CHECK_FALSE(fs::exists(mesh.files("n1") / "vm"));
  CHECK(partials(mesh, "n1") == 0);
  CHECK(stream_to(mesh, "n1", {"vm"}, out).status == 2);
  CHECK(stream_to(mesh, "n1", {"'*'"}, out).status == 2);
  CHECK(stream_to(mesh, "n1", {"none"}, out).status == 3);
  CHECK(stream_to(mesh, "n2", {"--spool", "1K", "vm/x"}, out).status == 2);

  // A reader that has had enough ends the stream, and the node goes on.
  const auto head = mesh.run(
      {"sh", "-c",
       program("meshfile") + " --files " + mesh.files("n2").string() + " stream vm/x | head -c 100000 | wc -c"});
  CHECK(head.out == "100000\n");
  CHECK(mesh.get("n2", {"vm/x"}).status == 0);
  CHECK((read_file(mesh.files("n2") / "vm/x") == bytes));
}

TEST_CASE("streams that start together, on one node and on several, with a get among them") {
  Mesh mesh;
  const auto bytes = noise(10 * mb, 1);
  write_file(mesh.files("n0") / "x", bytes);
  mesh.start_node("n0", {"--max-up", megabytes_a_second(8)});
  for (const char* node : {"n1", "n2", "n3"}) mesh.start_node(node);
  std::vector<std::unique_ptr<Process>> running;
  std::vector<fs::path> outputs;
  for (const char* node : {"n1", "n1", "n2", "n3", "n3"}) {
    outputs.push_back(mesh.root() / ("out" + std::to_string(outputs.size())));
    const bool bounded = outputs.size() == 3;
    running.push_back(mesh.start({"sh", "-c",
                                  program("meshfile") + " --files " + mesh.files(node).string() + " stream " +
                                      (bounded ? "--spool 2M " : "") + "x > " + outputs.back().string()},
                                 "stream"));
    if (outputs.size() == 4)
      running.push_back(mesh.start({program("meshget"), "--files", mesh.files("n3").string(), "x"}, "get"));
  }
  for (auto& one : running) CHECK(one->wait(seconds(60)) == 0);
  for (const auto& output : outputs) CHECK((read_file(output) == bytes));
  CHECK((read_file(mesh.files("n3") / "x") == bytes));
}

TEST_CASE("versions: newest, --head, --from, --strict, a clock ahead; what a user changed stays") {
  Mesh mesh;
  const auto old = noise(200'000, 1), fresh = noise(250'000, 2), head = noise(220'000, 3), future = noise(210'000, 4);
  write_file(mesh.files("n0") / "foo", old);
  set_time(mesh.files("n0") / "foo", 1'600'000'000);
  write_file(mesh.files("n1") / "foo", fresh);
  set_time(mesh.files("n1") / "foo", 1'700'000'000);
  mesh.start_node("n0");
  mesh.start_node("n1");
  mesh.start_node("n4");
  mesh.start_node("n5");
  CHECK(says(mesh.file("n4", {"list"}), "foo  (2 versions)"));
  CHECK(mesh.get("n4", {"--strict", "foo"}).status == 1);
  for (const char* node : {"n4", "n5"}) {
    CHECK(mesh.get(node, {"foo"}).status == 0);
    CHECK((read_file(mesh.files(node) / "foo") == fresh));
  }
  // A third, whose clock is an hour ahead: its files win, and what meshget wrote is replaced.
  write_file(mesh.files("n2") / "foo", future);
  set_time(mesh.files("n2") / "foo", ::time(nullptr) + 3600);
  mesh.start_node("n2");
  for (const char* node : {"n4", "n5"}) {
    CHECK(mesh.get(node, {"foo"}).status == 0);
    CHECK((read_file(mesh.files(node) / "foo") == future));
  }
  // A head wins over any time; --from over the head.
  write_file(mesh.files("n3") / "foo", head);
  set_time(mesh.files("n3") / "foo", 1'500'000'000);
  mesh.start_node("n3", {"--head"});
  for (const char* node : {"n4", "n5"}) {
    CHECK(mesh.get(node, {"foo"}).status == 0);
    CHECK((read_file(mesh.files(node) / "foo") == head));
    CHECK(mesh.get(node, {"--from", "n0", "foo"}).status == 0);
    CHECK((read_file(mesh.files(node) / "foo") == old));
  }
  CHECK(json::parse(mesh.file("n4", {"info", "foo", "--json"}).out).at("versions").size() == 4);
  // A user's edit stays, status 1 and a line with both; --force replaces it.
  const auto edited = noise(200'000, 9);
  write_file(mesh.files("n4") / "foo", edited);
  set_time(mesh.files("n4") / "foo", 1'650'000'000);
  CHECK(mesh.copies_become(6));
  const auto kept = mesh.get("n4", {"foo"});
  CHECK(kept.status == 1);
  CHECK(says(kept, "--force replaces it"));
  CHECK((read_file(mesh.files("n4") / "foo") == edited));
  CHECK(mesh.get("n4", {"--force", "foo"}).status == 0);
  CHECK((read_file(mesh.files("n4") / "foo") == head));
}

TEST_CASE("a disk image that somebody has open for writing is not offered") {
  Mesh mesh;
  const auto bytes = noise(300'000, 1);
  write_file(mesh.files("n0") / "disk", bytes);
  mesh.start_node("n0");
  mesh.start_node("n1");
  {
    const int vm = ::open((mesh.files("n0") / "disk").c_str(), O_RDWR);
    REQUIRE(vm >= 0);
    CHECK(mesh.get("n1", {"disk"}).status != 0);
    CHECK_FALSE(fs::exists(mesh.files("n1") / "disk"));
    ::close(vm);
  }
  CHECK(eventually([&] { return mesh.get("n1", {"disk"}).status == 0; }));
  CHECK((read_file(mesh.files("n1") / "disk") == bytes));
}

TEST_CASE("a disk image brings its backing chain; --no-backing leaves it; nothing outside is read") {
  Mesh mesh;
  const auto files = mesh.files("n0");
  write_file(files / "base.qcow2", image("", 200'000, 1));
  write_file(files / "vm/middle.qcow2", image("../base.qcow2", 200'000, 2));
  write_file(files / "vm/top.qcow2", image("middle.qcow2", 1000, 3));
  write_file(files / "loop.qcow2", image("loop.qcow2", 1000, 4));
  write_file(files / "out.qcow2", image("../../../etc/passwd", 1000, 5));
  write_file(files / "nbd.qcow2", image("nbd://10.0.0.1/disk", 1000, 6));
  write_file(files / "lost.qcow2", image("gone.qcow2", 1000, 7));
  write_file(files / "abs.qcow2", image((fs::weakly_canonical(mesh.files("n1")) / "base.qcow2").string(), 1000, 8));
  mesh.start_node("n0");
  mesh.start_node("n1");
  CHECK(mesh.get("n1", {"--no-backing", "vm/top.qcow2"}).status == 0);
  CHECK_FALSE(fs::exists(mesh.files("n1") / "vm/middle.qcow2"));
  const auto got = mesh.get("n1", {"vm/top.qcow2"});
  CHECK(got.status == 0);
  CHECK(got.out == (fs::canonical(mesh.files("n1")) / "vm/top.qcow2").string() + "\n");
  CHECK((read_file(mesh.files("n1") / "vm/middle.qcow2") == read_file(files / "vm/middle.qcow2")));
  CHECK((read_file(mesh.files("n1") / "base.qcow2") == read_file(files / "base.qcow2")));
  CHECK(mesh.get("n1", {"loop.qcow2"}).status == 0);
  const auto out = mesh.get("n1", {"out.qcow2"});
  CHECK(out.status == 0);
  CHECK(says(out, "lies outside the files directory"));
  const auto nbd = mesh.get("n1", {"nbd.qcow2"});
  CHECK(nbd.status == 0);
  CHECK(says(nbd, "by a protocol"));
  const auto lost = mesh.get("n1", {"lost.qcow2"});
  CHECK(lost.status == 3);
  CHECK(says(lost, "lost.qcow2: its backing file: gone.qcow2: not found"));
  CHECK(mesh.file("n1", {"delete", "base.qcow2"}).status == 0);
  CHECK(mesh.get("n1", {"abs.qcow2"}).status == 0);
  CHECK(fs::exists(mesh.files("n1") / "base.qcow2"));
}

TEST_CASE("limits: of a node and of a get, large files and small; one file at a time") {
  Mesh mesh;
  const auto bytes = noise(6 * mb, 1);
  write_file(mesh.files("n0") / "x", bytes);
  write_file(mesh.files("n0") / "d/y", noise(3 * mb, 2));
  write_file(mesh.files("n0") / "d/z", noise(3 * mb, 3));
  for (int i = 0; i < 100; ++i)
    write_file(mesh.files("n0") / "many" / std::to_string(i), noise(40'000, static_cast<std::uint64_t>(100 + i)));
  mesh.start_node("n0");
  mesh.start_node("n1", {"--max-down", "4M"});
  mesh.start_node("n2");
  const auto seconds_for = [&](const char* node, std::vector<std::string> arguments) {
    const auto begun = std::chrono::steady_clock::now();
    CHECK(mesh.get(node, std::move(arguments)).status == 0);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  };
  // A limit is kept to: these are lower bounds, with a tenth for what passes in the first moment.
  CHECK(seconds_for("n1", {"x"}) > 1.25);
  CHECK(seconds_for("n1", {"many"}) > 0.75);
  CHECK(seconds_for("n2", {"--max-down", "4M", "d"}) > 1.25);
  CHECK(seconds_for("n2", {"--max-down", "4M", "many"}) > 0.75);
  CHECK((read_file(mesh.files("n1") / "x") == bytes));
  // One at a time: while the first is on its way the second is queued.
  mesh.start_node("n3", {"--max-active", "1", "--max-down", "6M"});
  CHECK(mesh.file("n3", {"get", "d", "x"}).status == 0);
  CHECK(eventually([&] {
    const auto status = json::parse(mesh.file("n3", {"status", "--json"}).out);
    int moving = 0;
    for (const auto& transfer : status.at(0).at("transfers")) moving += transfer.at("state") == "downloading" ? 1 : 0;
    CHECK(moving <= 1);
    return state_of(mesh, "n3", "d").empty();
  }));
  CHECK((read_file(mesh.files("n3") / "x") == bytes));
}

TEST_CASE("a detached get whose disk fills up is paused, says why, and goes on when there is room") {
  Mesh mesh;
  const auto dir = mesh.files("n1");
  fs::create_directories(dir);
  if (::geteuid() != 0 || ::mount("tmpfs", dir.c_str(), "tmpfs", 0, "size=12m") != 0) {
    WARN("SKIPPED: needs root and a mount of its own to fill a disk");
    return;
  }
  const auto bytes = noise(8 * mb, 1);
  write_file(mesh.files("n0") / "x", bytes);
  for (int i = 0; i < 60; ++i)
    write_file(mesh.files("n0") / "many" / std::to_string(i), noise(40'000, static_cast<std::uint64_t>(i)));
  mesh.start_node("n0");
  mesh.start_node("n1");
  write_file(dir / "filler", noise(6 * mb, 2));
  CHECK(mesh.file("n1", {"get", "x"}).status == 0);
  REQUIRE(eventually([&] { return state_of(mesh, "n1", "x") == "paused"; }));
  CHECK(says(mesh.file("n1", {"status"}), "no room: 8.39 MB needed"));
  fs::remove(dir / "filler");
  CHECK(mesh.file("n1", {"wait", "x"}).status == 0);
  CHECK((read_file(dir / "x") == bytes));
  // Small files as well.
  write_file(dir / "filler", noise(2 * mb, 3));
  CHECK(mesh.get("n1", {"many"}).status == 1);
  CHECK(mesh.file("n1", {"get", "many"}).status == 0);
  REQUIRE(eventually([&] { return state_of(mesh, "n1", "many") == "paused"; }));
  fs::remove(dir / "filler");
  fs::remove(dir / "x");
  CHECK(mesh.file("n1", {"wait", "many"}).status == 0);
  for (int i = 0; i < 60; ++i)
    CHECK((read_file(dir / "many" / std::to_string(i)) == read_file(mesh.files("n0") / "many" / std::to_string(i))));
  mesh.stop_node("n1", SIGTERM);
  ::umount2(dir.c_str(), MNT_DETACH);
}

TEST_CASE("kill -9 at random moments of a get of 500 files: it goes on, and nothing is left over") {
  Mesh mesh;
  for (int i = 0; i < 500; ++i) {
    const auto size = i % 10 == 0 ? 300'000 : static_cast<std::size_t>(i) * 20;
    write_file(mesh.files("n0") / "tree" / std::to_string(i % 17) / std::to_string(i),
               noise(size, static_cast<std::uint64_t>(i)));
  }
  write_file(mesh.files("n0") / "tree/large", noise(12 * mb, 1000));
  mesh.start_node("n0", {"--max-up", megabytes_a_second(6)});
  mesh.start_node("n1");
  CHECK(mesh.file("n1", {"get", "tree"}).status == 0);
  const char* seed = std::getenv("MESH_TEST_SEED");
  std::mt19937 random(seed != nullptr ? static_cast<std::uint32_t>(std::stoul(seed)) : 20);
  for (int i = 0; i < 20; ++i) {
    ::usleep(static_cast<useconds_t>(random() % 300'000));
    mesh.stop_node("n1", SIGKILL);
    mesh.start_node("n1");
  }
  // Somebody who waits does not mind one more, once a node was there at all.
  auto waiting = mesh.start({program("meshfile"), "--files", mesh.files("n1").string(), "wait", "tree"}, "wait");
  CHECK(eventually([&] { return has_socket(waiting->pid()); }));
  // Nothing shows that it has said what it waits for: a second, and with a sanitizer's programs four.
  static_cast<void>(eventually([] { return false; }, seconds(1)));
  mesh.stop_node("n1", SIGKILL);
  mesh.start_node("n1");
  const auto ended = waiting->wait(seconds(60));
  INFO(mesh.log("wait"));
  CHECK(ended.value_or(-1) == 0);
  const auto rsync = mesh.run({"rsync", "-rlptnci", "--delete", (mesh.files("n0") / "tree").string() + "/",
                               (mesh.files("n1") / "tree").string() + "/"});
  CHECK(rsync.out.empty());
  CHECK(rsync.status == 0);
  CHECK(partials(mesh, "n1") == 0);
}

TEST_CASE("kill -9 under a meshget of many small files: it goes on beside the get that the node remembers") {
  Mesh mesh;
  for (int i = 0; i < 1500; ++i)
    write_file(mesh.files("n0") / "t" / std::to_string(i % 7) / std::to_string(i),
               noise(3000, static_cast<std::uint64_t>(i)));
  mesh.start_node("n0", {"--max-up", megabytes_a_second(3)});
  mesh.start_node("n1");
  auto get = mesh.start({program("meshget"), "--files", mesh.files("n1").string(), "t"}, "get");
  CHECK(eventually([&] { return fs::exists(mesh.files("n1") / "t/3"); }));
  mesh.stop_node("n1", SIGKILL);
  mesh.start_node("n1");
  CHECK(get->wait(seconds(60)) == 0);
  CHECK(mesh.file("n1", {"wait"}).status == 0);
  const auto rsync = mesh.run({"rsync", "-rlptnci", "--delete", (mesh.files("n0") / "t").string() + "/",
                               (mesh.files("n1") / "t").string() + "/"});
  CHECK(rsync.out.empty());
}

TEST_CASE("several nodes get a directory of small files at once, and serve each other") {
  Mesh mesh;
  for (int i = 0; i < 2000; ++i)
    write_file(mesh.files("n0") / "t" / std::to_string(i % 20) / std::to_string(i),
               noise(2000, static_cast<std::uint64_t>(i)));
  // Slow enough that the getters have something to offer each other while they get.
  mesh.start_node("n0", {"--max-up", megabytes_a_second(2)});
  for (const char* node : {"n1", "n2", "n3"}) mesh.start_node(node);
  std::vector<std::unique_ptr<Process>> gets;
  for (const char* node : {"n1", "n2", "n3"}) {
    gets.push_back(mesh.start({program("meshget"), "--files", mesh.files(node).string(), "t"}, "get"));
    // The others come when the mesh knows the directories that the first one is filling.
    if (gets.size() == 1)
      REQUIRE(eventually([&] { return mesh.file("n0", {"info", "t/0"}).out.find("n1") != std::string::npos; }));
  }
  for (auto& get : gets) CHECK(get->wait(seconds(60)) == 0);
  for (const char* node : {"n1", "n2", "n3"}) {
    const auto rsync = mesh.run({"rsync", "-rlptnci", "--delete", (mesh.files("n0") / "t").string() + "/",
                                 (mesh.files(node) / "t").string() + "/"});
    CHECK(rsync.out.empty());
  }
}

TEST_CASE("a state directory of its own leaves nothing but the files in the files directory") {
  Mesh mesh;
  const auto bytes = noise(3 * mb, 1);
  write_file(mesh.files("n0") / "x", bytes);
  mesh.start_node("n0");
  const auto state = mesh.root() / "state-of-n1";
  mesh.start_node("n1", {"--state", state.string()});
  const auto ran = mesh.get("n1", {"--state", state.string(), "x"});
  CHECK(ran.status == 0);
  std::vector<std::string> there;
  for (const auto& item : fs::directory_iterator(mesh.files("n1"))) there.push_back(item.path().filename().string());
  CHECK(there == std::vector<std::string>{"x"});
}

TEST_CASE("a mistyped command is named") {
  Mesh mesh;
  mesh.start_node("n0");
  const auto ran = mesh.file("n0", {"lst"});
  CHECK(ran.status == 2);
  CHECK(says(ran, "'lst' is no command"));
  CHECK(mesh.file("n0", {"list", "a", "b"}).status == 2);
  CHECK(mesh.file("n0", {"list", "--frob"}).status == 2);
  CHECK(mesh.file("n0", {}).status == 2);
}

TEST_CASE("completion: commands, flags, mesh paths with and without file:, in bash and zsh") {
  Mesh mesh;
  for (const char* path : {"vm/a.qcow2", "vm/b.qcow2", "vm/deep/c", "visible", "with space/x", "other", "back\\slash"})
    write_file(mesh.files("n0") / path, "x");
  mesh.start_node("n0");
  mesh.start_node("n1");
  const auto home = fs::path(MESH_SOURCE_DIR) / "cli/completion";
  const auto bin = fs::path(program("meshfile")).parent_path().string();
  const auto path = "PATH=" + bin + ":$PATH\nexport MESH_FILES=" + mesh.files("n1").string() + "\n";
  // As the shell calls it: the words of the line, the last one under the cursor, split at colons by bash.
  const auto bash = [&](const std::string& words) {
    const auto script = path + "source " + (home / "meshswarm.bash").string() + "\ncompopt() { :; }\nCOMP_WORDS=(" +
                        words +
                        ")\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_meshswarm ${COMP_WORDS[0]}\n"
                        "printf '%s|' \"${COMPREPLY[@]}\"";
    return mesh.run({"bash", "-c", script}).out;
  };
  CHECK(bash("meshget vm/") == "vm/a.qcow2|vm/b.qcow2|vm/deep/|");
  CHECK(bash("meshget v") == "visible|vm/|");
  CHECK(bash("meshget /v") == "/visible|/vm/|");
  CHECK(bash("meshget file : vm/a") == "vm/a.qcow2|");
  CHECK(bash("meshget file :") == "back\\\\slash|other|visible|vm/|with\\ space/|");
  CHECK(bash("meshget 'with\\ space/'") == "with\\ space/x|");
  CHECK(bash("meshget \"'with space/\"") == "with space/x|");  // typed: 'with space/
  CHECK(bash("meshget \"'back\\\\sl\"") == "back\\slash|");    // typed: 'back\sl
  CHECK(bash("meshget '\"back\\\\sl'") == "back\\\\slash|");   // typed: "back\\sl
  CHECK(bash("meshget " + mesh.files("n1").string() + "/vm/a") == mesh.files("n1").string() + "/vm/a.qcow2|");
  CHECK(bash("meshfile info vm/b") == "vm/b.qcow2|");
  CHECK(bash("meshfile d") == "delete|diff|doctor|");
  CHECK(bash("meshfile delete v") == "|");  // nothing of it is on this node
  CHECK(bash("meshfile delete --mesh v") == "visible|vm/|");
  CHECK(bash("meshfile get --no-b") == "--no-backing|");
  CHECK(bash("meshfile get --fi") == "--files|");
  CHECK(bash("meshget --stri") == "--strict|");
  CHECK(bash("meshmount --fo") == "--foreground|");
  CHECK(bash("meshvol cl") == "clone|");
  CHECK(bash("meshvol clone vm/b") == "vm/b.qcow2|");
  CHECK(bash("meshvol clone --la") == "--lazy|");
  CHECK(bash("meshmount --prefetch ''") == "all|boot|none|");
  CHECK(bash("meshmount " + mesh.files("n1").string()) == mesh.files("n1").string() + "|");
  CHECK(bash("meshseed --refuse ''") == "get|delete|url|");
  CHECK(bash("meshget nothing/") == "|");
  if (mesh.run({"sh", "-c", "command -v zsh"}).status != 0) {
    WARN("SKIPPED: zsh is not installed");
    return;
  }
  const auto zsh = [&](const std::string& words, const std::string& prefix) {
    const auto script = path +
                        "compadd() { while [[ $1 != -- ]]; do shift; done; shift; printf '%s|' $@ }\n"
                        "words=(" +
                        words + " '" + prefix + "')\nCURRENT=$#words\nPREFIX='" + prefix + "'\n. " +
                        (home / "_meshswarm").string();
    return mesh.run({"zsh", "-f", "-c", script}).out;
  };
  CHECK(zsh("meshget", "vm/") == "vm/deep/|vm/a.qcow2|vm/b.qcow2|");
  CHECK(zsh("meshget", "file:vm/a") == "file:vm/a.qcow2|");
  CHECK(zsh("meshfile", "d").find("delete|") != std::string::npos);
  CHECK(zsh("meshfile get", "--no-b").find("--no-backing|") != std::string::npos);
}

TEST_CASE("a file that the user puts in the way during a get stays") {
  Mesh mesh;
  const auto first = noise(50 * mb, 1), own = noise(300'000, 2), second = noise(400'000, 3);
  write_file(mesh.files("n0") / "x", first);
  mesh.start_node("n0", slow);
  mesh.start_node("n1");
  CHECK(mesh.file("n1", {"get", "x"}).status == 0);
  CHECK(eventually([&] { return partials(mesh, "n1") == 1; }));
  // Both appear whole and with their times: else the user's would for a moment be the newest there is.
  const auto appear = [&](const char* node, const std::string& bytes, std::int64_t time) {
    write_file(mesh.root() / "new", bytes);
    set_time(mesh.root() / "new", time);
    fs::rename(mesh.root() / "new", mesh.files(node) / "x");
  };
  appear("n1", own, 1'500'000'000);
  // The version that was on its way goes, and another comes: the get looks again at what is here.
  appear("n0", second, 1'700'000'000);
  const auto ended = mesh.file("n1", {"wait", "x"});
  CHECK(ended.status == 1);
  CHECK(says(ended, "kept"));
  CHECK((read_file(mesh.files("n1") / "x") == own));
}

TEST_CASE("a stream on the author's node is of the author's newer file") {
  Mesh mesh;
  const auto old = noise(300'000, 1), fresh = noise(310'000, 2);
  write_file(mesh.files("n1") / "x", old);
  set_time(mesh.files("n1") / "x", 1'500'000'000);
  mesh.start_node("n1");
  mesh.start_node("n2");
  CHECK(mesh.get("n2", {"x"}).status == 0);  // so that the old one is hashed
  write_file(mesh.files("n0") / "x", fresh);
  mesh.start_node("n0");
  for (const char* node : {"n0", "n1", "n2"}) {
    CHECK(stream_to(mesh, node, {"x"}, mesh.root() / "out").status == 0);
    CHECK((read_file(mesh.root() / "out") == fresh));
  }
}

TEST_CASE("of two paths with the same bytes one is deleted: the other still serves") {
  Mesh mesh;
  const auto bytes = noise(4 * mb, 1);
  write_file(mesh.files("n0") / "a", bytes);
  mesh.start_node("n0");
  mesh.start_node("n1");
  mesh.start_node("n2");
  CHECK(mesh.get("n1", {"a"}).status == 0);
  fs::create_hard_link(mesh.files("n0") / "a", mesh.files("n0") / "b");
  fs::copy_file(mesh.files("n0") / "a", mesh.files("n0") / "c");
  CHECK(mesh.copies_become(4));
  CHECK(mesh.get("n1", {"b", "c"}).status == 0);
  CHECK(mesh.file("n1", {"delete", "/"}).status == 0);
  CHECK(mesh.file("n0", {"delete", "a"}).status == 0);
  CHECK(mesh.get("n2", {"b"}).status == 0);
  CHECK(mesh.file("n0", {"delete", "b"}).status == 0);
  CHECK(mesh.file("n2", {"delete", "b"}).status == 0);
  CHECK(mesh.get("n2", {"c"}).status == 0);
  CHECK((read_file(mesh.files("n2") / "c") == bytes));
}

TEST_CASE("a stream that nobody reads holds up neither another stream nor a get") {
  Mesh mesh;
  const auto bytes = noise(80 * mb, 1);  // more than the window
  write_file(mesh.files("n0") / "x", bytes);
  mesh.start_node("n0");
  mesh.start_node("n1");
  const auto fifo = mesh.root() / "fifo";
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  auto stuck = mesh.start(
      {"sh", "-c", program("meshfile") + " --files " + mesh.files("n1").string() + " stream x > " + fifo.string()},
      "stream");
  const int reader = ::open(fifo.c_str(), O_RDONLY);  // and never reads
  REQUIRE(reader >= 0);
  const auto out = mesh.root() / "out";
  CHECK(stream_to(mesh, "n1", {"x"}, out).status == 0);
  CHECK((read_file(out) == bytes));
  CHECK(mesh.get("n1", {"x"}).status == 0);
  CHECK((read_file(mesh.files("n1") / "x") == bytes));
  CHECK(stuck->is_running());
  ::close(reader);
  CHECK(stuck->wait(seconds(20)).has_value());
}

TEST_CASE("a failure that nobody has heard of outlasts any number of other gets") {
  Mesh mesh;
  write_file(mesh.files("n0") / "x", "x");
  mesh.start_node("n0", slow);
  mesh.start_node("n1");
  fail_unheard(mesh);
  const auto command = program("meshget") + " --quiet --files " + mesh.files("n1").string() + " x";
  CHECK(mesh.run({"sh", "-c", "for i in $(seq 120); do " + command + " || exit 1; done"}).status == 0);
  CHECK(mesh.file("n1", {"wait"}).status == 1);
}

TEST_CASE("a backing file behind a link comes with what the link leads to; a directory is none") {
  Mesh mesh;
  const auto files = mesh.files("n0");
  write_file(files / "base-v3.qcow2", image("", 1000, 1));
  fs::create_symlink("base-v3.qcow2", files / "base.qcow2");
  write_file(files / "top.qcow2", image("base.qcow2", 1000, 2));
  write_file(files / "big/secret", "s");
  write_file(files / "odd.qcow2", image("big", 1000, 3));
  mesh.start_node("n0");
  mesh.start_node("n1");
  CHECK(mesh.get("n1", {"top.qcow2"}).status == 0);
  CHECK((read_file(mesh.files("n1") / "base.qcow2") == read_file(files / "base-v3.qcow2")));
  CHECK(fs::is_symlink(mesh.files("n1") / "base.qcow2"));
  CHECK(mesh.get("n1", {"odd.qcow2"}).status == 1);
  CHECK_FALSE(fs::exists(mesh.files("n1") / "big"));
}

TEST_CASE("the local socket is its owner's, and a group's that is named") {
  Mesh mesh;
  mesh.start_node("n0");
  struct stat s {};
  REQUIRE(::stat((mesh.files("n0") / ".mesh/control").c_str(), &s) == 0);
  CHECK((s.st_mode & 0777) == 0600);
  const auto files = mesh.files("n1").string();
  const auto socket = (mesh.root() / "socket").string();
  CHECK(mesh.run({program("meshseed"), "--files", files, "--control-group", "daemon"}).status == 2);
  const auto nobody =
      mesh.run({program("meshseed"), "--files", files, "--control", socket, "--control-group", "no-such"});
  CHECK(nobody.status == 2);
  CHECK(nobody.err.find("no-such") != std::string::npos);
  if (::geteuid() != 0) {
    WARN("SKIPPED: a group of another name needs root");
    return;
  }
  mesh.start_node("n2", {"--control", socket, "--control-group", "daemon"});
  REQUIRE(::stat(socket.c_str(), &s) == 0);
  CHECK((s.st_mode & 0777) == 0660);
  const auto* group = ::getgrnam("daemon");
  REQUIRE(group != nullptr);
  CHECK(s.st_gid == group->gr_gid);
  CHECK(mesh.run({program("meshfile"), "--files", mesh.files("n2").string(), "--control", socket, "status"}).status ==
        0);
  // Whatever somebody makes of its mode.
  fs::permissions(mesh.root(), fs::perms::others_exec | fs::perms::group_exec, fs::perm_options::add);
  fs::permissions(socket, fs::perms(0666));
  const auto as_nobody = [&](const std::string& groups) {
    return mesh.run({"setpriv", "--reuid", "65534", "--regid", "65534", groups, program("meshfile"), "--files",
                     mesh.files("n2").string(), "--control", socket, "status"});
  };
  if (mesh.run({"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", program("meshfile"), "--version"})
          .status != 0) {
    WARN("SKIPPED: another user cannot reach the programs here");
    return;
  }
  const auto stranger = as_nobody("--clear-groups");
  CHECK(stranger.status == 5);
  CHECK(stranger.err.find("is not for this user") != std::string::npos);
  CHECK(as_nobody("--groups=" + std::to_string(group->gr_gid)).status == 0);
}

TEST_CASE("bounds on gets, paths and announces, each with an error that names its flag") {
  Mesh mesh;
  mesh.stop_tracker(SIGKILL);
  mesh.start_tracker({"--max-paths", "3"});
  for (const char* name : {"a", "b", "c", "d", "e"}) write_file(mesh.files("n0") / name, name);
  mesh.start_node("n0");
  CHECK(mesh.copies_become(3));
  CHECK(eventually([&] { return mesh.log("n0").find("--max-paths") != std::string::npos; }));
  // Also for who asks for one of the others by name.
  std::vector<std::string> in_mesh;
  for (const char* name : {"a", "b", "c", "d", "e"})
    if (mesh.file("n0", {"info", name}).status == 0) in_mesh.emplace_back(name);
  REQUIRE(in_mesh.size() == 3);
  // Room again: what comes from now on is taken.
  fs::remove(mesh.files("n0") / in_mesh[0]);
  CHECK(mesh.copies_become(2));
  write_file(mesh.files("n0") / "f", "f");
  CHECK(mesh.copies_become(3));

  mesh.start_node("n1", {"--max-gets", "1"});
  CHECK(mesh.file("n1", {"get", "--wait", "nowhere"}).status == 0);
  const auto second = mesh.file("n1", {"get", "--wait", "nowhere-else"});
  CHECK(second.status == 1);
  CHECK(second.err.find("--max-gets") != std::string::npos);

  if (!Mesh::can_have_namespace()) {
    WARN("SKIPPED: an address that is not loopback needs root and network namespaces");
    return;
  }
  Mesh other("10.77.0.1");
  other.stop_tracker(SIGKILL);
  other.start_tracker({"--max-announces", "1"});
  // Ten seconds' worth may come at once.
  const auto url = "http://" + other.tracker() + "/scrape?info_hash=aaaaaaaaaaaaaaaaaaaa";
  const auto many = other.run({"curl", "-s", url + "#[1-40]"}).out;
  CHECK(many.find("--max-announces") != std::string::npos);
  CHECK(many.find("5:files") != std::string::npos);
  CHECK(other.run({"curl", "-sf", "http://" + other.tracker() + "/healthz"}).status == 0);
}

namespace {

/// The flags that a text names at the beginning of its lines: --help's, or the terms of a manual page.
std::set<std::string> flags_in(const std::string& text, const std::string& begins) {
  std::set<std::string> out;
  const std::regex flag("--[a-z0-9-]+");
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(begins)) continue;
    const auto term = line.substr(0, line.find("  ", begins.size()));  // what follows is prose
    for (std::sregex_iterator it(term.begin(), term.end(), flag), end; it != end; ++it) out.insert(it->str());
  }
  return out;
}

}  // namespace

TEST_CASE("manual pages name the flags that there are, and no others") {
  Mesh mesh;
  for (const char* page :
       {"meshget.1", "meshfile.1", "meshkey.1", "meshmount.1", "meshvol.1", "meshseed.8", "meshtracker.8"}) {
    const std::string name = std::string(page).substr(0, std::string(page).find('.'));
    const auto text = read_file(fs::path(MESH_SOURCE_DIR) / "docs/man" / (std::string(page) + ".md"));
    auto help = mesh.run({program(name), "--help"}).out;
    std::string commands = help.find("Subcommands:") == std::string::npos ? "" : help.substr(help.find("Subcommands:"));
    std::istringstream lines(commands);
    for (std::string line; std::getline(lines, line);)
      if (line.starts_with("  ") && line.size() > 2 && line[2] != ' ') {
        const auto command = line.substr(2, line.find(' ', 2) - 2);
        INFO(command);
        CHECK(text.find(name + " " + command) != std::string::npos);
        help += mesh.run({program(name), command, "--help"}).out;
      }
    INFO(page);
    const auto real = flags_in(help, "  -");
    CHECK(real.size() >= 2);
    CHECK(flags_in(text, "**-") == real);
  }
}

TEST_CASE("commands wait for a node that is being restarted, and what changes something is done once") {
  Mesh mesh;
  for (const auto* name : {"a", "b", "c"}) write_file(mesh.files("n0") / name, "some bytes");
  mesh.start_node("n0");
  REQUIRE(mesh.copies_become(3));
  // Killed: its socket is left behind.
  mesh.stop_node("n0", SIGKILL);
  const std::vector<std::vector<std::string>> commands = {
      {"status"}, {"list", "--local"}, {"list"}, {"info", "b"}, {"cache"}, {"wait"}, {"delete", "a"}};
  std::vector<int> statuses(commands.size(), -1);
  {
    std::vector<std::jthread> running;
    for (std::size_t i = 0; i < commands.size(); ++i)
      running.emplace_back([&, i] { statuses[i] = mesh.file("n0", commands[i]).status; });
    std::this_thread::sleep_for(std::chrono::milliseconds(700));
    mesh.start_node("n0");
  }
  CHECK(statuses == std::vector<int>(commands.size(), 0));
  CHECK_FALSE(fs::exists(mesh.files("n0") / "a"));
  // Stopped, as it should be: nobody waits.
  mesh.stop_node("n0", SIGTERM);
  const auto begun = std::chrono::steady_clock::now();
  CHECK(mesh.file("n0", {"status"}).status == 4);
  CHECK(std::chrono::steady_clock::now() - begun < seconds(5));
  mesh.start_node("n0");
  // While it is asked.
  std::vector<int> more(4, -1);
  std::vector<std::jthread> asking;
  std::atomic<bool> over = false;
  for (auto& one : more)
    asking.emplace_back([&] {
      one = 0;
      while (!over && one == 0) one = mesh.file("n0", {"status"}).status;
    });
  for (int round = 0; round < 3; ++round) {
    mesh.stop_node("n0", SIGKILL);
    mesh.start_node("n0");
  }
  over = true;
  asking.clear();
  CHECK(more == std::vector<int>(4, 0));
}

TEST_CASE("a stream goes on over the end of its node, with the bytes that were not sent yet") {
  Mesh mesh;
  const auto bytes = noise(12 << 20, 77);
  write_file(mesh.files("n0") / "x", bytes);
  mesh.start_node("n0", {"--max-up", megabytes_a_second(4)});
  mesh.start_node("n1");
  REQUIRE(mesh.lists("n1", "x", bytes.size()));
  const auto out = mesh.root() / "streamed";
  const auto stream = mesh.start({"/bin/sh", "-c", "exec \"$0\" --files \"$1\" stream x > \"$2\"", program("meshfile"),
                                  mesh.files("n1").string(), out.string()},
                                 "stream");
  std::error_code ec;
  REQUIRE(eventually([&] { return fs::file_size(out, ec) > (2 << 20) && !ec; }));
  mesh.stop_node("n1", SIGKILL);
  mesh.start_node("n1");
  CHECK(stream->wait(seconds(60)) == 0);
  CHECK(read_file(out) == bytes);
}

TEST_CASE("what commands print with --json is as docs/json-schema.json says, and nothing else") {
  Mesh mesh;
  write_file(mesh.files("n0") / "d/a", noise(6 << 20, 1));
  write_file(mesh.files("n0") / "d/b", "bytes");
  fs::create_symlink("b", mesh.files("n0") / "d/link");
  mesh.start_node("n0");
  mesh.start_node("n1", {"--http", mesh.listen("http")});
  mesh.start_tracker({"--http", mesh.listen("http of tracker")});
  REQUIRE(mesh.lists("n1", "d/a", 6 << 20));
  nlohmann::json said = nlohmann::json::array();
  const auto note = [&](const std::string& of, const std::string& text) {
    INFO(of << ": " << text);
    said.push_back({{"of", of}, {"said", nlohmann::json::parse(text)}});
  };
  const auto file = [&](const std::string& of, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "--json");
    note("meshfile " + of, mesh.file("n1", arguments).out);
  };
  note("meshget", mesh.get("n1", {"--json", "d"}).out);
  note("meshget", mesh.get("n1", {"--json", "nothing", "d/b"}).out);
  file("list", {"list", "-r"});
  file("list", {"list", "--local", "d"});
  file("info", {"info", "d/a"});
  file("info", {"info", "d/link"});
  file("diff", {"diff", "d/a"});
  file("cache", {"cache"});
  file("doctor", {"doctor"});
  file("get", {"get", "d/b"});
  file("get --on, wait --on, cancel --on", {"get", "--on", "n0", "d/b"});
  file("get --on, wait --on, cancel --on", {"wait", "--on", "n0", "d/b"});
  file("wait", {"wait", "d/b"});
  file("get", {"get", "--wait", "later"});
  file("status", {"status"});
  file("status", {"status", "--mesh"});
  file("cancel", {"cancel", "--discard", "later"});
  file("torrent", {"torrent", "d/a", "-o", (mesh.root() / "a.torrent").string()});
  auto stream = mesh.file("n1", {"--json", "stream", "d/a"});
  note("meshfile stream", stream.err.substr(stream.err.find('{')));
  file("delete", {"delete", "d/b"});
  file("delete --mesh, delete --on", {"delete", "--mesh", "d/b"});
  const auto get = [&](const std::string& at) {
    return mesh.run({"curl", "-sS", "http://" + mesh.listen(at) + "/status.json"}).out;
  };
  note("/status.json of a node", get("http"));
  note("/status.json of a tracker", get("http of tracker"));
  write_file(mesh.root() / "place.yaml", "type: plain\nlocation: place\n");
  const auto vol = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {program("meshvol"), "-c", (mesh.root() / "place.yaml").string(), "--files",
                                 mesh.files("n0").string(), "--config", "/dev/null"});
    return mesh.run(words);
  };
  for (const auto* name : {"web", "dir/web"}) CHECK(vol({"clone", "d/a", name}).status == 0);
  note("meshvol list", vol({"list", "--json"}).out);
  note("meshvol list", vol({"list", "-r", "--json"}).out);
  note("meshvol info", vol({"info", "--json", "web"}).out);
  // Each of them was asked for.
  const auto schema = fs::path(MESH_SOURCE_DIR) / "docs/json-schema.json";
  const auto definitions = nlohmann::json::parse(read_file(schema)).at("$defs");
  for (const auto& [name, one] : definitions.items()) {
    INFO(name);
    // Of what is in stores the store test has seen it.
    const bool is_of_store = name.ends_with(" URL") || name == "meshfile put";
    CHECK((name == "transfer" || name == "get" || name == "volume" || is_of_store ||
           std::ranges::any_of(said, [&, of = name](const auto& pair) { return pair.at("of") == of; })));
  }
  write_file(mesh.root() / "said", said.dump());
  const auto checked =
      mesh.run({"/usr/bin/python3", "-c",
                "import json, sys\n"
                "try: import jsonschema\n"
                "except ImportError: sys.exit(77)\n"
                "schema = json.load(open(sys.argv[1]))\n"
                "for one in json.load(open(sys.argv[2])):\n"
                "  try: jsonschema.validate(one['said'], {**schema, '$ref': '#/$defs/' + one['of'].replace('/', "
                "'~1').replace(' ', '%20')})\n"
                "  except jsonschema.ValidationError as why: sys.exit(one['of'] + ': ' + str(why)[:2000])\n",
                schema.string(), (mesh.root() / "said").string()});
  if (checked.status == 77) {
    WARN("SKIPPED: python3-jsonschema is not installed");
    return;
  }
  INFO(checked.err);
  CHECK(checked.status == 0);
}
