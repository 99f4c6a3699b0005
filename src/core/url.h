// URLs as WHATs: http(s)://host/a/b/image.img?x=y is the mesh path a/b/image.img. RFC 3986, read by libcurl. Pure; any
// thread.
#pragma once

#include <string>
#include <string_view>

namespace mesh {

inline constexpr std::size_t max_url_bytes = 8000;

struct Url {
  std::string address;   ///< what to ask for: without the fragment, with the user's name and password where given
  std::string identity;  ///< the same without them: what tells one URL from another
  std::string shown;     ///< as it may be printed: also without what a query says, which may be a token
  std::string path;      ///< the mesh path
  std::string sha256;    ///< of the file, in hex in lower case; empty unless the URL ends with #sha256=...
};

[[nodiscard]] bool is_url(std::string_view text);

/// Throws Error(usage) for what is no http(s) URL, names no file, or has another fragment than #sha256=.
[[nodiscard]] Url parse_url(std::string_view text);

/// `text` as it may be shown: a URL's user name and password left out, and what its query says; anything else as it is.
[[nodiscard]] std::string without_secrets(std::string_view text);

}  // namespace mesh
