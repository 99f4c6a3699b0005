#include "wire/endpoint.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "core/error.h"
#include "core/format.h"

namespace mesh {

HostPort parse_host_port(std::string_view text, std::uint16_t default_port) {
  const auto bad = [&](const char* why) {
    return Error(Status::usage, printable(text) + ": " + why + "; an address is HOST:PORT or [IPV6]:PORT");
  };
  HostPort out{{}, default_port};
  std::string_view port;
  if (text.starts_with('[')) {
    const auto close = text.find(']');
    if (close == std::string_view::npos) throw bad("'[' is not closed");
    out.host = text.substr(1, close - 1);
    if (close + 1 < text.size()) {
      if (text[close + 1] != ':') throw bad("something other than a port follows ']'");
      port = text.substr(close + 2);
    }
  } else if (const auto colon = text.rfind(':'); colon != std::string_view::npos && text.find(':') == colon) {
    out.host = text.substr(0, colon);
    port = text.substr(colon + 1);
    if (port.empty()) throw bad("the port is missing");
  } else {
    out.host = text;
  }
  if (out.host.empty()) throw bad("the host is missing");
  if (!port.empty()) {
    const auto [end, ec] = std::from_chars(port.data(), port.data() + port.size(), out.port);
    if (ec != std::errc{} || end != port.data() + port.size()) throw bad("the port is no number from 0 to 65535");
  } else if (default_port == 0) {
    throw bad("the port is missing");
  }
  return out;
}

std::string to_text(const std::string& address, std::uint16_t port) {
  const bool v6 = address.find(':') != std::string::npos;
  return (v6 ? "[" + address + "]" : address) + ":" + std::to_string(port);
}

boost::asio::ip::address unmapped(const boost::asio::ip::address& address) {
  namespace ip = boost::asio::ip;
  if (!address.is_v6() || !address.to_v6().is_v4_mapped()) return address;
  return ip::make_address_v4(ip::v4_mapped, address.to_v6());
}

boost::asio::ip::address counted_as(const boost::asio::ip::address& address) {
  auto plain = unmapped(address);
  if (plain.is_v4() || plain.is_loopback()) return plain;
  auto bytes = plain.to_v6().to_bytes();
  std::fill(bytes.begin() + 8, bytes.end(), static_cast<unsigned char>(0));
  return boost::asio::ip::address_v6(bytes);
}

std::string any_host() {
  const int probe = ::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (probe < 0) return "0.0.0.0";
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  const bool works = ::bind(probe, reinterpret_cast<const sockaddr*>(&any), sizeof any) == 0;
  ::close(probe);
  return works ? "::" : "0.0.0.0";
}

std::string to_text(const boost::asio::ip::tcp::endpoint& endpoint) {
  return to_text(endpoint.address().to_string(), endpoint.port());
}

}  // namespace mesh
