// Watches a files dir: one scan, then inotify, on a thread of its own.
//
// Changes are handed to `on_change` in batches, on that thread. A regular file that somebody has open for writing is
// not reported until it is closed or renamed into place, and is reported as gone as soon as it is written to. Where the
// kernel has no watches left, the tree is scanned again every so often, and the log says so once.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "core/log.h"
#include "library/path_gate.h"
#include "library/temporary.h"

namespace mesh {

struct TreeChange {
  enum class Kind {
    put,          ///< `entry` is there, as described
    gone,         ///< `path`, and all below it, is not there or not to be offered
    scan_begins,  ///< what follows, up to scan_ends, is everything; what was known before and is not repeated is gone
    scan_ends,
  } kind = Kind::put;
  std::string path;
  LocalEntry entry;
};

class Watcher {
 public:
  struct Options {
    std::vector<std::string> ignore;                       ///< globs over the last part of a path
    std::chrono::seconds rescan{10};                       ///< where inotify cannot watch everything
    std::size_t most_watches = SIZE_MAX;                   ///< for tests of that case
    std::function<bool(const std::string&)> is_private{};  ///< directories that are not offered, with all below them
    std::chrono::seconds temporary_for = mesh::temporary_for;  ///< how long a name may keep a file from being offered
    OwnFiles* own = nullptr;  ///< not examined when they appear: whoever put them there says what they are
  };
  using OnChange = std::function<void(std::vector<TreeChange>)>;

  /// `gate` must outlive the watcher.
  Watcher(const PathGate& gate, Options options, OnChange on_change, Log log);
  /// Stops and joins.
  ~Watcher();
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

 private:
  using LeftOut = std::map<std::string, std::set<std::string>>;  ///< names, by directory
  void run();
  void scan_all();
  void scan(const std::string& dir, int depth);
  bool watch(const std::string& dir, int fd);
  void forget_watches(const std::string& dir);
  [[nodiscard]] bool is_own(const std::string& path) const;
  std::optional<Kind> examine(const std::string& path);
  void read_events();
  /// Looks again at files that were found being written to.
  void look_again();
  /// Whether something has been mounted below the files directory, or unmounted, since the last look.
  bool has_new_mounts();
  /// Says anew what directories are, whose contents have changed.
  void tell_touched();
  /// How many names in a directory are there and not offered.
  [[nodiscard]] std::int64_t left_out(const std::string& dir) const;
  [[nodiscard]] static std::int64_t count_of(const LeftOut& names, const std::string& dir);
  void leave_out(const std::string& path, bool out);
  /// Whether it is left out for its name, which is noted.
  bool leave_out_for_now(const std::string& path, const LocalEntry& entry);
  /// Whether it lies in a directory that is.
  [[nodiscard]] bool is_below_temporary(std::string_view path) const;
  void emit(TreeChange change);
  void flush();
  [[nodiscard]] bool is_ignored(std::string_view name) const;

  const PathGate& gate_;
  Options options_;
  OnChange on_change_;
  Log log_;
  Fd inotify_;
  Fd wake_;
  Fd mounts_;                         ///< /proc/self/mountinfo, which tells when it changes
  std::vector<std::string> mounted_;  ///< below the files directory
  std::atomic<bool> stop_ = false;
  std::string no_watch_mend_ = "fs.inotify.max_user_watches";  ///< the limit that there are too few watches for
  bool complete_ = true;                                       ///< every directory is watched
  bool rescan_now_ = false;
  std::unordered_map<int, std::string> dir_of_;
  std::map<std::string, int> watch_of_;
  std::set<std::string> writing_;  ///< files seen being written to
  struct Again {
    std::chrono::steady_clock::time_point at;
    std::chrono::milliseconds wait;
  };
  std::map<std::string, Again> again_;  ///< files found being written to, of which no further event may come
  std::map<std::string, std::chrono::steady_clock::time_point> temporary_;  ///< left out until then, for their names
  LeftOut left_out_;
  std::optional<LeftOut> before_scan_;  ///< while all is scanned anew
  std::set<std::string> touched_;       ///< directories whose own times changed with their contents
  std::vector<TreeChange> batch_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> above_;  ///< the directories that a scan is in
  std::thread thread_;
};

}  // namespace mesh
