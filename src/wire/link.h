// The byte stream under a channel: a socket, and TLS 1.3 with the mesh key as pre-shared key over it where there is
// one.
//
// Both sides prove that they have the key, and what they say is encrypted and cannot be replayed (RFC 8446, PSK with
// ECDHE; no certificates, no tickets, no early data). For one thread.
#pragma once

#include <utility>  // Boost 1.74's awaitable.hpp needs it and does not include it

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/bind_handler.hpp>
#include <boost/beast/core/role.hpp>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "wire/mesh_key.h"

namespace mesh {

namespace asio = boost::asio;

class Link {
 public:
  using Socket = asio::generic::stream_protocol::socket;
  using executor_type = Socket::executor_type;

  explicit Link(Socket socket) : state_(std::make_shared<State>(std::move(socket))) {}

  /// Puts TLS over the socket, which is for `handshake` to begin. `key`: which of `keys` to offer, of one that
  /// connects; null for one that is connected to.
  void secure(const MeshKeysPtr& keys, const MeshKey* key);
  /// Throws Error(refused) where the other side has not proved the key, Error(unreachable) where it is gone.
  /// The caller closes the socket when its time is up.
  asio::awaitable<void> handshake();
  /// What both ends of this TLS connection know, and nobody else (RFC 8446, 7.5), for `label`; empty without TLS.
  [[nodiscard]] std::string exporter(std::string_view label) const;

  executor_type get_executor() { return state_->socket.get_executor(); }
  Socket& next_layer() { return state_->socket; }
  const Socket& next_layer() const { return state_->socket; }

  template <class Buffers, class Handler>
  void async_read_some(const Buffers& buffers, Handler&& handler) {
    if (state_->tls)
      state_->tls->async_read_some(buffers, keep(std::forward<Handler>(handler)));
    else
      state_->socket.async_read_some(buffers, std::forward<Handler>(handler));
  }
  template <class Buffers, class Handler>
  void async_write_some(const Buffers& buffers, Handler&& handler) {
    if (state_->tls)
      state_->tls->async_write_some(buffers, keep(std::forward<Handler>(handler)));
    else
      state_->socket.async_write_some(buffers, std::forward<Handler>(handler));
  }

 private:
  struct State {
    explicit State(Socket taken) : socket(std::move(taken)) {}
    Socket socket;
    MeshKeysPtr keys;  ///< as long as TLS may look at them
    bool connects = false;
    std::optional<asio::ssl::stream<Socket&>> tls;
  };
  /// TLS's operations refer to its state until they end, which Beast's own (a ping, say) may do after the channel.
  template <class Handler>
  auto keep(Handler&& handler) {
    const auto executor = asio::get_associated_executor(handler, get_executor());
    return asio::bind_executor(executor,
                               [state = state_, rest = std::forward<Handler>(handler)](
                                   boost::system::error_code ec, std::size_t size) mutable { rest(ec, size); });
  }

  std::shared_ptr<State> state_;  ///< does not move: TLS refers to the socket
};

/// For Beast: a channel is closed by closing its socket, there is nothing to say goodbye with.
template <class Handler>
void async_teardown(boost::beast::role_type /*role*/, Link& link, Handler&& handler) {
  boost::system::error_code ignored;
  link.next_layer().close(ignored);
  asio::post(link.get_executor(), boost::beast::bind_front_handler(std::forward<Handler>(handler), ignored));
}

}  // namespace mesh
