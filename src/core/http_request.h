// What an HTTP request for a file says (RFC 9110): its path, the range, and on what condition. Pure; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace mesh {

/// The target of a request, taken apart: the path, and the query's keys and values, all percent-decoded once.
struct HttpTarget {
  std::string path;
  std::string authority{};  ///< where it was asked for as of a proxy: it counts in place of Host (RFC 9112, 3.2.2)
  std::map<std::string, std::string, std::less<>> query{};
};
/// Nothing where it is no absolute path, or has a '%' without two hexadecimal digits, or a zero byte.
[[nodiscard]] std::optional<HttpTarget> read_target(std::string_view target);
/// Percent-decoded; nothing where a '%' is without two hexadecimal digits, or a zero byte comes out.
[[nodiscard]] std::optional<std::string> url_decoded(std::string_view text);
/// As a path in a URL: all but unreserved characters and '/' percent-encoded (RFC 3986).
[[nodiscard]] std::string url_path(std::string_view path);

/// Bytes [first, first + length) of `size`.
struct ByteRange {
  std::int64_t first = 0;
  std::int64_t length = 0;
  bool operator==(const ByteRange&) const = default;
};
/// What a Range header asks for (RFC 9110, 14.1.2): of one range of bytes, that; of several, or of what makes no sense,
/// nothing, which means all of it. `is_satisfiable`: false where none of it is there.
struct RangeHeader {
  std::optional<ByteRange> range{};
  bool is_satisfiable = true;
};
[[nodiscard]] RangeHeader read_range(std::string_view header, std::int64_t size);

/// What a request may depend on; empty where the header was not sent.
struct Preconditions {
  std::string_view if_match{};
  std::string_view if_none_match{};
  std::string_view if_modified_since{};
  std::string_view if_unmodified_since{};
  std::string_view if_range{};
};
/// `etag` in quotes; empty where the version has none. `modified`: seconds since the epoch.
struct Validators {
  std::string etag;
  std::int64_t modified = 0;
};
/// 200, 304, or 412 (RFC 9110, 13.2.2; of GET and HEAD).
[[nodiscard]] int evaluate(const Preconditions& given, const Validators& current);
/// Whether a Range counts, or all of it is to be sent (RFC 9110, 13.1.5). `now` in seconds since the epoch: a date is a
/// strong validator once it is a minute old.
[[nodiscard]] bool is_range_wanted(const Preconditions& given, const Validators& current, std::int64_t now);

/// Seconds since the epoch as "Sun, 06 Nov 1994 08:49:37 GMT", and back; nothing where it is no date.
[[nodiscard]] std::string http_date(std::int64_t seconds);
[[nodiscard]] std::optional<std::int64_t> read_http_date(std::string_view text);

/// By the name's ending; application/octet-stream where nothing is known.
[[nodiscard]] std::string_view media_type(std::string_view path);
/// Whether a browser would run or draw what is in it: that is not to be shown as a page of this node's.
[[nodiscard]] bool is_active_media(std::string_view type);

/// `text` in HTML, quotes included.
[[nodiscard]] std::string html_text(std::string_view text);

}  // namespace mesh
