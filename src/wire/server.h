// Listens for channels and plain HTTP on one TCP port, and for channels on a local socket.
//
// With a mesh key, channels are for those who prove it (wire/link.h); plain HTTP is answered as before, and what may be
// said there is for `on_http` to decide. Without one, and unless the mesh is open, only who is of this process's user,
// or root, is answered at all, which the kernel is asked when the request is there (wire/socket_owner.h). Whoever asks
// over HTTP must do so by a name of this machine (wire/access.h).
//
// A request that has arrived whole and can be answered without waiting never becomes a coroutine: that is most of an
// announce's cost.
//
// All on the one thread of the io_context. Bounds: a request head of at most 8 KiB without a body, 10 s to send it, a
// fixed number of connections at once, and of one address (but for this machine's own).
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "disk/fd.h"
#include "wire/access.h"
#include "wire/http_reply.h"
#include "wire/task.h"

namespace mesh {

/// Peers, channels, small files under way and a large tree's watches: more descriptors than the usual soft limit
/// allows.
void raise_descriptor_limit();

/// Opens it there; at "::" for IPv4 as well.
void bind_to(asio::ip::tcp::acceptor& acceptor, const asio::ip::tcp::endpoint& at, boost::system::error_code& ec);

class Server {
 public:
  /// `local`: the address of this machine at which it was asked.
  using OnHttp = std::function<Task<HttpReply>(std::string target, asio::ip::address remote, asio::ip::address local)>;
  /// What can be answered without waiting; nothing, and nothing done, where `on_http` has to be asked.
  using OnHttpNow = std::function<std::optional<HttpReply>(std::string_view target, const asio::ip::address& remote)>;
  /// Must run the channel; the connection is over when it returns.
  using OnChannel = std::function<Task<void>(std::string path, ChannelPtr channel)>;

  /// Listens at once; throws Error(failed) when it cannot. `on_http` may be empty.
  Server(asio::io_context& io, const asio::ip::tcp::endpoint& at, OnHttp on_http, OnChannel on_channel,
         ConnectionLimits limits, Access access, OnHttpNow on_http_now = {});
  ~Server();
  [[nodiscard]] asio::ip::tcp::endpoint local() const;
  void close();

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

/// Where a local socket is. The directory is open, and one that nobody else can change (disk/trusted_dir.h).
struct LocalPlace {
  Fd directory;
  std::string name;
  std::string shown;  ///< its path, for messages
};

/// Replaces what an earlier node has left at `place`: a socket of root's or this user's, and nothing else. The socket
/// is for its owner alone (mode 0600), or for a group, too (0660). Throws Error(failed).
class LocalServer {
 public:
  LocalServer(asio::io_context& io, LocalPlace place, std::optional<gid_t> group, Server::OnChannel on_channel);
  ~LocalServer();
  /// Whether the socket still has its name in `directory`.
  [[nodiscard]] bool is_in(int directory) const;
  void close();

 private:
  struct Shared;
  static Task<void> accept_all(std::shared_ptr<Shared> shared);
  static Task<void> begin(std::shared_ptr<Shared> shared, ChannelPtr channel);
  std::shared_ptr<Shared> shared_;
};

}  // namespace mesh
