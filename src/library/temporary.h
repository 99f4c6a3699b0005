// Names by which programs call what they are still writing: such files are not offered while they change.
//
// A name alone says little (.vimrc.Backup), so that what has one is left out only for a while after its last change: by
// its ctime, which no copy brings along. Blocks, briefly; any thread.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "core/entry.h"
#include "disk/fd.h"

namespace mesh {

inline constexpr std::chrono::seconds temporary_for{300};

/// Of the names of files and links that wait for their place in the directory where they are wanted.
inline constexpr std::string_view own_temporary_prefix = ".mesh-place-";

/// What this project makes beside its files while it puts something in place: never offered.
[[nodiscard]] bool is_own_temporary(std::string_view name);

/// Whether this is the name of a file that rsync is writing (.NAME.XXXXXX), or of a directory in which minimega
/// collects one (transfer_NUMBER, at the top).
[[nodiscard]] bool has_temporary_name(std::string_view path, Kind kind);

/// How long what has such a name, and was changed at `ctime`, is left out yet; zero or less: not at all.
[[nodiscard]] std::chrono::milliseconds temporary_yet(std::string_view path, Kind kind, std::int64_t ctime,
                                                      std::chrono::seconds limit = temporary_for);

/// Whether what lies at `path` in the open directory is left out now.
[[nodiscard]] bool is_temporary(int at, const std::string& path);

}  // namespace mesh
