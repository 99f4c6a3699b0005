// Whether two entries of one path are of one version. Pure.
#pragma once

#include "core/entry.h"

namespace mesh {

/// By their content, where both say what it is; else by size and time, as a copy that nobody has hashed is known by.
[[nodiscard]] inline bool is_same_version(const FileEntry& a, const FileEntry& b) {
  if (a.kind != b.kind) return false;
  if (a.kind == Kind::link || a.kind == Kind::outside) return a.target == b.target;
  if (a.kind == Kind::directory) return true;
  if (a.size != b.size) return false;
  return a.id.is_set() && b.id.is_set() ? a.id == b.id : a.mtime == b.mtime;
}

}  // namespace mesh
