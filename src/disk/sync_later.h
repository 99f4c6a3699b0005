// Puts many new files safely on the disk at the price of few waits. For one thread.
#pragma once

#include <deque>

#include "disk/fd.h"

namespace mesh {

/// Whether `fd` is on a file system (ext4, XFS) where a page's writeback ends after what belongs to it is in the one
/// journal, so that one fsync(2) after all writeback commits all.
[[nodiscard]] bool has_one_journal(int fd);

/// Files that are handed in are written back while the caller goes on, and `finish` waits for what is left. A single
/// fsync(2) at the end commits all sizes where there is one journal; elsewhere, syncfs(2).
class SyncLater {
 public:
  /// `file` is written to no more. Throws Error(failed) where an earlier one could not be written back.
  /// One that cannot be opened for reading may be empty: then all of the file system is synced in the end.
  void add(Fd file);
  /// Returns when all of them, and the names below the open `directory`, are on the disk.
  void finish(int directory);

 private:
  void wait_for_oldest();
  std::deque<Fd> files_;
  bool unseen_ = false;  ///< some were not to be opened
};

}  // namespace mesh
