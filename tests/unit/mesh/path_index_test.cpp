// The path index of a whole mesh in one process: tellers, keepers and walks over real channels, with a clock of its own
// only where the code takes one.
#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <map>
#include <set>

#include "core/member_list.h"
#include "core/path_walk.h"
#include "mesh/index_teller.h"
#include "mesh/index_walk.h"
#include "mesh/keeper_links.h"
#include "test.h"
#include "tracker.h"
#include "wire/identity.h"

using namespace mesh;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

namespace {

FileEntry entry(const std::string& path, Kind kind = Kind::file) {
  FileEntry out;
  out.path = path;
  out.kind = kind;
  out.size = kind == Kind::file ? 1000 : 0;
  out.mtime = 1'700'000'000'000'000'000;
  out.mode = 0644;
  return out;
}

struct SimNode;

struct SimMesh {
  explicit SimMesh(int count, DirectoryIndex::Options index = {.loss_lease = milliseconds(50)});
  ~SimMesh();
  SimMesh(const SimMesh&) = delete;
  SimMesh& operator=(const SimMesh&) = delete;
  /// Until `is_so`, or for so long; what it is then.
  bool run_until(const std::function<bool()>& is_so, milliseconds limit = seconds(20));
  template <class T>
  T run(Task<T> work) {
    std::optional<T> out;
    std::exception_ptr trouble;
    bool over = false;
    auto body = [](Task<T> task, std::optional<T>& result, std::exception_ptr& fault, bool& done) -> Task<void> {
      try {
        result = co_await std::move(task);
      } catch (...) {
        fault = std::current_exception();
      }
      done = true;
    };
    spawn(io, body(std::move(work), out, trouble, over));
    run_until([&] { return over; }, seconds(30));
    if (trouble) std::rethrow_exception(trouble);
    return std::move(*out);
  }
  void kill(std::size_t number);
  /// The first `count` nodes and the others do not reach each other any more.
  void part(std::size_t count);
  /// They do again, and gossip has found that out.
  void heal();
  [[nodiscard]] std::set<std::string> live_paths() const;

  asio::io_context io{1};
  std::vector<std::unique_ptr<SimNode>> nodes;
  std::map<std::string, SimNode*> by_instance;
};

struct SimNode {
  SimNode(SimMesh& whole, int number, std::int64_t keeps, DirectoryIndex::Options index)
      : mesh(whole),
        index_options(index),
        identity(seed(number)),
        self(member(number, identity.instance(), keeps)),
        list(identity.instance()),
        tracker(std::make_unique<Tracker>(whole.io, options())),
        links(whole.io, link_facts(), handlers),
        teller(whole.io, teller_facts(), links),
        walk(whole.io, walk_facts(), links) {}
  static Digest<32> seed(int number) {
    Digest<32> out;
    out.bytes[0] = static_cast<char>(number + 1);
    out.bytes[1] = 7;
    return out;
  }
  static Member member(int number, const std::string& instance, std::int64_t keeps) {
    Member out;
    out.instance = instance;
    out.node = "n" + std::to_string(number);
    out.addresses = {"127.0.0.1"};
    out.peer_port = 1;
    out.channel_port = 2;
    out.keeps = keeps;
    return out;
  }
  TrackerOptions options() {
    TrackerOptions out;
    out.role = Members::Role::keeper;
    out.keepers = [this](const std::string& directory) { return keepers(ring_key(directory), keepers_of_each); };
    out.prove = [this](const Channel& channel, Welcome& welcome) {
      welcome.public_key = identity.public_key();
      welcome.proof = identity.prove(Welcome::name, channel.binding());
    };
    out.index = index_options;
    return out;
  }
  Hello hello() const {
    Hello out;
    out.version = protocol_version;
    out.instance = identity.instance();
    out.public_key = identity.public_key();
    out.node = self.node;
    out.addresses = self.addresses;
    out.peer_port = self.peer_port;
    out.channel_port = self.channel_port;
    out.run = std::string(64, '1');
    return out;
  }
  std::vector<Member> keepers(std::uint64_t key, std::size_t count) {
    std::vector<std::string> all;
    for (const auto& one : list.keepers(Clock::now())) all.push_back(one.instance);
    if (self.keeps >= 0) all.push_back(self.instance);
    std::vector<Member> out;
    for (const auto& instance : KeeperRing(all).keepers(key, count)) {
      if (instance == self.instance)
        out.push_back(self);
      else
        out.push_back(*list.find(instance, Clock::now()));
    }
    return out;
  }
  Task<ChannelPtr> open_to(SimNode* other) {
    const auto ends = co_await make_channel_pair("a node", "the index");
    auto serve = [](SimNode* at, ChannelPtr end) -> Task<void> {
      at->served.insert(end);
      co_await at->tracker->serve(end);
      at->served.erase(end);
      end->close();
    };
    spawn(mesh.io, serve(other, ends.far));
    co_return ends.near;
  }
  KeeperLinks::Facts link_facts() {
    KeeperLinks::Facts out;
    out.hello = [this] { return hello(); };
    out.prove = [this](const Channel& channel) { return identity.prove(Hello::name, channel.binding()); };
    out.connect = [this](Member to, std::string) -> Task<ChannelPtr> {
      const auto it = mesh.by_instance.find(to.instance);
      ++connects;
      if (it == mesh.by_instance.end() || it->second->dead || it->second->half != half) co_return nullptr;
      co_return co_await open_to(it->second);
    };
    out.connect_within = [this] { return open_to(this); };
    out.missed = [this](const std::string& instance) { list.missed(instance, Clock::now()); };
    out.taken = [](const std::string&, const Welcome&) {};
    out.is_needed = [this](const std::string& instance) { return teller.is_keeper(instance); };
    return out;
  }
  IndexTeller::Facts teller_facts() {
    IndexTeller::Facts out;
    out.page = [this](std::string_view after, std::size_t limit) {
      std::vector<FileEntry> page;
      for (auto at = files.upper_bound(std::string(after)); at != files.end() && page.size() < limit; ++at)
        page.push_back(at->second);
      return page;
    };
    out.list = [this](std::string_view directory, std::string_view after, std::size_t limit) {
      std::vector<FileEntry> page;
      list_paths(files, directory, "", after, [&](const auto& at) {
        page.push_back(at->second);
        return page.size() < limit;
      });
      return page;
    };
    out.find = [this](std::string_view path) -> std::optional<FileEntry> {
      const auto at = files.find(path);
      return at == files.end() ? std::nullopt : std::optional(at->second);
    };
    out.keepers = [this](std::uint64_t key) { return keepers(key, keepers_of_each); };
    out.changes = [this] { return list.changes() + own_changes; };
    out.may_rest = [](const std::string&) { return true; };
    out.log = [](const LogLine&) {};
    return out;
  }
  IndexWalk::Facts walk_facts() {
    IndexWalk::Facts out;
    out.keepers = [this](std::uint64_t key, std::size_t count) { return keepers(key, count); };
    out.some = [this](std::size_t most) { return list.choose(most, random); };
    out.reference = [](const Member& one) {
      return NodeRef{0, one.node, one.addresses, one.peer_port, one.channel_port, one.instance};
    };
    out.find = [this](const std::string& instance) { return list.find(instance, Clock::now()); };
    out.may_ask = [](const Member&) { return true; };
    out.known = [this] { return list.size(); };
    return out;
  }
  void put(const std::string& path, Kind kind = Kind::file) {
    files[path] = entry(path, kind);
    InventoryDelta delta;
    delta.put.push_back(files[path]);
    teller.changed(delta);
  }
  void remove(const std::string& path) {
    files.erase(path);
    InventoryDelta delta;
    delta.removed.push_back(path);
    teller.changed(delta);
  }
  std::set<std::string> paths_of(CoverAsk asked) {
    std::set<std::string> out;
    for (const auto& version : mesh.run(walk.cover(std::move(asked))).versions)
      if (version.entry.kind == Kind::file) out.insert(version.entry.path);
    return out;
  }
  std::set<std::string> glob(const std::string& pattern) {
    CoverAsk asked;
    asked.pattern = pattern;
    asked.glob = true;
    asked.below = true;
    return paths_of(asked);
  }
  std::set<std::string> below(const std::string& path) {
    CoverAsk asked;
    asked.pattern = path;
    asked.below = true;
    return paths_of(asked);
  }

  SimMesh& mesh;
  DirectoryIndex::Options index_options;
  Identity identity;
  Member self;
  MemberList list;
  std::mt19937 random{1};
  std::map<std::string, FileEntry, std::less<>> files;
  Handlers handlers;
  std::unique_ptr<Tracker> tracker;
  std::set<ChannelPtr> served;
  int connects = 0;
  std::uint64_t own_changes = 0;
  bool dead = false;
  int half = 0;  ///< of a mesh that is parted
  KeeperLinks links;
  IndexTeller teller;
  IndexWalk walk;
};

SimMesh::SimMesh(int count, DirectoryIndex::Options index) {
  for (int i = 0; i < count; ++i) {
    nodes.push_back(std::make_unique<SimNode>(*this, i, 1000, index));
    by_instance[nodes.back()->self.instance] = nodes.back().get();
  }
  for (const auto& node : nodes)
    for (const auto& other : nodes)
      if (node != other) node->list.hear(other->self, Clock::now());
}

SimMesh::~SimMesh() {
  for (std::size_t i = 0; i < nodes.size(); ++i) kill(i);
  run_until([] { return false; }, milliseconds(300));
}

bool SimMesh::run_until(const std::function<bool()>& is_so, milliseconds limit) {
  io.restart();
  const auto until = Clock::now() + limit;
  // Asked once a turn: what was so may not be so any more, and asking may itself let time pass.
  while (!is_so()) {
    if (Clock::now() >= until) return false;
    io.run_for(milliseconds(5));
    io.restart();
  }
  return true;
}

void SimMesh::kill(std::size_t number) {
  auto& node = *nodes[number];
  if (std::exchange(node.dead, true)) return;
  node.teller.close();
  node.links.close();
  for (const auto& channel : std::set<ChannelPtr>(node.served)) channel->close();
}

void SimMesh::part(std::size_t count) {
  for (std::size_t i = 0; i < nodes.size(); ++i) nodes[i]->half = i < count ? 1 : 2;
  for (const auto& node : nodes)
    for (const auto& channel : std::set<ChannelPtr>(node->served)) channel->close();
  for (const auto& node : nodes)
    for (const auto& other : nodes)
      if (node->half != other->half) node->list.missed(other->self.instance, Clock::now());
}

void SimMesh::heal() {
  for (const auto& node : nodes) node->half = 0;
  for (const auto& node : nodes)
    for (const auto& other : nodes) node->list.reached(other->self.instance, Clock::now());
}

std::set<std::string> SimMesh::live_paths() const {
  std::set<std::string> out;
  for (const auto& node : nodes)
    if (!node->dead)
      for (const auto& [path, one] : node->files)
        if (one.kind == Kind::file) out.insert(path);
  return out;
}

}  // namespace

TEST_CASE("path index: what any node has is found by any other; a third of them die, and what lives is found again") {
  SimMesh mesh(30);
  for (int i = 0; i < 30; ++i) {
    auto& node = *mesh.nodes[static_cast<std::size_t>(i)];
    const auto n = std::to_string(i);
    for (const auto& path : {std::string("shared"), "own" + n}) node.put(path, Kind::directory);
    for (const auto& path : {"root" + n, "shared/s" + n, "own" + n + "/x", "own" + n + "/y"}) node.put(path);
    node.teller.begin();
  }
  const auto all_told = [&] {
    return std::ranges::all_of(mesh.nodes, [](const auto& node) { return node->dead || node->teller.is_told(); });
  };
  REQUIRE(mesh.run_until(all_told));
  auto& asker = *mesh.nodes[3];
  CHECK(asker.below("") == mesh.live_paths());
  CHECK(asker.below("shared").size() == 30);
  CHECK(asker.below("own17") == std::set<std::string>{"own17/x", "own17/y"});
  CHECK(asker.below("root5") == std::set<std::string>{"root5"});
  CHECK(asker.below("none").empty());
  CHECK(asker.glob("own1?/x").size() == 10);
  CHECK(asker.glob("**/y").size() >= 30);
  CHECK(asker.glob("root[0-4]") == std::set<std::string>{"root0", "root1", "root2", "root3", "root4"});
  for (std::size_t i = 0; i < 10; ++i) mesh.kill(i * 3 + 1);
  const auto found_again = [&] {
    if (!all_told()) return false;
    return asker.below("") == mesh.live_paths();
  };
  CHECK(mesh.run_until(found_again));
  for (const auto& node : mesh.nodes)
    if (!node->dead) CHECK(node->links.size() <= KeeperLinks::most_open);
}

TEST_CASE("path index: changes, directories that go and come back, a name that looks like a glob") {
  SimMesh mesh(5);
  auto& teller = *mesh.nodes[0];
  auto& asker = *mesh.nodes[4];
  for (const auto& node : mesh.nodes) node->teller.begin();
  teller.put("d", Kind::directory);
  teller.put("d/a");
  const auto finds = [&](const std::set<std::string>& wanted) {
    return mesh.run_until([&] { return asker.below("d") == wanted; }, seconds(8));
  };
  CHECK(finds({"d/a"}));
  teller.put("d/b");
  teller.remove("d/a");
  CHECK(finds({"d/b"}));
  teller.remove("d/b");
  teller.remove("d");
  CHECK(finds({}));
  teller.put("d", Kind::directory);
  teller.put("d/c");
  CHECK(finds({"d/c"}));
  teller.put("d/[x]");
  teller.put("d/x");
  CHECK(finds({"d/c", "d/[x]", "d/x"}));
  const auto spelt = asker.glob("d/[x]");
  CHECK(spelt.contains("d/[x]"));  // the path that is there; the question's own reading comes later
  // Many at once: more than one message takes.
  for (int i = 0; i < 4'500; ++i) teller.put("d/many" + std::to_string(i));
  CHECK(mesh.run_until([&] { return asker.below("d").size() == 4'503; }, seconds(15)));
}

TEST_CASE("path index: a keeper that is new is told before it is asked alone, and one that is lost is replaced") {
  SimMesh mesh(6);
  auto& teller = *mesh.nodes[0];
  auto& asker = *mesh.nodes[5];
  for (const auto& node : mesh.nodes) node->teller.begin();
  teller.put("d", Kind::directory);
  teller.put("d/a");
  REQUIRE(mesh.run_until([&] { return asker.below("d").size() == 1; }, seconds(8)));
  // All its keepers go, one by one: each time others take over.
  for (int round = 0; round < 3; ++round) {
    const auto keepers = asker.keepers(ring_key("d"), keepers_of_each);
    for (const auto& keeper : keepers) {
      auto* node = mesh.by_instance.at(keeper.instance);
      if (node == &teller || node == &asker) continue;
      for (std::size_t i = 0; i < mesh.nodes.size(); ++i)
        if (mesh.nodes[i].get() == node) mesh.kill(i);
      break;
    }
    CHECK(mesh.run_until([&] { return asker.below("d") == std::set<std::string>{"d/a"}; }, seconds(8)));
  }
  CHECK(std::ranges::count_if(mesh.nodes, [](const auto& node) { return node->dead; }) == 3);
}

TEST_CASE("path index: two halves that do not reach each other each find their own, and all when that has healed") {
  SimMesh mesh(12);
  for (int i = 0; i < 12; ++i) {
    auto& node = *mesh.nodes[static_cast<std::size_t>(i)];
    node.put("d", Kind::directory);
    node.put("d/f" + std::to_string(i));
    node.teller.begin();
  }
  auto& left = *mesh.nodes[0];
  auto& right = *mesh.nodes[11];
  REQUIRE(mesh.run_until([&] { return left.below("d").size() == 12; }));
  mesh.part(5);
  CHECK(mesh.run_until([&] { return left.below("d").size() == 5 && right.below("d").size() == 7; }));
  left.put("d/left");
  right.put("d/right");
  CHECK(mesh.run_until([&] { return left.below("d").size() == 6 && right.below("d").size() == 8; }));
  mesh.heal();
  CHECK(mesh.run_until([&] { return left.below("d").size() == 14 && right.below("d").size() == 14; }));
}

TEST_CASE("path index: where no keeper answers that is an error, and no empty answer") {
  SimMesh mesh(3);
  mesh.nodes[2]->self.keeps = -1;
  mesh.kill(0);
  mesh.kill(1);
  Status status = Status::ok;
  try {
    static_cast<void>(mesh.nodes[2]->below(""));
  } catch (const Error& error) {
    status = error.status();
  }
  CHECK(status == Status::unreachable);
}

TEST_CASE("path index: a keeper of few channels has nodes hang up; what they told stands, and changes still come") {
  DirectoryIndex::Options options;
  options.loss_lease = milliseconds(50);
  options.max_channels = 2;
  SimMesh mesh(8, options);
  for (const auto& node : mesh.nodes) node->teller.begin();
  for (int i = 0; i < 8; ++i) {
    mesh.nodes[static_cast<std::size_t>(i)]->put("d", Kind::directory);
    mesh.nodes[static_cast<std::size_t>(i)]->put("d/f" + std::to_string(i));
  }
  auto& asker = *mesh.nodes[7];
  CHECK(mesh.run_until([&] { return asker.below("d").size() == 8; }, seconds(8)));
  const auto connects = [&] {
    int out = 0;
    for (const auto& node : mesh.nodes) out += node->connects;
    return out;
  };
  // No to and fro: who has nothing to say does not come again.
  mesh.run_until([] { return false; }, milliseconds(1500));
  const auto before = connects();
  mesh.run_until([] { return false; }, milliseconds(2500));
  CHECK(connects() - before <= 8);
  CHECK(asker.below("d").size() == 8);
  mesh.nodes[0]->put("d/late");
  CHECK(mesh.run_until([&] { return asker.below("d").size() == 9; }, seconds(8)));
}

TEST_CASE("path index: who answers in a keeper's place and cannot prove to be it is not believed") {
  SimMesh mesh(4);
  for (const auto& node : mesh.nodes) node->teller.begin();
  auto& asker = *mesh.nodes[0];
  auto& honest = *mesh.nodes[1];
  auto& liar = *mesh.nodes[2];
  mesh.by_instance[honest.self.instance] = &liar;  // somebody has said that it is there
  Status status = Status::ok;
  auto reach = [](KeeperLinks& links, Member to) -> Task<int> {
    static_cast<void>(co_await links.to(std::move(to)));
    co_return 0;
  };
  try {
    static_cast<void>(mesh.run(reach(asker.links, honest.self)));
  } catch (const Error& error) {
    status = error.status();
    CHECK(std::string(error.what()).find("somebody else is there") != std::string::npos);
  }
  CHECK(status == Status::unreachable);
  CHECK(asker.links.number_of(honest.self.instance) == 0);
}
