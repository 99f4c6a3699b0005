// Addresses of hosts, as text. Pure; any thread.
#pragma once

#include <boost/asio/ip/address.hpp>
#include <optional>
#include <string>

namespace mesh {

/// All of `text` is an IPv4 or IPv6 address (without brackets); nothing otherwise. boost::asio::ip::make_address reads
/// up to the first zero byte alone, so that of a stranger's "::\0and.more" it sees "::".
[[nodiscard]] inline std::optional<boost::asio::ip::address> parse_address(const std::string& text) {
  boost::system::error_code ec;
  const auto out = boost::asio::ip::make_address(text, ec);
  if (ec || text.find('\0') != std::string::npos) return std::nullopt;
  return out;
}

/// Whether this host, an address or a name, is this machine itself.
[[nodiscard]] inline bool is_loopback_host(const std::string& host) {
  const auto address = parse_address(host);
  return address ? address->is_loopback() : host == "localhost";
}

/// Whether one host can be meant by it.
[[nodiscard]] inline bool is_of_a_host(const boost::asio::ip::address& address) {
  return !address.is_unspecified() && !address.is_multicast();
}

/// What only means something on one machine, or on one link, to which no machine elsewhere is to be sent.
enum class Reach { machine, link, anywhere };
[[nodiscard]] inline Reach reach_of(const boost::asio::ip::address& address) {
  if (address.is_loopback()) return Reach::machine;
  const auto v4 = address.is_v4() ? address.to_v4()
                  : address.to_v6().is_v4_mapped()
                      ? boost::asio::ip::make_address_v4(boost::asio::ip::v4_mapped, address.to_v6())
                      : boost::asio::ip::address_v4();
  if (v4.is_loopback()) return Reach::machine;
  const bool v4_link = (v4.to_uint() >> 16) == 0xA9FE;  // 169.254.0.0/16 (RFC 3927)
  return v4_link || (address.is_v6() && address.to_v6().is_link_local()) ? Reach::link : Reach::anywhere;
}

/// Whether somebody at `asker` can be sent to `text`, an address of a host, and meets the same host there.
[[nodiscard]] inline bool can_be_sent_to(const std::string& text, const boost::asio::ip::address& asker) {
  const auto address = parse_address(text);
  if (!address || !is_of_a_host(*address)) return false;
  return reach_of(*address) == Reach::anywhere || reach_of(*address) == reach_of(asker);
}

}  // namespace mesh
