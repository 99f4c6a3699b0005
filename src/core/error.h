// Errors that reach a person: an exit status and one line that names the path or the node and the mend.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <system_error>

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

/// A status that came from elsewhere: that of an error is one of the known ones, and never 0.
[[nodiscard]] constexpr Status known_status(std::int64_t number) {
  switch (number) {
    case 2:
      return Status::usage;
    case 3:
      return Status::not_found;
    case 4:
      return Status::unreachable;
    case 5:
      return Status::refused;
    case 130:
      return Status::interrupted;
    default:
      return Status::failed;
  }
}
/// The same of an answer, which may say that all went well.
[[nodiscard]] constexpr Status known_result(std::int64_t number) {
  return number == 0 ? Status::ok : known_status(number);
}

/// Thrown where a request cannot be met; crosses channels as (status, text) and is thrown again at the asker.
class Error : public std::runtime_error {
 public:
  Error(Status status, const std::string& text, std::error_code code = {})
      : std::runtime_error(text), status_(status), code_(code) {}
  [[nodiscard]] Status status() const { return status_; }
  /// Which reason it is, where somebody tells one from another by it: texts are for people. It crosses no channel.
  [[nodiscard]] const std::error_code& code() const { return code_; }

 private:
  Status status_;
  std::error_code code_;
};

[[nodiscard]] inline Status worst(Status a, Status b) { return static_cast<int>(a) < static_cast<int>(b) ? b : a; }

}  // namespace mesh
