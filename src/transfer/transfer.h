// One file on its way: a storage that fills, the torrent by which it does and serves others meanwhile, the scheduler
// that says which pieces to ask for, and how far it is. What brings the bytes is a Source, what takes them a Reader;
// where they lie and who wants them is for Download (download.h) and Spool (spools.h) to say. On the node's loop;
// blocking work goes to the pools.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "core/entry.h"
#include "core/error.h"
#include "core/piece_scheduler.h"
#include "core/rate_window.h"
#include "library/maker.h"
#include "mesh/tracker_links.h"
#include "swarm/session.h"
#include "transfer/room.h"
#include "transfer/source.h"
#include "wire/workers.h"

namespace mesh {

/// Payload bytes that came from peers.
struct Received {
  std::int64_t from_sources = 0;  ///< that had everything when they connected
  std::int64_t from_getters = 0;
};
[[nodiscard]] Received received_of(const SwarmTorrent& torrent);

/// What this node says to a tracker of a torrent that it has loaded.
[[nodiscard]] JoinSwarm to_message(const SwarmTorrent& torrent);

class Transfer {
 public:
  using Clock = std::chrono::steady_clock;

  Transfer(Workers& workers, Session& session, TrackerLinks& links, Room& room, FileEntry wanted);
  virtual ~Transfer() = default;
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  /// Its id is not known at first, and of a URL nothing but its path.
  [[nodiscard]] const FileEntry& wanted() const { return wanted_; }
  [[nodiscard]] TransferState state() const { return info_.state; }
  [[nodiscard]] const TransferInfo& info() const { return info_; }
  /// Loaded while bytes arrive by it, and null before; another one after it where the version has changed.
  [[nodiscard]] const SwarmTorrentPtr& torrent() const { return torrent_; }
  /// Bytes per second, of the seconds in which most came.
  [[nodiscard]] std::int64_t best_rate() const { return best_rate_; }
  /// Only while a torrent is open.
  [[nodiscard]] PieceScheduler& scheduler() { return *scheduler_; }
  /// Bytes of pieces that are not here; 0 while no torrent is open.
  [[nodiscard]] std::int64_t missing() const { return storage_ ? storage_->missing() : 0; }
  /// Whoever wants it waits for whatever it takes: no peer for however long is no error.
  [[nodiscard]] virtual bool is_patient() const { return false; }

  /// Whoever waits for something of it looks again.
  void wake();
  Task<void> wait() { return changed_.wait(); }
  Task<void> wait_for(std::chrono::milliseconds time) { return changed_.wait_for(time); }

  // For its sources.

  /// What is known of the file by now.
  void learn(FileEntry wanted);
  void show(TransferState state, std::string detail = {});
  void show_detail(std::string detail) { info_.detail = std::move(detail); }
  /// Bytes per second, of a source whose bytes libtorrent does not count.
  void show_rate(std::int64_t down);
  void show_from_origin(std::int64_t bytes) { info_.from_origin = bytes; }
  /// Of what comes without a torrent.
  void show_done(std::int64_t bytes) { info_.done = bytes; }
  [[nodiscard]] bool is_unwanted() const { return !is_wanted() || workers_.stopping(); }
  /// Throws Error(interrupted) when nobody wants it any more.
  void check_wanted() const {
    if (is_unwanted()) throw stopped();
  }

  // For who runs it, and for sources that change what they bring.

  /// Makes the storage, with what is there already, and loads the torrent. Nobody else may have claimed the content.
  /// Throws Error; `close` is to be called then as well.
  Task<void> open(VerifiedTorrent torrent, Role role, PieceScheduler::Options demand);
  /// Enters the swarm, once there is room for what is missing. Without effect where nothing is. `alone`: as
  /// enter_alone.
  Task<void> join(bool alone = false);
  /// From now on others are sent here, and this node to them. Throws Error.
  /// `unreached`: nobody has been reached so far, so that others are to connect to this node.
  Task<void> enter_swarm(bool unreached = false);
  /// Without others: nobody can be told.
  void enter_alone();
  /// Until all pieces are here, or the source has brought the file otherwise. Throws Error.
  Task<void> fill(Source& source);
  /// Ends it: the torrent is unloaded, and what has arrived is kept or dropped; nothing is written any more when this
  /// returns. Without effect where nothing is open.
  Task<void> close(bool keep);

 protected:
  /// Somebody waits for it.
  [[nodiscard]] virtual bool is_wanted() const = 0;
  /// What `check_wanted` throws.
  [[nodiscard]] virtual Error stopped() const = 0;
  /// Where the bytes go, and what of them is there.
  virtual Task<StoragePtr> make_storage(const VerifiedTorrent& torrent, Role role) = 0;
  /// Called when there is a scheduler, before the torrent is loaded.
  virtual void prepare() {}
  /// Called when there is a storage: brings what is here already, before anything is asked of others. Throws Error.
  virtual Task<void> fill_from_here(const HashedFile&) { co_return; }
  /// Returns when there is room for what is missing. Throws Error.
  virtual Task<void> wait_for_room() = 0;
  /// Says how much will still be written.
  virtual void reserve() = 0;
  /// A write has failed: goes on when there is room again. Throws Error for anything else.
  virtual Task<void> recover_disk() = 0;
  virtual void adjust_limits() {}
  /// Writes down what has arrived: every few seconds, and at the end.
  virtual Task<void> save() { co_return; }
  /// What has arrived is of no use.
  virtual void drop(const ContentId&) {}

  /// Lets go of what packs have left on the disk; whether that was anything. libtorrent closes their files a moment
  /// later, for which this waits.
  Task<bool> drop_packs();
  /// Brings the counters up to date, for the last time.
  void finish_counters();
  /// The torrent stays loaded, and this transfer has no part in it any more.
  void let_go();

  Workers& workers_;
  Session& session_;
  TrackerLinks& links_;
  Room& room_;
  Room::Reservation reservation_;  ///< what it will still write
  FileEntry wanted_;
  TransferInfo info_;
  SwarmTorrentPtr torrent_;
  StoragePtr storage_;  ///< of that, from before it is loaded
  ContentId stored_{};  ///< what that is of
  std::shared_ptr<PieceScheduler> scheduler_;
  Room::Claim claim_;  ///< of the content: nobody else brings it meanwhile

 private:
  [[nodiscard]] bool is_complete() const { return torrent_ && torrent_->storage->is_complete(); }
  Task<void> tend(Source& source);
  void count();

  Event changed_;
  Clock::time_point counted_{};
  RateWindow rate_;
  Clock::time_point saved_{};
  std::int64_t best_rate_ = 0;
};

}  // namespace mesh
