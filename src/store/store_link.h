// One request to an object store and its answer, by libcurl. Redirects are not followed: what is signed is for one
// host. Blocks; for one thread at a time. The connection is kept between requests.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "store/object_store.h"

namespace mesh {

struct StoreAnswer {
  long code = 0;
  std::map<std::string, std::string> headers;  ///< by names in lower case
  std::string body;
  [[nodiscard]] std::string header(const std::string& name) const {
    const auto at = headers.find(name);
    return at == headers.end() ? std::string() : at->second;
  }
};

class StoreLink {
 public:
  static constexpr std::size_t most_body_bytes = std::size_t{16} << 20;

  StoreLink(std::string ca, StoreCall call);
  ~StoreLink();
  StoreLink(const StoreLink&) = delete;
  StoreLink& operator=(const StoreLink&) = delete;

  /// What is sent: `size` bytes, of which `read` gives the next; how many it gave. It may throw.
  struct Body {
    std::int64_t size = 0;
    std::function<std::size_t(char* to, std::size_t size)> read;
    std::function<void()> rewind{};  ///< from the start again
  };
  static Body body_of(const std::string& text);
  /// Any status is an answer. Throws Error: unreachable, failed, interrupted; and what `body` throws.
  StoreAnswer ask(const std::string& method, const SignedRequest& request, const Body* body = nullptr);
  /// Signs and asks, up to three times as long as the store says how to sign it better, and again, after pauses, where
  /// the trouble may be over: nothing came, or a status 429 or of the 500s but 501. `body`: rewound each time.
  StoreAnswer ask(ObjectStore& store, const StoreRequest& request, const Body* body = nullptr);

  /// What an answer that is no success means. `what`: what was not done.
  [[nodiscard]] Error trouble(const StoreAnswer& answer, const std::string& store) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mesh
