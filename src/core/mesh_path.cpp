#include "core/mesh_path.h"

#include <vector>

#include "core/error.h"
#include "core/format.h"
#include "core/glob.h"
#include "core/url.h"

namespace mesh {

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const int extra = lead < 0x80             ? 0
                      : (lead & 0xe0) == 0xc0 ? 1
                      : (lead & 0xf0) == 0xe0 ? 2
                      : (lead & 0xf8) == 0xf0 ? 3
                                              : -1;
    if (extra < 0 || i + static_cast<std::size_t>(extra) >= text.size()) return false;
    unsigned code = extra == 0 ? lead : lead & (0x3fU >> extra);
    for (int k = 1; k <= extra; ++k) {
      const auto next = static_cast<unsigned char>(text[i + static_cast<std::size_t>(k)]);
      if ((next & 0xc0) != 0x80) return false;
      code = code << 6 | (next & 0x3f);
    }
    // Overlong forms, surrogates and what lies beyond Unicode would give one name two spellings.
    constexpr unsigned least[] = {0, 0x80, 0x800, 0x10000};
    if (code < least[extra] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
    i += static_cast<std::size_t>(extra) + 1;
  }
  return true;
}

std::string_view path_fault(std::string_view path) {
  if (path.empty()) return "is empty";
  if (path.size() > max_path_bytes) return "is longer than 4000 bytes";
  if (path.find('\0') != std::string_view::npos) return "contains a NUL byte";
  if (!is_utf8(path)) return "is not UTF-8";
  bool first = true;
  for (std::size_t at = 0; at <= path.size();) {
    const auto end = std::min(path.find('/', at), path.size());
    const auto part = path.substr(at, end - at);
    if (part.empty()) return "has an empty part";
    if (part == ".") return "has a part '.'";
    if (part == "..") return "has a part '..'";
    if (part.size() > max_part_bytes) return "has a part longer than 255 bytes";
    if (first && part == reserved_part) return "lies in the reserved state directory";
    first = false;
    at = end + 1;
  }
  return {};
}

std::string plain_path(std::string_view path) {
  std::string out;
  for (std::size_t at = 0; at <= path.size();) {
    const auto end = std::min(path.find('/', at), path.size());
    const auto part = path.substr(at, end - at);
    at = end + 1;
    if (part.empty() || part == ".") continue;
    if (!out.empty()) out += '/';
    out += part;
  }
  return out;
}

std::string_view parent_path(std::string_view path) {
  const auto slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view{} : path.substr(0, slash);
}

std::string_view last_part(std::string_view path) {
  const auto slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

bool is_below(std::string_view path, std::string_view dir) {
  if (dir.empty()) return !path.empty();
  return path.size() > dir.size() && path.starts_with(dir) && path[dir.size()] == '/';
}

std::string link_destination(std::string_view link, std::string_view target, bool may_climb) {
  if (target.empty() || target.front() == '/') return {};
  std::vector<std::string_view> parts;
  bool named = false;
  const auto walk = [&](std::string_view text) {
    named = false;
    for (std::size_t at = 0; at <= text.size();) {
      const auto end = std::min(text.find('/', at), text.size());
      const auto part = text.substr(at, end - at);
      at = end + 1;
      if (part.empty() || part == ".") continue;
      if (part != "..") {
        parts.push_back(part);
        named = true;
      } else if (parts.empty() || (named && !may_climb)) {
        // Behind a name that may be a link itself, ".." leads who knows where.
        return false;
      } else {
        parts.pop_back();
      }
    }
    return true;
  };
  if (!walk(parent_path(link)) || !walk(target)) return {};
  std::string out;
  for (const auto part : parts) {
    if (!out.empty()) out += '/';
    out += part;
  }
  return is_mesh_path(out) ? out : std::string{};
}

std::optional<std::string_view> FilesDir::relative(std::string_view path) const {
  for (std::string_view dir : {given, real}) {
    while (dir.size() > 1 && dir.ends_with('/')) dir.remove_suffix(1);
    if (dir.empty() || (path != dir && !is_below(path, dir))) continue;
    path.remove_prefix(std::min(path.size(), dir.size() + 1));
    return path;
  }
  return std::nullopt;
}

What parse_what(std::string_view text, const FilesDir& files_dir) {
  What what{std::string(text), {}, false};
  const auto shown = printable(text);
  if (is_url(text)) {
    const auto url = parse_url(text);
    what.pattern = url.path;
    what.is_glob = url.is_pattern() && has_glob(url.path);
    what.url = text;
    return what;
  }
  if (text.starts_with("tar:"))
    throw Error(Status::usage,
                shown + ": tar: is for meshget, which unpacks the file; without the prefix it is a path");
  if (text.starts_with("id:")) {
    const auto id = is_hex(text.substr(3), 64) ? ContentId::from(from_hex(text.substr(3))) : std::nullopt;
    if (!id)
      throw Error(Status::usage, shown +
                                     ": id: is followed by the 64 hexadecimal digits that meshfile info shows; a file "
                                     "of this name is named by path:" +
                                     shown);
    what.id = *id;
    what.pattern = "id:" + id->hex();
    return what;
  }
  const bool is_literal = text.starts_with("path:");
  if (is_literal || text.starts_with("file:")) text.remove_prefix(5);
  if (text.empty()) throw Error(Status::usage, "an empty path names nothing; '/' is the whole files directory");
  text = files_dir.relative(text).value_or(text);
  what.pattern = plain_path(text);
  if (!what.pattern.empty())
    if (const auto fault = path_fault(what.pattern); !fault.empty())
      throw Error(Status::usage, shown + ": the path " + std::string(fault));
  what.is_glob = !is_literal && has_glob(what.pattern);
  if (what.is_glob)
    if (const auto fault = glob_fault(what.pattern); !fault.empty())
      throw Error(Status::usage, shown + ": the path " + std::string(fault));
  return what;
}

std::string portable_text(const What& what) {
  if (!what.url.empty()) return what.url;
  if (what.id.is_set()) return what.pattern;
  return what.is_glob || !has_glob(what.pattern) ? "file:" + (what.pattern.empty() ? "/" : what.pattern)
                                                 : path_text(what.pattern);
}

std::string path_text(std::string_view path) { return "path:" + (path.empty() ? "/" : std::string(path)); }

}  // namespace mesh
