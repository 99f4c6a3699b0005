// What open directories have in them.
#pragma once

#include <string>
#include <vector>

namespace mesh {

/// What is in an open directory, "." and ".." left out; nothing where it cannot be read. Blocks.
[[nodiscard]] std::vector<std::string> names_in(int dir);

/// Whether something is mounted at `name` in the open directory; of the same file system, too (a bind mount).
[[nodiscard]] bool is_mount(int at, const std::string& name);

/// Whether a name can be moved from one open directory into the other: both lie on one mount. (Where the kernel does
/// not say, before Linux 5.8, on one file system.)
[[nodiscard]] bool is_same_mount(int a, int b);

/// Moves `name` to `target`, where nothing may be: 0, or -1 with errno, EEXIST among them. By renameat2(2) with its
/// flag, or by what does the same where the file system has no such flag (EINVAL: FUSE, NFS).
[[nodiscard]] int move_to_free_name(int from, const std::string& name, int to, const std::string& target);

/// The same without the flag: a directory takes the place of a new, empty one.
[[nodiscard]] int move_by_link(int from, const std::string& name, int to, const std::string& target);

/// `name` and `target` change places: 0, or -1 with errno. Where the file system cannot do it at once, by
/// exchange_by_moves. `kept`: as there.
[[nodiscard]] int exchange_names(int from, const std::string& name, int to, const std::string& target,
                                 std::string& kept);
/// The one at `target` is moved out of the way first, to a free name of its own beside `name`, so that for a moment
/// nothing is there; nothing is overwritten in any case. Where it cannot be put back after a failure, because somebody
/// took the name meanwhile, it stays there, and `kept` becomes that name.
[[nodiscard]] int exchange_by_moves(int from, const std::string& name, int to, const std::string& target,
                                    std::string& kept);

/// Gives what is `name` in `from` the name `target` back, if that is free, by whatever the file system offers.
[[nodiscard]] bool put_back(int from, const std::string& name, int to, const std::string& target);

}  // namespace mesh
