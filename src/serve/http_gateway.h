// The mesh over HTTP (RFC 9110, 9112): any client reads any file, whole or a range, whether it is here or not
// (docs/decisions/0027).
//
// Who may ask is the listener's to say (wire/http_listener.h). What is here goes out by sendfile(2); the rest as it
// arrives, and whoever reads slowly has 256 KiB wait for him. A version is fixed when an answer begins; one that cannot
// be ended is cut off, so that the client sees that, and most of them go on from there. All on the node's loop;
// blocking work goes to the pool.
#pragma once

#include <chrono>
#include <memory>

#include "get/getter.h"
#include "transfer/version_reader.h"
#include "wire/http_listener.h"

namespace mesh {

class HttpGateway {
 public:
  struct Options {
    std::chrono::milliseconds stall{20'000};  ///< an answer that goes on for so long without a byte is cut off
  };
  /// Answers what the listener has no page for.
  HttpGateway(HttpListener& listener, Options options, ReadFrom from, Getter& getter);

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace mesh
