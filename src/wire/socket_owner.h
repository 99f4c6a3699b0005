// Who is at the other end of a TCP connection within this machine.
//
// Without a mesh key everything stays on loopback, where every user of the machine, and every page in their browsers,
// can connect. So the kernel is asked whose socket the other end is: by sock_diag(7), for the connection's four
// numbers. A socket that its owner has closed has no inode and shows as root's, so only one that is established, or
// done with sending alone, and has an inode counts. Thread-safe; a call takes some fifteen microseconds.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <string>

namespace mesh {

struct SocketOwner {
  enum class Is {
    ours,        ///< this process's user or root
    other_user,  ///< another user
    closed,      ///< nobody any more
    unknown,     ///< the kernel does not say
  } is = Is::unknown;
  std::string why;  ///< it is not ours, in words
};

/// Who has the other end of the connection between `local` and `remote`, both as this side sees them.
[[nodiscard]] SocketOwner owner_of_other_end(const boost::asio::ip::tcp::endpoint& local,
                                             const boost::asio::ip::tcp::endpoint& remote);
/// The same of a connected socket.
[[nodiscard]] SocketOwner owner_of_other_end(int socket);

}  // namespace mesh
