// Deleting from a files dir, however the tree beneath it is made or changes meanwhile. Every directory is opened
// beneath the files dir with no link followed (openat2), and every name is removed from the very directory that was
// opened, so that nothing outside can be reached. Blocks; thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "core/mesh_path.h"
#include "library/path_gate.h"

namespace mesh {

struct Removal {
  std::function<void(const std::string& path, bool is_directory, std::int64_t bytes)> on_removed;
  std::function<void(const std::string& error)> on_error;  ///< of one name; the others go on
  /// The state directory, where it lies in the files dir: stays.
  DirectoryId keep;
  bool force = false;  ///< files that somebody has open for writing (a running VM's disk), too
};

/// Removes what `what` names: a path, a directory with all below it (the root: all below it), or all that a glob
/// matches. A link is removed, never what it leads to; what is mounted somewhere below stays, and so does what
/// is open for writing; each is an error. Throws
/// Error for a path that is not there or lies behind a link; a glob without a match removes nothing.
void remove_tree(const PathGate& gate, const What& what, const Removal& removal);

}  // namespace mesh
