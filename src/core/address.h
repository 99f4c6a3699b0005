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

}  // namespace mesh
