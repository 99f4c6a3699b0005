// Large files on their way, each as a swarm. One job a path; jobs are shared by the gets that want the same version.
// On the node's loop; blocking work goes to the pool.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "library/library.h"
#include "node/feed.h"
#include "node/get_task.h"
#include "node/node_options.h"
#include "transfer/room.h"
#include "wire/workers.h"

namespace mesh {

/// One large file on its way. Stopped when no get wants it any more.
struct FileJob {
  FileJob(asio::io_context& io, const Room& room) : reservation(room), changed(io) {}
  FileEntry wanted;
  std::vector<std::uint32_t> holders;
  LocalState before;
  std::optional<UrlSource> url;  ///< then `wanted` has only a path until the origin has said more
  std::string sha256;            ///< as in Planned
  bool force = false;
  std::vector<GetTaskPtr> wanted_by;
  std::atomic<bool> discard = false;  ///< when it is stopped, the partial goes too
  Room::Reservation reservation;      ///< what it will still write, once there was room for it
  std::atomic<bool> stop = false;     ///< nobody wants it any more; for work on the pool
  bool over = false;
  bool kept = false;
  Status status = Status::ok;
  std::string error;
  SwarmTorrentPtr swarm;      ///< once its bytes arrive
  bool version_gone = false;  ///< the version that it was after is not to be had any more
  Event changed;
  TransferInfo info;
};

/// What a download that nobody wants any more ends with.
[[nodiscard]] Error interrupted(const FileJob& job);

class Downloads {
 public:
  /// The way of a job that has a URL: returns when the file is in place; throws Error.
  using FromUrl = std::function<Task<void>(FileJobPtr)>;
  Downloads(Workers& workers, const NodeOptions& options, Log log, Library& library, Session& session,
            TrackerLinks& links, Room& room, const LocalRules& rules, FromUrl from_url)
      : workers_(workers),
        options_(options),
        log_(std::move(log)),
        library_(library),
        session_(session),
        links_(links),
        room_(room),
        rules_(rules),
        from_url_(std::move(from_url)),
        slot_free_(workers.loop()) {}

  /// Gets one large file; returns when the job is over or the task does not want it any more. The job says how it went;
  /// null when it was stopped before it began.
  Task<FileJobPtr> get(GetTaskPtr task, Planned& planned);

  /// The node is going: what a job does on the pool ends soon.
  void stop();
  /// Wakes whoever waits for these jobs: a task was cancelled, or a path of it.
  void notify();
  /// Jobs whose path `what` names lose their partial when they are stopped. Returns their paths.
  std::vector<std::string> discard(const What& what);
  /// Jobs under way whose path `what` names.
  [[nodiscard]] std::vector<FileJobPtr> running(const What& what) const;
  [[nodiscard]] std::vector<TransferInfo> transfers() const;

  // For the ways in which a file arrives.

  /// Whoever wants it waits for whatever it takes.
  [[nodiscard]] static bool is_patient(const FileJob& job);
  /// Returns when there is room for `needed` bytes more; throws Error where nobody would wait for that.
  Task<void> wait_for_room(FileJobPtr job, std::int64_t needed);
  /// A write has failed: goes on when there is room again; throws Error for anything else.
  Task<void> recover_disk(FileJobPtr job, SwarmTorrentPtr swarm, std::int64_t needed);
  /// Writes down what has arrived and is on the disk.
  Task<void> checkpoint(SwarmTorrentPtr torrent, std::string path);
  void drop_partial(const ContentId& id);
  /// The partial file of a download of `size` bytes, made or as it was left, with what of it is verified. Blocks;
  /// throws Error.
  struct Part {
    Fd file;
    std::string have;
    std::string roots;
  };
  /// What an earlier download of it left, as far as it is still there: nobody knows what became of it meanwhile, least
  /// of all after a power loss.
  Task<std::shared_ptr<Part>> open_part(FileJobPtr job, ContentId id, const PieceLayout& layout);
  /// `part`, which is whole and has content `id`, becomes the file that the job wants, is offered, and, where there is
  /// a `swarm`, served from there on. Throws Error; where its SHA-256 is not the one asked for, the part is dropped.
  Task<void> put_in_place(FileJobPtr job, SwarmTorrentPtr swarm, std::filesystem::path part, ContentId id);

 private:
  Task<void> run(FileJobPtr job);
  Task<void> from_swarm(FileJobPtr job);
  Task<Torrent> ask_for_torrent(FileJobPtr job);
  Task<void> wait_for_slot(FileJobPtr job);
  Task<void> download(FileJobPtr job, const Torrent& torrent);
  Task<bool> copy_local(FileJobPtr job, ContentId id);
  void set_limits(const FileJob& job, SwarmTorrent& torrent);

  Workers& workers_;
  const NodeOptions& options_;
  Log log_;
  Library& library_;
  Session& session_;
  TrackerLinks& links_;
  Room& room_;
  const LocalRules& rules_;
  FromUrl from_url_;
  std::map<std::string, FileJobPtr> jobs_;  ///< by path
  std::deque<FileJobPtr> queue_;            ///< waiting for a slot, the first first
  int active_ = 0;
  Event slot_free_;
};

}  // namespace mesh
