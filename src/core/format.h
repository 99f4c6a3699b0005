// Numbers, times and names as people read them. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mesh {

/// `text` with control characters and bytes that are not UTF-8 as "\x0a" and the like: safe on any terminal, one line.
[[nodiscard]] std::string printable(std::string_view text);
/// What is said of `path`, printable, with its name before it, once: `said` may come from where that was done.
[[nodiscard]] std::string about(std::string_view path, std::string_view said);
/// 1.5 GB: decimal units, three significant figures.
[[nodiscard]] std::string human_bytes(std::int64_t bytes);
/// "3 s", "2 min 05 s", "1 h 02 min".
[[nodiscard]] std::string human_seconds(std::int64_t seconds);
/// Nanoseconds since the epoch as local "2026-01-31 12:00:05".
[[nodiscard]] std::string human_time(std::int64_t mtime_ns);
[[nodiscard]] std::string to_hex(std::string_view bytes);
/// Whether `text` is so many hexadecimal digits, in lower case.
[[nodiscard]] bool is_hex(std::string_view text, std::size_t digits);
/// Throws std::invalid_argument when `hex` is no even number of hexadecimal digits.
[[nodiscard]] std::string from_hex(std::string_view hex);

}  // namespace mesh
