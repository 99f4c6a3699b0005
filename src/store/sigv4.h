// Signatures of requests to object stores that speak S3: AWS Signature Version 4, by its documentation
// (https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html). Signed here, as libcurl 7.88's own
// fails on unsorted queries, on '+' in a key and on requests without a hash of the body. Pure; any thread.
#pragma once

#include <ctime>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mesh {

struct S3Credentials {
  std::string key_id{};
  std::string secret{};
  std::string session_token{};  ///< of temporary ones; may be empty
};

struct S3Request {
  std::string method;
  std::string host;                                          ///< with its port, where the URL says one
  std::string path;                                          ///< percent-encoded by `s3_encoded`, from the '/' on
  std::vector<std::pair<std::string, std::string>> query{};  ///< not encoded
  std::map<std::string, std::string> headers{};              ///< further ones to be signed, by names in lower case
  std::string content_sha256 = "UNSIGNED-PAYLOAD";           ///< in hex
};

/// As S3 encodes: all but letters, digits, '-', '.', '_' and '~', of a path also but '/'.
[[nodiscard]] std::string s3_encoded(std::string_view text, bool is_path);
/// The headers that sign it, as they are sent, Host not among them.
[[nodiscard]] std::vector<std::string> sign_v4(const S3Request& request, const S3Credentials& by,
                                               std::string_view region, std::time_t now);

}  // namespace mesh
