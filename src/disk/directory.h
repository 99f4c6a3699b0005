// What open directories have in them.
#pragma once

#include <string>
#include <vector>

namespace mesh {

/// What is in an open directory, "." and ".." left out; nothing where it cannot be read. Blocks.
[[nodiscard]] std::vector<std::string> names_in(int dir);

/// Whether something is mounted at `name` in the open directory; of the same file system, too (a bind mount).
[[nodiscard]] bool is_mount(int at, const std::string& name);

}  // namespace mesh
