// Faults, on whole swarms of real processes on loopback: trackers that die, nodes that fall silent, disks that lie.
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "process.h"
#include "test.h"

using namespace mesh::test;
using std::chrono::seconds;

namespace {

constexpr std::size_t mb = 1 << 20;

/// Until this node has been told of so many others.
bool knows(const Mesh& mesh, const std::string& node, std::size_t others) {
  const auto ran = mesh.file(node, {"status", "--json"});
  return ran.status == 0 && nlohmann::json::parse(ran.out).at(0).at("members_known") >= others;
}

std::vector<std::string> faulty(const std::string& how, const std::string& file) {
  return {std::string("LD_PRELOAD=") + MESH_FAULT_SHIM, "ASAN_OPTIONS=verify_asan_link_order=0", "MESH_FAULT=" + how,
          "MESH_FAULT_FILE=" + file};
}

/// Two nodes that hold the same bytes, hashed; the disk of the second lies or fails from now on.
void start_good_and_bad(Mesh& mesh, const std::string& bytes, const std::string& how) {
  const auto written = fs::file_time_type::clock::now();
  for (const char* node : {"good", "bad"}) {
    write_file(mesh.files(node) / "x", bytes);
    fs::last_write_time(mesh.files(node) / "x", written - std::chrono::hours(1));
  }
  // What changed in the last two seconds is hashed anew at the next start.
  REQUIRE(eventually([&] { return fs::file_time_type::clock::now() - written > std::chrono::milliseconds(2500); }));
  for (const char* node : {"good", "bad"}) mesh.start_node(node, {"--hash", "eager", "--max-up", "4M"});
  REQUIRE(eventually([&] {
    const auto versions = nlohmann::json::parse(mesh.file("good", {"info", "x", "--json"}).out).at("versions");
    return versions.size() == 1 && versions.at(0).at("holders").size() == 2;
  }));
  mesh.stop_node("bad", SIGTERM);
  mesh.set_environment("bad", faulty(how, "x"));
  mesh.start_node("bad", {"--max-up", "4M"});
}

bool says(const Mesh& mesh, const std::string& node, const std::string& text) {
  return mesh.log(node).find(text) != std::string::npos;
}

}  // namespace

TEST_CASE("without a tracker: a path, a directory, a glob, and what nobody has hashed") {
  Mesh mesh;
  const auto big = noise(8 * mb, 1);
  for (int i = 0; i < 50; ++i)
    write_file(mesh.files("n0") / "dir" / std::to_string(i), noise(static_cast<std::size_t>(i) * 3000, 7));
  write_file(mesh.files("n1") / "big.img", big);
  write_file(mesh.files("n1") / "vm/a.qcow2", "not an image");
  for (const char* node : {"n0", "n1", "n2", "n3"}) mesh.start_node(node);
  for (const char* node : {"n0", "n1", "n2", "n3"}) REQUIRE(eventually([&] { return knows(mesh, node, 3); }));
  mesh.stop_tracker(SIGKILL);
  std::vector<std::unique_ptr<Process>> gets;
  for (const char* node : {"n2", "n3"})
    gets.push_back(mesh.start({program("meshget"), "--files", mesh.files(node).string(), "big.img"}, "get"));
  for (auto& get : gets) CHECK(get->wait(seconds(60)) == 0);
  for (const char* node : {"n2", "n3"}) CHECK((read_file(mesh.files(node) / "big.img") == big));
  CHECK(mesh.get("n2", {"dir", "vm/*.qcow2"}).status == 0);
  for (int i = 0; i < 50; ++i)
    CHECK((read_file(mesh.files("n2") / "dir" / std::to_string(i)) ==
           read_file(mesh.files("n0") / "dir" / std::to_string(i))));
  CHECK(mesh.get("n3", {"none"}).status == 3);
  // Whose word it is is said, on stderr.
  const auto list = mesh.file("n3", {"list", "dir", "--json"});
  CHECK(nlohmann::json::parse(list.out).size() == 50);
  CHECK(list.err.find("3 other nodes") != std::string::npos);
  const auto status = mesh.file("n3", {"status", "--mesh", "--json"});
  CHECK(nlohmann::json::parse(status.out).size() == 4);
  CHECK(status.err.find("no tracker answers") != std::string::npos);
  // A new file is found by those who asked before; one that is gone is not waited for.
  mesh.stop_node("n1", SIGKILL);
  write_file(mesh.files("n0") / "late", "late");
  CHECK(mesh.get("n3", {"late"}).status == 0);
  // A tracker that is back is asked again.
  mesh.start_tracker();
  REQUIRE(eventually([&] { return mesh.file("n3", {"list", "dir"}).err.empty(); }));
}

TEST_CASE("without a tracker: what was remembered, or one named peer, leads to all") {
  Mesh mesh;
  const auto bytes = noise(300'000, 1);
  write_file(mesh.files("n0") / "x", bytes);
  for (const char* node : {"n0", "n1"}) mesh.start_node(node);
  for (const char* node : {"n0", "n1"}) REQUIRE(eventually([&] { return knows(mesh, node, 1); }));
  const auto tracker = mesh.tracker();
  for (const char* node : {"n0", "n1"}) mesh.stop_node(node, SIGTERM);
  mesh.stop_tracker(SIGKILL);
  for (const char* node : {"n0", "n1"}) mesh.start_node_with(node, {"--tracker", tracker}, "node " + std::string(node));
  CHECK(mesh.get("n1", {"--wait", "x"}).status == 0);
  CHECK((read_file(mesh.files("n1") / "x") == bytes));
  // n2 was never here, knows n1 alone, and hears of n0 from it.
  mesh.start_node_with("n2", {"--peer", mesh.listen("n1")}, "node n2");
  REQUIRE(eventually([&] { return knows(mesh, "n2", 2); }, seconds(60)));
  write_file(mesh.files("n0") / "y", "only n0 has it");
  CHECK(mesh.get("n2", {"y"}).status == 0);
  // Nobody is known, and none answers: the error says what could be done.
  mesh.start_node_with("n3", {}, "node n3");
  const auto ran = mesh.get("n3", {"x"});
  CHECK(ran.status == 4);
  CHECK(ran.err.find("--peer") != std::string::npos);
}

TEST_CASE("the tracker dies in the middle of a get, and nobody notices") {
  Mesh mesh;
  const auto bytes = noise(60 * mb, 1);
  write_file(mesh.files("n0") / "x", bytes);
  mesh.start_node("n0", {"--max-up", megabytes_a_second(20)});
  for (const char* node : {"n1", "n2"}) mesh.start_node(node);
  std::vector<std::unique_ptr<Process>> gets;
  for (const char* node : {"n1", "n2"})
    gets.push_back(mesh.start({program("meshget"), "--files", mesh.files(node).string(), "x"}, "get-x"));
  REQUIRE(eventually(
      [&] { return fs::exists(mesh.files("n1") / ".mesh/parts") && !fs::is_empty(mesh.files("n1") / ".mesh/parts"); }));
  mesh.stop_tracker(SIGKILL);
  for (auto& get : gets) CHECK(get->wait(seconds(60)) == 0);
  for (const char* node : {"n1", "n2"}) CHECK((read_file(mesh.files(node) / "x") == bytes));
}

TEST_CASE("two trackers: either may die, and two that do not see the same nodes give correct gets") {
  Mesh mesh;
  const auto second = mesh.start_second();
  write_file(mesh.files("n0") / "x", noise(3 * mb, 1));
  write_file(mesh.files("n0") / "y", noise(3 * mb, 2));
  mesh.start_node("n0", {"--tracker", second});
  // Each of these sees one of the trackers.
  mesh.start_node("n1");
  mesh.start_node_with("n2", {"--tracker", second}, "registered");
  for (const char* node : {"n1", "n2"}) {
    CHECK(mesh.get(node, {"x"}).status == 0);
    CHECK((read_file(mesh.files(node) / "x") == read_file(mesh.files("n0") / "x")));
  }
  mesh.start_node("n3", {"--tracker", second});
  mesh.stop_tracker(SIGKILL);
  CHECK(mesh.get("n3", {"y"}).status == 0);
  CHECK_FALSE(mesh.file("n3", {"list"}).err.find("no tracker answers") != std::string::npos);
  mesh.start_tracker();
  mesh.stop_second(SIGKILL);
  CHECK(eventually([&] { return mesh.get("n3", {"x"}).status == 0; }));
}

TEST_CASE("a node that falls silent is out of the catalog within 15 s, and back when it wakes") {
  Mesh mesh;
  write_file(mesh.files("n0") / "x", "x");
  mesh.start_node("n0");
  mesh.start_node("n1");
  CHECK(mesh.copies_become(1));
  mesh.node("n0").signal(SIGSTOP);
  CHECK(mesh.copies_become(0));
  mesh.node("n0").signal(SIGCONT);
  CHECK(mesh.copies_become(1));
  CHECK(mesh.get("n1", {"x"}).status == 0);
}

TEST_CASE(
    "two nodes of one name are told apart: the first one keeps it, the other has a part of its identity besides") {
  Mesh mesh;
  write_file(mesh.files("n0") / "x", "of one");
  write_file(mesh.files("n1") / "x", "of the other");
  mesh.start_node("n0");
  mesh.start_node("n1", {"--name", "n0"});
  mesh.start_node("n2");
  CHECK(says(mesh, "n1", "another node of the mesh is called n0"));
  const auto nodes = nlohmann::json::parse(mesh.file("n2", {"status", "--mesh", "--json"}).out);
  REQUIRE(nodes.size() == 3);
  const std::string first = nodes.at(0).at("node");
  const std::string second = nodes.at(1).at("node");
  CHECK(first == "n0");
  const auto id = mesh.run({program("meshseed"), "--files", mesh.files("n1").string(), "--print-identity"}).out;
  CHECK(second == "n0#" + id.substr(0, 8));
  CHECK(mesh.get("n2", {"--from", "n0", "x"}).status == 0);
  CHECK(read_file(mesh.files("n2") / "x") == "of one");
  CHECK(mesh.get("n2", {"--force", "--from", second, "x"}).status == 0);
  CHECK(read_file(mesh.files("n2") / "x") == "of the other");
  // The name waits for its node for a while: nobody slips into it.
  mesh.stop_node("n0", SIGTERM);
  const auto gone = mesh.get("n2", {"--force", "--from", "n0", "x"});
  CHECK(gone.status == 3);
  CHECK(gone.err.find(second) != std::string::npos);
  mesh.start_node("n0");
  CHECK(mesh.get("n2", {"--force", "--from", "n0", "x"}).status == 0);
  CHECK(read_file(mesh.files("n2") / "x") == "of one");
}

TEST_CASE("a peer that sends wrong bytes is banned and named, and the file completes") {
  Mesh mesh;
  const auto bytes = noise(12 * mb, 1);
  start_good_and_bad(mesh, bytes, "flip");
  mesh.start_node("n1");
  CHECK(mesh.get("n1", {"x"}).status == 0);
  CHECK((read_file(mesh.files("n1") / "x") == bytes));
  CHECK(says(mesh, "n1", "peer " + mesh.listen("bad") + " sent wrong bytes"));
}

TEST_CASE("the only source sends wrong bytes for a while, is banned, and is asked again") {
  Mesh mesh;
  const auto bytes = noise(12 * mb, 1);
  start_good_and_bad(mesh, bytes, "flip");
  const auto marker = mesh.root() / "faulty";
  write_file(marker, "");
  auto variables = faulty("flip", "x");
  variables.push_back("MESH_FAULT_WHILE=" + marker.string());
  mesh.stop_node("bad", SIGTERM);
  mesh.set_environment("bad", variables);
  mesh.start_node("bad");
  mesh.stop_node("good", SIGTERM);
  mesh.start_node("n1");
  auto get = mesh.start({program("meshget"), "--files", mesh.files("n1").string(), "x"}, "get-x");
  REQUIRE(eventually([&] { return says(mesh, "n1", "peer " + mesh.listen("bad") + " sent wrong bytes"); }));
  fs::remove(marker);
  CHECK(get->wait(seconds(60)) == 0);
  CHECK((read_file(mesh.files("n1") / "x") == bytes));
  // What never gets better ends, and the error says who.
  write_file(marker, "");
  mesh.set_environment("n2", {"MESH_TEST_STALL_MS=500"});
  mesh.start_node("n2");
  mesh.stop_node("n1", SIGTERM);
  const auto hopeless = mesh.get("n2", {"x"}, seconds(100));
  CHECK(hopeless.status == 1);
  CHECK(hopeless.err.find("sent wrong bytes") != std::string::npos);
  CHECK(hopeless.err.find(mesh.listen("bad")) != std::string::npos);
  CHECK_FALSE(fs::exists(mesh.files("n2") / "x"));
}

TEST_CASE("a source whose disk cannot be read stops offering the file and says so; others have it") {
  Mesh mesh;
  const auto bytes = noise(12 * mb, 1);
  start_good_and_bad(mesh, bytes, "eio");
  mesh.start_node("n1");
  CHECK(mesh.get("n1", {"x"}).status == 0);
  CHECK((read_file(mesh.files("n1") / "x") == bytes));
  CHECK(eventually([&] { return says(mesh, "bad", "x: is not offered any more"); }));
  CHECK((read_file(mesh.files("bad") / "x") == bytes));
}

TEST_CASE("a peer that stands still for a while holds nobody up for long") {
  Mesh mesh;
  const auto bytes = noise(40 * mb, 1);
  for (const char* node : {"n0", "n1"}) write_file(mesh.files(node) / "x", bytes);
  for (const char* node : {"n0", "n1", "n2"}) mesh.start_node(node, {"--max-up", megabytes_a_second(10)});
  auto get = mesh.start({program("meshget"), "--files", mesh.files("n2").string(), "x"}, "get-x");
  REQUIRE(eventually(
      [&] { return fs::exists(mesh.files("n2") / ".mesh/parts") && !fs::is_empty(mesh.files("n2") / ".mesh/parts"); }));
  mesh.node("n0").signal(SIGSTOP);
  CHECK(get->wait(seconds(60)) == 0);
  mesh.node("n0").signal(SIGCONT);
  CHECK((read_file(mesh.files("n2") / "x") == bytes));
}

TEST_CASE("torn, flipped or empty state: a restart neither crashes nor trusts it, and loses no file of the user's") {
  Mesh mesh;
  const auto bytes = noise(24 * mb, 1);
  write_file(mesh.files("n0") / "x", bytes);
  mesh.start_node("n0");
  const auto flip = [](const fs::path& file, std::uint64_t seed) {
    auto text = read_file(file);
    const auto places = noise(400, seed);
    for (std::size_t i = 0; i + 4 <= places.size() && !text.empty(); i += 4) {
      std::uint32_t place = 0;
      places.copy(reinterpret_cast<char*>(&place), 4, i);
      text[place % text.size()] = static_cast<char>(text[place % text.size()] ^ 0x10);
    }
    write_file(file, text);
  };
  const auto part_of = [](const fs::path& state) {
    for (const auto& item : fs::directory_iterator(state / "parts")) return item.path();
    return fs::path();
  };
  using Harm = std::function<void(const fs::path& state)>;
  const std::vector<std::pair<std::string, Harm>> harms = {
      {"empty-db", [](const fs::path& state) { fs::resize_file(state / "state.db", 0); }},
      {"half-db",
       [](const fs::path& state) { fs::resize_file(state / "state.db", fs::file_size(state / "state.db") / 2); }},
      {"flipped-db", [&](const fs::path& state) { flip(state / "state.db", 3); }},
      {"wild-journal", [](const fs::path& state) { write_file(state / "state.db-wal", noise(100'000, 4)); }},
      {"flipped-part", [&](const fs::path& state) { flip(part_of(state), 5); }},
      {"empty-part", [&](const fs::path& state) { fs::resize_file(part_of(state), 0); }},
      {"torn-part", [&](const fs::path& state) {
         // As a disk leaves it that lost what was not synced: the size, and zeros.
         const auto part = part_of(state);
         fs::resize_file(part, bytes.size() / 8);
         fs::resize_file(part, bytes.size());
       }}};
  for (const auto& [node, harm] : harms) {
    INFO(node);
    const auto state = mesh.files(node) / ".mesh";
    write_file(mesh.files(node) / "mine", "of the user");
    mesh.start_node(node, {"--max-down", megabytes_a_second(6)});
    CHECK(mesh.get(node, {"--detach", "x"}).status == 0);
    REQUIRE(eventually([&] {
      const auto status = nlohmann::json::parse(mesh.file(node, {"status", "--json"}).out).at(0).at("transfers");
      return !status.empty() && status.at(0).at("done") > 4 * mb;
    }));
    mesh.stop_node(node, SIGTERM);
    REQUIRE_FALSE(part_of(state).empty());
    harm(state);
    mesh.start_node(node);
    CHECK(mesh.get(node, {"x"}).status == 0);
    CHECK((read_file(mesh.files(node) / "x") == bytes));
    CHECK(read_file(mesh.files(node) / "mine") == "of the user");
    if (node == "flipped-part" || node == "torn-part") CHECK(says(mesh, node, "are not what they should be"));
    mesh.stop_node(node, SIGKILL);
  }
}

TEST_CASE(
    "power fails at random moments: nothing unverified is under a final name, and what was said to be done stays") {
  const char* given = std::getenv("MESH_TEST_SEED");
  const auto base = given != nullptr ? std::strtoul(given, nullptr, 10) : 1;
  Mesh mesh;
  const auto big = noise(9 * mb + 12345, 1);
  write_file(mesh.files("n0") / "big-2", big);
  for (int i = 0; i < 60; ++i)
    write_file(mesh.files("n0") / "dir" / std::to_string(i), noise(static_cast<std::size_t>(i) * 5000 + 1, 7));
  mesh.start_node("n0");
  const auto same = [&](const std::string& node, const std::string& path) {
    return read_file(mesh.files(node) / path) == read_file(mesh.files("n0") / path);
  };
  // Whether all that has its final name has its bytes.
  const auto no_lie = [&](const std::string& node) {
    for (const auto& item : fs::recursive_directory_iterator(mesh.files(node))) {
      const auto path = fs::relative(item.path(), mesh.files(node)).string();
      if (item.is_regular_file() && !path.starts_with(".mesh") && path != "mine" && path != "big-1" &&
          !same(node, path))
        return false;
    }
    return true;
  };
  for (unsigned long turn = 0; turn < 10; ++turn) {
    const auto seed = base + turn;
    const std::string node = "p" + std::to_string(seed);
    const auto off = mesh.root() / (node + "-off");
    INFO(node);
    write_file(mesh.files(node) / "mine", "of the user");
    // Every other time there is an older version, of which blocks are reused.
    auto older = "moved" + big;
    for (std::size_t at = 0; at < older.size(); at += 700'000) older[at] = '?';
    if (turn % 2 == 1) write_file(mesh.files(node) / "big-1", older);
    std::mt19937 random(static_cast<std::uint32_t>(seed));
    std::vector<std::string> shim = {std::string("LD_PRELOAD=") + MESH_POWER_SHIM,
                                     "ASAN_OPTIONS=verify_asan_link_order=0",
                                     "MESH_POWER_DIR=" + mesh.files(node).string(),
                                     "MESH_POWER_SEED=" + std::to_string(seed), "MESH_POWER_FILE=" + off.string()};
    // In the middle; or, once in a while, right after the command has said that it is done.
    const bool after_the_end = turn % 4 == 3;
    if (!after_the_end)
      shim.push_back("MESH_POWER_AFTER=" + std::to_string(std::uniform_int_distribution<int>(30, 500)(random)));
    mesh.set_environment(node, shim);
    try {
      mesh.start_node(node);
    } catch (const std::runtime_error&) {
      REQUIRE_FALSE(after_the_end);  // so early
    }
    // The order comes from elsewhere: a command here that finds its node dead would become one itself, without the
    // shim.
    static_cast<void>(mesh.file("n0", {"get", "--on", node, "big-2", "dir"}));
    const auto done = [&] {
      const auto ran = mesh.file(node, {"status", "--json"});
      return ran.status == 0 && nlohmann::json::parse(ran.out).at(0).at("gets").empty();
    };
    bool said_so = false;
    REQUIRE(eventually([&] { return (said_so = done()) || !mesh.node(node).is_running(); }));
    write_file(off, "");
    REQUIRE(eventually([&] { return !mesh.node(node).is_running(); }));
    if (after_the_end) CHECK(said_so);
    CHECK(no_lie(node));
    if (said_so && after_the_end) CHECK((same(node, "big-2") && same(node, "dir/59") && same(node, "dir/0")));
    mesh.set_environment(node, {});
    mesh.start_node(node);
    CHECK(mesh.get(node, {"big-2", "dir"}).status == 0);
    CHECK(no_lie(node));
    CHECK(same(node, "big-2"));
    for (int i = 0; i < 60; ++i) CHECK(same(node, "dir/" + std::to_string(i)));
    CHECK(read_file(mesh.files(node) / "mine") == "of the user");
    if (turn % 2 == 1) CHECK(read_file(mesh.files(node) / "big-1") == older);
    mesh.stop_node(node, SIGKILL);
  }
}

TEST_CASE("systemd is told: ready, the watchdog, stopping; SIGTERM ends a busy node and tracker within seconds") {
  Mesh mesh;
  const auto bytes = noise(100 * mb, 1);
  write_file(mesh.files("n0") / "x", bytes);
  const auto at = mesh.root() / "notify";
  const int socket = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  at.string().copy(address.sun_path, sizeof address.sun_path - 1);
  REQUIRE(::bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  std::string told;
  // A socket that nobody reads is full after a few messages, and then sd_notify(3) waits, and the node with it.
  const auto read_socket = [&] {
    char buffer[4096];
    for (ssize_t n = 0; (n = ::recv(socket, buffer, sizeof buffer, 0)) > 0;)
      told += std::string(buffer, static_cast<std::size_t>(n)) + '\n';
  };
  const auto hears = [&](const std::string& text) {
    return eventually([&] {
      read_socket();
      return told.find(text) != std::string::npos;
    });
  };
  mesh.start_node("n0", {"--max-up", megabytes_a_second(2)});
  mesh.set_environment("n1", {"NOTIFY_SOCKET=" + at.string(), "WATCHDOG_USEC=200000"});
  mesh.start_node("n1");
  CHECK(hears("READY=1"));
  CHECK(hears("WATCHDOG=1"));
  told.clear();
  CHECK(hears("WATCHDOG=1"));
  // In the middle of a get, with a command attached.
  auto get = mesh.start({program("meshget"), "--files", mesh.files("n1").string(), "x"}, "get-x");
  REQUIRE(eventually([&] {
    read_socket();
    return fs::exists(mesh.files("n1") / ".mesh/parts") && !fs::is_empty(mesh.files("n1") / ".mesh/parts");
  }));
  mesh.node("n1").signal(SIGTERM);
  CHECK(hears("STOPPING=1"));
  CHECK(mesh.node("n1").wait(seconds(8)) == 0);
  CHECK(get->wait(seconds(10)).value_or(0) != 0);
  ::close(socket);
}

TEST_CASE("the systemd units are sound") {
  Mesh mesh;
  if (mesh.run({"systemd-analyze", "--version"}).status != 0) {
    WARN("SKIPPED: systemd-analyze is not there");
    return;
  }
  for (const char* service : {"meshseed", "meshtracker"}) {
    auto unit = read_file(fs::path(MESH_GENERATED_DIR) / (std::string(service) + ".service"));
    const auto begin = unit.find("ExecStart=") + 10;
    unit.replace(begin, unit.find('\n', begin) - begin, program(service));
    const auto file = mesh.root() / (std::string(service) + ".service");
    write_file(file, unit);
    const auto ran = mesh.run({"systemd-analyze", "verify", "--man=no", file.string()});
    INFO(ran.err);
    CHECK(ran.status == 0);
    CHECK(ran.err.find(service) == std::string::npos);
    CHECK(unit.find(std::string(service) == "meshseed" ? "PrivateTmp=no" : "DynamicUser=yes") != std::string::npos);
  }
  // A mount that is to be there before what it takes would never be.
  const auto mount = mesh.root() / "mesh.mount";
  fs::copy_file(fs::path(MESH_SOURCE_DIR) / "contrib/mount/mesh.mount", mount);
  const auto both =
      mesh.run({"systemd-analyze", "verify", "--man=no", mount.string(), (mesh.root() / "meshseed.service").string()});
  INFO(both.err);
  CHECK(both.err.find("cycle") == std::string::npos);
  CHECK(both.err.find("mesh.mount") == std::string::npos);
}

TEST_CASE("gets into a directory that is exchanged with a link to outside meanwhile") {
  Mesh mesh;
  const int small = 400;
  for (int i = 0; i < small; ++i) write_file(mesh.files("n0") / "d/e" / ("s" + std::to_string(i)), noise(100, 1));
  for (int i = 0; i < 10; ++i) write_file(mesh.files("n0") / "d/e" / ("l" + std::to_string(i)), noise(200'000, 2));
  mesh.start_node("n0");
  mesh.start_node("n1");
  const auto outside = mesh.root() / "outside";
  const auto trap = mesh.root() / "trap";
  fs::create_directories(outside / "e");
  fs::create_directory_symlink(outside, trap);
  fs::create_directories(mesh.files("n1") / "d/e");
  const int inside = ::open((mesh.files("n1") / "d/e").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  REQUIRE(inside >= 0);
  const fs::path by_descriptor = "/proc/self/fd/" + std::to_string(inside);
  std::atomic<bool> stop = false;
  std::atomic<long> exchanged = 0;
  std::thread swapper([&] {
    while (!stop) {
      if (::renameat2(AT_FDCWD, trap.c_str(), AT_FDCWD, (mesh.files("n1") / "d").c_str(), RENAME_EXCHANGE) != 0) return;
      ++exchanged;
    }
  });
  const std::shared_ptr<void> stopped(nullptr, [&](void*) {
    stop = true;
    if (swapper.joinable()) swapper.join();
  });
  // MESH_TEST_RACES more of them for a longer look.
  const char* more = std::getenv("MESH_TEST_RACES");
  long placed = 0;
  const int rounds = more != nullptr ? std::atoi(more) : 3;
  for (int round = 0; round < rounds || (placed == 0 && round < 30); ++round) {  // on a busy machine all may miss
    const auto ran = mesh.get("n1", {"--force", "d"}, seconds(120));
    CHECK(ran.status >= 0);
    CHECK(ran.status <= 1);
    CHECK(fs::is_empty(outside / "e"));
    CHECK(std::distance(fs::directory_iterator(outside), fs::directory_iterator()) == 1);
    for (const auto& item : fs::directory_iterator(by_descriptor)) placed += fs::remove(item.path()) ? 1 : 0;
  }
  ::close(inside);
  if (more != nullptr) WARN(placed << " files placed, " << exchanged.load() << " exchanges");
  CHECK(placed > 0);
  stop = true;
  swapper.join();
  CHECK(exchanged > 100);
  // Whichever of the two is the directory now: with it in place all of it arrives.
  if (fs::is_symlink(mesh.files("n1") / "d"))
    REQUIRE(::renameat2(AT_FDCWD, trap.c_str(), AT_FDCWD, (mesh.files("n1") / "d").c_str(), RENAME_EXCHANGE) == 0);
  REQUIRE(eventually([&] { return mesh.get("n1", {"--force", "d"}).status == 0; }));
  const auto different = mesh.run({"diff", "-r", (mesh.files("n0") / "d").string(), (mesh.files("n1") / "d").string()});
  INFO(different.out << different.err);
  CHECK(different.status == 0);
  CHECK(fs::is_empty(outside / "e"));
}
