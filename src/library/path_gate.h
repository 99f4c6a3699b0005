// The one gate through which mesh paths touch the disk.
//
// Every open is beneath the files dir (openat2 with RESOLVE_BENEATH, Linux 5.6), so that neither "..", nor an absolute
// link, nor a link swapped in at the last moment leads out of it. Reading may follow links inside the files dir, and
// out of it into the directories given by --follow. Writing follows no link at all.
//
// What others may have is decided on what was opened, by where it really lies, not by the path that they named: a link
// leads to nothing that is not offered. Thread-safe; all calls block.
#pragma once

#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/entry.h"
#include "core/mesh_path.h"
#include "disk/directory.h"
#include "disk/fd.h"

namespace mesh {

/// A path as this node has it.
struct LocalEntry {
  FileEntry entry;  ///< without content id
  FileStamp stamp;
};

/// Files that this node itself put in place a moment ago, so that a watcher need not examine what is known already.
/// Thread-safe.
class OwnFiles {
 public:
  void add(std::string_view path, const FileStamp& stamp) {
    const std::lock_guard lock(mutex_);
    if (files_.size() >= most) files_.clear();  // whoever is forgotten is examined
    files_.insert_or_assign(std::string(path), stamp);
  }
  [[nodiscard]] bool contains(const std::string& path) const {
    const std::lock_guard lock(mutex_);
    return files_.contains(path);
  }
  /// Whether `path` is as it was added (its ctime apart, which naming it changed); forgets it.
  [[nodiscard]] bool take(std::string_view path, const FileStamp& stamp) {
    const std::lock_guard lock(mutex_);
    const auto it = files_.find(std::string(path));
    if (it == files_.end()) return false;
    const auto known = it->second;
    files_.erase(it);
    return known.device == stamp.device && known.inode == stamp.inode && known.size == stamp.size &&
           known.mtime == stamp.mtime;
  }

 private:
  static constexpr std::size_t most = 100'000;
  mutable std::mutex mutex_;
  std::unordered_map<std::string, FileStamp> files_;
};

class PathGate {
 public:
  /// Makes the files dir when it is missing. `state`: the open state directory, which stays open and is offered to
  /// nobody; -1: there is none. `group` may write to the directories above it (--control-group). Throws Error: usage
  /// where somebody else could change what the path of the files dir leads to, else failed.
  PathGate(const std::filesystem::path& files_dir, int state, const std::vector<std::filesystem::path>& follow,
           std::optional<gid_t> group = {});

  /// What else is not offered: asked of every directory on the way, and of the file, as paths at an open directory. To
  /// be set before others use the gate.
  using IsPrivate = std::function<bool(int at, const std::string& path)>;
  void never_offer(IsPrivate is_private) { is_private_ = std::move(is_private); }

  [[nodiscard]] const FilesDir& files_dir() const { return files_dir_; }
  [[nodiscard]] int root() const { return root_.get(); }
  /// As the files dir was given.
  [[nodiscard]] std::string absolute(std::string_view path) const {
    return (std::filesystem::path(files_dir_.given) / path).string();
  }
  enum class Place { here, missing, elsewhere };
  /// Whether the path of the files dir leads to what is open here, or to nothing, or to another directory.
  [[nodiscard]] Place place() const;

  /// Whether this is the state directory, wherever it lies now.
  [[nodiscard]] bool is_state(const DirectoryId& id) const;

  /// A regular file, read-only and not blocking on a fifo. Throws Error with the system's reason.
  [[nodiscard]] Fd open_file(std::string_view path) const;
  /// The same, with what it is now.
  struct Opened {
    Fd fd;
    LocalEntry local;
  };
  [[nodiscard]] Opened open_file_with_entry(std::string_view path) const;
  /// The same for somebody else: Error(not_found) for what is not offered, as for what is not there.
  [[nodiscard]] Opened open_offered(std::string_view path) const;
  /// A directory, for reading ("" is the files dir). Empty when it cannot be opened, with errno set.
  [[nodiscard]] Fd open_directory(std::string_view path) const;
  /// The same, without following a link anywhere.
  [[nodiscard]] Fd open_own_directory(std::string_view path) const;

  /// What lies at `path`, links not followed unless they lead into a --follow directory; nothing when there is nothing,
  /// or nothing that is offered (devices, sockets, names that are no mesh paths).
  [[nodiscard]] std::optional<LocalEntry> look(std::string_view path) const;
  /// Whether a device, socket or FIFO lies there.
  [[nodiscard]] bool is_special(std::string_view path) const;

  /// The directory that holds `path`, for writing. `made`: directories that are missing are made, for this user alone
  /// (0700) until somebody says what they are to be, and it is told of each: before, without an id, and after; or,
  /// where it was somebody else who made it meanwhile, that it was not made (null). Throws Error.
  using OnMade = std::function<void(const std::string& directory, const DirectoryId* id)>;
  [[nodiscard]] Fd open_parent(std::string_view path, const OnMade& made) const;
  [[nodiscard]] Fd open_parent(std::string_view path) const { return open_parent(path, {}); }
  /// Makes a directory as open_parent does; false where something is there already.
  [[nodiscard]] bool make_directory(std::string_view path, const OnMade& made) const;

  /// Whether somebody has the open file open for writing: by a read lease where permitted, else by /proc (own
  /// processes).
  [[nodiscard]] static bool is_being_written(int fd);
  /// The two ways: nothing where there are no leases, or for this user none; and what the processes of this user (of
  /// all, for root) have open so, by device and inode.
  [[nodiscard]] static std::optional<bool> ask_lease(int fd);
  [[nodiscard]] static std::set<std::pair<std::uint64_t, std::uint64_t>> open_for_writing();

 private:
  [[nodiscard]] int open_beneath(int root, const char* path, int flags, unsigned resolve) const;
  [[nodiscard]] Fd open_following(std::string_view path, int flags) const;
  [[nodiscard]] bool is_offered(std::string_view path, int fd) const;
  [[nodiscard]] bool lies_open(int at, const std::string& path) const;

  FilesDir files_dir_;
  int state_;
  IsPrivate is_private_;
  std::vector<std::pair<std::filesystem::path, Fd>> follow_;
  Fd root_;
};

}  // namespace mesh
