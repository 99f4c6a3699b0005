// BEP 3 announces and BEP 48 scrapes as text: queries parsed, replies written. Compact peers (BEP 23), IPv6 (BEP 7).
// Pure; any thread.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/digest.h"

namespace mesh {

/// What a client calls itself: 20 bytes (BEP 20).
using PeerId = Digest<20>;

struct AnnounceQuery {
  enum class Event { none, started, stopped, completed };
  InfoHash infohash;
  PeerId peer_id;  ///< may be unset
  std::uint16_t port = 0;
  std::int64_t left = -1;  ///< bytes still wanted; -1: not said
  int wanted = 50;         ///< peers, at most 200
  bool compact = true;
  bool no_peer_id = false;
  Event event = Event::none;
};

/// The query string behind '?'. Nothing, with the reason in `error`, when a field is missing or malformed.
[[nodiscard]] std::optional<AnnounceQuery> parse_announce(std::string_view query, std::string& error);
/// The infohashes of a scrape, at most 64.
[[nodiscard]] std::optional<std::vector<InfoHash>> parse_scrape(std::string_view query, std::string& error);

struct AnnouncedPeer {
  boost::asio::ip::tcp::endpoint endpoint;
  PeerId peer_id;  ///< may be unset
};

struct SwarmCounts {
  int complete = 0;
  int incomplete = 0;
  int downloaded = 0;
};

[[nodiscard]] std::string announce_reply(const AnnounceQuery& query, std::span<const AnnouncedPeer> peers,
                                         const SwarmCounts& counts, int interval_seconds);
[[nodiscard]] std::string scrape_reply(std::span<const std::pair<InfoHash, SwarmCounts>> swarms);
[[nodiscard]] std::string failure_reply(std::string_view reason);

}  // namespace mesh
