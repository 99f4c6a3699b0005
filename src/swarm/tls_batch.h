// Many TLS records in one system call, for libtorrent's SSL peers.
//
// Boost.Asio's TLS streams (as of 1.74) write what they are given as a record of at most 8 KiB with a send(2) of its
// own, and read at most 17 KiB at a time: on fast links that is most of the price of TLS. This puts a BIO of our own
// (BIO_s_source_sink of openssl) between OpenSSL and the BIO pair through which Asio moves records: it collects what is
// written until the end of the network thread's round, and reads as much as has arrived. Where the socket is full it
// hands the oldest records to the pair and asks to be tried again, so that Asio waits for the socket as ever: order and
// back-pressure stay Asio's. Nothing of the protocol changes, and the other side cannot tell.
//
// For one thread, that of the streams' io_context; streams may be destroyed on another one once that has ended.
#pragma once

#include <openssl/ssl.h>

#include <boost/asio/ip/tcp.hpp>
#include <memory>

namespace mesh {

class TlsBatch {
 public:
  class Connection;
  /// Ends with the socket: what would be written to it after that is dropped.
  class Attached {
   public:
    Attached() = default;
    explicit Attached(std::shared_ptr<Connection> connection) : connection_(std::move(connection)) {}
    Attached(Attached&&) = default;
    Attached& operator=(Attached&&) = default;
    ~Attached() { detach(); }
    /// Before the socket is closed or shut down.
    void detach();

   private:
    std::shared_ptr<Connection> connection_;
  };

  TlsBatch();
  ~TlsBatch();
  TlsBatch(const TlsBatch&) = delete;
  TlsBatch& operator=(const TlsBatch&) = delete;

  /// For a stream whose handshake is over, and that moves its records over `socket`, which must outlive what is
  /// returned.
  [[nodiscard]] Attached attach(SSL* ssl, boost::asio::ip::tcp::socket& socket);
  /// Sends what has been written since. Call at the end of each round, and before a pause.
  void flush();
  /// Whether some of that waits for a socket that is full: whoever makes room for it should not be kept waiting.
  [[nodiscard]] bool is_held_up() const;

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace mesh
