// Keeps here what others have under some paths (--keep): the node gets what matches by itself, and each newer version
// of it. It looks at the mesh's listing now and then, and gets what it has not dealt with in that version.
//
// A version is dealt with when it has come, when something of the user's is here and stays, or when somebody here has
// deleted or cancelled it; that is remembered over restarts. So what somebody deletes here stays away until there is a
// new version, and what is deleted elsewhere stays here. Any member may write what it keeps, so that everything here is
// bounded: bytes, paths, gets at once, what it asks of the tracker. On the node's loop.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "core/log.h"
#include "get/get_queue.h"
#include "library/library.h"
#include "mesh/tracker_links.h"
#include "wire/workers.h"

namespace mesh {

class Keeper {
 public:
  struct Options {
    std::vector<std::string> globs;           ///< as portable_text has them
    std::int64_t most_bytes = 0;              ///< of all that it has brought and that is here; 0: as much as there is
    int most_large = 3;                       ///< large files at once
    std::chrono::milliseconds look_every{0};  ///< 0: some twenty seconds
  };
  Keeper(Workers& workers, Options options, Log log, Library& library, TrackerLinks& links, GetQueue& gets);
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

  /// Until the node stops; it must outlive that.
  Task<void> run();
  /// Nobody here wants the versions that there are of this any more.
  void let_go(const What& what);

 private:
  using Clock = std::chrono::steady_clock;
  /// As a listing shows it. Of two versions of a path the greater one is the newer.
  struct Version {
    std::int64_t mtime = 0;
    std::int64_t size = 0;
    std::string target;
    auto operator<=>(const Version&) const = default;
    template <class V>
    void describe(V& v) {
      v("m", mtime), v("s", size), v("t", target);
    }
  };
  /// What is known of a path over restarts.
  struct Known {
    std::string path;
    Version dealt_with;    ///< the newest
    bool brought = false;  ///< by a get of this: it counts for as long as it is here
    bool begun = false;    ///< one was; what it left on its way counts, too
    template <class V>
    void describe(V& v) {
      v("p", path), v("v", dealt_with), v("b", brought), v("t", begun);
    }
  };
  struct Remembered;
  struct Failed {
    Version version;
    int conflicts = 0;
    std::chrono::milliseconds wait{0};
    Clock::time_point again;
  };
  /// One get of its own.
  struct Begun {
    struct One {
      std::string path;
      Version version;
    };
    std::int64_t number = 0;
    bool is_large = false;
    std::vector<One> files{};
    std::int64_t credit = 0;  ///< bytes that are here for what it brings, and go when that has come
    std::int64_t done = 0;    ///< when something came last
    Clock::time_point came;
  };

  static Version version_of(const FileEntry& entry) { return {entry.mtime, entry.size, entry.target}; }
  Task<void> look();
  Task<void> begin();
  void begin_one(Begun one);
  Task<std::map<std::string, std::int64_t>> look_at_partials();
  Task<std::int64_t> used_by(const std::map<std::string, std::int64_t>& partials);
  void end(std::int64_t number, const std::vector<GetOutcome>& outcomes);
  void tend();
  void deal_with(const std::string& path, const Version& version);
  [[nodiscard]] bool is_dealt_with(const std::string& path, const Version& version) const;
  [[nodiscard]] bool is_here(const FileEntry& entry) const;
  [[nodiscard]] std::int64_t size_here(const std::string& path) const;
  void forget_the_gone();
  Task<void> remember();

  Workers& workers_;
  Options options_;
  std::chrono::milliseconds every_;
  Log log_;
  Library& library_;
  TrackerLinks& links_;
  GetQueue& gets_;
  std::mt19937 random_{std::random_device{}()};
  std::map<std::string, FileEntry> found_;  ///< files and links that the globs name, as the mesh has them
  std::map<std::string, Known> known_;
  std::map<std::string, Failed> failed_;      ///< of those found
  std::map<std::string, Version> too_large_;  ///< of those found: what was logged
  std::map<std::int64_t, Begun> begun_;
  std::set<std::string> under_way_;
  std::shared_ptr<std::int64_t> budget_;  ///< bytes that may come yet; null: no bound
  bool more_ = false;                     ///< than may be under way at once
  bool unsaved_ = false;
  Clock::time_point save_again_{};
};

}  // namespace mesh
