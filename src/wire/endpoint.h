// Addresses as people type them. Pure; any thread.
#pragma once

#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <string>
#include <string_view>

namespace mesh {

struct HostPort {
  std::string host;
  std::uint16_t port = 0;
};

/// "host:port", "1.2.3.4:80", "[::1]:80". Without a port: `default_port`, or an error when that is 0. Throws
/// Error(usage).
[[nodiscard]] HostPort parse_host_port(std::string_view text, std::uint16_t default_port = 0);
/// "1.2.3.4:80", "[::1]:80".
[[nodiscard]] std::string to_text(const boost::asio::ip::tcp::endpoint& endpoint);
[[nodiscard]] std::string to_text(const std::string& address, std::uint16_t port);
/// An IPv4 address that a socket for both shows as IPv6 (::ffff:1.2.3.4) as what it is; any other unchanged.
[[nodiscard]] boost::asio::ip::address unmapped(const boost::asio::ip::address& address);
/// What counts as one address where so much is allowed to each: of IPv6 the /64, which is one host's own.
[[nodiscard]] boost::asio::ip::address counted_as(const boost::asio::ip::address& address);

/// Where to listen for everybody: "::", which takes IPv4 as well, or "0.0.0.0" where this machine has no IPv6.
[[nodiscard]] std::string any_host();

}  // namespace mesh
