// Keeps here what others have under some paths (--keep): the node gets what matches by itself, and each newer version
// of it. It looks at the mesh's listing now and then, and gets what it has not dealt with in that version.
//
// A version is dealt with when it is here, or when something of the user's is here and stays; that is remembered over
// restarts. So what somebody deletes here stays away until there is a new version, and what is deleted elsewhere stays
// here. On the node's loop.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
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
    std::vector<std::string> globs;
    std::int64_t most_bytes = 0;              ///< of all that it keeps; 0: as much as there is
    std::chrono::milliseconds look_every{0};  ///< 0: some twenty seconds
  };
  Keeper(Workers& workers, Options options, Log log, Library& library, TrackerLinks& links, GetQueue& gets);
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

  /// Until the node stops; it must outlive that.
  Task<void> run();

 private:
  using Clock = std::chrono::steady_clock;
  struct Found {
    std::map<std::string, FileEntry> files;  ///< and links, that the globs name, as the mesh has them
    std::int64_t bytes = 0;                  ///< of those that are here
  };
  Task<Found> look();
  [[nodiscard]] std::vector<std::string> wanted(const Found& found);
  Task<void> get(std::vector<std::string> paths, const Found& found);
  [[nodiscard]] bool is_here(const FileEntry& entry) const;
  void remember();

  Workers& workers_;
  Options options_;
  std::chrono::milliseconds every_;
  Log log_;
  Library& library_;
  TrackerLinks& links_;
  GetQueue& gets_;
  std::map<std::string, std::string> dealt_with_;  ///< path: which version
  struct Failed {
    int tries = 0;
    Clock::time_point again;
  };
  std::map<std::string, Failed> failed_;
  std::set<std::string> too_large_;  ///< that was logged
  bool unsaved_ = false;
};

}  // namespace mesh
