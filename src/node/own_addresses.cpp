#include "node/own_addresses.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/ip/udp.hpp>

#include "disk/fd.h"

namespace mesh {

namespace asio = boost::asio;

std::vector<std::string> own_addresses() {
  std::vector<std::string> out;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return out;
  for (const auto* at = list; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr || (at->ifa_flags & IFF_UP) == 0 || (at->ifa_flags & IFF_LOOPBACK) != 0) continue;
    if (at->ifa_addr->sa_family == AF_INET) {
      const auto* v4 = reinterpret_cast<const sockaddr_in*>(at->ifa_addr);
      out.push_back(asio::ip::address_v4(ntohl(v4->sin_addr.s_addr)).to_string());
    } else if (at->ifa_addr->sa_family == AF_INET6) {
      const auto* v6 = reinterpret_cast<const sockaddr_in6*>(at->ifa_addr);
      asio::ip::address_v6::bytes_type bytes;
      std::copy(std::begin(v6->sin6_addr.s6_addr), std::end(v6->sin6_addr.s6_addr), bytes.begin());
      const asio::ip::address_v6 address(bytes);
      if (!address.is_link_local()) out.push_back(address.to_string());
    }
  }
  ::freeifaddrs(list);
  return out;
}

std::vector<std::string> outward_addresses() {
  std::vector<std::string> out;
  // Documentation's addresses (RFC 5737, RFC 3849); a UDP socket that is connected sends nothing.
  for (const char* far : {"192.0.2.1", "2001:db8::1"}) {
    const asio::ip::udp::endpoint to(asio::ip::make_address(far), 9);
    const Fd fd(::socket(to.protocol().family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
    asio::ip::udp::endpoint own;
    auto size = static_cast<socklen_t>(own.capacity());
    if (!fd || ::connect(fd.get(), to.data(), static_cast<socklen_t>(to.size())) != 0 ||
        ::getsockname(fd.get(), own.data(), &size) != 0)
      continue;
    own.resize(size);
    if (!own.address().is_loopback() && !own.address().is_unspecified()) out.push_back(own.address().to_string());
  }
  return out;
}

}  // namespace mesh
