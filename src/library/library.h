// The files directory of this node and all that is known of it: the gate to it, what is in it (Inventory), what is
// remembered across restarts (StateDb), what tar: unpacked (TreeRecords), the partial files, and who puts files in
// place (Installer), what is known of blocks (BlockFacts). One place where any of that changes, and one voice that says
// so.
//
// On the node's loop, but for the gate, the database, the records, the facts and the installer, which any thread may
// use.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/log.h"
#include "disk/storage.h"
#include "library/block_facts.h"
#include "library/installer.h"
#include "library/inventory.h"
#include "library/path_gate.h"
#include "library/state_db.h"
#include "library/tree_records.h"
#include "library/watcher.h"
#include "wire/task.h"

namespace mesh {

class StateDir;

class Library {
 public:
  struct Options {
    std::filesystem::path files;
    std::vector<std::filesystem::path> follow;  ///< directories that links may lead to
    std::vector<std::string> ignore;            ///< globs over the last part of a path
    std::optional<gid_t> group;                 ///< may write above the files directory
    std::size_t most_watches = SIZE_MAX;
  };
  /// What is different from a moment ago.
  struct Change {
    InventoryDelta delta;
    /// Whoever reads files is to look whether they can still be read, and those of this content, if it is set, anew.
    bool is_withdrawn = false;
    ContentId withdrawn{};
  };

  /// Opens the files directory, and sweeps what an earlier run left half done. `state` must outlive this. Throws Error.
  Library(asio::io_context& loop, const StateDir& state, const Options& options, Log log);
  ~Library();
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  /// Told of each change, on the loop. To be set before `watch`.
  std::function<void(const Change&)> on_change;
  /// Told once, when the first scan is over: until then the inventory is not whole.
  std::function<void()> on_scanned;
  /// Told of a file whose content is taken for the same, though its ctime has changed. To be set before `watch`.
  std::function<void(const FileEntry&)> on_touched;
  /// Begins to look at the files directory.
  void watch();
  /// No more changes come.
  void stop_watching() { watcher_.reset(); }

  [[nodiscard]] const PathGate& gate() const { return gate_; }
  [[nodiscard]] StateDb& db() { return db_; }
  [[nodiscard]] BlockFacts& block_facts() { return block_facts_; }
  [[nodiscard]] const Inventory& inventory() const { return inventory_; }
  [[nodiscard]] const Installer& installer() const { return installer_; }

  /// These files, as they are by their stamps, have these bytes.
  void put(const LocalEntry& entry);
  void put(const std::vector<LocalEntry>& entries);
  /// These paths are not to be offered until the watcher reports them again.
  void remove(const std::vector<std::string>& paths);
  /// `path` is not what it was hashed as: it is offered again when the watcher has seen it settle.
  void withdraw(const std::string& path, const std::string& why);
  /// What was served with this content may be something else: whoever still reads it is to look anew.
  void lose(const ContentId& id);
  /// Has what is served from `path` looked after: `stamp` is what it was hashed as.
  [[nodiscard]] Storage::Watch watch_of(std::string path, const FileStamp& stamp);
  /// As Inventory::fill.
  [[nodiscard]] std::shared_ptr<void> fill(const FileEntry& wanted) { return inventory_.fill(wanted); }

  /// Whether a seed (core/seeds.h) is a file that is here. Blocks, briefly; any thread.
  [[nodiscard]] bool has_file(const std::string& seed) const;

  /// The state directory, by its descriptor (disk/state_dir.h).
  [[nodiscard]] const std::filesystem::path& state_dir() const { return state_dir_; }
  [[nodiscard]] std::filesystem::path parts_dir() const { return state_dir_ / "parts"; }
  /// A file without a name beside the partials, of so many bytes, open for reading and writing. Any thread; throws
  /// std::system_error.
  [[nodiscard]] Fd make_nameless(std::int64_t size) const;
  [[nodiscard]] std::filesystem::path part_file(const ContentId& id) const { return parts_dir() / id.hex(); }

 private:
  void apply(std::vector<TreeChange> changes);
  void say(InventoryDelta delta);
  void touched(const std::string& path);
  void tell_touched(const std::string& path) const;

  asio::io_context& loop_;
  Log log_;
  std::filesystem::path state_dir_;
  PathGate gate_;
  StateDb db_;
  BlockFacts block_facts_;
  Inventory inventory_;
  OwnFiles own_files_;  ///< that this node puts in place: known before the watcher meets them
  TreeRecords trees_;
  Installer installer_;
  Watcher::Options watching_;
  std::unique_ptr<Watcher> watcher_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace mesh
