// Programs of others that do the work: qemu-img, mkfs, mount, losetup, btrfs. Blocks; any thread.
#pragma once

#include <string>
#include <vector>

namespace mesh {

struct ToolRan {
  int status = -1;  ///< 127: there is no such program
  std::string out;
  std::string err;
};
/// Looked for as a shell does, and in the directories of root's programs.
/// `shows`: what it says on stderr is for the user.
[[nodiscard]] ToolRan run_tool(std::vector<std::string> words, bool shows = false);
[[nodiscard]] bool has_tool(const std::string& name);

/// The same, to succeed: returns what it printed. Throws Error(failed), which begins with `about` and ends with the
/// last line that it said; and for a program that is not there, with the package that has it.
std::string must_run(const std::vector<std::string>& words, const std::string& about);

}  // namespace mesh
