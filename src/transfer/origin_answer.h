// What an origin says before the bytes, header by header (RFC 9110). Pure; any one thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mesh {

/// The beginning of an answer.
struct OriginHead {
  long code = 0;           ///< 200, 206, 304 or 416
  std::int64_t size = -1;  ///< of the whole file; below 0: not said
  std::int64_t mtime = 0;  ///< nanoseconds since the epoch; 0: not said
  std::string etag;        ///< only a strong one
  std::string modified;    ///< Last-Modified as it was said
  /// What tells this version of the file from others, for If-Range; empty: nothing does.
  [[nodiscard]] const std::string& validator() const { return etag.empty() ? modified : etag; }
};

struct OriginAnswer {
  OriginHead head;
  std::int64_t content_length = -1;  ///< these: below 0: not said
  std::int64_t range_begin = -1;
  std::int64_t range_end = -1;  ///< not included
  std::int64_t range_total = -1;
  int retry_after = 0;   ///< seconds
  std::string region{};  ///< of an object store: where the bucket is

  /// One line of the headers; a status line begins anew. What makes no sense counts as not said.
  void take(std::string_view line);
};

}  // namespace mesh
