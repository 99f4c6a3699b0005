// A directory tree on its way: made in a temporary directory beside nothing that matters, examined, and put in place
// with one rename. Blocks; for one thread.
#pragma once

#include <filesystem>
#include <string>

#include "disk/fd.h"
#include "library/tree_records.h"

namespace mesh {

/// A temporary directory of this process. What is in it goes when this goes; what a process that was killed has left is
/// removed by the next one that makes one at the same place.
class TempTree {
 public:
  /// In directory `place`, made where it is missing, under a name that begins with `prefix`. Throws Error(failed).
  TempTree(const std::filesystem::path& place, const std::string& prefix);
  ~TempTree();
  TempTree(const TempTree&) = delete;
  TempTree& operator=(const TempTree&) = delete;

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  /// What is in it stays, for a person to look at.
  void keep() { kept_ = true; }

  /// Removes what processes that are gone have left in `place`.
  static void sweep(const std::filesystem::path& place, const std::string& prefix);

 private:
  std::filesystem::path path_;
  Fd fd_;  ///< locked (flock(2)) for as long as this lives
  bool kept_ = false;
};

/// Removes `name` in the open directory `at` and all below it, whatever its modes are; no link is followed. What cannot
/// be removed stays.
void remove_below(int at, const std::string& name);

/// A digest over the names, kinds, owners, modes, sizes, links and times of what is below the directory `name` in `at`,
/// and of itself but for its ctime. Throws Error(failed) where it cannot be read or something is mounted below it.
[[nodiscard]] std::string digest_of_tree(int at, const std::string& name);

struct TreePlace {
  int parent = -1;     ///< the open directory that the tree is to be in
  std::string path;    ///< of that directory, absolute
  bool force = false;  ///< also in place of what was made or changed there
};

struct PlacedTree {
  std::string path;       ///< absolute
  bool replaced = false;  ///< an older tree
};

/// Puts the tree `top` of `made` into its place and writes `record` (but for path and digest) down. An older tree that
/// nobody has changed since it was unpacked is replaced, in one step. Throws Error(failed) for anything else that is
/// there, unless forced; then all is as it was.
PlacedTree place_tree(TempTree& made, const std::string& top, const TreePlace& place, const TreeRecords& records,
                      TreeRecord record);

}  // namespace mesh
