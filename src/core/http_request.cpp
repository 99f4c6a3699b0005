#include "core/http_request.h"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>
#include <utility>

#include "core/mesh_path.h"

namespace mesh {
namespace {

/// What is at the ends of a header's parts (RFC 9110, 5.6.3).
std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// All of `text` as a number of bytes; one that is too large for any file is the largest.
std::optional<std::int64_t> read_number(std::string_view text) {
  if (text.empty() || !std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
  std::int64_t out = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), out);
  return ec == std::errc() ? out : INT64_MAX;
}

/// Whether one of a header's entity tags is this one. `weakly`: a weak one counts as well (RFC 9110, 8.8.3.2).
bool has_tag(std::string_view header, std::string_view etag, bool weakly) {
  header = trimmed(header);
  if (header == "*") return true;
  while (!header.empty()) {
    bool is_weak = false;
    if (header.starts_with("W/")) is_weak = true, header.remove_prefix(2);
    if (!header.starts_with('"')) return false;
    const auto end = header.find('"', 1);
    if (end == std::string_view::npos) return false;
    if (!etag.empty() && header.substr(0, end + 1) == etag && (weakly || !is_weak)) return true;
    header = trimmed(header.substr(end + 1));
    if (!header.empty() && header.front() != ',') return false;
    while (!header.empty() && (header.front() == ',' || header.front() == ' ' || header.front() == '\t'))
      header.remove_prefix(1);
  }
  return false;
}

}  // namespace

std::optional<std::string> url_decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      if (i + 2 >= text.size()) return std::nullopt;
      const int high = digit_of(text[i + 1]);
      const int low = digit_of(text[i + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      c = static_cast<char>(high * 16 + low);
      i += 2;
    }
    if (c == '\0') return std::nullopt;
    out.push_back(c);
  }
  return out;
}

std::optional<HttpTarget> read_target(std::string_view target) {
  // As a proxy is asked, too (RFC 9112, 3.2.2).
  std::string_view authority;
  if (constexpr std::string_view scheme = "http://"; target.starts_with(scheme)) {
    target.remove_prefix(scheme.size());
    authority = target.substr(0, std::min(target.find_first_of("/?#"), target.size()));
    target.remove_prefix(authority.size());
    if (authority.empty()) return std::nullopt;
    if (target.empty()) target = "/";
  }
  target = target.substr(0, target.find('#'));
  if (!target.starts_with('/')) return std::nullopt;
  const auto mark = target.find('?');
  auto path = url_decoded(target.substr(0, mark));
  if (!path) return std::nullopt;
  HttpTarget out;
  out.path = std::move(*path);
  out.authority = authority;
  auto query = mark == std::string_view::npos ? std::string_view() : target.substr(mark + 1);
  while (!query.empty()) {
    const auto end = std::min(query.find('&'), query.size());
    const auto pair = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    const auto equals = std::min(pair.find('='), pair.size());
    auto key = url_decoded(pair.substr(0, equals));
    auto value = url_decoded(pair.substr(std::min(equals + 1, pair.size())));
    if (!key || !value) return std::nullopt;
    out.query.insert_or_assign(std::move(*key), std::move(*value));
  }
  return out;
}

std::string url_path(std::string_view path) {
  constexpr const char* digits = "0123456789ABCDEF";
  std::string out;
  for (const char c : path) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                          c == '.' || c == '_' || c == '~' || c == '/';
    if (is_plain) {
      out.push_back(c);
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out.push_back('%');
    out.push_back(digits[byte >> 4]);
    out.push_back(digits[byte & 15]);
  }
  return out;
}

RangeHeader read_range(std::string_view header, std::int64_t size) {
  RangeHeader out;
  header = trimmed(header);
  constexpr std::string_view unit = "bytes=";
  if (!header.starts_with(unit)) return out;
  header.remove_prefix(unit.size());
  if (header.find(',') != std::string_view::npos) return out;
  header = trimmed(header);
  const auto dash = header.find('-');
  if (dash == std::string_view::npos) return out;
  const auto first_text = header.substr(0, dash);
  const auto last_text = header.substr(dash + 1);
  const auto first = read_number(first_text);
  const auto last = read_number(last_text);
  if ((!first && !first_text.empty()) || (!last && !last_text.empty()) || (!first && !last)) return out;
  if (!first) {
    // The last so many.
    const auto length = std::min(*last, size);
    out.is_satisfiable = length > 0;
    if (length > 0) out.range = {size - length, length};
    return out;
  }
  if (last && *last < *first) return out;
  out.is_satisfiable = *first < size;
  if (!out.is_satisfiable) return out;
  const auto end = last ? std::min(*last, size - 1) + 1 : size;
  out.range = {*first, end - *first};
  return out;
}

int evaluate(const Preconditions& given, const Validators& current) {
  if (!given.if_match.empty()) {
    if (!has_tag(given.if_match, current.etag, false)) return 412;
  } else if (const auto date = read_http_date(given.if_unmodified_since); date && current.modified > *date) {
    return 412;
  }
  if (!given.if_none_match.empty()) {
    if (has_tag(given.if_none_match, current.etag, true)) return 304;
  } else if (const auto date = read_http_date(given.if_modified_since); date && current.modified <= *date) {
    return 304;
  }
  return 200;
}

bool is_range_wanted(const Preconditions& given, const Validators& current, std::int64_t now) {
  const auto header = trimmed(given.if_range);
  if (header.empty()) return true;
  if (header.starts_with('"') || header.starts_with("W/")) return has_tag(header, current.etag, false);
  constexpr std::int64_t settled = 60;
  return read_http_date(header) == current.modified && now - current.modified >= settled;
}

std::string http_date(std::int64_t seconds) {
  const auto time = static_cast<std::time_t>(seconds);
  std::tm parts{};
  std::array<char, 40> out{};
  // The names are English: no program here asks for another locale.
  if (::gmtime_r(&time, &parts) == nullptr) return {};
  std::strftime(out.data(), out.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return out.data();
}

std::optional<std::int64_t> read_http_date(std::string_view text) {
  text = trimmed(text);
  if (text.empty() || text.size() > 40 || text.front() < 'A') return std::nullopt;
  const auto time = ::curl_getdate(std::string(text).c_str(), nullptr);
  return time < 0 ? std::nullopt : std::optional<std::int64_t>(time);
}

std::string_view media_type(std::string_view path) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 26> known{{
      {".txt", "text/plain; charset=utf-8"},
      {".log", "text/plain; charset=utf-8"},
      {".md", "text/plain; charset=utf-8"},
      {".conf", "text/plain; charset=utf-8"},
      {".ipxe", "text/plain; charset=utf-8"},
      {".json", "application/json"},
      {".html", "text/html; charset=utf-8"},
      {".htm", "text/html; charset=utf-8"},
      {".xhtml", "application/xhtml+xml"},
      {".svg", "image/svg+xml"},
      {".xml", "application/xml"},
      {".pdf", "application/pdf"},
      {".png", "image/png"},
      {".jpg", "image/jpeg"},
      {".gif", "image/gif"},
      {".webp", "image/webp"},
      {".mp4", "video/mp4"},
      {".webm", "video/webm"},
      {".mp3", "audio/mpeg"},
      {".ogg", "audio/ogg"},
      {".wav", "audio/wav"},
      {".gz", "application/gzip"},
      {".zip", "application/zip"},
      {".tar", "application/x-tar"},
      {".xz", "application/x-xz"},
      {".iso", "application/x-iso9660-image"},
  }};
  const auto name = last_part(path);
  std::string ending(name.substr(std::min(name.rfind('.'), name.size())));
  std::ranges::transform(ending, ending.begin(),
                         [](char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
  for (const auto& [end, type] : known)
    if (ending == end) return type;
  return "application/octet-stream";
}

bool is_active_media(std::string_view type) {
  return type.starts_with("text/html") || type.find("xml") != std::string_view::npos || type == "application/pdf";
}

std::string html_text(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out.push_back(c);
    }
  }
  return out;
}

}  // namespace mesh
