// Who makes a pack, and who hears of it: the tracker's room over channels to nodes that do as they are told here.
#include "packs.h"

#include "core/merkle.h"
#include "rooms.h"
#include "test.h"

using namespace mesh;
using namespace mesh::test;

namespace {

constexpr int count = 20;
constexpr std::int64_t size_of_one = 1000;  // together one piece, whose root is its id

std::vector<PackFile> list() {
  std::vector<PackFile> out;
  for (int i = 0; i < count; ++i) {
    const auto one = file("d/f" + std::to_string(10 + i), 0, size_of_one);
    out.push_back({one.path, one.size, one.mtime});
  }
  return out;
}

Files entries(int but = -1) {
  Files out;
  for (int i = 0; i < count; ++i)
    if (i != but) out.push_back(file("d/f" + std::to_string(10 + i), 0, size_of_one));
  return out;
}

PreparePack question(bool with_list) {
  PreparePack out;
  out.pack = pack_id(list());
  if (with_list) out.files = list();
  return out;
}

/// Answers make-pack, and counts how often.
void make_packs(const FakeNodePtr& node, std::shared_ptr<int> asked,
                std::function<void(const MakePack&, Pack&)> spoil = {}) {
  node->handlers.on<MakePack>([asked, spoil](ChannelPtr, MakePack wanted) -> Task<Pack> {
    ++*asked;
    Pack out;
    out.left_out = wanted.left_out;
    out.torrent.size = pack_size(wanted.files, wanted.left_out);
    out.torrent.id = content_id_of_bytes(std::string(static_cast<std::size_t>(out.torrent.size), 'x'));
    out.torrent.infohash = infohash('p');
    if (spoil) spoil(wanted, out);
    co_return out;
  });
}

struct PackRooms : Rooms {
  Packs packs{io, members, lookup, swarms};
};

}  // namespace

TEST_CASE("packs: one of those who want it tells the list, one node makes it, and all hear of it") {
  PackRooms rooms;
  rooms.run([&]() -> Task<void> {
    const auto made = std::make_shared<int>(0);
    const auto source = co_await rooms.join('a', "n1", entries());
    make_packs(source, made);
    const auto first = co_await rooms.join('b', "n2");
    const auto second = co_await rooms.join('c', "n3");
    const auto by_id = question(false);
    const auto with_list = question(true);
    const Pack unknown = co_await rooms.packs.prepare(first->tracker, by_id);
    CHECK_FALSE(unknown.is_known);
    // The second one waits for the first one's list.
    std::optional<Pack> told;
    auto wait = [&]() -> Task<void> { told = co_await rooms.packs.prepare(second->tracker, by_id); };
    Together waiting(rooms.io);
    waiting.add(wait());
    co_await sleep_for(std::chrono::milliseconds(50));
    CHECK_FALSE(told);
    const Pack pack = co_await rooms.packs.prepare(first->tracker, with_list);
    co_await waiting.all();
    CHECK(pack.is_known);
    CHECK(pack.torrent.size == count * size_of_one);
    REQUIRE(told);
    CHECK(told->torrent.id == pack.torrent.id);
    CHECK(*made == 1);
    CHECK(rooms.swarms.has_maker(pack.torrent.id));
    // Whoever joins its swarm is sent to who has made it, as to a source.
    JoinSwarm ready;
    ready.id = pack.torrent.id;
    ready.infohash = pack.torrent.infohash;
    ready.size = pack.torrent.size;
    const Introduced introduced = co_await rooms.swarms.introduce(first->tracker, ready);
    CHECK(introduced.sources.size() == 1);
    PrepareSwarm again;
    again.file.id = pack.torrent.id;
    again.file.size = pack.torrent.size;
    const Torrent torrent = co_await rooms.swarms.join(first->tracker, again);
    CHECK(torrent.holders == 1);
    // When its maker has unloaded it, it is made anew.
    rooms.swarms.leave(source->key, pack.torrent.id);
    const Pack anew = co_await rooms.packs.prepare(second->tracker, with_list);
    CHECK(anew.is_known);
    CHECK(*made == 2);
  });
}

TEST_CASE("packs: what the node that makes it lacks is left out; another that has as much helps") {
  PackRooms rooms;
  rooms.run([&]() -> Task<void> {
    const auto made = std::make_shared<int>(0);
    const auto source = co_await rooms.join('a', "n1", entries(7));
    make_packs(source, made);
    const auto helped = std::make_shared<int>(0);
    const auto other = co_await rooms.join('b', "n2", entries(7));
    make_packs(other, helped);
    const Files few{file("d/f10", 0, size_of_one)};
    co_await rooms.join('c', "n3", few);
    const auto asker = co_await rooms.join('d', "n4");
    const auto with_list = question(true);
    const Pack pack = co_await rooms.packs.prepare(asker->tracker, with_list);
    const std::vector<std::uint32_t> seventh{7};
    CHECK(pack.left_out == seventh);
    CHECK(pack.torrent.size == (count - 1) * size_of_one);
    co_await until([&] {
      return rooms.swarms.is_maker(pack.torrent.id, source->key) && rooms.swarms.is_maker(pack.torrent.id, other->key);
    });
    CHECK((*made == 1 && *helped == 1));
    JoinSwarm ready;
    ready.id = pack.torrent.id;
    ready.infohash = pack.torrent.infohash;
    ready.size = pack.torrent.size;
    const Introduced introduced = co_await rooms.swarms.introduce(asker->tracker, ready);
    CHECK(introduced.sources.size() == 2);
  });
}

TEST_CASE(
    "packs: where nobody has enough of it, or nobody makes sense, it is refused, and not asked for at once again") {
  PackRooms rooms;
  rooms.run([&]() -> Task<void> {
    const auto made = std::make_shared<int>(0);
    const Files few{file("d/f10", 0, size_of_one)};
    const auto source = co_await rooms.join('a', "n1", few);
    make_packs(source, made);
    const auto asker = co_await rooms.join('b', "n2");
    const auto with_list = question(true);
    CHECK_FALSE((co_await trouble_of(rooms.packs.prepare(asker->tracker, with_list))).empty());
    CHECK(*made == 0);
  });
  for (int fault = 0; fault < 5; ++fault) {
    PackRooms other;
    other.run([&]() -> Task<void> {
      const auto made = std::make_shared<int>(0);
      const auto source = co_await other.join('a', "n1", entries());
      make_packs(source, made, [fault](const MakePack&, Pack& pack) {
        if (fault == 0) pack.left_out = {count};
        if (fault == 1) pack.left_out = {3, 2};
        if (fault == 2) pack.torrent.size -= 1;
        if (fault == 3) pack.torrent.roots = std::string(64, 'x');
        if (fault == 4) throw Error(Status::failed, "has no room for a pack");
      });
      const auto asker = co_await other.join('b', "n2");
      const auto with_list = question(true);
      for (int i = 0; i < 3; ++i)
        CHECK_FALSE((co_await trouble_of(other.packs.prepare(asker->tracker, with_list))).empty());
      CHECK(*made == 1);
    });
  }
}

TEST_CASE("packs: an id that does not fit its list, and a list that is none, are refused; so is who is no member") {
  PackRooms rooms;
  rooms.run([&]() -> Task<void> {
    const auto asker = co_await rooms.join('a', "n1");
    auto other = question(true);
    other.files.pop_back();
    CHECK_FALSE((co_await trouble_of(rooms.packs.prepare(asker->tracker, other))).empty());
    auto outside = question(true);
    outside.files[0].path = "../x";
    outside.pack = pack_id(outside.files);
    CHECK_FALSE((co_await trouble_of(rooms.packs.prepare(asker->tracker, outside))).empty());
    const auto stranger = co_await rooms.open('b');
    const auto with_list = question(true);
    CHECK((co_await trouble_of(rooms.packs.prepare(stranger->tracker, with_list))).starts_with("5 "));
    rooms.leave(stranger);
  });
}
