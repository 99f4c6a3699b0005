#include "core/version_name.h"

#include <charconv>

#include "core/format.h"
#include "core/mesh_path.h"

namespace mesh {
namespace {

std::optional<std::int64_t> read_number(std::string_view text) {
  std::int64_t out = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (failed != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return out;
}

}  // namespace

std::string version_name(const FileEntry& entry) {
  std::string out;
  for (const char c : entry.path)
    out += c == '/' ? std::string("%2F") : c == '%' ? std::string("%25") : std::string(1, c);
  out += "@" + std::to_string(entry.size) + "," + std::to_string(entry.mtime);
  if (entry.id.is_set()) out += "," + entry.id.hex();
  return out;
}

std::optional<FileEntry> read_version_name(std::string_view name) {
  const auto at = name.rfind('@');
  if (at == std::string_view::npos) return std::nullopt;
  FileEntry out;
  out.mode = 0400;
  for (auto rest = name.substr(0, at); !rest.empty();) {
    const bool is_slash = rest.starts_with("%2F");
    if (rest.front() == '%' && !is_slash && !rest.starts_with("%25")) return std::nullopt;
    out.path += is_slash ? '/' : rest.front();
    rest.remove_prefix(rest.front() == '%' ? 3 : 1);
  }
  auto numbers = name.substr(at + 1);
  const auto comma = numbers.find(',');
  if (comma == std::string_view::npos) return std::nullopt;
  const auto size = read_number(numbers.substr(0, comma));
  numbers.remove_prefix(comma + 1);
  const auto second = numbers.find(',');
  const auto mtime = read_number(numbers.substr(0, second));
  if (second != std::string_view::npos) {
    const auto id = numbers.substr(second + 1);
    const auto known = is_hex(id, 64) ? ContentId::from(from_hex(id)) : std::nullopt;
    if (!known || !known->is_set()) return std::nullopt;
    out.id = *known;
  }
  if (!size || *size < 0 || !mtime || !is_mesh_path(out.path)) return std::nullopt;
  out.size = *size;
  out.mtime = *mtime;
  if (version_name(out) != name) return std::nullopt;
  return out;
}

}  // namespace mesh
