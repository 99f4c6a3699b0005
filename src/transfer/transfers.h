// Large files on their way into the files directory. One download a path; it is shared by the askers that want the same
// version. On the node's loop.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/glob.h"
#include "core/log.h"
#include "library/library.h"
#include "transfer/delta_source.h"
#include "transfer/download.h"
#include "transfer/stall_policy.h"
#include "wire/pacer.h"

namespace mesh {

class Transfers {
 public:
  struct Options {
    StallTimes stall;
    std::chrono::milliseconds search_patience{2000};  ///< as DeltaSearch's
    MeshKeysPtr keys;
    int max_active = 1;               ///< downloads at once; the others wait
    std::function<NodeRef()> self{};  ///< as of DeltaSource
  };
  /// `from_origins`: the limit of what comes from origins of URLs.
  Transfers(Workers& workers, Options options, Log log, Library& library, Session& session, TrackerLinks& links,
            NodeChannels& channels, Room& room, Pacer from_origins);

  /// Gets one file; returns when the download is over, or when the asker does not want it any more. Null where it did
  /// not want it before it began.
  Task<DownloadPtr> get(AskerPtr asker, FileOrder order);

  /// What gets have their searches go by.
  [[nodiscard]] DeltaSearch::Options search_options() const;
  [[nodiscard]] Parts& parts() { return parts_; }
  /// What is here of files that are wanted.
  [[nodiscard]] DeltaSource& delta() { return delta_; }
  /// The node is going: what is done on the pools ends soon.
  void stop();
  /// An asker does not want all that it wanted.
  void wake();
  /// Downloads whose path `what` names lose their partial when they are stopped. Returns their paths.
  std::vector<std::string> discard(const What& what);
  /// Downloads under way whose path `what` names.
  [[nodiscard]] std::vector<DownloadPtr> running(const What& what) const;
  [[nodiscard]] std::vector<TransferInfo> infos() const;
  /// Of the files that have arrived since the start.
  struct Totals {
    std::int64_t files = 0;
    std::int64_t from_mesh = 0;  ///< bytes
    std::int64_t from_origin = 0;
    std::int64_t reused = 0;
  };
  [[nodiscard]] const Totals& totals() const { return totals_; }
  /// Told of each file that has arrived. May be unset.
  std::function<void(const TransferInfo&)> on_arrived;

 private:
  Task<void> run(DownloadPtr download);
  Task<Download::End> bring(DownloadPtr download);
  Task<Download::End> from_swarm(DownloadPtr download);
  Task<void> from_origin(DownloadPtr download);
  Task<void> wait_for_slot(DownloadPtr download);
  Task<void> reuse(Download& download, Storage& storage, const HashedFile& file);
  void note_link_rate(const Download& download);
  void note_arrival(const Download& download);
  [[nodiscard]] DownloadPtr make(FileOrder order);

  Workers& workers_;
  Options options_;
  Log log_;
  Library& library_;
  Session& session_;
  TrackerLinks& links_;
  Room& room_;
  Pacer from_origins_;
  Parts parts_;
  DeltaSource delta_;
  double link_rate_;                              ///< bytes per second at which the last download of some size came
  std::map<std::string, DownloadPtr> downloads_;  ///< by path
  std::deque<DownloadPtr> queue_;                 ///< waiting for a slot, the first first
  int active_ = 0;
  Totals totals_;
  Event slot_free_;
};

}  // namespace mesh
