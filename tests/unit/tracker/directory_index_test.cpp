// What a keeper is told and says: the tracker's room over channels to nodes that do as they are told here.
#include "directory_index.h"

#include "rooms.h"
#include "test.h"

using namespace mesh;
using namespace mesh::test;
using std::chrono::milliseconds;

namespace {

struct IndexRooms : Rooms {
  explicit IndexRooms(DirectoryIndex::Options options = {})
      : index(
            members, [](const std::string&) { return std::vector<Member>(); }, options) {
    members.on_left = [this](NodeKey node) { index.left(node); };
  }
  /// A node that has told all of `entries`.
  Task<FakeNodePtr> teller(char first, const std::string& name, Files entries) {
    auto node = co_await join(first, name);
    IndexTell said = whole(entries);
    static_cast<void>(co_await index.tell(node->tracker, said));
    co_return node;
  }
  static IndexTell whole(const Files& entries, std::int64_t stamp = 1) {
    std::map<std::string, DirectoryPart> parts;
    for (const auto& entry : entries) {
      auto& part = parts[std::string(parent_path(entry.path))];
      part.directory = std::string(parent_path(entry.path));
      part.stamp = stamp;
      part.begin = part.end = true;
      part.put.push_back(entry);
    }
    IndexTell out;
    for (auto& [name, part] : parts) out.parts.push_back(std::move(part));
    return out;
  }
  static IndexAsk about(const std::string& directory, const std::string& only = {}, bool glob = false) {
    IndexAsk out;
    out.questions.push_back({directory, only, glob, {}});
    return out;
  }
  /// Paths, each with how many nodes have it.
  Task<std::map<std::string, std::int64_t>> listed(IndexAsk question) {
    std::map<std::string, std::int64_t> out;
    const Indexed heard = co_await index.ask(asker->tracker, question);
    for (const auto& directory : heard.directories)
      for (const auto& version : directory.versions) out[version.entry.path] += version.count;
    co_return out;
  }
  FakeNodePtr asker;
  DirectoryIndex index;
};

using Paths = std::map<std::string, std::int64_t>;

}  // namespace

TEST_CASE("index: what is directly in a directory, by name, by glob, with who has which version") {
  IndexRooms rooms;
  auto work = [&rooms]() -> Task<void> {
    rooms.asker = co_await rooms.join('z', "asker");
    Files of_a = {file("d/x", 'v'), file("d/y"), file("other")};
    Files of_b = {file("d/x", 'v'), file("d/y", 'w')};
    const auto a = co_await rooms.teller('a', "a", of_a);
    const auto b = co_await rooms.teller('b', "b", of_b);
    const Paths all = co_await rooms.listed(IndexRooms::about("d"));
    CHECK(all == Paths{{"d/x", 2}, {"d/y", 2}});
    const Paths root = co_await rooms.listed(IndexRooms::about(""));
    CHECK(root == Paths{{"other", 1}});
    const Paths one = co_await rooms.listed(IndexRooms::about("d", "x"));
    CHECK(one == Paths{{"d/x", 2}});
    const Paths some = co_await rooms.listed(IndexRooms::about("d", "[yz]", true));
    CHECK(some == Paths{{"d/y", 2}});
    const auto question = IndexRooms::about("d", "y");
    const Indexed heard = co_await rooms.index.ask(rooms.asker->tracker, question);
    REQUIRE(heard.directories.size() == 1);
    REQUIRE(heard.directories[0].versions.size() == 2);  // a's has no id
    for (const auto& version : heard.directories[0].versions) {
      REQUIRE(version.nodes.size() == 1);
      CHECK(heard.nodes.at(version.nodes[0]).node.name == (version.entry.id.is_set() ? "b" : "a"));
    }
    // Of one that is not there: who has anything in that directory.
    const auto absent = IndexRooms::about("d", "none");
    const Indexed none = co_await rooms.index.ask(rooms.asker->tracker, absent);
    CHECK(none.directories.at(0).is_known);
    CHECK(none.directories.at(0).tellers.size() == 2);
    const auto nowhere = IndexRooms::about("nowhere");
    const Indexed unknown = co_await rooms.index.ask(rooms.asker->tracker, nowhere);
    CHECK_FALSE(unknown.directories.at(0).is_known);
  };
  rooms.run(work);
}

TEST_CASE("index: changes, a directory told anew, and one that is forgotten") {
  IndexRooms rooms;
  auto work = [&rooms]() -> Task<void> {
    rooms.asker = co_await rooms.join('z', "asker");
    Files entries = {file("d/x"), file("d/y")};
    const auto a = co_await rooms.teller('a', "a", entries);
    IndexTell change;
    change.parts.push_back({"d", 2, false, false, {file("d/z"), file("d/x", 'v')}, {"d/y"}});
    const IndexTold told = co_await rooms.index.tell(a->tracker, change);
    CHECK(told.wanted.empty());
    Paths now = co_await rooms.listed(IndexRooms::about("d"));
    CHECK(now == Paths{{"d/x", 1}, {"d/z", 1}});
    // What it should know, and does or does not.
    IndexTell compare;
    compare.have = {{"d", 2}, {"e", 7}};
    const IndexTold differs = co_await rooms.index.tell(a->tracker, compare);
    CHECK(differs.wanted == std::vector<std::string>{"e"});
    // A change of what it was never told of is not a directory.
    IndexTell early;
    early.parts.push_back({"e", 8, false, false, {file("e/x")}, {}});
    const IndexTold wants = co_await rooms.index.tell(a->tracker, early);
    CHECK(wants.wanted == std::vector<std::string>{"e"});
    now = co_await rooms.listed(IndexRooms::about("e"));
    CHECK(now.empty());
    Files fresh = {file("d/n")};
    const auto anew = IndexRooms::whole(fresh, 3);
    static_cast<void>(co_await rooms.index.tell(a->tracker, anew));
    now = co_await rooms.listed(IndexRooms::about("d"));
    CHECK(now == Paths{{"d/n", 1}});
    IndexTell forget;
    forget.forget = {"d"};
    static_cast<void>(co_await rooms.index.tell(a->tracker, forget));
    now = co_await rooms.listed(IndexRooms::about("d"));
    CHECK(now.empty());
    CHECK(rooms.index.copies() == 0);
    CHECK(rooms.index.directories() == 0);
  };
  rooms.run(work);
}

TEST_CASE("index: what a node told goes with it, soon, or where it hung up on purpose, late") {
  DirectoryIndex::Options options;
  options.loss_lease = milliseconds(30);
  options.rest_lease = milliseconds(300);
  IndexRooms rooms(options);
  auto work = [&rooms]() -> Task<void> {
    rooms.asker = co_await rooms.join('z', "asker");
    Files of_a = {file("d/a")};
    Files of_b = {file("d/b")};
    const auto a = co_await rooms.teller('a', "a", of_a);
    const auto b = co_await rooms.teller('b', "b", of_b);
    rooms.index.rest(b->tracker);
    rooms.leave(a);
    rooms.leave(b);
    Paths now = co_await rooms.listed(IndexRooms::about("d"));
    CHECK(now == Paths{{"d/a", 1}, {"d/b", 1}});  // it may be back in a moment
    co_await sleep_for(milliseconds(60));
    now = co_await rooms.listed(IndexRooms::about("d"));
    CHECK(now == Paths{{"d/b", 1}});
    co_await sleep_for(milliseconds(300));
    now = co_await rooms.listed(IndexRooms::about("d"));
    CHECK(now.empty());
    co_await sleep_for(milliseconds(10));
    CHECK(rooms.index.copies() == 0);
  };
  rooms.run(work);
}

TEST_CASE("index: another run of a node has told nothing yet") {
  IndexRooms rooms;
  auto work = [&rooms]() -> Task<void> {
    rooms.asker = co_await rooms.join('z', "asker");
    Files before = {file("d/old")};
    const auto a = co_await rooms.teller('a', "a", before);
    rooms.leave(a);
    auto again = co_await rooms.open('a');
    auto hello = again->hello("a");
    hello.run = std::string(64, '2');
    static_cast<void>(rooms.members.enlist(again->tracker, hello));
    rooms.nodes.push_back(again);
    IndexTell compare;
    compare.have = {{"d", 1}};
    const IndexTold told = co_await rooms.index.tell(again->tracker, compare);
    CHECK(told.wanted.size() == 1);
    co_await sleep_for(milliseconds(10));
    const Paths now = co_await rooms.listed(IndexRooms::about("d"));
    CHECK(now.empty());
  };
  rooms.run(work);
}

TEST_CASE("index: nonsense is passed over, and there is a limit for each node and for all") {
  DirectoryIndex::Options options;
  options.max_copies_of_one = 10;
  options.max_copies = 15;
  IndexRooms rooms(options);
  auto work = [&rooms]() -> Task<void> {
    rooms.asker = co_await rooms.join('z', "asker");
    IndexTell odd;
    odd.parts.push_back({"../up", 1, true, true, {file("../up/x")}, {}});
    odd.parts.push_back({"d", 1, true, true, {file("elsewhere/x"), file("/d/x"), file("d/y", 0, -5)}, {}});
    const auto a = co_await rooms.join('a', "a");
    static_cast<void>(co_await rooms.index.tell(a->tracker, odd));
    CHECK(rooms.index.copies() == 0);
    Files many;
    for (int i = 0; i < 20; ++i) many.push_back(file("d/" + std::to_string(i)));
    const auto all = IndexRooms::whole(many);
    const IndexTold full = co_await rooms.index.tell(a->tracker, all);
    CHECK(full.is_full);
    CHECK(rooms.index.copies() == 9);  // its directory counts, too
    const auto b = co_await rooms.join('b', "b");
    const IndexTold fuller = co_await rooms.index.tell(b->tracker, all);
    CHECK(fuller.is_full);
    CHECK(rooms.index.copies() == 15);
    // One who has not said hello tells nothing.
    const auto stranger = co_await rooms.open('s');
    rooms.nodes.push_back(stranger);
    bool refused = false;
    try {
      static_cast<void>(co_await rooms.index.tell(stranger->tracker, all));
    } catch (const Error& error) {
      refused = error.status() == Status::refused;
    }
    CHECK(refused);
  };
  rooms.run(work);
}

TEST_CASE("index: long directories come in pages, and nothing is missing or twice") {
  IndexRooms rooms;
  auto work = [&rooms]() -> Task<void> {
    rooms.asker = co_await rooms.join('z', "asker");
    const auto a = co_await rooms.join('a', "a");
    constexpr int count = 5'000;
    for (int from = 0; from < count; from += 1000) {
      IndexTell said;
      DirectoryPart part{"d", 1, from == 0, from + 1000 == count, {}, {}};
      for (int i = from; i < from + 1000; ++i) part.put.push_back(file("d/" + std::to_string(100'000 + i)));
      said.parts.push_back(std::move(part));
      static_cast<void>(co_await rooms.index.tell(a->tracker, said));
    }
    std::set<std::string> seen;
    int pages = 0;
    int items = 0;
    auto question = IndexRooms::about("d");
    question.questions.push_back({"d", "100000", false, {}});
    for (bool more = true; more; ++pages) {
      const Indexed heard = co_await rooms.index.ask(rooms.asker->tracker, question);
      REQUIRE_FALSE(heard.directories.empty());
      for (const auto& version : heard.directories[0].versions) seen.insert(version.entry.path), ++items;
      more = !heard.directories[0].next.empty();
      question.questions[0].after = heard.directories[0].next;
    }
    CHECK(pages == 3);
    CHECK(items == count);
    CHECK(seen.size() == count);
  };
  rooms.run(work);
}

TEST_CASE("index: a directory that 3,000 nodes have alike names some of them, and counts all") {
  IndexRooms rooms;
  auto work = [&rooms]() -> Task<void> {
    rooms.asker = co_await rooms.join('z', "asker");
    for (int i = 0; i < 3'000; ++i) {
      Hello hello;
      Digest<32> own;
      own.bytes[0] = static_cast<char>(i % 251);
      own.bytes[1] = static_cast<char>(i / 251 + 1);
      const Identity identity(own);
      const auto ends = co_await make_channel_pair("keeper", "node");
      hello.version = protocol_version;
      hello.instance = identity.instance();
      hello.public_key = identity.public_key();
      hello.proof = identity.prove(Hello::name, ends.near->binding());
      hello.node = "n" + std::to_string(i);
      hello.addresses = {"10.0.0.1"};
      hello.advertised = true;
      hello.peer_port = hello.channel_port = 6881;
      static_cast<void>(rooms.members.enlist(ends.near, hello));
      Files entries;
      for (int k = 0; k < 20; ++k) entries.push_back(file("f" + std::to_string(k), 'v'));
      const auto said = IndexRooms::whole(entries);
      static_cast<void>(co_await rooms.index.tell(ends.near, said));
      rooms.index.rest(ends.near);
      rooms.members.closed(ends.near);
    }
    const auto question = IndexRooms::about("");
    const Indexed heard = co_await rooms.index.ask(rooms.asker->tracker, question);
    REQUIRE(heard.directories.at(0).versions.size() == 20);
    CHECK(heard.directories[0].versions[0].count == 3'000);
    CHECK(heard.directories[0].versions[0].nodes.size() == most_index_holders);
    CHECK(heard.nodes.size() <= 20 * most_index_holders);
  };
  rooms.run(work);
}
