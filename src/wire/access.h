// Whom a program's ports are for, how many may come, and by what names it may be asked over HTTP. Values; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "wire/mesh_key.h"

namespace mesh {

struct Access {
  MeshKeysPtr keys;                     ///< for members: who has one of these; null: there is no key
  bool open = false;                    ///< without a key: for everyone who reaches the port
  std::vector<std::string> http_names;  ///< what this machine is called besides its own name

  /// With neither, all stays on loopback, between processes of one user, and root's.
  [[nodiscard]] bool is_for_own_user() const { return !keys && !open; }
};

/// How many connections a port takes at once, and how many of one address but this machine's own.
struct ConnectionLimits {
  int all = 20'000;
  int of_one_address = 1'000;
};

/// What an HTTP request says of itself (RFC 9110, RFC 6454).
struct HttpHead {
  bool is_upgrade = false;
  bool has_origin = false;   ///< a page in a browser asks
  bool is_http_1_0 = false;  ///< then it may have no Host
  std::string_view host;     ///< as sent; empty: none
};
/// Why the request is not answered, in words for whoever asks; empty where it may be. A page in a browser can have it
/// send requests to any port that the browser reaches, under a name of the page's own choice that leads there ("DNS
/// rebinding"): so no page may open a channel, and only names that are this machine's are answered to.
[[nodiscard]] std::string http_refusal(const HttpHead& head, const std::vector<std::string>& names);

}  // namespace mesh
