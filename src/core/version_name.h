// One version of a file of the mesh as one component of a path: "vm%2Fbase.qcow2@2147483648,1700000000123456789", with
// the content id behind another comma where it is known. In a mount, version/ has them all (docs/decisions/0032). Pure;
// any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/entry.h"

namespace mesh {

/// Of a file: its path, size, mtime and id.
[[nodiscard]] std::string version_name(const FileEntry& entry);
/// Nothing for what is no such name; it has one spelling only.
[[nodiscard]] std::optional<FileEntry> read_version_name(std::string_view name);

}  // namespace mesh
