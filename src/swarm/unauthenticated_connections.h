// Connections at a port that never become peers. libtorrent gives a TLS handshake no limit of time or number, so that
// anybody could hold all of this process's descriptors by connecting and saying nothing; they are hung up on here. For
// one thread.
#pragma once

#include <sys/types.h>

#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <set>

namespace mesh {

class UnauthenticatedConnections {
 public:
  using Clock = std::chrono::steady_clock;
  using Endpoints = std::set<boost::asio::ip::tcp::endpoint>;

  /// So many connections may be no peers yet, and so many, peers or not, may come from one address.
  struct Limits {
    std::size_t unknown = 1'000;  ///< some 100 KB each
    std::size_t of_one_address = SIZE_MAX;
  };
  UnauthenticatedConnections() = default;
  explicit UnauthenticatedConnections(const Limits& limits) : limits_(limits) {}

  /// `peers` says who are peers by now; it is asked only when there is somebody to hang up on otherwise.
  /// Returns how many were hung up on.
  int hang_up(std::uint16_t port, Clock::time_point now, const std::function<Endpoints()>& peers);

 private:
  struct Seen {
    Clock::time_point since;
    bool is_peer = false;
  };
  Limits limits_;
  std::map<ino_t, Seen> seen_;
};

}  // namespace mesh
