// The inodes of the mesh's tree as the kernel knows them: one a version of a path, so that what the kernel keeps of one
// version is never taken for another's. A new version is a new inode, for who looks the path up from then on; who has
// the old one open keeps it. Pure; any one thread at a time.
//
// What the kernel holds is counted as it counts: each answer that names an inode is one lookup, which it forgets some
// day (fuse(4), FUSE_FORGET).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>

#include "core/entry.h"

namespace mesh {

class Inodes {
 public:
  struct Inode {
    FileEntry entry;
    std::uint64_t stat_number = 0;  ///< what stat(2) calls it
    /// Of what the kernel may have pages, in words of who keeps them; empty: of nothing that is certain.
    std::string kept;
  };
  /// Numbers from `first` on.
  explicit Inodes(std::uint64_t first) : next_(first) {}

  /// The inode of that version, which the kernel is told of.
  std::uint64_t look_up(const FileEntry& entry);
  /// Null: nobody knows it any more.
  [[nodiscard]] const Inode* find(std::uint64_t number) const;
  void forget(std::uint64_t number, std::uint64_t lookups);
  /// What that version is, as its holder says by now.
  void learn(std::uint64_t number, const ContentId& id);
  /// Whoever opens it is going to have it read pages of `of`, as Inode::kept has it. True where those that are kept are
  /// of that.
  [[nodiscard]] bool keep(std::uint64_t number, const std::string& of);
  /// Pages that are not certain were read.
  void keep_nothing(std::uint64_t number);
  [[nodiscard]] std::size_t size() const { return inodes_.size(); }

 private:
  struct Known {
    Inode inode;
    std::uint64_t lookups = 0;
  };
  std::uint64_t next_;
  std::unordered_map<std::uint64_t, Known> inodes_;
  std::unordered_map<std::string, std::uint64_t> current_;  ///< by path
};

/// Of a path with a file of this size and time: the same in every mount, and whenever it is looked up.
[[nodiscard]] std::uint64_t stat_number(const FileEntry& entry);

}  // namespace mesh
