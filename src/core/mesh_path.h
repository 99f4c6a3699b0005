// Mesh paths: a file's path relative to the files dir, the key everywhere.
//
// A mesh path is non-empty UTF-8, '/'-separated, without empty, "." or ".." parts, without NUL, no part longer than
// 255 bytes, the whole at most 4,000 bytes, and not inside the reserved state directory ".mesh". Pure; any thread.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "core/digest.h"

namespace mesh {

inline constexpr std::size_t max_path_bytes = 4000;
inline constexpr std::size_t max_part_bytes = 255;
/// The first part that no mesh path may have: where a node keeps its own state by default.
inline constexpr std::string_view reserved_part = ".mesh";

[[nodiscard]] bool is_utf8(std::string_view text);

/// What is wrong with `path` as a mesh path, in words; empty when nothing is.
[[nodiscard]] std::string_view path_fault(std::string_view path);
[[nodiscard]] inline bool is_mesh_path(std::string_view path) { return path_fault(path).empty(); }

/// `path` without empty and "." parts, which name nothing.
[[nodiscard]] std::string plain_path(std::string_view path);
/// "a/b" for "a/b/c", "" for "a".
[[nodiscard]] std::string_view parent_path(std::string_view path);
/// "c" for "a/b/c".
[[nodiscard]] std::string_view last_part(std::string_view path);
/// Whether `path` lies below directory `dir` ("" is the root, below which everything lies).
[[nodiscard]] bool is_below(std::string_view path, std::string_view dir);

/// Where a symbolic link leads, as a mesh path: `target` as read from the link at mesh path `link`. Empty when the
/// target is absolute or leaves the files dir, and when it climbs ("..") behind a name, which may be a link itself;
/// `may_climb`: not then, where what comes out is looked up as a mesh path and no link.
[[nodiscard]] std::string link_destination(std::string_view link, std::string_view target, bool may_climb = false);

/// The files dir, as people and images spell it: an absolute path as it was given, and, where links are on the way,
/// what that leads to.
struct FilesDir {
  std::string given;
  std::string real{};

  /// What lies at the absolute `path`, relative to the files dir, without a '/' before it; "" is the files dir itself.
  [[nodiscard]] std::optional<std::string_view> relative(std::string_view path) const;
};

/// What a user typed, taken apart.
struct What {
  std::string text;     ///< as typed, for messages
  std::string pattern;  ///< relative to the files dir, without "." parts and doubled '/'; "" is the root itself
  bool is_glob = false;
  std::string url{};  ///< where to get it if the mesh does not have it; with the SHA-256, where one is given
  ContentId id{};     ///< set: whatever has this content; `pattern` is then "id:HEX"
};

/// Reads a WHAT: an optional "file:" prefix, then a path, glob or directory; "path:" and a path, in which nothing has a
/// meaning of its own; "id:" and a content id in hex; or an http(s) URL (core/url.h). A leading '/' is the files dir's
/// root; an absolute path under the files dir is taken as relative to it. Throws Error(usage) for "..", NUL, bad UTF-8,
/// and for "tar:", which is no name of a file but something to be done with one.
[[nodiscard]] What parse_what(std::string_view text, const FilesDir& files_dir);
/// The same WHAT as a text that any node reads alike, wherever its files dir is, and whatever is there.
[[nodiscard]] std::string portable_text(const What& what);
/// The WHAT that is this mesh path and no glob.
[[nodiscard]] std::string path_text(std::string_view path);

}  // namespace mesh
