#include "swarm/unauthenticated_connections.h"

#include <dirent.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "wire/endpoint.h"

namespace mesh {
namespace {

using boost::asio::ip::tcp;

constexpr auto patience = std::chrono::seconds(10);
constexpr auto patience_in_a_crowd = std::chrono::seconds(2);
constexpr std::size_t crowd = 200;

tcp::endpoint endpoint_of(const sockaddr_storage& name, socklen_t size) {
  tcp::endpoint out;
  if (size > out.capacity()) return out;
  std::memcpy(out.data(), &name, size);
  out.resize(size);
  return {unmapped(out.address()), out.port()};
}

/// The other side of a connection that was made to `port`; nothing for any other descriptor.
std::optional<tcp::endpoint> comer_at(int fd, std::uint16_t port) {
  sockaddr_storage name{};
  socklen_t size = sizeof name;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size) != 0) return std::nullopt;
  if ((name.ss_family != AF_INET && name.ss_family != AF_INET6) || endpoint_of(name, size).port() != port)
    return std::nullopt;
  size = sizeof name;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&name), &size) != 0) return std::nullopt;
  return endpoint_of(name, size);
}

}  // namespace

int UnauthenticatedConnections::hang_up(std::uint16_t port, Clock::time_point now,
                                        const std::function<Endpoints()>& peers) {
  struct Comer {
    int fd;
    ino_t inode;
    tcp::endpoint from;
  };
  std::vector<Comer> comers;
  const std::unique_ptr<DIR, int (*)(DIR*)> list(::opendir("/proc/self/fd"), ::closedir);
  if (!list) return 0;
  while (const auto* item = ::readdir(list.get())) {
    const int fd = std::atoi(item->d_name);
    struct stat s {};
    if (item->d_name[0] == '.' || ::fstat(fd, &s) != 0 || !S_ISSOCK(s.st_mode)) continue;
    if (const auto from = comer_at(fd, port)) comers.push_back({fd, s.st_ino, *from});
  }
  std::map<ino_t, Seen> still;
  for (const auto& comer : comers) {
    const auto it = seen_.find(comer.inode);
    still[comer.inode] = it == seen_.end() ? Seen{now} : it->second;
  }
  seen_ = std::move(still);
  std::size_t unknown = 0;
  for (const auto& [inode, seen] : seen_) unknown += seen.is_peer ? 0 : 1;
  const auto limit = unknown > crowd ? patience_in_a_crowd : patience;
  std::vector<Comer> late, waiting;
  for (const auto& comer : comers)
    if (const auto& seen = seen_[comer.inode]; !seen.is_peer)
      (now - seen.since >= limit ? late : waiting).push_back(comer);
  if (waiting.size() > limits_.unknown) {  // the oldest go
    const auto rest = waiting.end() - static_cast<std::ptrdiff_t>(limits_.unknown);
    std::ranges::nth_element(waiting, rest, {}, [this](const Comer& comer) { return seen_[comer.inode].since; });
    late.insert(late.end(), waiting.begin(), rest);
  }
  int count = 0;
  const auto end = [&](const Comer& comer) {
    // The descriptor may be another's by now.
    struct stat s {};
    if (::fstat(comer.fd, &s) != 0 || s.st_ino != comer.inode) return;
    ::shutdown(comer.fd, SHUT_RDWR);
    ++count;
  };
  // Those of one address beyond its share: who has said nothing first, and then who came last.
  std::map<boost::asio::ip::address, std::vector<Comer>> of_address;
  if (comers.size() > limits_.of_one_address)
    for (const auto& comer : comers) of_address[counted_as(comer.from.address())].push_back(comer);
  for (auto& [address, all] : of_address) {
    if (all.size() <= limits_.of_one_address) continue;
    std::ranges::sort(all, {}, [this](const Comer& comer) {
      const auto& seen = seen_[comer.inode];
      return std::pair(!seen.is_peer, seen.since);
    });
    for (std::size_t i = limits_.of_one_address; i < all.size(); ++i) end(all[i]);
  }
  if (late.empty()) return count;
  const auto known = peers();
  for (const auto& comer : late) {
    if (known.contains(comer.from)) {
      seen_[comer.inode].is_peer = true;
      continue;
    }
    end(comer);
  }
  return count;
}

}  // namespace mesh
