#include "wire/socket_owner.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "wire/endpoint.h"

namespace mesh {
namespace {

using boost::asio::ip::tcp;

void put_address(const boost::asio::ip::address& address, __be32 (&out)[4]) {
  if (address.is_v4()) {
    const auto bytes = address.to_v4().to_bytes();
    std::memcpy(out, bytes.data(), bytes.size());
  } else {
    const auto bytes = address.to_v6().to_bytes();
    std::memcpy(out, bytes.data(), bytes.size());
  }
}

tcp::endpoint name_of(int socket, int (*get)(int, sockaddr*, socklen_t*)) {
  tcp::endpoint out;
  auto size = static_cast<socklen_t>(out.capacity());
  if (get(socket, out.data(), &size) != 0 || size > out.capacity() ||
      (out.data()->sa_family != AF_INET && out.data()->sa_family != AF_INET6))
    return {};
  out.resize(size);
  return out;
}

using Is = SocketOwner::Is;

SocketOwner unknown(int error) {
  return {Is::unknown, "the kernel does not say who is at its other end: " + std::generic_category().message(error)};
}
const SocketOwner closed_already{Is::closed, "its other end is closed"};

}  // namespace

SocketOwner owner_of_other_end(const tcp::endpoint& local, const tcp::endpoint& remote) {
  const auto here = unmapped(local.address());
  const auto there = unmapped(remote.address());
  if (here.is_v4() != there.is_v4()) return {Is::other_user, "it is no connection within this machine"};
  const int fd = ::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  if (fd < 0) return unknown(errno);
  struct Closed {
    int fd;
    ~Closed() { ::close(fd); }
  } const closed{fd};
  const timeval limit{1, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  struct {
    nlmsghdr head;
    inet_diag_req_v2 body;
  } ask{};
  ask.head.nlmsg_len = sizeof ask;
  ask.head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  ask.head.nlmsg_flags = NLM_F_REQUEST;
  ask.body.sdiag_family = here.is_v4() ? AF_INET : AF_INET6;
  ask.body.sdiag_protocol = IPPROTO_TCP;
  ask.body.idiag_states = ~0U;
  // The other end's socket: what is remote here is its own.
  ask.body.id.idiag_sport = htons(remote.port());
  ask.body.id.idiag_dport = htons(local.port());
  put_address(there, ask.body.id.idiag_src);
  put_address(here, ask.body.id.idiag_dst);
  // What goes from this machine to itself goes by this interface; a socket may be bound to it, and is not found
  // otherwise.
  static const unsigned loopback = ::if_nametoindex("lo");
  ask.body.id.idiag_if = loopback;
  ask.body.id.idiag_cookie[0] = ask.body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  if (::send(fd, &ask, sizeof ask, 0) != static_cast<ssize_t>(sizeof ask)) return unknown(errno);
  alignas(nlmsghdr) std::array<char, 4096> buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init): read into
  const auto got = ::recv(fd, buffer.data(), buffer.size(), 0);
  if (got < 0) return unknown(errno);
  nlmsghdr head{};
  if (static_cast<std::size_t>(got) < sizeof head) return unknown(EBADMSG);
  std::memcpy(&head, buffer.data(), sizeof head);
  if (head.nlmsg_type == NLMSG_ERROR) {
    nlmsgerr error{};
    if (static_cast<std::size_t>(got) < sizeof head + sizeof error) return unknown(EBADMSG);
    std::memcpy(&error, buffer.data() + NLMSG_HDRLEN, sizeof error);
    return error.error == -ENOENT ? closed_already : unknown(-error.error);
  }
  inet_diag_msg found{};
  if (head.nlmsg_type != SOCK_DIAG_BY_FAMILY || static_cast<std::size_t>(got) < NLMSG_HDRLEN + sizeof found)
    return unknown(EBADMSG);
  std::memcpy(&found, buffer.data() + NLMSG_HDRLEN, sizeof found);
  // A listener would answer for a connection that is gone. Who has said all that he has to say may still hold his
  // socket.
  const auto state = found.idiag_state;
  const bool is_held = state == TCP_ESTABLISHED || state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2;
  if (found.id.idiag_sport != htons(remote.port()) || found.id.idiag_dport != htons(local.port()) || !is_held ||
      found.idiag_inode == 0)
    return closed_already;
  if (found.idiag_uid != 0 && found.idiag_uid != ::geteuid())
    return {Is::other_user, "user " + std::to_string(found.idiag_uid) + " is at its other end"};
  return {Is::ours, {}};
}

SocketOwner owner_of_other_end(int socket) {
  const auto local = name_of(socket, ::getsockname);
  const auto remote = name_of(socket, ::getpeername);
  if (local.port() == 0 || remote.port() == 0) return closed_already;
  return owner_of_other_end(local, remote);
}

}  // namespace mesh
