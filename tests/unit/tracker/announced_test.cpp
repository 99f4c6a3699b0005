#include "announced.h"

#include <set>

#include "test.h"

using namespace mesh;
using std::chrono::seconds;
using Put = AnnouncedPeers::Put;
using Endpoint = boost::asio::ip::tcp::endpoint;

namespace {

const AnnouncedPeers::TimePoint start{seconds(1000)};

AnnouncedPeer peer(int number) {
  return {Endpoint(boost::asio::ip::address_v4(0x0a000000U + static_cast<unsigned>(number)), 6881), ""};
}
InfoHash hash(char c) {
  InfoHash out;
  out.bytes.fill(c);
  return out;
}

}  // namespace

TEST_CASE("announced: counts follow what each peer said last") {
  AnnouncedPeers peers(100, seconds(240));
  CHECK(peers.put(hash(1), peer(1), false, start) == Put::fresh);
  CHECK(peers.put(hash(1), peer(2), true, start) == Put::fresh);
  CHECK(peers.put(hash(2), peer(1), false, start) == Put::fresh);
  CHECK(peers.counts(hash(1), start).complete == 1);
  CHECK(peers.counts(hash(1), start).incomplete == 1);
  CHECK(peers.put(hash(1), peer(1), true, start) == Put::known);
  peers.count_download(hash(1));
  CHECK(peers.counts(hash(1), start).complete == 2);
  CHECK(peers.counts(hash(1), start).incomplete == 0);
  CHECK(peers.counts(hash(1), start).downloaded == 1);
  CHECK(peers.counts(hash(3), start).complete == 0);
  peers.remove(hash(1), peer(2).endpoint);
  peers.remove(hash(1), peer(7).endpoint);
  CHECK(peers.counts(hash(1), start).complete == 1);
  CHECK(peers.size() == 2);
  peers.remove(hash(1), peer(1).endpoint);
  CHECK_FALSE(peers.contains(hash(1)));
  CHECK(peers.contains(hash(2)));
  CHECK(peers.counts(hash(2), start + seconds(239)).incomplete == 1);
  CHECK(peers.counts(hash(2), start + seconds(270)).incomplete == 0);
  CHECK(peers.size() == 0);
}

TEST_CASE("announced: a full tracker keeps who is known, and has room again when others' time is up") {
  AnnouncedPeers peers(3, seconds(240));
  for (int i = 0; i < 3; ++i) CHECK(peers.put(hash(static_cast<char>(i)), peer(i), false, start) == Put::fresh);
  CHECK(peers.put(hash(9), peer(9), false, start + seconds(100)) == Put::no_room);
  CHECK_FALSE(peers.contains(hash(9)));
  CHECK(peers.put(hash(0), peer(0), false, start + seconds(200)) == Put::known);
  CHECK(peers.put(hash(9), peer(9), false, start + seconds(241)) == Put::fresh);
  CHECK(peers.size() == 2);
  CHECK(peers.contains(hash(0)));
  CHECK_FALSE(peers.contains(hash(1)));
}

TEST_CASE("announced: peers are chosen at random, each once, without the asker and those whose time is up") {
  AnnouncedPeers peers(1000, seconds(240));
  for (int i = 0; i < 100; ++i) peers.put(hash(1), peer(i), false, start);
  for (int i = 50; i < 100; ++i) peers.put(hash(1), peer(i), false, start + seconds(20));
  std::mt19937 random(1);
  std::set<Endpoint> firsts;
  for (int turn = 0; turn < 50; ++turn) {
    std::vector<AnnouncedPeer> out;
    peers.choose(hash(1), peer(7).endpoint, 20, start + seconds(30), random, out);
    REQUIRE(out.size() == 20);
    std::set<Endpoint> seen;
    for (const auto& one : out) seen.insert(one.endpoint);
    CHECK(seen.size() == 20);
    CHECK_FALSE(seen.contains(peer(7).endpoint));
    firsts.insert(out.front().endpoint);
  }
  CHECK(firsts.size() > 20);
  std::vector<AnnouncedPeer> out;
  peers.choose(hash(1), peer(99).endpoint, 1000, start + seconds(250), random, out);
  CHECK(out.size() == 49);
  for (const auto& one : out) CHECK(one.endpoint.address().to_v4().to_uint() >= 0x0a000000U + 50);
  peers.choose(hash(2), {}, 10, start, random, out);
  CHECK(out.size() == 49);
}

TEST_CASE("announced: what is swept on the way leaves places and counts right") {
  AnnouncedPeers peers(100'000, seconds(240));
  std::mt19937 random(3);
  std::set<int> here;
  auto now = start;
  for (int i = 0; i < 20'000; ++i) {
    const int number = static_cast<int>(random() % 500);
    if (random() % 3 == 0) {
      peers.remove(hash(1), peer(number).endpoint);
      here.erase(number);
    } else {
      CHECK((peers.put(hash(1), peer(number), number % 2 == 0, now) == Put::fresh) == here.insert(number).second);
    }
  }
  int complete = 0;
  for (const int number : here) complete += number % 2 == 0 ? 1 : 0;
  CHECK(peers.counts(hash(1), start).complete == complete);
  CHECK(peers.size() == here.size());
  now += seconds(1000);
  CHECK(peers.put(hash(1), peer(1000), false, now) == Put::fresh);
  CHECK(peers.size() == 1);
  CHECK(peers.counts(hash(1), now).complete == 0);
}
