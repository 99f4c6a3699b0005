#include "library/temporary.h"

#include <algorithm>

#include "core/mesh_path.h"

namespace mesh {
namespace {

bool in(char c, char low, char high) { return c >= low && c <= high; }

bool is_number(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return in(c, '0', '9'); });
}

}  // namespace

bool is_own_temporary(std::string_view name) {
  return name.starts_with(".mesh-unpack-") || name.starts_with(".mesh-link-") || name.starts_with(own_temporary_prefix);
}

bool has_temporary_name(std::string_view path, Kind kind) {
  constexpr std::string_view minimega = "transfer_";
  if (kind == Kind::directory) return path.starts_with(minimega) && is_number(path.substr(minimega.size()));
  // Six characters by mkstemp. Names in lower case alone are taken for extensions.
  const auto name = last_part(path);
  if (kind != Kind::file || name.size() < 9 || name.front() != '.' || name[name.size() - 7] != '.') return false;
  const auto suffix = name.substr(name.size() - 6);
  const bool random =
      std::ranges::all_of(suffix, [](char c) { return in(c, '0', '9') || in(c, 'A', 'Z') || in(c, 'a', 'z'); });
  return random && std::ranges::any_of(suffix, [](char c) { return in(c, '0', '9') || in(c, 'A', 'Z'); });
}

std::chrono::milliseconds temporary_yet(std::string_view path, Kind kind, std::int64_t ctime,
                                        std::chrono::seconds limit) {
  using std::chrono::milliseconds;
  if (!has_temporary_name(path, kind)) return milliseconds(0);
  const auto now =
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch());
  const auto age = std::chrono::duration_cast<milliseconds>(now - std::chrono::nanoseconds(ctime));
  // A clock that was set back makes nothing younger than this.
  return age < -limit ? milliseconds(0) : milliseconds(limit) - age;
}

bool is_temporary(int at, const std::string& path) {
  struct stat s {};
  if (!has_temporary_name(path, Kind::file) && !has_temporary_name(path, Kind::directory)) return false;
  if (::fstatat(at, path.c_str(), &s, AT_SYMLINK_NOFOLLOW) != 0 || (!S_ISREG(s.st_mode) && !S_ISDIR(s.st_mode)))
    return false;
  return temporary_yet(path, S_ISDIR(s.st_mode) ? Kind::directory : Kind::file, nanoseconds(s.st_ctim)).count() > 0;
}

}  // namespace mesh
