// A URL's own server, asked with libcurl: HTTP ranges (RFC 9110), redirects and conditions. Blocks; for one thread at a
// time, which may change. The connection is kept between questions.
//
// Passwords, the URL's own and ~/.netrc's, are for the host that was named, not for those that it redirects to.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/rate_limit.h"
#include "store/object_store.h"
#include "transfer/origin_answer.h"

namespace mesh {

/// What went wrong with an origin. A transient trouble may be over when it is asked again.
class OriginError : public Error {
 public:
  OriginError(Status status, const std::string& text, bool transient, int retry_after = 0)
      : Error(status, text), transient_(transient), retry_after_(retry_after) {}
  [[nodiscard]] bool is_transient() const { return transient_; }
  /// Seconds that the origin asks to be left alone; 0: it says nothing.
  [[nodiscard]] int retry_after() const { return retry_after_; }
  /// It answers with parts of the file that cannot be used: all of it is to be asked for.
  [[nodiscard]] bool is_useless_part() const { return useless_part_; }
  void set_useless_part() { useless_part_ = true; }

 private:
  bool useless_part_ = false;
  bool transient_;
  int retry_after_;
};

class Origin {
 public:
  struct Options {
    std::string address;                   ///< with user name and password, where given
    std::string shown;                     ///< for messages
    std::string ca;                        ///< PEM; empty: the system's
    int timeout_seconds = 30;              ///< of silence
    bool ordered = false;                  ///< another node has this one ask: without this machine's passwords, and
    bool local = true;                     ///< at loopback and link-local addresses only where this is set
    std::shared_ptr<ObjectAccess> object;  ///< of a store's; then `address` is not what is asked for
    std::vector<std::shared_ptr<RateLimit>> limits;  ///< all of them hold; others may share them
    std::function<bool()> stopped;                   ///< asked a few times a second while it waits
  };
  explicit Origin(Options options);
  ~Origin();
  Origin(const Origin&) = delete;
  Origin& operator=(const Origin&) = delete;

  /// Both may return false: enough. What they throw comes out of `read`.
  using OnHead = std::function<bool(const OriginHead&)>;
  using OnBytes = std::function<bool(std::span<const char>)>;
  /// The bytes [begin, end) of the file, where `begin < end`; else all of it. `if_range`: only of this version; the
  /// origin answers with all of another one (200). Returns when all has come, or when a callback had enough. Throws
  /// OriginError; Error(interrupted) when stopped.
  void read(std::int64_t begin, std::int64_t end, const std::string& if_range, const OnHead& on_head,
            const OnBytes& on_bytes);
  /// Without a body, unless it is this version, of this time (304).
  OriginHead ask(const std::string& etag, std::int64_t mtime);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mesh
