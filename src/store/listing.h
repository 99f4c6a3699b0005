// What stores say in words, which may be anybody's: listings and multipart uploads of S3 in XML (ListObjectsV2), of
// Swift in JSON. Pure; any thread. All throw Error(failed) for what makes no sense.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "store/object_store.h"

namespace mesh {

/// ListBucketResult, its names percent-encoded (encoding-type=url) where it says so.
[[nodiscard]] ObjectPage read_s3_listing(std::string_view xml);
/// The text of the first element of this name, anywhere; empty where there is none.
[[nodiscard]] std::string read_s3_element(std::string_view xml, std::string_view name);

struct S3Part {
  int number = 0;
  std::int64_t size = 0;
  std::string etag;  ///< without quotes
};
struct S3Parts {
  std::vector<S3Part> parts;
  std::string next;  ///< there is more behind this part
};
/// ListPartsResult.
[[nodiscard]] S3Parts read_s3_parts(std::string_view xml);

/// Of a container, with format=json and a limit of `limit`.
[[nodiscard]] ObjectPage read_swift_listing(std::string_view json, std::size_t limit);

/// "2026-12-01T09:00:00.000Z", and as Swift writes it without a zone, in UTC: nanoseconds since the epoch; 0 for what
/// is none.
[[nodiscard]] std::int64_t read_store_time(std::string_view text);

}  // namespace mesh
