// Directories by whose path nobody but root and this user can lead a program astray.
//
// A path is walked from the root, a step at a time and each by descriptor (openat(2), O_PATH and O_NOFOLLOW). Every
// directory on the way, and every symbolic link that is followed, must belong to root or to this process's user, and no
// directory may be writable by others; sticky ones (/tmp) count as safe for what lies in them, as only an entry's owner
// can take it away there. So what was found is what stays there, unless root or this user change it. In the manner of
// sshd's StrictModes. Blocks; any thread.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>

#include "disk/fd.h"

namespace mesh {

struct Trust {
  std::optional<gid_t> group{};  ///< a group whose members may write, too (--control-group)
  bool sticky_at_end = false;    ///< the directory itself may be one like /tmp
  bool any_owner_at_end = false;
  bool any_writer_at_end = false;
};

/// The directory at `path`, open with O_PATH. `make`: its mode where it is missing, 0 to make nothing; directories
/// above it are made with 0755. `mend`: what else may be done about a directory that is refused, for the message.
/// Throws Error(usage) where somebody else could change what the path leads to; Error(not_found), (refused) or (failed)
/// with the system's reason.
[[nodiscard]] Fd open_trusted(const std::filesystem::path& path, const Trust& trust, mode_t make,
                              const std::string& mend);

/// "alice", or "1001" where nobody has that number: what chown(1) takes.
[[nodiscard]] std::string user_name(uid_t user);
/// The number of the group of this name; throws Error(usage) for a name that none has, nothing for an empty one.
[[nodiscard]] std::optional<gid_t> group_number(const std::string& name);

}  // namespace mesh
