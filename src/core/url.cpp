#include "core/url.h"

#include <curl/curl.h>

#include <algorithm>
#include <memory>

#include "core/error.h"
#include "core/format.h"
#include "core/glob.h"
#include "core/http_request.h"
#include "core/merkle.h"
#include "core/mesh_path.h"

namespace mesh {
namespace {

using Handle = std::unique_ptr<CURLU, decltype(&curl_url_cleanup)>;

/// A part of the URL; empty where it has none.
std::string part(const Handle& url, CURLUPart which, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url.get(), which, &text, flags) != CURLUE_OK) return {};
  std::string out(text);
  curl_free(text);
  return out;
}

bool is_key(std::string_view text, std::string_view pattern) {
  const bool open = pattern.ends_with('*');
  if (open) pattern.remove_suffix(1);
  if (open ? text.size() < pattern.size() : text.size() != pattern.size()) return false;
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::ranges::equal(text.substr(0, pattern.size()), pattern,
                            [&](char a, char b) { return lower(a) == lower(b); });
}

/// The query without what signs it.
std::string unsigned_query(std::string_view query, const std::vector<std::string>& more) {
  std::string out;
  for (std::size_t at = 0; at <= query.size();) {
    const auto end = std::min(query.find('&', at), query.size());
    const auto item = query.substr(at, end - at);
    at = end + 1;
    const auto key = item.substr(0, item.find('='));
    const auto is = [&](std::string_view pattern) { return is_key(key, pattern); };
    if (item.empty() || std::ranges::any_of(signature_keys, is) || std::ranges::any_of(more, is)) continue;
    out += (out.empty() ? "" : "&") + std::string(item);
  }
  return out;
}

}  // namespace

namespace {

constexpr std::size_t most_origin_shown = 1600;
constexpr std::string_view of_s3 = "s3://";
constexpr std::string_view of_swift = "swift://";

bool is_of_store(std::string_view text) { return text.starts_with(of_s3) || text.starts_with(of_swift); }

}  // namespace

bool is_url(std::string_view text) {
  // A scheme may be written in capitals (RFC 3986, 3.1).
  const auto begins = [&](std::string_view scheme) {
    return text.size() >= scheme.size() &&
           std::ranges::equal(text.substr(0, scheme.size()), scheme,
                              [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b; });
  };
  return begins("http://") || begins("https://") || is_of_store(text);
}

std::string Url::origin() const {
  // What a query says may be a secret that nobody knows the name of.
  const bool is_plain = identity.find('?') == std::string::npos || is_object();
  if (is_plain && identity.size() <= most_origin_shown && is_utf8(identity)) return identity;
  auto shown_part = without_secrets(identity).substr(0, most_origin_shown);
  while (!is_utf8(shown_part)) shown_part.pop_back();
  return shown_part + " (" + mesh::sha256(identity).hex().substr(0, 12) + ")";
}

void Url::set_store(const std::string& name) {
  store = name;
  address = identity = shown = scheme() + store + (store.empty() ? "" : "@") + bucket + "/" + key;
}

namespace {

bool is_name(std::string_view text, std::size_t most, std::string_view more) {
  return !text.empty() && text.size() <= most && std::ranges::all_of(text, [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           more.find(c) != std::string_view::npos;
  });
}

/// One part of a path, whatever the key has.
std::string as_one_part(std::string_view key) {
  std::string out;
  for (const auto& c : url_path(key)) out += c == '/' ? std::string("%2F") : std::string(1, c);
  if (out == "." || out == "..") out = out == "." ? "%2E" : "%2E%2E";
  return out;
}

/// Where the object lies in the mesh. Throws Error(usage).
void set_key(Url& url, const std::string& key) {
  const auto fail = [&](const std::string& why) {
    return Error(Status::usage, printable(url.scheme() + url.bucket + "/" + key) + ": " + why);
  };
  constexpr std::size_t most_key_bytes = 1024;
  url.key = key;
  if (key.size() > most_key_bytes || !is_utf8(key) || key.find('\0') != std::string::npos)
    throw fail("a key has at most 1024 bytes of UTF-8");
  url.path = url.bucket + "/" + key;
  if (!is_mesh_path(url.path)) url.path = url.bucket + "/" + as_one_part(key);
  if (const auto fault = path_fault(url.path); !fault.empty()) throw fail("the path " + std::string(fault));
}

/// As other tools take them, keys are not encoded.
Url parse_object(std::string_view text) {
  const auto fail = [&](const std::string& why) { return Error(Status::usage, printable(text) + ": " + why); };
  constexpr std::string_view mark = "#sha256=";
  constexpr std::size_t digits = 64;
  if (text.size() > max_url_bytes) throw fail("is longer than " + std::to_string(max_url_bytes) + " bytes");
  Url out;
  out.swift = text.starts_with(of_swift);
  auto rest = text.substr(std::string_view(out.scheme()).size());
  if (const auto at = rest.rfind(mark); at != std::string_view::npos && rest.size() - at == mark.size() + digits) {
    out.sha256 = rest.substr(at + mark.size());
    std::ranges::transform(out.sha256, out.sha256.begin(),
                           [](char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
    if (!is_hex(out.sha256, digits)) throw fail("a SHA-256 has 64 hexadecimal digits");
    rest = rest.substr(0, at);
  }
  const auto slash = std::min(rest.find('/'), rest.size());
  auto bucket = rest.substr(0, slash);
  if (const auto at = bucket.find('@'); at != std::string_view::npos) {
    out.store = bucket.substr(0, at);
    bucket = bucket.substr(at + 1);
    if (!is_name(out.store, 64, "")) throw fail("a store's name has letters, digits, '-' and '_'");
  }
  out.bucket = bucket;
  if (!is_name(bucket, 255, ".") || bucket.find_first_not_of('.') == std::string_view::npos)
    throw fail("is " + std::string(out.scheme()) +
               "[STORE@]BUCKET/KEY, and a bucket's name has letters, digits, '.', '-' and '_'");
  const std::string key(rest.substr(std::min(slash + 1, rest.size())));
  if (slash == rest.size()) throw fail("names no object; '/' at its end is for all that is in the bucket");
  out.pattern = key.empty() || key.ends_with('/') || has_glob(key);
  if (!out.pattern) {
    set_key(out, key);
  } else {
    out.key = key;
    out.path = plain_path(out.bucket + "/" + key);
    auto fault = path_fault(out.path);
    if (fault.empty() && has_glob(key)) fault = glob_fault(out.path);
    if (!fault.empty()) throw fail("the path " + std::string(fault));
    if (!is_utf8(key) || key.find('\0') != std::string::npos) throw fail("a key is UTF-8, without a zero byte");
    if (!out.sha256.empty()) throw fail("many objects have no SHA-256; name one");
  }
  // What is shown, and what tells one from another, must say the same when it is read again.
  if (const auto at = out.key.rfind(mark); at != std::string::npos && out.key.size() - at == mark.size() + digits)
    throw fail("ends with " + std::string(mark) + " twice");
  out.set_store(out.store);
  return out;
}

}  // namespace

Url Url::object(const std::string& with_key) const {
  auto out = *this;
  out.pattern = false;
  set_key(out, with_key);
  out.set_store(store);
  return out;
}

Url parse_url(std::string_view text, const std::vector<std::string>& more) {
  const auto fail = [&](const std::string& why) {
    return Error(Status::usage, printable(without_secrets(text)) + ": " + why);
  };
  if (is_of_store(text)) return parse_object(text);
  if (!is_url(text)) throw fail("is no http://, https://, s3:// or swift:// URL");
  if (text.size() > max_url_bytes) throw fail("is longer than " + std::to_string(max_url_bytes) + " bytes");
  if (text.find('\0') != std::string_view::npos) throw fail("contains a NUL byte");
  const Handle url(curl_url(), &curl_url_cleanup);
  if (const auto ec = curl_url_set(url.get(), CURLUPART_URL, std::string(text).c_str(), 0); ec != CURLUE_OK)
    throw fail(std::string("is no URL: ") + curl_url_strerror(ec));
  Url out;
  if (auto fragment = part(url, CURLUPART_FRAGMENT); !fragment.empty()) {
    if (!fragment.starts_with("sha256=")) throw fail("ends with #" + fragment + "; only #sha256=... has a meaning");
    out.sha256 = fragment.substr(7);
    std::ranges::transform(out.sha256, out.sha256.begin(),
                           [](char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
    if (!is_hex(out.sha256, 64)) throw fail("a SHA-256 has 64 hexadecimal digits");
  }
  curl_url_set(url.get(), CURLUPART_FRAGMENT, nullptr, 0);
  out.address = part(url, CURLUPART_URL);
  char* decoded = nullptr;
  if (curl_url_get(url.get(), CURLUPART_PATH, &decoded, CURLU_URLDECODE) != CURLUE_OK)
    throw fail("its path has a control character in it");
  const std::string path(decoded);
  curl_free(decoded);
  out.path = plain_path(path);
  if (out.path.empty() || path.ends_with('/')) throw fail("names no file: its path ends with '/'");
  if (const auto fault = path_fault(out.path); !fault.empty()) throw fail("the path " + std::string(fault));
  for (const auto secret : {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_OPTIONS})
    curl_url_set(url.get(), secret, nullptr, 0);
  out.shown = without_secrets(part(url, CURLUPART_URL));
  if (const auto query = part(url, CURLUPART_QUERY); !query.empty()) {
    const auto rest = unsigned_query(query, more);
    curl_url_set(url.get(), CURLUPART_QUERY, rest.empty() ? nullptr : rest.c_str(), 0);
  }
  out.identity = part(url, CURLUPART_URL);
  return out;
}

std::string without_secrets(std::string_view text) {
  if (text.starts_with("tar:")) return "tar:" + without_secrets(text.substr(4));
  if (!is_url(text) || is_of_store(text)) return std::string(text);
  const auto host = text.find("://") + 3;
  const auto end = std::min(text.find_first_of("/?#", host), text.size());
  auto from = host;
  if (const auto at = text.substr(0, end).rfind('@'); at != std::string_view::npos && at >= host) {
    from = at + 1;
  } else if (const auto colon = text.substr(0, end).find(':', host); colon != std::string_view::npos) {
    // A password with a '/' in it is no URL, and must not be printed for that: no port is anything but a number.
    const auto port = text.substr(colon + 1, end - colon - 1);
    const bool bracketed = text.substr(host).starts_with('[');
    if (const auto last = text.rfind('@');
        !bracketed && last != std::string_view::npos && last > end &&
        (port.empty() || port.find_first_not_of("0123456789") != std::string_view::npos))
      from = last + 1;
  }
  std::string out(text.substr(0, host));
  out += text.substr(from);
  const auto fragment = std::min(out.find('#', host), out.size());
  if (const auto query = out.find('?', host); query < fragment) out.replace(query, fragment - query, "?...");
  return out;
}

}  // namespace mesh
