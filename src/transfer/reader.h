// The bytes of a file, read where they are: here, or on their way. On the node's loop; blocking work goes to the pool.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "library/library.h"
#include "swarm/session.h"
#include "wire/workers.h"

namespace mesh {

class Reader {
 public:
  virtual ~Reader() = default;
  [[nodiscard]] virtual std::int64_t size() const = 0;
  /// What its bytes are, where that is known.
  [[nodiscard]] virtual ContentId id() const { return {}; }
  /// Bytes from `offset` on, once they are here and have passed their hash; returns how many: fewer than `out` holds
  /// where a piece ends, 0 at the end of the file. Throws Error. One call at a time, each of which keeps `out` until it
  /// returns.
  virtual Task<std::size_t> read(std::int64_t offset, std::span<char> out) = 0;
};
using ReaderPtr = std::unique_ptr<Reader>;

/// Of a file of the files directory, which must not change meanwhile.
class LocalReader final : public Reader {
 public:
  /// `for_others`: only what is offered is read.
  LocalReader(Workers& workers, const Library& library, LocalEntry entry, bool for_others = false)
      : workers_(workers), library_(library), entry_(std::move(entry)), for_others_(for_others) {}
  [[nodiscard]] std::int64_t size() const override { return entry_.entry.size; }
  Task<std::size_t> read(std::int64_t offset, std::span<char> out) override;

 private:
  Workers& workers_;
  const Library& library_;
  LocalEntry entry_;
  bool for_others_;
  Fd file_;
};

/// Of a torrent, while others may still bring it: it is a cursor of the torrent's scheduler, so that what is read next
/// is asked for first.
class TorrentReader {
 public:
  /// `is_stopped` is asked while it waits. `cursor`: one that it takes over from who has put it there before.
  TorrentReader(Workers& workers, Session& session, SwarmTorrentPtr torrent, std::function<bool()> is_stopped,
                PieceScheduler::CursorId cursor = 0);
  ~TorrentReader();
  TorrentReader(const TorrentReader&) = delete;
  TorrentReader& operator=(const TorrentReader&) = delete;

  [[nodiscard]] const SwarmTorrentPtr& torrent() const { return torrent_; }
  /// As Reader::read; nothing where the torrent has ended without what is asked for.
  Task<std::optional<std::size_t>> read(std::int64_t offset, std::span<char> out);

 private:
  void move_to(int piece);

  Workers& workers_;
  Session& session_;
  SwarmTorrentPtr torrent_;
  std::shared_ptr<PieceScheduler> scheduler_;  ///< null where the torrent was whole from the beginning
  std::function<bool()> is_stopped_;
  PieceScheduler::CursorId cursor_ = 0;
  int piece_ = -1;
};

}  // namespace mesh
