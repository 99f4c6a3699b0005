// What is mounted where, as the kernel says (proc(5), mountinfo). Any thread; blocks.
#pragma once

#include <string>

namespace mesh {

/// "MAJOR:MINOR" of what is mounted on this very directory; empty: nothing is.
[[nodiscard]] std::string device_of_mount(const std::string& directory);
/// Whether a meshmount is mounted on it, as the last of all that is.
[[nodiscard]] bool is_meshmount(const std::string& directory);
/// Absolute, links resolved but for the directory itself, of which whatever is mounted on it may not answer.
[[nodiscard]] std::string mount_point(const std::string& directory);
/// Throws Error(failed) where nothing can be mounted on it.
void check_directory(const std::string& directory);
/// Whether whoever served it is gone.
[[nodiscard]] bool is_dead(const std::string& directory);
/// Throws Error(failed) with the reason. `is_lazy`: it goes from its place at once, and for those who have it open when
/// they are done with it.
void unmount(const std::string& directory, bool is_lazy);

}  // namespace mesh
