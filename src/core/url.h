// URLs as WHATs: http(s)://host/a/b/image.img?x=y is the mesh path a/b/image.img. RFC 3986, read by libcurl. And
// objects of stores: s3://[STORE@]BUCKET/KEY, or swift://, is the mesh path BUCKET/KEY, its key as it is, not encoded.
// Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mesh {

inline constexpr std::size_t max_url_bytes = 8000;

struct Url {
  std::string address;   ///< what to ask for: without the fragment, with the user's name and password where given
  std::string identity;  ///< what tells one URL from another: the same without them, and without a signature
  std::string shown;     ///< as it may be printed: also without what a query says, which may be a token
  std::string path;      ///< the mesh path
  std::string sha256;    ///< of the file, in hex in lower case; empty unless the URL ends with #sha256=...
  /// What a file's record says that it is from: the identity, without anything that might be a secret.
  [[nodiscard]] std::string origin() const;
  // Of an object in a store, s3://[STORE@]BUCKET/KEY.
  std::string store{};   ///< empty where it names none
  std::string bucket{};  ///< empty: it is no such URL
  std::string key{};
  bool swift = false;  ///< swift://, else s3://
  bool pattern =
      false;  ///< the key is a glob (core/glob.h), or ends with '/' for all that is below, or is empty for all
  [[nodiscard]] bool is_object() const { return !bucket.empty(); }
  /// Not one object, but what matches: `path` is a mesh path or glob of the same meaning.
  [[nodiscard]] bool is_pattern() const { return pattern; }
  /// What all its keys begin with.
  [[nodiscard]] std::string literal_prefix() const { return key.substr(0, key.find_first_of("*?[\\")); }
  /// The URL of one of its objects. Throws Error(usage) where nothing can be called so.
  [[nodiscard]] Url object(const std::string& with_key) const;
  [[nodiscard]] bool is_swift() const { return swift; }
  [[nodiscard]] const char* scheme() const { return swift ? "swift://" : "s3://"; }
  /// It is in this store; the identity says so.
  void set_store(const std::string& name);
};

[[nodiscard]] bool is_url(std::string_view text);

/// Keys of a query that sign it, and are others each time: of S3, Google, CloudFront, Azure, and what is common. A '*'
/// at the end stands for any rest; capitals do not count.
inline constexpr std::string_view signature_keys[] = {"x-amz-*",
                                                      "x-goog-*",
                                                      "x-oss-*",
                                                      "signature",
                                                      "expires",
                                                      "awsaccesskeyid",
                                                      "googleaccessid",
                                                      "ossaccesskeyid",
                                                      "policy",
                                                      "key-pair-id",
                                                      "token",
                                                      "access_token",
                                                      "auth",
                                                      "sig",
                                                      "se",
                                                      "st",
                                                      "sp",
                                                      "sv",
                                                      "sr",
                                                      "spr",
                                                      "skoid",
                                                      "sktid",
                                                      "skt",
                                                      "ske",
                                                      "sks",
                                                      "skv",
                                                      "temp_url_*",
                                                      "hdnea",
                                                      "hdnts",
                                                      "hmac"};

/// `more`: further keys that are no part of the identity. Throws Error(usage) for what is no http(s) URL, names no
/// file, or has another fragment than #sha256=.
[[nodiscard]] Url parse_url(std::string_view text, const std::vector<std::string>& more = {});

/// `text` as it may be shown: a URL's user name and password left out, and what its query says; anything else as it is.
[[nodiscard]] std::string without_secrets(std::string_view text);

}  // namespace mesh
