// Puts finished bytes under their final names, and decides what may happen to what is there already.
//
// Nobody sees half a file under its final name, and no file that the user made or changed is lost: a name is taken only
// if nothing is there, or exchanged for what was expected to be there, and exchanged back when it was not. Data is
// synced before the rename and the directory after it. Thread-safe; all calls block.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "library/path_gate.h"
#include "library/state_db.h"

namespace mesh {

/// What a get may do about one path.
struct LocalState {
  enum class Verdict {
    absent,      ///< nothing is there
    same,        ///< the wanted bytes are there, or the wanted link
    ours,        ///< another version, which meshget wrote and nobody changed: may be replaced
    users,       ///< another version, which is the user's: kept unless forced
    unknown,     ///< cannot be told before the wanted version has been hashed; `id` is what is there
    other_kind,  ///< a directory where something else is wanted
  } verdict = Verdict::absent;
  FileStamp stamp;           ///< of what is there
  FileEntry entry;           ///< of what is there
  ContentId id;              ///< of what is there, where it was needed
  bool received = false;     ///< meshget wrote a file here once
  bool replaceable = false;  ///< it is nobody's edit: meshget wrote what is here, or the mesh knows it from elsewhere
};

/// A mount below the files directory to which files are copied.
struct OtherMount {
  std::string directory;  ///< on it
  std::uint64_t device = 0;
  std::int64_t free_bytes = 0;
  std::int64_t free_inodes = 0;
};

class Installer {
 public:
  /// `shown_parts`: what `parts` is called in messages.
  Installer(const PathGate& gate, StateDb& db, OwnFiles& own, std::filesystem::path parts,
            std::filesystem::path shown_parts = {})
      : gate_(gate),
        db_(db),
        own_(own),
        parts_(std::move(parts)),
        shown_parts_(shown_parts.empty() ? parts_ : std::move(shown_parts)) {
    made_ = [this](const std::string& path, const DirectoryId* id) {
      id != nullptr ? db_.put_made(path, *id) : db_.forget_unmade(path);
    };
  }
  Installer(const Installer&) = delete;
  Installer& operator=(const Installer&) = delete;

  /// Compares what is at `wanted.path` with the wanted version, a file or a link; hashes the local file only when the
  /// sizes agree.
  [[nodiscard]] LocalState examine(const FileEntry& wanted, const std::atomic<bool>& stop) const;

  /// What a local file holds; hashed where that is not known. Throws Error.
  [[nodiscard]] ContentId identify(const LocalEntry& local, const std::atomic<bool>& stop) const;

  /// Throws Error(failed) for what will keep a file from being placed where it is wanted, in place of what `before`
  /// found: before its bytes are fetched. Returns where it needs room besides that for its partial; nothing where it
  /// is moved.
  [[nodiscard]] std::optional<OtherMount> rehearse(const FileEntry& wanted, const LocalState& before) const;

  /// Syncs a finished file, all of whose bytes are verified, with its mode and mtime.
  void finish_file(int fd, const FileEntry& wanted) const;
  /// Whether it will be placed on another mount than the partials are on: then it is copied, for which `is_stopped` is
  /// asked now and then.
  [[nodiscard]] bool is_elsewhere(std::string_view path) const;
  /// Moves a finished file, open read-only as `file` and nowhere for writing, to its final name. `before` is what
  /// examine found; Error(failed) when something else is there by now. Returns it as it is then; `file` is what is
  /// there.
  LocalEntry place(const std::filesystem::path& part, Fd& file, const FileEntry& wanted, const LocalState& before,
                   const ContentId& id, const std::function<bool()>& is_stopped) const;

  /// The same for small files whose bytes are at hand, in two steps so that many share one sync: `write_small` writes a
  /// file that has no name yet, `place_small` syncs all that are given and names them. One error text a file, empty
  /// where it went well.
  struct Small {
    FileEntry wanted;
    LocalState before;
    std::string data;
    ContentId id;
    Fd file;           ///< once written
    std::string part;  ///< its name among the partials, where it needs one
    std::string error;
    bool no_room = false;  ///< the error is that the disk is full; `data` is still there
  };
  void write_small(std::vector<Small>& files) const;
  struct Placed {
    std::optional<LocalEntry> entry;
    std::string error;
  };
  [[nodiscard]] std::vector<Placed> place_small(std::vector<Small>& files) const;
  /// Syncs the names that place_small gave in these directories.
  void sync_names(const std::set<std::string>& directories) const;

  /// Gives a file or link that is ours, with the right bytes or target, the wanted mode and mtime.
  void refresh_attributes(const FileEntry& wanted, const LocalState& state) const;

  /// Makes a directory. Its time and mode come last, by finish_directory: the mode only where a get has made it, here
  /// or before a crash; a directory that was here before keeps its own. `implied`: only something in it was asked for.
  void make_directory(const FileEntry& wanted) const;
  void finish_directory(const FileEntry& wanted, bool implied) const;
  /// Makes a symbolic link, in place of what `examine` has found, as `place` does. Throws Error.
  void place_link(const FileEntry& wanted, const LocalState& before) const;

  /// Bytes that can still be written beside the partials.
  [[nodiscard]] std::int64_t free_bytes() const;
  /// Whether the file system can hold another file.
  [[nodiscard]] bool has_inode() const;

 private:
  /// An open directory in which something waits for its place, and what it is called for people.
  struct Shelf {
    int directory;
    std::filesystem::path shown;
  };
  LocalEntry install(const std::string& part_name, Fd& file, const FileEntry& wanted, const LocalState& before,
                     const ContentId& id, const std::function<bool()>& is_stopped) const;
  Fd bring_over(int file, int parent, const FileEntry& wanted, std::string& name,
                const std::function<bool()>& is_stopped) const;
  bool link_nameless(int file, int parent, const FileEntry& wanted) const;
  bool take_name(const Shelf& from, const std::string& part, int parent, const FileEntry& wanted,
                 const LocalState& before) const;
  [[nodiscard]] Shelf shelf_beside(int parent, int parts, const FileEntry& wanted) const;
  LocalEntry same_already(const FileEntry& wanted, const ContentId& id) const;
  LocalEntry placed(int fd, const FileEntry& wanted, const ContentId& id) const;
  void write_small(Small& file, int parts) const;
  void sync_small(std::vector<Small>& files, int parts) const;

  const PathGate& gate_;
  StateDb& db_;
  OwnFiles& own_;
  std::filesystem::path parts_;
  std::filesystem::path shown_parts_;
  PathGate::OnMade made_;
};

}  // namespace mesh
