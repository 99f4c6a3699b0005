// The tracker's rooms, each over channels to nodes that do as they are told here.
#include "rooms.h"

using namespace mesh;
using namespace mesh::test;

TEST_CASE("members: a hello counts once, in this version, and when it is proven") {
  Rooms rooms;
  rooms.run([&]() -> Task<void> {
    const auto node = co_await rooms.open('a');
    auto old = node->hello("n1");
    old.version = protocol_version - 1;
    CHECK(status_of([&] { rooms.members.enlist(node->tracker, old); }) == Status::refused);
    auto liar = node->hello("n1");
    liar.proof[0] ^= 1;
    CHECK(status_of([&] { rooms.members.enlist(node->tracker, liar); }) == Status::refused);
    auto named = node->hello("n1");
    named.node = "n#1";
    CHECK(status_of([&] { rooms.members.enlist(node->tracker, named); }) == Status::refused);
    CHECK(rooms.members.size() == 0);
    CHECK(status_of([&] { rooms.members.enlist(node->tracker, node->hello("n1")); }) == Status::ok);
    CHECK(status_of([&] { rooms.members.enlist(node->tracker, node->hello("n1")); }) == Status::refused);
    CHECK(rooms.members.size() == 1);
    rooms.leave(node);
    CHECK(rooms.members.size() == 0);
    CHECK(rooms.left.size() == 1);
  });
}

TEST_CASE("members: a name is the first node's; another of that name is told apart, and says so in errors") {
  Rooms rooms;
  rooms.run([&]() -> Task<void> {
    const auto first = co_await rooms.join('a', "n1");
    const auto second = co_await rooms.join('b', "n1");
    const auto* other = rooms.members.of(second->tracker);
    REQUIRE(other != nullptr);
    const auto apart = "n1#" + second->identity.instance().substr(0, 8);
    CHECK(rooms.members.name_of(*other) == apart);
    CHECK(rooms.members.named("n1") == first->key);
    CHECK(rooms.members.named(apart) == second->key);
    CHECK(rooms.members.named(second->identity.instance()) == second->key);
    rooms.leave(first);
    // For a minute it may be back.
    CHECK_FALSE(rooms.members.named("n1"));
    CHECK(rooms.members.no_such_node("n1").find(apart) != std::string::npos);
    CHECK(rooms.members.no_such_node("n9") == "no node of this name is in the mesh");
    rooms.leave(second);
    CHECK(rooms.members.no_such_node("n1") == "has left the mesh");
    CHECK(rooms.members.absent().contains("n1"));
  });
}

TEST_CASE("members: a node that is back before it was missed takes its own place") {
  Rooms rooms;
  rooms.run([&]() -> Task<void> {
    const auto before = co_await rooms.join('a', "n1");
    const auto after = co_await rooms.join('a', "n1");
    CHECK(rooms.members.size() == 1);
    CHECK(rooms.left == std::vector<NodeKey>{before->key});
    CHECK_FALSE(before->tracker->is_open());
    CHECK(rooms.members.named("n1") == after->key);
  });
}

TEST_CASE("lookup: a path, its holders and where they are; what makes no sense is left out") {
  Rooms rooms;
  rooms.run([&]() -> Task<void> {
    const Files files1{file("d/x", 'x'), file("../x", 'x')};
    co_await rooms.join('a', "n1", files1);
    const Files files2{file("d/x", 'x'), file("d/y", 'y', 10)};
    co_await rooms.join('b', "n2", files2);
    const auto asker = co_await rooms.join('c', "n3");
    CHECK(rooms.lookup.path_count() == 2);
    const Resolved found = co_await rooms.lookup.resolve(asker->tracker, resolve_of("d"));
    REQUIRE(found.files.size() == 2);
    CHECK(found.files[0].entry.path == "d/x");
    CHECK(found.files[0].holders.size() == 2);
    CHECK(found.files[1].holders.size() == 1);
    CHECK(found.nodes.size() == 2);
    CHECK(found.nodes[0].addresses == std::vector<std::string>{"10.0.0." + std::to_string(int{'1'})});
    const auto trouble = co_await trouble_of(rooms.lookup.resolve(asker->tracker, resolve_of("e")));
    CHECK(trouble == "3 e: not found on any of 3 nodes");
    const auto bad = co_await trouble_of(rooms.lookup.resolve(asker->tracker, resolve_of("../x")));
    CHECK(bad.starts_with("2 "));
  });
}

TEST_CASE("lookup: what a node had counts no more from the moment that it is gone") {
  Rooms rooms;
  rooms.run([&]() -> Task<void> {
    const Files files3{file("x", 'x')};
    const auto holder = co_await rooms.join('a', "n1", files3);
    const auto other = co_await rooms.join('b', "n2");
    CHECK(rooms.lookup.holders(content('x'), size_of_file) == std::vector<NodeKey>{holder->key});
    rooms.leave(holder);
    CHECK(rooms.lookup.holders(content('x'), size_of_file).empty());
    const auto trouble = co_await trouble_of(rooms.lookup.resolve(other->tracker, resolve_of("x")));
    CHECK(trouble == "3 x: not found on any of 1 node");
    co_await sleep_for(std::chrono::milliseconds(20));
    CHECK(rooms.lookup.path_count() == 0);
  });
}

TEST_CASE("lookup: a node's paths are bounded, and it is told once") {
  Rooms rooms(2);
  int told = 0;
  rooms.run([&]() -> Task<void> {
    const auto node = co_await rooms.join('a', "n1");
    node->handlers.on_note<Notice>([&](const ChannelPtr&, const Notice& notice) {
      ++told;
      CHECK(notice.text.find("more than 2 paths") != std::string::npos);
    });
    InventoryDelta delta;
    for (const char* path : {"a", "b", "c", "d"}) delta.put.push_back(file(path, 'x'));
    rooms.lookup.take_inventory(node->tracker, delta);
    CHECK(rooms.lookup.path_count() == 2);
    delta = InventoryDelta();
    delta.removed = {"a"};
    delta.put = {file("e", 'x')};
    rooms.lookup.take_inventory(node->tracker, delta);
    CHECK(rooms.lookup.path_count() == 2);
    co_await until([&] { return told > 0; });
    co_await sleep_for(std::chrono::milliseconds(20));
    CHECK(told == 1);
  });
}

TEST_CASE("lookup: where the choice hangs on it, candidates are hashed first; who cannot says why") {
  Rooms rooms;
  rooms.run([&]() -> Task<void> {
    const Files files4{file("x"), file("y")};
    const auto one = co_await rooms.join('a', "n1", files4);
    const Files files5{file("x")};
    const auto two = co_await rooms.join('b', "n2", files5);
    const auto asker = co_await rooms.join('c', "n3");
    const auto answer = [&rooms](const FakeNodePtr& node) {
      node->handlers.on<HashFiles>([&rooms, node = node.get()](ChannelPtr, HashFiles asked) -> Task<Made> {
        Made out;
        InventoryDelta delta;
        for (auto& entry : asked.files) {
          const bool readable = entry.path != "y";
          if (readable) {
            entry.id = content('x');
            delta.put.push_back(entry);
          }
          out.errors.push_back(readable ? "" : "y: permission denied");
          out.files.push_back(entry);
        }
        rooms.lookup.take_inventory(node->tracker, delta);
        co_return out;
      });
    };
    answer(one);
    answer(two);
    const Resolved same = co_await rooms.lookup.resolve(asker->tracker, resolve_of("x"));
    REQUIRE(same.files.size() == 1);
    CHECK(same.files[0].problem.empty());
    CHECK(same.files[0].entry.id == content('x'));
    CHECK(same.files[0].holders.size() == 2);
    Resolve strict = resolve_of("y");
    strict.strict = true;
    const Resolved lone = co_await rooms.lookup.resolve(asker->tracker, strict);
    REQUIRE(lone.files.size() == 1);
    const bool is_told = lone.files[0].problem == "on n1: y: permission denied" || lone.files[0].problem.empty();
    CHECK(is_told);
  });
}

TEST_CASE("swarms: a getter joins once a holder has the torrent loaded, and is introduced to those that are ready") {
  Rooms rooms;
  rooms.run([&]() -> Task<void> {
    const Files files6{file("x", 'x')};
    const auto holder = co_await rooms.join('a', "n1", files6);
    const auto first = co_await rooms.join('b', "n2");
    const auto second = co_await rooms.join('c', "n3");
    int loads = 0;
    holder->handlers.on<Seed>([&](ChannelPtr, Seed asked) -> Task<Torrent> {
      ++loads;
      co_return torrent_of(asked.id);
    });
    PrepareSwarm question;
    question.file = file("x", 'x');
    const Torrent torrent = co_await rooms.swarms.join(first->tracker, question);
    CHECK(torrent.infohash == infohash('i'));
    CHECK(torrent.holders == 1);
    const Torrent again = co_await rooms.swarms.join(second->tracker, question);
    CHECK(again.infohash == infohash('i'));
    CHECK(loads == 1);
    JoinSwarm ready;
    ready.id = content('x');
    ready.infohash = infohash('i');
    ready.size = size_of_file;
    const Introduced met = co_await rooms.swarms.introduce(first->tracker, ready);
    CHECK(met.peers.size() == 1);
    CHECK(met.sources == met.peers);
    const Introduced more = co_await rooms.swarms.introduce(second->tracker, ready);
    CHECK(more.peers.size() == 2);
    CHECK(more.sources.size() == 1);
    JoinSwarm other = ready;
    other.infohash = infohash('j');
    const auto wrong = co_await trouble_of(rooms.swarms.introduce(second->tracker, other));
    CHECK(wrong.find("another infohash") != std::string::npos);
    CHECK(rooms.swarms.contains(infohash('i')));
    for (const auto& node : rooms.nodes) rooms.leave(node);
    CHECK(rooms.swarms.size() == 0);
    CHECK_FALSE(rooms.swarms.contains(infohash('i')));
  });
}

TEST_CASE("swarms: a torrent whose id does not follow from its roots is nobody's, and the error names the node") {
  Rooms rooms;
  rooms.run([&]() -> Task<void> {
    const Files files7{file("x", 'x', 100'000'000)};
    const auto holder = co_await rooms.join('a', "n1", files7);
    const auto getter = co_await rooms.join('b', "n2");
    holder->handlers.on<Seed>([&](ChannelPtr, Seed asked) -> Task<Torrent> {
      Torrent out = torrent_of(asked.id);
      out.size = asked.size;
      out.roots.assign(64, 'r');
      co_return out;
    });
    PrepareSwarm question;
    question.file = file("x", 'x', 100'000'000);
    auto trouble = co_await trouble_of(rooms.swarms.join(getter->tracker, question));
    CHECK(trouble == "1 n1: n1: told a torrent that is not sound");
    CHECK(rooms.swarms.size() == 0);
    question.file = file("none", 'n');
    trouble = co_await trouble_of(rooms.swarms.join(getter->tracker, question));
    CHECK(trouble == "1 no node holds it any more");
    const auto stranger = co_await rooms.open('z');
    trouble = co_await trouble_of(rooms.swarms.join(stranger->tracker, question));
    CHECK(trouble.starts_with("5 "));
    stranger->own->close();
    stranger->tracker->close();
  });
}

TEST_CASE("swarms: getters that share a URL's pieces hear who they are, and of each that comes and goes") {
  Rooms rooms;
  std::vector<std::size_t> plans;
  rooms.run([&]() -> Task<void> {
    const auto one = co_await rooms.join('a', "n1");
    const auto two = co_await rooms.join('b', "n2");
    one->handlers.on_note<UrlMembers>(
        [&](const ChannelPtr&, const UrlMembers& plan) { plans.push_back(plan.getters.size()); });
    JoinSwarm ready;
    ready.id = content('x');
    ready.infohash = infohash('i');
    ready.size = size_of_file;
    ready.shares = true;
    co_await rooms.swarms.introduce(one->tracker, ready);
    const auto heard = [&](std::size_t count) { return !plans.empty() && plans.back() == count; };
    co_await until([&] { return heard(1); });
    const Introduced met = co_await rooms.swarms.introduce(two->tracker, ready);
    CHECK(met.getters.size() == 2);
    co_await until([&] { return heard(2); });
    rooms.leave(two);
    co_await until([&] { return heard(1); });
  });
}

TEST_CASE("bittorrent: what nobody knows is asked for once in ten seconds; who asks too much is told so") {
  Rooms rooms;
  int asked = 0;
  rooms.run([&]() -> Task<void> {
    const auto node = co_await rooms.join('a', "n1");
    node->handlers.on<Seed>([&](ChannelPtr, Seed) -> Task<Torrent> {
      ++asked;
      throw Error(Status::not_found, "has no such torrent");
      co_return Torrent{};
    });
    const auto remote = asio::ip::make_address("10.1.1.1");
    const std::string query =
        "info_hash=iiiiiiiiiiiiiiiiiiii&peer_id=pppppppppppppppppppp&port=6881&left=1&uploaded=0&downloaded=0";
    CHECK_FALSE(rooms.bittorrent.announce_now(query, asio::ip::make_address("127.0.0.1")));
    const auto local = asio::ip::make_address("127.0.0.1");
    const std::string said = co_await rooms.bittorrent.announce(query, local);
    CHECK(said.find("not in the mesh") != std::string::npos);
    CHECK(asked == 1);
    const auto again = rooms.bittorrent.announce_now(query, local);
    REQUIRE(again);
    CHECK(again->find("not in the mesh") != std::string::npos);
    CHECK(asked == 1);
    // Two a second of one address, saved up for ten.
    bool refused = false;
    for (int i = 0; i < 30 && !refused; ++i)
      refused = rooms.bittorrent.announce_now(query, remote)->find("too many announces") != std::string::npos;
    CHECK(refused);
    CHECK(rooms.bittorrent.scrape("info_hash=iiiiiiiiiiiiiiiiiiii", remote).find("too many") != std::string::npos);
    CHECK(rooms.bittorrent.scrape("info_hash=iiiiiiiiiiiiiiiiiiii", local).find("too many") == std::string::npos);
  });
}

TEST_CASE("fan-out: orders carry the name of who asks; who is not there, or says too much, is an answer, too") {
  Rooms rooms;
  rooms.run([&]() -> Task<void> {
    const auto asker = co_await rooms.join('a', "n1");
    const auto one = co_await rooms.join('b', "n2");
    const auto loud = co_await rooms.join('c', "n3");
    std::string heard;
    one->handlers.on<Order>([&](ChannelPtr, Order order) -> Task<Ordered> {
      heard = order.asker;
      co_return Ordered{"done"};
    });
    loud->handlers.on<Order>([](ChannelPtr, Order) -> Task<Ordered> { co_return Ordered{std::string(20'000, 'x')}; });
    Relay relay;
    relay.nodes = {"n2", "n3", "n9"};
    relay.order.asker = "somebody else";
    const Relayed all = co_await rooms.fan_out.relay(asker->tracker, relay);
    REQUIRE(all.answers.size() == 3);
    CHECK(heard == "n1");
    CHECK(all.answers[0].body == "done");
    CHECK(all.answers[1].error == "answered at too great length");
    CHECK(all.answers[2].status == Status::not_found);
    const StatusReply status = co_await rooms.fan_out.status();
    REQUIRE(status.nodes.size() == 3);
    CHECK(status.nodes[0].node == "n1");
    CHECK_FALSE(status.nodes[0].error.empty());
  });
}

TEST_CASE("lookup: a path that is there is no glob; an asker's copy that others have or had is told from his own") {
  Rooms rooms;
  rooms.run([&]() -> Task<void> {
    Files files(1, file("disk[1].img", '1'));
    files.push_back(file("disk1.img", '2'));
    const auto one = co_await rooms.join('a', "n1", files);
    const Files other(1, file("disk1.img", '3', 9'000));
    const auto two = co_await rooms.join('b', "n2", other);
    auto asked = resolve_of("disk[1].img");
    asked.glob = true;
    const Resolved found = co_await rooms.lookup.resolve(two->tracker, asked);
    CHECK(found.literal);
    REQUIRE(found.files.size() == 1);
    CHECK(found.files[0].entry.path == "disk[1].img");
    asked.pattern = "disk?.img";
    const Resolved matched = co_await rooms.lookup.resolve(two->tracker, asked);
    CHECK_FALSE(matched.literal);
    REQUIRE(matched.files.size() == 1);
    CHECK_FALSE(matched.files[0].own_known.is_set());  // nobody else has had that
    // Somebody else has it, elsewhere; then had it, here.
    InventoryDelta delta;
    delta.put.push_back(file("copy", '3', 9'000));
    rooms.lookup.take_inventory(one->tracker, delta);
    const Resolved known = co_await rooms.lookup.resolve(two->tracker, asked);
    CHECK(known.files.at(0).own_known == content('3'));
    delta = InventoryDelta();
    delta.removed.emplace_back("copy");
    delta.put.push_back(file("disk1.img", '3', 9'000));
    rooms.lookup.take_inventory(one->tracker, delta);
    delta = InventoryDelta();
    delta.put.push_back(file("disk1.img", '4', 8'000));
    rooms.lookup.take_inventory(one->tracker, delta);
    const Resolved had = co_await rooms.lookup.resolve(two->tracker, asked);
    CHECK(had.files.at(0).own_known == content('3'));
  });
}

TEST_CASE("members: a copy of a program that is here is told so; one that is gone, or comes again, is not in the way") {
  Rooms rooms;
  rooms.run([&]() -> Task<void> {
    const auto first = co_await rooms.open('a');
    PresenceAsk heard;
    first->handlers.on<PresenceAsk>([&heard](ChannelPtr, PresenceAsk asked) -> Task<PresenceAsk::Reply> {
      heard = asked;
      PresenceAsk::Reply out;
      out.rival = {"1", 7, "proof of 1"};
      co_return out;
    });
    auto hello = first->hello("n1");
    hello.run = "1";
    hello.via = "head:6969";
    static_cast<void>(rooms.members.enlist(first->tracker, hello));
    auto copy = hello;
    copy.run = "2";
    const auto taken = co_await rooms.members.refusal(copy);
    REQUIRE(taken);
    CHECK(taken->taken);
    CHECK(taken->rival.run == "1");
    CHECK(taken->rival.age == 7);
    CHECK(taken->rival.proof == "proof of 1");
    CHECK(heard.run == "2");
    // What it says to the one that is here is passed on to that one alone.
    copy.rival_run = "3";
    copy.rival = {"2", 1, "proof of 2"};
    static_cast<void>(co_await rooms.members.refusal(copy));
    CHECK(heard.rival.proof.empty());
    copy.rival_run = "1";
    static_cast<void>(co_await rooms.members.refusal(copy));
    CHECK(heard.rival.proof == "proof of 2");
    const auto again = co_await rooms.members.refusal(hello);
    CHECK_FALSE(again);
    auto elsewhere = hello;
    elsewhere.via = "10.0.0.1:6969";
    const auto same = co_await rooms.members.refusal(elsewhere);
    REQUIRE(same);
    CHECK(same->here_already);
    CHECK_FALSE(same->taken);
    CHECK(same->via == "head:6969");
    first->own->close();
    const auto gone = co_await rooms.members.refusal(copy);
    CHECK_FALSE(gone);
    first->tracker->close();
  });
}
