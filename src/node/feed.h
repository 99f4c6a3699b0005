// Keeps one download supplied: enters its swarm, keeps its counters and its gate up to date, and asks the tracker again
// when nothing has come for a while. Gets and streams share it. On the node's loop.
#pragma once

#include <chrono>
#include <optional>

#include "core/error.h"
#include "mesh/tracker_links.h"
#include "swarm/session.h"
#include "transfer/stall_policy.h"

namespace mesh {

/// What this node says to a tracker of a torrent that it has loaded.
[[nodiscard]] JoinSwarm ready_of(const SwarmTorrent& swarm);
/// Enters the swarm of a torrent that is loaded: from now on others are sent here, and this node to them.
Task<void> join_swarm(Session& session, TrackerLinks& links, SwarmTorrentPtr swarm);

class Feed {
 public:
  /// `info` is kept up to date and must outlive this. `wanted.id` is set.
  Feed(Session& session, TrackerLinks& links, const StallTimes& times, FileEntry wanted, SwarmTorrentPtr swarm,
       TransferInfo& info);

  Task<void> join();
  /// One turn, to be called ten times a second or more. `patient`: no peer for however long is no error. Throws Error
  /// when there is no hope left.
  Task<void> tend(bool patient);
  /// What was waited for until now was not the peers' fault.
  void forgive() { stall_.forgive(Clock::now()); }
  /// After an error: the version is not to be had any more, another may be.
  [[nodiscard]] bool version_is_gone() const { return version_gone_; }
  /// Bytes of pieces that are not here.
  [[nodiscard]] std::int64_t missing() const;
  /// The counters as they are at the end.
  void finish();

 private:
  using Clock = StallPolicy::Clock;
  [[nodiscard]] Error hopeless(StallPolicy::Verdict verdict, const std::optional<Error>& why) const;
  Session& session_;
  TrackerLinks& links_;
  FileEntry wanted_;
  SwarmTorrentPtr swarm_;
  TransferInfo& info_;
  StallPolicy stall_;
  Clock::time_point refreshed_{};
  bool version_gone_ = false;
};

}  // namespace mesh
