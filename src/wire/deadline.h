// A limit on the time that a socket's owner may take.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <utility>

namespace mesh {

/// Closes a socket once the time is up, unless it is told before that all is well, or is gone. The socket must not move
/// meanwhile.
class Deadline {
 public:
  template <class Socket>
  Deadline(Socket& socket, std::chrono::milliseconds limit)
      : timer_(socket.get_executor(), limit), over_(std::make_shared<bool>(false)) {
    timer_.async_wait([over = over_, &socket](const boost::system::error_code& ec) {
      if (boost::system::error_code ignored; !ec && !std::exchange(*over, true)) socket.close(ignored);
    });
  }
  ~Deadline() { *over_ = true; }
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;
  /// False when the time was up.
  [[nodiscard]] bool met() { return !std::exchange(*over_, true); }

 private:
  boost::asio::steady_timer timer_;
  std::shared_ptr<bool> over_;
};

}  // namespace mesh
