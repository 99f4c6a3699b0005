#include "wire/access.h"

#include <unistd.h>

#include <algorithm>

#include "core/address.h"
#include "core/format.h"

namespace mesh {
namespace {

/// In lower case, without the dot that ends a full name.
std::string plain(std::string_view name) {
  if (name.ends_with('.')) name.remove_suffix(1);
  std::string out(name);
  std::ranges::transform(out, out.begin(), [](char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
  return out;
}

/// The host's own name, and its first part.
std::vector<std::string> own_names() {
  char name[256] = {};
  if (::gethostname(name, sizeof name - 1) != 0 || name[0] == 0) return {};
  const std::string full = plain(name);
  return {full, full.substr(0, full.find('.'))};
}

/// Host without the port (RFC 9110, 7.2); empty where it is neither a name, an address, nor an address in brackets,
/// with nothing but a port behind it.
std::string_view without_port(std::string_view host) {
  auto end = std::min(host.find(':'), host.size());
  std::string_view out = host.substr(0, end);
  if (host.starts_with('[')) {
    end = host.find(']');
    if (end == std::string_view::npos) return {};
    out = host.substr(1, end - 1);
    ++end;
  }
  auto port = host.substr(end);
  if (port.starts_with(':'))
    port.remove_prefix(1);
  else if (!port.empty())
    return {};
  const bool is_port = std::ranges::all_of(port, [](char c) { return c >= '0' && c <= '9'; });
  return is_port ? out : std::string_view{};
}

}  // namespace

std::string http_refusal(const HttpHead& head, const std::vector<std::string>& names) {
  if (head.is_upgrade && head.has_origin) return "channels are not for pages in browsers";
  if (head.host.empty()) return head.is_http_1_0 ? std::string() : "the request names no host";
  const auto host = plain(without_port(head.host));
  // An address's zone is this machine's own affair (RFC 6874): no host of a request has one, and anything can be one.
  const bool is_address = host.find('%') == std::string::npos && parse_address(host);
  if (is_address || host == "localhost") return {};
  const auto is_it = [&](const std::string& name) { return plain(name) == host; };
  static const auto own = own_names();
  if (std::ranges::any_of(own, is_it) || std::ranges::any_of(names, is_it)) return {};
  return "this machine is not known to be called " + printable(host.substr(0, 255)) + " (--http-name says that it is)";
}

}  // namespace mesh
