// What other BitTorrent clients are told (BEP 3, BEP 23, BEP 48), and the torrents that are made for them.
//
// All on the tracker's loop.
#pragma once

#include <chrono>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <unordered_map>

#include "announced.h"
#include "core/rate_limit.h"
#include "lookup.h"
#include "members.h"
#include "swarms.h"
#include "wire/announce.h"

namespace mesh {

/// Seconds between two announces of a client.
inline constexpr int announce_interval = 120;

class BitTorrent {
 public:
  using Clock = std::chrono::steady_clock;
  /// `max_announces`: and scrapes, a second, of one address but loopback. All references must outlive this.
  BitTorrent(Members& members, Lookup& lookup, Swarms& swarms, AnnouncedPeers& announced, int max_announces)
      : members_(members), lookup_(lookup), swarms_(swarms), announced_(announced), announces_(max_announces) {}

  /// The answer to an announce, a query as in its URL; nothing where nodes have to be asked first whether they know the
  /// torrent.
  [[nodiscard]] std::optional<std::string> announce_now(std::string_view query, const asio::ip::address& remote);
  /// The same, and asks them.
  Task<std::string> announce(std::string query, asio::ip::address remote);
  [[nodiscard]] std::string scrape(std::string_view query, const asio::ip::address& remote);

  /// A torrent for other clients of the file at this path; `trackers` stays empty. Throws Error.
  Task<TorrentFile> make_torrent(ChannelPtr channel, std::string path);

 private:
  struct Counted {
    SwarmCounts counts;
    Clock::time_point at{};
  };
  [[nodiscard]] std::string answer(const AnnounceQuery& query, const asio::ip::address& remote);
  [[nodiscard]] SwarmCounts counts(const InfoHash& infohash);
  /// One announce or scrape more; false where the address has had its share.
  bool may_ask(const asio::ip::address& remote);

  Members& members_;
  Lookup& lookup_;
  Swarms& swarms_;
  AnnouncedPeers& announced_;
  std::mt19937 random_{std::random_device{}()};
  Allowances<asio::ip::address> announces_;
  std::unordered_map<InfoHash, Clock::time_point> unknown_;  ///< infohashes that no node knew a moment ago
  std::unordered_map<InfoHash, Counted> counted_;            ///< nodes in swarms, a moment ago
};

}  // namespace mesh
