#include "disk/directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace mesh {

std::vector<std::string> names_in(int dir) {
  std::vector<std::string> out;
  const int listed = ::openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (DIR* stream = listed < 0 ? nullptr : ::fdopendir(listed)) {
    while (const auto* item = ::readdir(stream)) {
      const std::string name(item->d_name);
      if (name != "." && name != "..") out.push_back(name);
    }
    ::closedir(stream);
  } else if (listed >= 0) {
    ::close(listed);
  }
  return out;
}

bool is_mount(int at, const std::string& name) {
  struct statx s {};
  return ::statx(at, name.c_str(), AT_SYMLINK_NOFOLLOW, STATX_TYPE, &s) == 0 &&
         (s.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

}  // namespace mesh
