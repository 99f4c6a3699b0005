// Where a line for people goes, with what it is about for programs. Values.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

namespace mesh {

/// As syslog(3) numbers them: an error is something that was not done, a warning what may lead to that.
enum class LogLevel : std::uint8_t { error = 3, warning = 4, info = 6 };

struct LogLine {
  LogLine(std::string said) : text(std::move(said)) {}
  LogLine(const char* said) : text(said) {}
  LogLine(LogLevel of, std::string said) : level(of), text(std::move(said)) {}
  /// What happened, as one word for programs, and to what.
  LogLine&& of(std::string what, std::string its_path = {}, std::int64_t its_size = -1) && {
    event = std::move(what);
    path = std::move(its_path);
    size = its_size;
    return std::move(*this);
  }
  LogLine&& by(std::string whom) && {
    node = std::move(whom);
    return std::move(*this);
  }

  LogLevel level = LogLevel::info;
  std::string text;
  std::string event{};
  std::string path{};      ///< in the mesh
  std::int64_t size = -1;  ///< bytes; -1: not said
  std::string node{};      ///< another one
};

using Log = std::function<void(LogLine)>;

[[nodiscard]] inline LogLine warning(std::string text) { return {LogLevel::warning, std::move(text)}; }
[[nodiscard]] inline LogLine failure(std::string text) { return {LogLevel::error, std::move(text)}; }

}  // namespace mesh
