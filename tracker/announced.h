// What other BitTorrent clients have announced (BEP 3): the peers of each swarm, with an announce's cost that does not
// grow with their number. Pure: the caller gives the time; not thread-safe.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <random>
#include <unordered_map>
#include <vector>

#include "core/digest.h"
#include "wire/announce.h"

namespace mesh {

class AnnouncedPeers {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  /// Holds `most` peers over all swarms, each for `lifetime` after it last announced.
  AnnouncedPeers(std::size_t most, std::chrono::steady_clock::duration lifetime) : most_(most), lifetime_(lifetime) {}

  enum class Put { fresh, known, no_room };
  Put put(const InfoHash& infohash, const AnnouncedPeer& peer, bool complete, TimePoint now);
  void remove(const InfoHash& infohash, const boost::asio::ip::tcp::endpoint& peer);
  /// One more has all of it (a swarm that nobody is in counts nothing).
  void count_download(const InfoHash& infohash);

  [[nodiscard]] bool contains(const InfoHash& infohash) const { return swarms_.contains(infohash); }
  /// Those whose time is up may be counted for an eighth of it.
  [[nodiscard]] SwarmCounts counts(const InfoHash& infohash, TimePoint now);
  /// Adds peers but `self` to `out`, chosen at random where there are more than fit, until it has `wanted`.
  void choose(const InfoHash& infohash, const boost::asio::ip::tcp::endpoint& self, std::size_t wanted, TimePoint now,
              std::mt19937& random, std::vector<AnnouncedPeer>& out) const;
  /// Forgets those whose time is up, once a second at most.
  void expire(TimePoint now);
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  using Endpoint = boost::asio::ip::tcp::endpoint;
  struct Hash {
    std::size_t operator()(const Endpoint& endpoint) const noexcept;
  };
  struct Peer {
    AnnouncedPeer peer;
    bool complete = false;
    TimePoint expires;
  };
  struct Swarm {
    std::vector<Peer> peers;  ///< in no order
    std::unordered_map<Endpoint, std::size_t, Hash> places;
    int complete = 0;
    int downloaded = 0;
    TimePoint swept;
  };

  void drop(Swarm& swarm, std::size_t place);
  void sweep(Swarm& swarm, TimePoint now);

  std::size_t most_;
  std::chrono::steady_clock::duration lifetime_;
  std::size_t size_ = 0;
  TimePoint expired_{};
  std::unordered_map<InfoHash, Swarm> swarms_;  ///< none is empty
};

}  // namespace mesh
