#include "transfer/origin_answer.h"

#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <ctime>
#include <limits>

namespace mesh {
namespace {

constexpr int longest_retry_after = 120;
constexpr std::time_t most_time = 9'000'000'000;  // seconds; as nanoseconds it still is a number

std::int64_t number(std::string_view text) {
  std::int64_t out = -1;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), out);
  return ec == std::errc{} && end == text.data() + text.size() && out >= 0 ? out : -1;
}

std::string_view trimmed(std::string_view text) {
  const auto from = text.find_first_not_of(" \t\r\n");
  if (from == std::string_view::npos) return {};
  return text.substr(from, text.find_last_not_of(" \t\r\n") - from + 1);
}

bool same_word(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::ranges::equal(a, b, [&](char x, char y) { return lower(x) == lower(y); });
}

}  // namespace

void OriginAnswer::take(std::string_view line) {
  if (line.starts_with("HTTP/")) {  // of the next answer: a redirect's come first
    *this = {};
    return;
  }
  const auto colon = line.find(':');
  if (colon == std::string_view::npos) return;
  const auto name = trimmed(line.substr(0, colon));
  const auto value = trimmed(line.substr(colon + 1));
  if (same_word(name, "content-length")) {
    content_length = number(value);
  } else if (same_word(name, "content-range")) {
    // bytes 0-99/1000, or bytes */1000
    range_begin = range_end = range_total = -1;
    if (value.size() < 6 || !same_word(value.substr(0, 6), "bytes ")) return;
    const auto slash = value.find('/');
    const auto dash = value.find('-');
    if (slash == std::string_view::npos) return;
    range_total = number(value.substr(slash + 1));
    const bool unknown_total = value.substr(slash + 1) == "*";
    if (dash == std::string_view::npos || dash > slash) return;
    range_begin = number(value.substr(6, dash - 6));
    const auto last = number(value.substr(dash + 1, slash - dash - 1));
    // Of "bytes 0-99/*" the rest holds, too.
    const auto below = unknown_total ? std::numeric_limits<std::int64_t>::max() : range_total;
    if (last >= 0 && last < below) range_end = last + 1;
  } else if (same_word(name, "etag")) {
    if (value.size() < 500 && value.starts_with('"')) head.etag = value;
  } else if (same_word(name, "last-modified")) {
    const auto when = ::curl_getdate(std::string(value).c_str(), nullptr);
    if (value.size() >= 100 || when <= 0 || when > most_time) return;
    head.modified = value;
    head.mtime = std::int64_t{when} * 1'000'000'000;
  } else if (same_word(name, "x-amz-bucket-region")) {
    if (value.size() < 64) region = value;
  } else if (same_word(name, "retry-after")) {
    auto seconds = number(value);
    if (seconds < 0)
      if (const auto when = ::curl_getdate(std::string(value.substr(0, 100)).c_str(), nullptr); when > 0)
        seconds = std::int64_t{when} - std::int64_t{std::time(nullptr)};
    retry_after = static_cast<int>(std::clamp<std::int64_t>(seconds, 0, longest_retry_after));
  }
}

}  // namespace mesh
