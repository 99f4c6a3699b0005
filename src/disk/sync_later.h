// Puts many new files safely on the disk at the price of few waits. For one thread.
#pragma once

#include <deque>

#include "disk/fd.h"

namespace mesh {

/// Files that are handed in are written back while the caller goes on, and `finish` waits for what is left. On ext4 and
/// XFS, where a page's writeback ends after what belongs to it is in the one journal, a single fsync(2) at the end
/// commits all sizes; elsewhere, syncfs(2).
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
