#include "transfer/spools.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "core/format.h"
#include "core/pack.h"
#include "transfer/swarm_source.h"
#include "wire/flow.h"

namespace mesh {
namespace {

constexpr std::int64_t window_bytes = 64 << 20;
constexpr int fewest_window_pieces = 32;
constexpr int fewest_pieces = 4;  // in a bounded spool
constexpr auto look_every = std::chrono::milliseconds(50);

}  // namespace

Task<PieceScheduler::CursorId> Spool::open_for(VerifiedTorrent torrent, std::int64_t from) {
  show(options_.is_pack ? TransferState::downloading : TransferState::streaming);
  begin_ = from;
  piece_length_ = torrent.file.layout.piece_length;
  window_ = std::max(window_bytes, fewest_window_pieces * piece_length_);
  if (options_.limit > 0) {
    if (options_.limit < fewest_pieces * piece_length_ && options_.limit < wanted_.size)
      throw Error(Status::usage, "--spool " + human_bytes(options_.limit) + ": is too little for " +
                                     printable(wanted_.path) + ", whose pieces are of " + human_bytes(piece_length_) +
                                     "; give at least four of them");
    // Half ahead of the reader, the rest behind it for others.
    window_ = std::clamp(options_.limit / 2, piece_length_, window_);
  }
  // Promised before anything is waited for, so that nobody else is promised the same room.
  const auto needed = options_.limit > 0 ? std::min(options_.limit, wanted_.size) : wanted_.size + options_.beside;
  const auto free = [this] { return room_.free_bytes() - reservation_.others(); };
  if (needed > free()) static_cast<void>(co_await drop_packs());
  if (needed > free())
    throw Error(Status::failed, printable(wanted_.path) + ": no room for its spool: " + human_bytes(needed) +
                                    " needed, " + human_bytes(free()) + " free" +
                                    (options_.is_pack ? "" : " (--spool SIZE needs less)"));
  reservation_.set(needed);
  PieceScheduler::Options demand;
  demand.whole = options_.is_pack;
  demand.window = static_cast<int>(window_ / piece_length_);
  demand.drops = options_.limit > 0;
  co_await open(std::move(torrent), options_.is_pack ? Role::pack : Role::spool, demand);
  reserve();
  co_return first_reader_;
}

void Spool::prepare() {
  readers_ = scheduler_;
  first_reader_ = readers_->add_cursor(static_cast<int>(begin_ / piece_length_));
}

Task<StoragePtr> Spool::make_storage(const VerifiedTorrent& torrent, Role) {
  const auto make = [&] {
    Fd fd;
    try {
      fd = library_.make_nameless(wanted_.size);
    } catch (const std::system_error& error) {
      throw Error(Status::failed, printable(wanted_.path) + ": cannot make its spool in " +
                                      library_.state_dir().string() + ": " + error.code().message());
    }
    if (!options_.is_pack) store_roots(library_.db(), torrent.file);
    return std::make_shared<Storage>(torrent.file.layout, std::move(fd), "", "");
  };
  const StoragePtr storage = co_await run_on(workers_.brief(), make);
  if (options_.limit > 0) storage->bound();
  co_return storage;
}

/// Says how much will still be written, for whoever asks whether there is room.
void Spool::reserve() {
  // A bounded spool that is full grows no more.
  const auto written = wanted_.size - missing() - dropped_ * piece_length_;
  const auto most = options_.limit > 0 ? std::max<std::int64_t>(0, options_.limit - written) : missing();
  // Of a pack, its files are written beside it.
  reservation_.set(options_.is_pack ? missing() + wanted_.size : std::min(missing(), most));
}

Task<void> Spool::recover_disk() {
  throw Error(Status::failed, printable(wanted_.path) + ": its spool in " + library_.state_dir().string() +
                                  " cannot be written: " + torrent_->error + " (--spool SIZE needs less)");
  co_return;
}

bool Spool::can_read(std::int64_t offset) const { return offset / piece_length_ >= dropped_; }

void Spool::trim() {
  if (options_.limit == 0 || !readers_->has_cursors()) return;
  const auto slowest = readers_->slowest_cursor();
  const auto kept_from = slowest * piece_length_ - (options_.limit - window_ - piece_length_);
  const auto first = static_cast<int>(std::max<std::int64_t>(0, kept_from / piece_length_));
  for (; dropped_ < first && dropped_ < slowest; ++dropped_) torrent_->storage->drop(dropped_);
}

Task<void> Spool::run(Source& source) {
  const auto torrent = torrent_;
  std::optional<Error> trouble;
  try {
    co_await join();
    co_await fill(source);
  } catch (const Error& error) {
    trouble = error;
  } catch (const std::exception& error) {
    trouble = Error(Status::failed, printable(wanted_.path) + ": " + error.what());
  }
  reservation_.set(options_.is_pack ? wanted_.size : 0);
  const auto wait_for_readers = [&]() -> Task<void> {
    while (readers_->has_cursors() && !workers_.stopping()) co_await torrent->changed.wait_for(look_every);
  };
  const bool is_whole = !trouble && torrent->storage->content_id() == wanted_.id;
  if (is_whole && options_.limit == 0 && !workers_.stopping()) {
    session_.seed(torrent);
    if (options_.is_pack) session_.shrink_packs(most_pack_bytes, true);
  } else {
    // Half a file is of no use to others; what is kept of a whole one is, for as long as somebody here reads it.
    if (is_whole)
      co_await wait_for_readers();
    else
      over_ = true;
    // Who has come since the last one left begins anew.
    if (trouble && trouble->status() != Status::interrupted) trouble_ = trouble;
    session_.unload(wanted_.id);
  }
  claim_.release();  // a get need not wait for a slow reader
  co_await wait_for_readers();
  reservation_.set(0);
}

/// A file as the mesh has it, from wherever it is.
class Spools::MeshReader final : public Reader {
 public:
  MeshReader(Spools& spools, FileEntry wanted, std::vector<std::uint32_t> holders, Spool::Options options,
             std::function<bool()> is_stopped, std::shared_ptr<Received> counters)
      : spools_(spools),
        wanted_(std::move(wanted)),
        holders_(std::move(holders)),
        options_(options),
        is_stopped_(std::move(is_stopped)),
        counters_(std::move(counters)) {}

  /// Which content it is of; its torrent, too.
  Task<void> learn() {
    const std::function<void()> check = [this] { check_stopped(); };
    told_ = co_await prepare_swarm(spools_.workers_, spools_.links_, wanted_, holders_, check);
    wanted_.id = told_->id;
  }

  void told(Torrent torrent) { told_ = std::move(torrent); }

  [[nodiscard]] std::int64_t size() const override { return wanted_.size; }
  [[nodiscard]] ContentId id() const override { return wanted_.id; }

  Task<std::size_t> read(std::int64_t offset, std::span<char> out) override {
    if (offset >= wanted_.size) co_return std::size_t{0};
    std::optional<std::size_t> length;
    while (!length) {
      if (!local_ && !under_way_) co_await attach(offset);
      if (local_) {
        length = co_await local_->read(offset, out);
        break;
      }
      length = co_await under_way_->read(offset, out);
      if (length) break;
      if (spool_ && spool_->trouble()) throw Error(*spool_->trouble());
      under_way_.reset();
      spool_.reset();
    }
    if (spool_) spool_->trim();
    if (spool_ && offset + static_cast<std::int64_t>(*length) == wanted_.size)
      spools_.session_.refresh(*under_way_->torrent());
    if (spool_) *counters_ = received_of(*under_way_->torrent());
    co_return *length;
  }

 private:
  /// To where the byte at `offset` is, or is to come.
  Task<void> attach(std::int64_t offset) {
    while (!find_here() && !find_seed() && !find_spool(offset) && !find_download()) {
      check_stopped();
      // Not yet, or not any more; or other readers have it, who can wait.
      if (spools_.spools_.contains(wanted_.id) || spools_.room_.is_claimed_still(wanted_.id)) {
        co_await sleep_for(look_every);
      } else if (!told_) {
        co_await learn();
      } else {
        const auto opened = co_await spools_.make(wanted_, *told_, options_, offset);
        spool_ = opened.spool;
        under_way_.emplace(spools_.workers_, spools_.session_, spool_->torrent(), is_stopped_, opened.cursor);
        co_return;
      }
    }
  }

  bool find_here() {
    const auto* item = spools_.library_.inventory().find(wanted_.id, wanted_.size);
    if (item == nullptr) return false;
    local_.emplace(spools_.workers_, spools_.library_, LocalEntry{item->entry, item->stamp});
    return true;
  }

  /// A spool or a pack that is whole is read from what is left of it.
  bool find_seed() {
    const auto torrent = spools_.session_.find(wanted_.id);
    if (!torrent || !torrent->checked || torrent->downloading || !torrent->storage->is_complete()) return false;
    if (torrent->role != Role::spool && torrent->role != Role::pack) return false;
    torrent->last_needed = SwarmTorrent::Clock::now();
    under_way_.emplace(spools_.workers_, spools_.session_, torrent, is_stopped_);
    return true;
  }

  /// Another reader of the same bytes is under way here: then this one reads along.
  bool find_spool(std::int64_t offset) {
    const auto it = spools_.spools_.find(wanted_.id);
    if (it == spools_.spools_.end() || !it->second->torrent() || it->second->is_over()) return false;
    if (it->second->begins_after(offset))
      throw Error(Status::failed, printable(wanted_.path) +
                                      ": another stream of it is under way on this node, which has begun behind that; "
                                      "try again when that one is done");
    if (!it->second->can_read(offset))
      throw Error(Status::failed, printable(wanted_.path) +
                                      ": another stream of it is under way on this node with a bounded --spool, and "
                                      "has dropped the beginning; try again when that one is done");
    spool_ = it->second;
    under_way_.emplace(spools_.workers_, spools_.session_, spool_->torrent(), is_stopped_);
    return true;
  }

  /// A get of them is.
  bool find_download() {
    if (spools_.spools_.contains(wanted_.id) || !spools_.room_.is_claimed(wanted_.id)) return false;
    const auto torrent = spools_.session_.find(wanted_.id);
    if (!torrent || !torrent->checked) return false;
    under_way_.emplace(spools_.workers_, spools_.session_, torrent, is_stopped_);
    return true;
  }

  void check_stopped() const {
    if (is_stopped_()) throw Error(Status::interrupted, "stopped");
  }

  Spools& spools_;
  FileEntry wanted_;
  std::vector<std::uint32_t> holders_;
  std::optional<Torrent> told_;
  Spool::Options options_;
  std::function<bool()> is_stopped_;
  std::shared_ptr<Received> counters_;
  std::optional<LocalReader> local_;
  std::optional<TorrentReader> under_way_;
  SpoolPtr spool_;  ///< where that is one
};

Task<ReaderPtr> Spools::open(FileEntry wanted, std::vector<std::uint32_t> holders, std::int64_t limit,
                             std::function<bool()> is_stopped, std::shared_ptr<Received> counters) {
  const bool is_known = wanted.id.is_set();
  Spool::Options options;
  options.limit = limit;
  auto reader = std::make_unique<MeshReader>(*this, std::move(wanted), std::move(holders), options,
                                             std::move(is_stopped), std::move(counters));
  if (!is_known) co_await reader->learn();
  co_return std::move(reader);
}

ReaderPtr Spools::open_pack(FileEntry wanted, Torrent told, std::int64_t beside, std::function<bool()> is_stopped,
                            std::shared_ptr<Received> counters) {
  Spool::Options options;
  options.is_pack = true;
  options.beside = beside;
  auto reader = std::make_unique<MeshReader>(*this, std::move(wanted), std::vector<std::uint32_t>(), options,
                                             std::move(is_stopped), std::move(counters));
  reader->told(std::move(told));
  return reader;
}

Task<Spools::Opened> Spools::make(FileEntry wanted, Torrent told, Spool::Options options, std::int64_t from) {
  Opened out;
  auto torrent = verified(told, wanted, options_.keys);
  out.spool = std::make_shared<Spool>(workers_, library_, session_, links_, room_, wanted, options);
  spools_[wanted.id] = out.spool;
  try {
    out.cursor = co_await out.spool->open_for(std::move(torrent), from);
  } catch (...) {
    spools_.erase(wanted.id);
    throw;
  }
  // Begins when the reader that it was made for is there: this coroutine goes on to that without a pause.
  post_to(workers_.loop(), [this, spool = out.spool] { spawn(workers_.loop(), fill(spool)); });
  co_return out;
}

/// Until nobody reads any more.
Task<void> Spools::fill(SpoolPtr spool) {
  SwarmSource source(links_, options_.stall, *spool);
  co_await spool->run(source);
  spools_.erase(spool->wanted().id);
}

std::optional<TransferInfo> Spools::info(const ContentId& id) const {
  const auto it = spools_.find(id);
  return it == spools_.end() ? std::nullopt : std::optional(it->second->info());
}

std::vector<TransferInfo> Spools::infos() const {
  std::vector<TransferInfo> out;
  for (const auto& [id, spool] : spools_)
    if (spool->torrent() && !spool->is_over()) out.push_back(spool->info());
  return out;
}

}  // namespace mesh
