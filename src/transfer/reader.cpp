#include "transfer/reader.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "core/format.h"
#include "wire/flow.h"

namespace mesh {
namespace {

constexpr auto look_every = std::chrono::milliseconds(50);

}  // namespace

Task<std::size_t> LocalReader::read(std::int64_t offset, std::span<char> out) {
  if (offset >= size()) co_return std::size_t{0};
  const auto length = static_cast<std::size_t>(std::min<std::int64_t>(std::ssize(out), size() - offset));
  const auto read = [this, offset, bytes = out.first(length)] {
    const auto& gate = library_.gate();
    const auto& path = entry_.entry.path;
    if (!file_) file_ = for_others_ ? std::move(gate.open_offered(path).fd) : gate.open_file(path);
    const auto n = ::pread(file_.get(), bytes.data(), bytes.size(), offset);
    if (n < 0) throw Error(Status::failed, std::generic_category().message(errno));
    struct stat s {};
    if (n != std::ssize(bytes) || ::fstat(file_.get(), &s) != 0 || stamp_of(s) != entry_.stamp)
      throw Error(Status::failed, printable(entry_.entry.path) + ": changed while it was read");
  };
  co_await run_on(workers_.brief(), read);
  co_return length;
}

TorrentReader::TorrentReader(Workers& workers, Session& session, SwarmTorrentPtr torrent,
                             std::function<bool()> is_stopped, PieceScheduler::CursorId cursor)
    : workers_(workers),
      session_(session),
      torrent_(std::move(torrent)),
      scheduler_(torrent_->scheduler),
      is_stopped_(std::move(is_stopped)),
      cursor_(cursor) {}

TorrentReader::~TorrentReader() {
  if (!scheduler_ || cursor_ == 0) return;
  scheduler_->remove_cursor(cursor_);
  torrent_->changed.notify();
}

void TorrentReader::move_to(int piece) {
  if (!scheduler_ || piece == piece_) return;
  piece_ = piece;
  if (cursor_ != 0) {
    scheduler_->move_cursor(cursor_, piece);
    return;
  }
  cursor_ = scheduler_->add_cursor(piece);
  session_.schedule(*torrent_);
}

Task<std::optional<std::size_t>> TorrentReader::read(std::int64_t offset, std::span<char> out) {
  const auto storage = torrent_->storage;
  const auto& layout = storage->layout();
  if (offset >= layout.size) co_return std::size_t{0};
  const auto piece = static_cast<int>(offset / layout.piece_length);
  move_to(piece);
  while (storage->verified()[static_cast<std::size_t>(piece)] == 0) {
    if (is_stopped_()) throw Error(Status::interrupted, "stopped");
    if (workers_.stopping()) throw Error(Status::unreachable, "the node is shutting down");
    if (!torrent_->downloading || session_.find(torrent_->torrent.id) != torrent_) co_return std::nullopt;
    if (scheduler_) scheduler_->wait_at_cursor(cursor_);
    co_await torrent_->changed.wait_for(look_every);
  }
  if (scheduler_) scheduler_->move_cursor(cursor_, piece);
  const auto start = static_cast<int>(offset % layout.piece_length);
  const auto length =
      static_cast<std::size_t>(std::min<std::int64_t>(std::ssize(out), layout.length_of(piece) - start));
  const auto read = [storage, piece, start, bytes = out.first(length)] {
    if (const auto ec = storage->read(piece, start, bytes)) throw Error(Status::failed, ec.message());
  };
  co_await run_on(workers_.brief(), read);
  // Whoever keeps to the slowest reader need not keep what it has read.
  if (start + static_cast<std::int64_t>(length) == layout.length_of(piece)) move_to(piece + 1);
  co_return length;
}

}  // namespace mesh
