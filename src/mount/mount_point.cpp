#include "mount/mount_point.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <optional>
#include <vector>

#include "core/error.h"
#include "core/format.h"
#include "disk/mount_table.h"
#include "disk/tool.h"

namespace mesh {
namespace {

namespace fs = std::filesystem;

/// The last one there.
std::optional<MountEntry> mounted_on(const std::string& directory) {
  std::optional<MountEntry> out;
  for (auto& entry : mount_table())
    if (entry.at == directory) out = std::move(entry);
  return out;
}

std::string reason(int error) { return std::generic_category().message(error); }

}  // namespace

std::string device_of_mount(const std::string& directory) {
  const auto mounted = mounted_on(directory);
  return mounted ? mounted->device : std::string();
}

bool is_meshmount(const std::string& directory) {
  const auto mounted = mounted_on(directory);
  return mounted && mounted->type == "fuse.meshmount";
}

std::string mount_point(const std::string& directory) {
  std::error_code ec;
  auto whole = fs::absolute(directory, ec).lexically_normal();
  if (!whole.has_filename()) whole = whole.parent_path();  // a '/' at its end
  if (ec || !whole.has_filename()) return whole.string();
  const auto above = fs::canonical(whole.parent_path(), ec);
  if (ec) return whole.string();
  whole = above / whole.filename();
  // A link to a directory is that directory, where it can be asked.
  const auto real = fs::canonical(whole, ec);
  return ec ? whole.string() : real.string();
}

void check_directory(const std::string& directory) {
  struct stat s {};
  if (::stat(directory.c_str(), &s) != 0) throw Error(Status::failed, printable(directory) + ": " + reason(errno));
  if (!S_ISDIR(s.st_mode)) throw Error(Status::failed, printable(directory) + ": is no directory");
}

bool is_dead(const std::string& directory) {
  // Whose answer is not kept, as attributes are.
  struct statvfs s {};
  return ::statvfs(directory.c_str(), &s) != 0 && errno == ENOTCONN;
}

void unmount(const std::string& directory, bool is_lazy) {
  if (::geteuid() == 0) {
    if (::umount2(directory.c_str(), UMOUNT_NOFOLLOW | (is_lazy ? MNT_DETACH : 0)) == 0) return;
    throw Error(Status::failed,
                printable(directory) + ": " + (errno == EBUSY ? "is in use" : "cannot be unmounted: " + reason(errno)));
  }
  std::vector<std::string> words{"fusermount3", "-u"};
  if (is_lazy) words.emplace_back("-z");
  words.insert(words.end(), {"--", directory});
  must_run(words, printable(directory) + ": cannot be unmounted");
}

}  // namespace mesh
