// Files that are read as they arrive from the swarm, without a place in the files dir.
//
// What arrives goes to a spool: a file in the state directory that has no name, so that nothing is left of it when the
// node ends, however it ends. Pieces are asked for in a window ahead of the reader, and all of a pack. Where the spool
// is bounded, pieces behind the reader are dropped from it, the oldest first; others are served from what is kept.
// Readers of one content on one node share a spool, at the pace of the slowest where it is bounded. On the node's loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "library/library.h"
#include "transfer/reader.h"
#include "transfer/stall_policy.h"
#include "transfer/transfer.h"

namespace mesh {

/// A file that is filled while somebody reads it.
class Spool final : public Transfer {
 public:
  struct Options {
    std::int64_t limit = 0;   ///< bytes that are kept at once; 0: all
    bool is_pack = false;     ///< all of it is wanted at once, and nobody will ask for it again
    std::int64_t beside = 0;  ///< of a pack: bytes that are to be written besides, its files among them
  };
  Spool(Workers& workers, Library& library, Session& session, TrackerLinks& links, Room& room, FileEntry wanted,
        Options options)
      : Transfer(workers, session, links, room, std::move(wanted)), library_(library), options_(options) {}

  /// Loads it for somebody who begins to read at byte `from`, whose cursor is returned. Throws Error.
  Task<PieceScheduler::CursorId> open_for(VerifiedTorrent torrent, std::int64_t from);
  /// Fills it for as long as it has readers, and returns when it has none. All of it stays loaded as a seed.
  Task<void> run(Source& source);
  /// Nothing more arrives by it.
  [[nodiscard]] bool is_over() const { return over_; }
  [[nodiscard]] const std::optional<Error>& trouble() const { return trouble_; }
  /// Its first reader began after this byte, so that it is not to come.
  [[nodiscard]] bool begins_after(std::int64_t offset) const { return offset / piece_length_ < begin_ / piece_length_; }
  /// Whether the piece that has this byte is still kept, or still to come.
  [[nodiscard]] bool can_read(std::int64_t offset) const;
  /// Readers have moved: drops what a bounded spool may not keep, the oldest pieces behind the slowest reader.
  void trim();

 protected:
  [[nodiscard]] bool is_wanted() const override { return readers_ && readers_->has_cursors(); }
  [[nodiscard]] Error stopped() const override { return {Status::interrupted, "nobody reads any more"}; }
  Task<StoragePtr> make_storage(const VerifiedTorrent& torrent, Role role) override;
  void prepare() override;
  Task<void> wait_for_room() override { co_return; }  // there was, when it was made
  void reserve() override;
  Task<void> recover_disk() override;

 private:
  Library& library_;
  Options options_;
  std::int64_t window_ = 0;  ///< bytes ahead of the slowest reader
  std::int64_t piece_length_ = 0;
  std::int64_t begin_ = 0;                   ///< where its first reader begins
  int dropped_ = 0;                          ///< pieces before this one are dropped
  std::shared_ptr<PieceScheduler> readers_;  ///< their cursors
  PieceScheduler::CursorId first_reader_ = 0;
  std::optional<Error> trouble_;
  bool over_ = false;
};
using SpoolPtr = std::shared_ptr<Spool>;

class Spools {
 public:
  struct Options {
    StallTimes stall;
    MeshKeysPtr keys;
  };
  Spools(Workers& workers, Options options, Library& library, Session& session, TrackerLinks& links, Room& room)
      : workers_(workers),
        options_(std::move(options)),
        library_(library),
        session_(session),
        links_(links),
        room_(room) {}

  /// A file as the mesh has it, read from wherever it is at each moment: the files dir, a download that is under way, a
  /// spool that is shared or made for it. `limit`: bytes of the spool that are kept at once; 0: all. `is_stopped` is
  /// asked while it waits. `counters` is set as it reads, where that is a spool. Throws Error.
  Task<ReaderPtr> open(FileEntry wanted, std::vector<std::uint32_t> holders, std::int64_t limit,
                       std::function<bool()> is_stopped, std::shared_ptr<Received> counters);

  /// A pack (core/pack.h), whose torrent the tracker told. `wanted`: its id and size, and what it is called meanwhile.
  /// `beside`: as Spool::Options.
  [[nodiscard]] ReaderPtr open_pack(FileEntry wanted, Torrent told, std::int64_t beside,
                                    std::function<bool()> is_stopped, std::shared_ptr<Received> counters);

  /// Packs that are whole are served no more, and take no room.
  void drop_packs() { session_.shrink_packs(0, true); }

  [[nodiscard]] std::vector<TransferInfo> infos() const;
  /// How far the one of this content is, where one is under way.
  [[nodiscard]] std::optional<TransferInfo> info(const ContentId& id) const;

 private:
  class MeshReader;
  struct Opened {
    SpoolPtr spool;
    PieceScheduler::CursorId cursor = 0;
  };
  Task<Opened> make(FileEntry wanted, Torrent told, Spool::Options options, std::int64_t from);
  Task<void> fill(SpoolPtr spool);

  Workers& workers_;
  Options options_;
  Library& library_;
  Session& session_;
  TrackerLinks& links_;
  Room& room_;
  std::map<ContentId, SpoolPtr> spools_;
};

}  // namespace mesh
