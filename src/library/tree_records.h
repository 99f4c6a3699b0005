// What this node knows of the directory trees that `tar:` unpacked: where each came from, and how it was when it was
// put in place. One small file a tree in the state directory, named by the directory's inode and time of birth, so that
// whoever meets a directory finds out with one look whether it is one. Trees are never offered to the mesh.
//
// Thread-safe, and safe between processes: records are written whole and renamed into place.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "core/digest.h"
#include "disk/fd.h"

namespace mesh {

struct TreeRecord {
  std::string path;          ///< of the tree, absolute, when it was put in place
  ContentId source;          ///< of the archive; unset where it came from outside the files directory
  FileStamp archive;         ///< of the archive as it was on this node
  std::string digest;        ///< of every name, owner, mode, size and time in the tree
  bool lacks_setid = false;  ///< set-user-id bits and the like were left out

  template <class V>
  void describe(V& v) {
    v("path", path), v("source", source), v("dev", archive.device), v("ino", archive.inode), v("size", archive.size),
        v("mtime", archive.mtime), v("ctime", archive.ctime), v("digest", digest), v("nosetid", lacks_setid);
  }
};

class TreeRecords {
 public:
  explicit TreeRecords(const std::filesystem::path& state_dir) : directory_(state_dir / "trees") {}

  /// Of the directory `name` in the open directory `at`; nothing when it is none, or not unpacked by tar:. Links are
  /// not followed.
  [[nodiscard]] std::optional<TreeRecord> find(int at, const std::string& name) const;
  /// The same without reading it.
  [[nodiscard]] bool contains(int at, const std::string& name) const;
  /// A tree directly in directory `parent` (absolute) that is still there and came from these bytes: those with this
  /// content id, or this stamp.
  [[nodiscard]] std::optional<TreeRecord> find_unpacked(const std::string& parent, const ContentId& source,
                                                        const FileStamp& archive) const;
  /// Throws Error(failed).
  void put(int at, const std::string& name, const TreeRecord& record) const;
  void remove(int at, const std::string& name) const;

 private:
  [[nodiscard]] std::optional<std::string> key(int at, const std::string& name) const;
  [[nodiscard]] std::optional<TreeRecord> read(const std::string& key) const;

  std::filesystem::path directory_;
};

}  // namespace mesh
