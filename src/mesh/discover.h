// --discover: members on the same network find each other by broadcast, where no tracker and no peer is known.
//
// A datagram of 59 bytes to the network's broadcast address asks; members answer the asker alone. Both carry
// HMAC-SHA256 (RFC 2104) under a key that the mesh key yields, so that outsiders neither learn who is here nor are
// believed; what is found is then met over TLS, which proves it. An answer is bound to its question's nonce; a replayed
// question brings at most an answer a second for each address. On the node's loop.
#pragma once

#include <utility>  // Boost 1.74's awaitable.hpp needs it and does not include it

#include <array>
#include <boost/asio/ip/udp.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "wire/flow.h"
#include "wire/mesh_key.h"

namespace mesh {

struct Discovery {
  bool answers = false;
  std::array<char, 16> nonce{};
  std::uint16_t channel_port = 0;
};
[[nodiscard]] std::string write_discovery(const Discovery& said, const MeshKey& key);
/// Nothing unless it was made with one of the keys. Pure.
[[nodiscard]] std::optional<Discovery> read_discovery(std::string_view datagram, const MeshKeys& keys);

class Discover {
 public:
  static constexpr std::uint16_t port = 6880;
  /// `found`: a member's node channel, as far as can be told.
  using Found = std::function<void(asio::ip::address address, std::uint16_t channel_port)>;

  /// Listens at once; throws Error(failed) where it cannot.
  Discover(asio::io_context& io, MeshKeysPtr keys, std::uint16_t channel_port, Found found);
  ~Discover();
  Discover(const Discover&) = delete;
  Discover& operator=(const Discover&) = delete;
  /// Asks on every network that this machine is on.
  void ask();

 private:
  struct Shared;
  static Task<void> listen(std::shared_ptr<Shared> shared);
  std::shared_ptr<Shared> shared_;
};

}  // namespace mesh
