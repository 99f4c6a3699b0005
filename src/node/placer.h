// Puts finished bytes under their final names, and decides what may happen to what is there already.
//
// Nobody sees half a file under its final name, and no file that the user made or changed is lost: a name is taken only
// if nothing is there, or exchanged for what was expected to be there, and exchanged back when it was not. Data is
// synced before the rename and the directory after it. Thread-safe; all calls block.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "disk/path_gate.h"
#include "disk/state_db.h"

namespace mesh {

/// What a get may do about one path.
struct LocalState {
  enum class Verdict {
    absent,      ///< nothing is there
    same,        ///< the wanted bytes are there
    ours,        ///< another version, which meshget wrote and nobody changed: may be replaced
    users,       ///< another version, which is the user's: kept unless forced
    unknown,     ///< cannot be told before the wanted version has been hashed; `id` is what is there
    other_kind,  ///< a directory where a file is wanted, or the like
  } verdict = Verdict::absent;
  FileStamp stamp;        ///< of what is there
  FileEntry entry;        ///< of what is there
  ContentId id;           ///< of what is there, where it was needed
  bool received = false;  ///< meshget wrote a file here once
};

class Placer {
 public:
  Placer(const PathGate& gate, StateDb& db, std::filesystem::path parts)
      : gate_(gate), db_(db), parts_(std::move(parts)) {}

  /// Compares what is at `wanted.path` with the wanted version; hashes the local file only when the sizes agree.
  [[nodiscard]] LocalState examine(const FileEntry& wanted, const std::atomic<bool>& stop) const;

  /// Syncs a finished file, all of whose bytes are verified, with its mode and mtime.
  void finish_file(int fd, const FileEntry& wanted) const;
  /// Moves a finished file, open read-only as `fd` and nowhere for writing, to its final name. `before` is what examine
  /// found; Error(failed) when something else is there by now. Returns it as it is then.
  LocalEntry place(const std::filesystem::path& part, int fd, const FileEntry& wanted, const LocalState& before,
                   const ContentId& id) const;

  /// The same for small files whose bytes are at hand, many with two syncs in all. One error text a file, empty if
  /// placed.
  struct Small {
    FileEntry wanted;
    LocalState before;
    std::string data;
    ContentId id;
  };
  struct Placed {
    std::optional<LocalEntry> entry;
    std::string error;
  };
  [[nodiscard]] std::vector<Placed> place_small(std::vector<Small>& files) const;

  /// Gives a file that is ours, with the right bytes, the wanted mode and mtime.
  void refresh_attributes(const FileEntry& wanted, const LocalState& state) const;

  /// Makes a directory (its times and mode come last, by finish_directory).
  void make_directory(const FileEntry& wanted) const;
  void finish_directory(const FileEntry& wanted) const;
  /// Makes a symbolic link. Returns whether it was there already.
  bool make_link(const FileEntry& wanted, bool force) const;

  /// Bytes that can still be written beside the partials.
  [[nodiscard]] std::int64_t free_bytes() const;

 private:
  LocalEntry install(const std::string& part_name, int fd, const FileEntry& wanted, const LocalState& before,
                     const ContentId& id) const;

  const PathGate& gate_;
  StateDb& db_;
  std::filesystem::path parts_;
};

}  // namespace mesh
