// Streams: the bytes of a file in order, as they arrive from the swarm, without a place in the files dir.
//
// What arrives goes to a spool: a file in the state directory that has no name, so that nothing is left of it when the
// node ends, however it ends. Pieces are asked for in a window ahead of the reader. Where the spool is bounded, pieces
// behind the reader are dropped from it, the oldest first; others are served from what is kept. Streams of one file on
// one node share a spool, at the pace of the slowest where it is bounded. On the node's loop.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "node/feed.h"
#include "node/getter.h"
#include "wire/channel.h"

namespace mesh {

class Streamer {
 public:
  Streamer(Workers& workers, const NodeOptions& options, Library& library, Session& session, TrackerLinks& links,
           Room& room, Getter& getter)
      : workers_(workers),
        options_(options),
        library_(library),
        session_(session),
        links_(links),
        room_(room),
        getter_(getter) {}

  /// Sends the file's bytes as StreamData notes and returns when all are sent. Throws Error; what was sent cannot be
  /// taken back, but every piece of it passed its hash.
  Task<StreamEnd> stream(ChannelPtr channel, Stream asked);

  /// Sends the file of a get along while it arrives, a StreamBegin note first; returns when all of it is sent, or when
  /// `over` is set and there is nothing to send. Never throws: what matters is what the get puts in place.
  Task<void> pipe(ChannelPtr channel, GetTaskPtr task, std::shared_ptr<bool> over);

  [[nodiscard]] std::vector<TransferInfo> transfers() const;
  [[nodiscard]] bool is_idle() const { return readers_ == 0; }

 private:
  struct Spool;
  using SpoolPtr = std::shared_ptr<Spool>;
  Task<void> send_local(ChannelPtr channel, LocalEntry entry, std::int64_t& position);
  /// `unwanted` is asked while it waits for a piece.
  Task<void> send_stored(ChannelPtr channel, SwarmTorrentPtr swarm, SpoolPtr spool, std::int64_t& position,
                         std::function<bool()> unwanted);
  Task<SpoolPtr> open_spool(FileEntry wanted, Torrent torrent, std::int64_t limit);
  Task<void> fill(SpoolPtr spool, std::shared_ptr<void> mark);
  void trim(Spool& spool);
  struct Next {
    int piece = 0;
    bool starving = false;
    bool waits = false;  ///< somebody waits for it
  };
  static Next needed_next(Spool& spool);
  void reserve(Spool& spool, std::int64_t missing);

  Workers& workers_;
  const NodeOptions& options_;
  Library& library_;
  Session& session_;
  TrackerLinks& links_;
  Room& room_;
  Getter& getter_;
  std::map<ContentId, SpoolPtr> spools_;
  int readers_ = 0;
};

}  // namespace mesh
