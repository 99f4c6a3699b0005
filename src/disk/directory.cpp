#include "disk/directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>

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

int move_to_free_name(int from, const std::string& name, int to, const std::string& target) {
  if (::renameat2(from, name.c_str(), to, target.c_str(), RENAME_NOREPLACE) == 0) return 0;
  return errno == EINVAL ? move_by_link(from, name, to, target) : -1;
}

int move_by_link(int from, const std::string& name, int to, const std::string& target) {
  struct stat s {};
  if (::fstatat(from, name.c_str(), &s, AT_SYMLINK_NOFOLLOW) != 0) return -1;
  if (!S_ISDIR(s.st_mode)) {
    if (::linkat(from, name.c_str(), to, target.c_str(), 0) != 0) return -1;
    ::unlinkat(from, name.c_str(), 0);
    return 0;
  }
  // A directory takes the place of an empty one, and of no other.
  if (::mkdirat(to, target.c_str(), 0700) != 0) return -1;
  if (::renameat(from, name.c_str(), to, target.c_str()) == 0) return 0;
  const int error = errno;
  ::unlinkat(to, target.c_str(), AT_REMOVEDIR);
  errno = error;
  return -1;
}

bool put_back(int from, const std::string& name, int to, const std::string& target) {
  if (move_to_free_name(from, name, to, target) == 0) return true;
  struct stat s {};
  // Neither a flag nor links (some FUSE): the last look is as good as it gets there.
  return errno != EEXIST && ::fstatat(to, target.c_str(), &s, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT &&
         ::renameat(from, name.c_str(), to, target.c_str()) == 0;
}

int exchange_by_moves(int from, const std::string& name, int to, const std::string& target, std::string& kept) {
  // By mkdtemp's kind of name: nothing that an earlier failure has kept is overwritten.
  std::string old;
  struct stat s {};
  for (int i = 0; i == 0 || ::fstatat(from, old.c_str(), &s, AT_SYMLINK_NOFOLLOW) == 0; ++i)
    old = "kept-" + std::to_string(::getpid()) + "-" + std::to_string(i) + "-" + name;
  if (::renameat(to, target.c_str(), from, old.c_str()) != 0) return -1;
  int error = 0;
  if (move_to_free_name(from, name, to, target) == 0 || (errno != EEXIST && put_back(from, name, to, target))) {
    if (::renameat(from, old.c_str(), from, name.c_str()) == 0) return 0;
    error = errno;
  } else {
    error = errno;
    if (put_back(from, old, to, target)) old.clear();
  }
  kept = old;
  errno = error;
  return -1;
}

int exchange_names(int from, const std::string& name, int to, const std::string& target, std::string& kept) {
  if (::renameat2(from, name.c_str(), to, target.c_str(), RENAME_EXCHANGE) == 0) return 0;
  if (errno != EINVAL) return -1;
  return exchange_by_moves(from, name, to, target, kept);
}

bool is_same_mount(int a, int b) {
  struct statx first {};
  struct statx second {};
  constexpr unsigned wanted = STATX_TYPE | STATX_MNT_ID;
  if (::statx(a, "", AT_EMPTY_PATH, wanted, &first) != 0 || ::statx(b, "", AT_EMPTY_PATH, wanted, &second) != 0)
    return true;  // whoever moves it hears why not
  if ((first.stx_mask & second.stx_mask & STATX_MNT_ID) != 0 && first.stx_mnt_id != second.stx_mnt_id) return false;
  return first.stx_dev_major == second.stx_dev_major && first.stx_dev_minor == second.stx_dev_minor;
}

}  // namespace mesh
