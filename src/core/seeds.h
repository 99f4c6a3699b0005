// Which files here may have some of a wanted file's bytes. Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/entry.h"
#include "core/mesh_path.h"

namespace mesh {

/// A seed as somebody named it: a mesh path, or, of what lies outside of the files directory, an absolute path. Throws
/// Error(usage) for what names no one file.
[[nodiscard]] std::string read_seed(std::string_view text, const FilesDir& files_dir);
[[nodiscard]] inline bool is_outside(std::string_view seed) { return seed.starts_with('/'); }
/// Whether one of a get's seeds lies outside of the files directory, so that it is not for everyone to have it read.
/// Throws as read_seed.
[[nodiscard]] bool has_outside_seed(const std::vector<std::string>& seeds, const FilesDir& files_dir);

/// Whether two names differ in nothing but digits, however many: `disk-9.img` and `disk-10.img`, versions of one thing.
[[nodiscard]] bool differ_in_digits_alone(std::string_view a, std::string_view b);

/// What such names have in common: a path in which each run of digits is one.
[[nodiscard]] std::string without_numbers(std::string_view path);

/// Where seeds of `wanted` may lie, the likeliest first: `named`, its own path, and of `siblings`, which are the files
/// of its directory that are here, those whose names differ from its own in digits alone, the newest first.
[[nodiscard]] std::vector<std::string> choose_seeds(const FileEntry& wanted, const std::vector<std::string>& named,
                                                    std::vector<FileEntry> siblings);

}  // namespace mesh
