// Errors that reach a person: an exit status and one line that names the path or the node and the mend.
#pragma once

#include <stdexcept>
#include <string>

namespace mesh {

/// The exit statuses of every command. Several WHATs in one call end with the highest (see `worst`).
enum class Status : int {
  ok = 0,
  failed = 1,
  usage = 2,
  not_found = 3,
  unreachable = 4,
  refused = 5,
  interrupted = 130,
};

/// Thrown where a request cannot be met; crosses channels as (status, text) and is thrown again at the asker.
class Error : public std::runtime_error {
 public:
  Error(Status status, const std::string& text) : std::runtime_error(text), status_(status) {}
  [[nodiscard]] Status status() const { return status_; }

 private:
  Status status_;
};

[[nodiscard]] inline Status worst(Status a, Status b) { return static_cast<int>(a) < static_cast<int>(b) ? b : a; }

}  // namespace mesh
