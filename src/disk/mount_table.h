// What is mounted where, as the kernel tells it (proc_pid_mountinfo(5)). Blocks, briefly; any thread.
#pragma once

#include <string>
#include <vector>

namespace mesh {

struct MountEntry {
  std::string device;  ///< "7:3", major and minor number
  std::string root;    ///< which part of the file system is to be seen there
  std::string at;
  std::string options;
  std::string type;
  std::string source;
  std::string file_system_options;
};

/// In the order in which it was mounted. `table`: of another process.
[[nodiscard]] std::vector<MountEntry> mount_table(const std::string& table = "/proc/self/mountinfo");

}  // namespace mesh
