// The mesh over HTTP (RFC 9110, 9112): any client reads any file, whole or a range, whether it is here or not
// (docs/decisions/0027).
//
// A port of its own. Who is not this node's user, or root, on this machine must send the token; no page of another
// origin in a browser may ask, and only names of this machine are answered to. What is here goes out by sendfile(2);
// the rest as it arrives, and whoever reads slowly has 256 KiB wait for him. A version is fixed when an answer begins;
// one that cannot be ended is cut off, so that the client sees that, and most of them go on from there. All on the
// node's loop; blocking work goes to the pool. Bounds: a request head of at most 16 KiB without a body, 10 s to send
// it, a minute between two, 2 minutes for a client that takes nothing, a fixed number of connections.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "get/getter.h"
#include "transfer/version_reader.h"
#include "wire/access.h"
#include "wire/task.h"

namespace mesh {

class HttpGateway {
 public:
  struct Options {
    std::vector<std::string> names;  ///< what else this machine is called
    std::string token;
    ConnectionLimits connections{4'000, 1'000};
    std::chrono::milliseconds stall{20'000};  ///< an answer that goes on for so long without a byte is cut off
  };
  /// What is told of this node, as JSON.
  struct Facts {
    std::function<Task<std::string>()> stats;
    std::function<std::string()> config;
  };
  /// Listens at once; throws Error(failed) where it cannot.
  HttpGateway(const asio::ip::tcp::endpoint& at, Options options, Facts facts, ReadFrom from, Getter& getter);
  ~HttpGateway();
  HttpGateway(const HttpGateway&) = delete;
  HttpGateway& operator=(const HttpGateway&) = delete;

  [[nodiscard]] asio::ip::tcp::endpoint local() const;
  [[nodiscard]] int connections() const;
  /// Listens no more, and hangs up.
  void close();

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace mesh
