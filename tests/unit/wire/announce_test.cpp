#include "wire/announce.h"

#include <boost/asio/ip/address.hpp>

#include "test.h"

using namespace mesh;

TEST_CASE("announce: a client's query") {
  std::string error;
  const auto q = parse_announce(
      "info_hash=%00%01%02%03%04%05%06%07%08%09abcdefghij&peer_id=-AB0000-abcdefghijkl&port=6881&left=5&numwant=7&"
      "event=started&compact=1&junk=%41",
      error);
  REQUIRE(q);
  CHECK(q->infohash.view() == std::string_view("\0\1\2\3\4\5\6\7\x08\x09"
                                               "abcdefghij",
                                               20));
  CHECK(q->port == 6881);
  CHECK(q->left == 5);
  CHECK(q->wanted == 7);
  CHECK(q->event == AnnounceQuery::Event::started);
}

TEST_CASE("announce: what is malformed is refused with a reason") {
  for (const char* bad :
       {"", "port=1", "info_hash=short&port=1", "info_hash=%0&port=1", "info_hash=abcdefghijabcdefghij",
        "info_hash=abcdefghijabcdefghij&port=0", "info_hash=abcdefghijabcdefghij&port=65536",
        "info_hash=abcdefghijabcdefghij&port=1&left=-1", "info_hash=abcdefghijabcdefghij&port=1&peer_id=x"}) {
    std::string error;
    CHECK_FALSE(parse_announce(bad, error));
    CHECK_FALSE(error.empty());
  }
  std::string error;
  CHECK(parse_announce("info_hash=abcdefghijabcdefghij&port=1&numwant=100000", error)->wanted == 200);
}

TEST_CASE("announce: compact replies for IPv4 and IPv6, and dictionaries") {
  using boost::asio::ip::make_address;
  AnnounceQuery q;
  const std::vector<AnnouncedPeer> peers = {{{make_address("1.2.3.4"), 258}, {}}, {{make_address("::1"), 3}, {}}};
  CHECK(announce_reply(q, peers, {1, 2, 3}, 120) ==
        std::string("d8:completei1e10:incompletei2e8:intervali120e12:min intervali30e5:peers6:\1\2\3\4\1\2") +
            "6:peers618:" + std::string(15, '\0') + '\1' + '\0' + '\3' + "e");
  q.compact = false;
  CHECK(announce_reply(q, peers, {}, 120).find("d2:ip7:1.2.3.44:porti258ee") != std::string::npos);
}

TEST_CASE("scrape: several swarms, bounded") {
  std::string error;
  CHECK(parse_scrape("info_hash=abcdefghijabcdefghij&info_hash=bbcdefghijabcdefghij", error)->size() == 2);
  std::string many;
  for (int i = 0; i < 65; ++i) many += "info_hash=abcdefghijabcdefghij&";
  CHECK_FALSE(parse_scrape(many, error));
  const std::pair<InfoHash, SwarmCounts> one{*InfoHash::from("abcdefghijabcdefghij"), {1, 2, 3}};
  CHECK(scrape_reply({&one, 1}) == "d5:filesd20:abcdefghijabcdefghijd8:completei1e10:downloadedi3e10:incompletei2eeee");
}
