#include "core/format.h"

#include <cstdio>
#include <ctime>
#include <stdexcept>

#include "core/mesh_path.h"

namespace mesh {

std::string printable(std::string_view text) {
  std::string out;
  const bool clean = is_utf8(text);
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    // C1 controls (U+0080 to U+009F) reach terminals as c2 80 to c2 9f.
    const bool c1 = c == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    if (c < 0x20 || c == 0x7f || c1 || (c >= 0x80 && !clean)) {
      char code[8];
      std::snprintf(code, sizeof code, "\\x%02x", c);
      out += code;
      if (c1 && clean) {
        std::snprintf(code, sizeof code, "\\x%02x", static_cast<unsigned char>(text[++i]));
        out += code;
      }
    } else {
      out += static_cast<char>(c);
    }
  }
  return out;
}

std::string about(std::string_view path, std::string_view said) {
  const auto name = printable(path) + ": ";
  return said.starts_with(name) ? std::string(said) : name + std::string(said);
}

std::string human_bytes(std::int64_t bytes) {
  const char* const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  auto value = static_cast<double>(bytes);
  int unit = 0;
  for (; value >= 999.5 && unit < 6; ++unit) value /= 1000;
  char out[32];
  std::snprintf(out, sizeof out,
                unit == 0 || value >= 99.95 ? "%.0f %s"
                : value >= 9.995            ? "%.1f %s"
                                            : "%.2f %s",
                value, units[unit]);
  return out;
}

std::string human_seconds(std::int64_t seconds) {
  char out[48];
  const auto s = static_cast<long long>(seconds < 0 ? 0 : seconds);
  if (s < 60)
    std::snprintf(out, sizeof out, "%lld s", s);
  else if (s < 3600)
    std::snprintf(out, sizeof out, "%lld min %02lld s", s / 60, s % 60);
  else
    std::snprintf(out, sizeof out, "%lld h %02lld min", s / 3600, s / 60 % 60);
  return out;
}

std::string human_time(std::int64_t mtime_ns) {
  const std::time_t seconds =
      static_cast<std::time_t>(mtime_ns / 1'000'000'000 - (mtime_ns % 1'000'000'000 < 0 ? 1 : 0));
  std::tm tm{};
  localtime_r(&seconds, &tm);
  char out[32];
  return {out, std::strftime(out, sizeof out, "%Y-%m-%d %H:%M:%S", &tm)};
}

bool is_hex(std::string_view text, std::size_t digits) {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string to_hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    out += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4];
    out += "0123456789abcdef"[c & 0xf];
  }
  return out;
}

std::string from_hex(std::string_view hex) {
  const auto value = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    throw std::invalid_argument("not a hexadecimal digit");
  };
  if (hex.size() % 2 != 0) throw std::invalid_argument("an odd number of hexadecimal digits");
  std::string out;
  for (std::size_t i = 0; i < hex.size(); i += 2) out += static_cast<char>(value(hex[i]) << 4 | value(hex[i + 1]));
  return out;
}

}  // namespace mesh
