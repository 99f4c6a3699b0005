// The mesh without any tracker, ever: real processes on loopback that know one of them.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <sstream>

#include "process.h"
#include "test.h"

using namespace mesh::test;
using nlohmann::json;
using std::chrono::seconds;

namespace {

constexpr std::size_t mb = 1 << 20;

bool says(const Ran& ran, const std::string& text) {
  return ran.out.find(text) != std::string::npos || ran.err.find(text) != std::string::npos;
}

std::string name_of(int number) { return "n" + std::to_string(number); }

void set_time(const fs::path& path, std::int64_t when) {
  const timespec times[2] = {{when, 0}, {when, 0}};
  REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
}

/// A mesh in which nobody has a tracker. The first node is the one that the others are told of.
struct Trackerless : Mesh {
  Trackerless() { stop_tracker(SIGKILL); }
  void begin(const std::string& node, std::vector<std::string> extra = {}) {
    if (node != "n0") extra.insert(extra.begin(), {"--peer", listen("n0")});
    start_node_with(node, std::move(extra), "scanned");
  }
  [[nodiscard]] bool knows(const std::string& node, std::size_t others) const {
    const auto ran = file(node, {"status", "--json"});
    return ran.status == 0 && json::parse(ran.out).at(0).at("members_known") >= others;
  }
  void begin_all(const std::vector<std::string>& nodes) {
    for (const auto& node : nodes) begin(node);
    for (const auto& node : nodes) REQUIRE(eventually([&] { return knows(node, nodes.size() - 1); }, seconds(60)));
  }
  [[nodiscard]] std::set<std::string> listed(const std::string& node, const std::string& what) const {
    std::set<std::string> out;
    const auto ran = file(node, {"list", what, "--json"});
    if (ran.status == 0)
      for (const auto& item : json::parse(ran.out)) out.insert(item.at("path").get<std::string>());
    return out;
  }
};

/// So many inotify instances may this user have; raised where that is allowed.
bool has_inotify_instances(int wanted) {
  const char* const place = "/proc/sys/fs/inotify/max_user_instances";
  int now = 0;
  std::ifstream(place) >> now;
  if (now >= wanted) return true;
  std::ofstream(place) << wanted << std::flush;
  std::ifstream(place) >> now;
  return now >= wanted;
}

/// Channels that this process has opened to ports of other nodes: established connections from a port that is nobody's
/// to an odd one (nodes listen at pairs of ports, the odd one for channels).
int channels_of(pid_t pid, const std::set<int>& ports) {
  std::set<std::string> inodes;
  std::error_code ec;
  for (const auto& item : fs::directory_iterator("/proc/" + std::to_string(pid) + "/fd", ec)) {
    const auto target = fs::read_symlink(item.path(), ec).string();
    if (target.starts_with("socket:[")) inodes.insert(target.substr(8, target.size() - 9));
  }
  int count = 0;
  std::ifstream table("/proc/net/tcp");
  std::string line;
  std::getline(table, line);
  while (std::getline(table, line)) {
    std::istringstream in(line);
    std::string number, local, remote, state, queues, timer, retransmits, uid, timeout, inode;
    in >> number >> local >> remote >> state >> queues >> timer >> retransmits >> uid >> timeout >> inode;
    const auto port = [](const std::string& text) { return std::stoi(text.substr(text.find(':') + 1), nullptr, 16); };
    if (state == "01" && inodes.contains(inode) && ports.contains(port(remote)) && !ports.contains(port(local)))
      ++count;
  }
  return count;
}

}  // namespace

TEST_CASE("many nodes without any tracker: what any of them has is found, also after a third of them died at once") {
  // MESH_TEST_NODES=300 for the whole thing; it takes some two minutes.
  const char* const wanted = std::getenv("MESH_TEST_NODES");
  const int count = wanted != nullptr ? std::atoi(wanted) : 48;
  if (!has_inotify_instances(count + 100)) {
    WARN("SKIPPED: fs.inotify.max_user_instances is too low for " << count << " nodes, and cannot be raised here");
    return;
  }
  Trackerless mesh;
  std::set<int> ports;
  for (int i = 0; i < count; ++i) {
    const auto node = name_of(i);
    write_file(mesh.files(node) / ("own" + std::to_string(i)), noise(20'000, static_cast<std::uint64_t>(i)));
    write_file(mesh.files(node) / "shared" / node, node);
    write_file(mesh.files(node) / ("dir" + std::to_string(i)) / "x", node);
    mesh.begin(node);
    const auto listen = mesh.listen(node);
    ports.insert(std::stoi(listen.substr(listen.rfind(':') + 1)) + 1);
  }
  for (const int i : {0, 1, count / 2, count - 1})
    REQUIRE(eventually([&] { return mesh.knows(name_of(i), static_cast<std::size_t>(count) - 1); }, seconds(60)));
  std::vector<int> live;
  for (int i = 0; i < count; ++i) live.push_back(i);
  std::mt19937 random(7);
  int most_channels = 0;
  const auto look_at_channels = [&] {
    for (const int i : live) most_channels = std::max(most_channels, channels_of(mesh.node(name_of(i)).pid(), ports));
  };
  // Each file by a random other.
  const auto get_some = [&](std::size_t most) {
    auto wanted_of = live;
    std::ranges::shuffle(wanted_of, random);
    if (wanted_of.size() > most) wanted_of.resize(most);
    int failed = 0;
    for (const int i : wanted_of) {
      int other = i;
      while (other == i) other = live[random() % live.size()];
      const auto path = "own" + std::to_string(i);
      const auto ran = mesh.get(name_of(other), {"--quiet", path});
      INFO(ran.err);
      CHECK(ran.status == 0);
      CHECK((read_file(mesh.files(name_of(other)) / path) == noise(20'000, static_cast<std::uint64_t>(i))));
      failed += ran.status != 0;
    }
    return failed;
  };
  CHECK(get_some(live.size()) == 0);
  look_at_channels();
  const auto all_shared = [&] {
    std::set<std::string> out;
    for (const int i : live) out.insert("shared/" + name_of(i));
    return out;
  };
  const auto asker = name_of(live[3]);
  CHECK(eventually([&] { return mesh.listed(asker, "shared") == all_shared(); }));
  CHECK(eventually([&] { return mesh.listed(asker, "**/x").size() == live.size(); }));
  CHECK(mesh.get(asker, {"shared"}).status == 0);
  CHECK(read_file(mesh.files(asker) / "shared" / name_of(live.back())) == name_of(live.back()));
  CHECK(json::parse(mesh.file(asker, {"status", "--mesh", "--json"}).out).size() == live.size());
  look_at_channels();
  // A third of them die at once.
  auto dead = live;
  std::erase(dead, 3);
  std::ranges::shuffle(dead, random);
  dead.resize(live.size() / 3);
  for (const int i : dead) mesh.node(name_of(i)).signal(SIGKILL);
  for (const int i : dead) {
    mesh.stop_node(name_of(i), SIGKILL);
    std::erase(live, i);
  }
  CHECK(eventually([&] { return mesh.listed(asker, "dir*/x").size() == live.size(); }));
  CHECK(get_some(live.size() / 2) == 0);
  look_at_channels();
  CHECK(most_channels > 0);
  CHECK(most_channels <= 64);
}

TEST_CASE("what a tracker does for a get is done without any: versions, links, globs, streams, archives, orders") {
  Trackerless mesh;
  const auto old = noise(300'000, 1), fresh = noise(350'000, 2);
  write_file(mesh.files("n0") / "foo", old);
  set_time(mesh.files("n0") / "foo", 1'600'000'000);
  write_file(mesh.files("n1") / "foo", fresh);
  set_time(mesh.files("n1") / "foo", 1'700'000'000);
  write_file(mesh.files("n1") / "vm/a.qcow2", noise(8 * mb, 3));
  write_file(mesh.files("n1") / "vm/deep/b.qcow2", "b");
  fs::create_symlink("a.qcow2", mesh.files("n1") / "vm/link");
  write_file(mesh.files("n1") / "dir[a]/x", "literal");
  write_file(mesh.files("n1") / "dira/x", "glob");
  mesh.begin_all({"n0", "n1", "n2", "n3"});
  CHECK(mesh.get("n2", {"--strict", "foo"}).status == 1);
  CHECK(mesh.get("n2", {"foo"}).status == 0);
  CHECK((read_file(mesh.files("n2") / "foo") == fresh));
  CHECK(mesh.get("n3", {"--from", "n0", "foo"}).status == 0);
  CHECK((read_file(mesh.files("n3") / "foo") == old));
  CHECK(mesh.get("n3", {"--from", "nobody", "foo"}).status == 3);
  CHECK(eventually([&] {
    return json::parse(mesh.file("n0", {"info", "foo", "--json"}).out).at("versions").size() == 2;
  }));
  CHECK(says(mesh.file("n0", {"list"}), "foo  (2 versions)"));
  // Two at once, of what nobody has hashed; links; globs; a whole tree.
  auto other = mesh.start({program("meshget"), "--files", mesh.files("n3").string(), "vm/link"}, "get");
  CHECK(mesh.get("n2", {"vm/link"}).status == 0);
  CHECK(other->wait(seconds(60)) == 0);
  for (const char* node : {"n2", "n3"}) CHECK((read_file(mesh.files(node) / "vm/a.qcow2") == noise(8 * mb, 3)));
  CHECK(mesh.get("n0", {"vm/**/*.qcow2"}).status == 0);
  CHECK(read_file(mesh.files("n0") / "vm/deep/b.qcow2") == "b");
  CHECK(mesh.get("n0", {"dir[a]"}).status == 0);
  CHECK(read_file(mesh.files("n0") / "dir[a]/x") == "literal");
  CHECK_FALSE(fs::exists(mesh.files("n0") / "dira"));
  CHECK((mesh.file("n0", {"stream", "vm/a.qcow2"}).out == noise(8 * mb, 3)));
  REQUIRE(mesh.run({"tar", "-C", mesh.root().string(), "-cf", (mesh.files("n1") / "t.tar").string(), "n1/vm"}).status ==
          0);
  CHECK(eventually([&] { return mesh.get("n2", {"tar:t.tar"}).status == 0; }));
  // Orders, to named nodes and to all.
  CHECK(mesh.file("n0", {"get", "--on", "n2,n3", "vm/deep"}).status == 0);
  CHECK(eventually([&] { return fs::exists(mesh.files("n3") / "vm/deep/b.qcow2"); }));
  CHECK(mesh.file("n0", {"get", "--on", "n9", "vm/deep"}).status == 3);
  const auto gone = mesh.file("n0", {"delete", "--mesh", "vm/deep"});
  CHECK(gone.status == 0);
  for (const char* node : {"n0", "n1", "n2", "n3"}) CHECK_FALSE(fs::exists(mesh.files(node) / "vm/deep"));
  CHECK(eventually([&] { return mesh.file("n0", {"list", "vm/deep"}).status == 3; }));
  CHECK(mesh.get("n0", {"vm/deep"}).status == 3);
  // A path that another node has wins over the glob that it spells, in a delete as well.
  CHECK(mesh.file("n3", {"delete", "dir[a]/*"}).status == 3);
  // A head node decides, however old its file is.
  write_file(mesh.files("n4") / "foo", noise(320'000, 4));
  set_time(mesh.files("n4") / "foo", 1'500'000'000);
  mesh.begin("n4", {"--head"});
  REQUIRE(eventually([&] { return mesh.knows("n2", 4); }));
  CHECK(eventually(
      [&] { return mesh.get("n2", {"foo"}).status == 0 && read_file(mesh.files("n2") / "foo") == noise(320'000, 4); }));
}

TEST_CASE(
    "without any tracker: the only holder dies in mid-get, and the getters have it between them; news in moments") {
  Trackerless mesh;
  const auto bytes = noise(24 * mb, 1);
  write_file(mesh.files("n0") / "x", bytes);
  mesh.begin("n0", {"--max-up", megabytes_a_second(6)});
  for (const char* node : {"n1", "n2", "n3"}) mesh.begin(node);
  for (const char* node : {"n0", "n1", "n2", "n3"}) REQUIRE(eventually([&] { return mesh.knows(node, 3); }));
  std::vector<std::unique_ptr<Process>> gets;
  for (const char* node : {"n1", "n2", "n3"})
    gets.push_back(mesh.start({program("meshget"), "--files", mesh.files(node).string(), "--quiet", "x"}, "get"));
  CHECK(gets[0]->wait(seconds(60)) == 0);
  mesh.stop_node("n0", SIGKILL);
  for (std::size_t i = 1; i < gets.size(); ++i) CHECK(gets[i]->wait(seconds(60)) == 0);
  for (const char* node : {"n1", "n2", "n3"}) CHECK((read_file(mesh.files(node) / "x") == bytes));
  // What is new is found at once, though no keeper has heard of it; what is gone is not listed for long.
  write_file(mesh.files("n1") / "new", "new");
  CHECK(mesh.get("n2", {"new"}).status == 0);
  fs::remove(mesh.files("n1") / "new");
  fs::remove(mesh.files("n2") / "new");
  CHECK(eventually([&] { return mesh.file("n3", {"list", "new"}).status == 3; }));
  // A node that comes back from a restart has told nothing yet, and is a keeper no less.
  mesh.stop_node("n2", SIGTERM);
  write_file(mesh.files("n2") / "again", "again");
  mesh.begin("n2");
  CHECK(eventually([&] { return mesh.get("n3", {"again"}).status == 0; }));
}

TEST_CASE("other clients get a file without any tracker: they announce themselves to nodes") {
  Trackerless mesh;
  const auto bytes = noise(5 * mb, 1);
  write_file(mesh.files("n0") / "x.img", bytes);
  mesh.begin_all({"n0", "n1", "n2", "n3", "n4"});
  const auto made = mesh.file("n3", {"torrent", "x.img", "-o", (mesh.root() / "x.torrent").string()});
  INFO(made.err);
  REQUIRE(made.status == 0);
  const auto torrent = read_file(mesh.root() / "x.torrent");
  std::size_t trackers = 0;
  for (std::size_t at = 0; (at = torrent.find("/announce", at)) != std::string::npos; ++at) ++trackers;
  CHECK(trackers >= 3);
  const auto ran = mesh.run({"aria2c", "-q", "--no-conf", "--seed-time=0", "--enable-dht=false",
                             "--listen-port=" + std::to_string(33000 + ::getpid() % 1000), "-d", mesh.root().string(),
                             "--index-out=1=x.img", (mesh.root() / "x.torrent").string()});
  CHECK(ran.status == 0);
  CHECK((read_file(mesh.root() / "x.img") == bytes));
  // Any node answers, also one that does not keep the swarm.
  const auto json_of = json::parse(mesh.file("n3", {"torrent", "x.img", "--json"}).out);
  const auto infohash = json_of.at("infohash").get<std::string>();
  std::string quoted;
  for (std::size_t i = 0; i < infohash.size(); i += 2) quoted += "%" + infohash.substr(i, 2);
  for (const char* node : {"n0", "n1", "n2", "n3", "n4"}) {
    const auto listen = mesh.listen(node);
    const auto port = std::stoi(listen.substr(listen.rfind(':') + 1)) + 1;
    const auto answer = mesh.run({"curl", "-s",
                                  "http://127.0.0.1:" + std::to_string(port) + "/announce?info_hash=" + quoted +
                                      "&port=1&left=5000000&event=started&compact=1&peer_id=" + std::string(20, 'x')});
    INFO(node << ": " << answer.out);
    CHECK(answer.out.find("5:peers") != std::string::npos);
    CHECK(answer.out.find("8:completei1e") != std::string::npos);
  }
}
