#include "transfer/download.h"

#include <algorithm>
#include <cerrno>

#include "core/format.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr auto look_again_every = milliseconds(100);
constexpr auto look_for_room_every = milliseconds(500);
/// A file system can be full before statvfs says so: then this is waited, however much seems free.
constexpr auto full_disk_pause = seconds(2);

std::string of_room(std::int64_t needed, std::int64_t free, std::int64_t promised) {
  return human_bytes(needed) + " needed, " + human_bytes(free) + " free" +
         (promised > 0 ? ", of which other downloads need " + human_bytes(promised) : "");
}

}  // namespace

void Download::end(Outcome outcome) {
  outcome_ = std::move(outcome);
  // Whoever waits for it may keep it for long.
  reservation_.set(0);
  claim_.release();
  wake();
}

void Download::add(AskerPtr asker) { askers_.push_back(std::move(asker)); }

void Download::remove(const AskerPtr& asker) {
  std::erase(askers_, asker);
  if (!askers_.empty()) return;
  stop_ = true;
  wake();
}

bool Download::is_patient() const { return std::ranges::any_of(askers_, &Asker::is_patient); }

bool Download::waits_for_room() const { return std::ranges::any_of(askers_, &Asker::waits_for_room); }

bool Download::is_read_along() const { return std::ranges::any_of(askers_, &Asker::reads_along); }

Error Download::stopped() const {
  return {Status::interrupted,
          printable(wanted_.path) + (discard_ ? ": stopped; what had arrived is dropped"
                                              : ": stopped; what has arrived is kept, and a get goes on from there")};
}

Task<void> Download::claim(ContentId id) {
  while (room_.is_claimed_still(id)) {
    show(TransferState::queued, "the same bytes are on their way here already");
    check_wanted();
    co_await wait_for(look_again_every);
  }
  claim_ = room_.claim(id);
  show(TransferState::connecting);
}

Task<StoragePtr> Download::make_storage(const VerifiedTorrent& torrent, Role role) {
  const auto& layout = torrent.file.layout;
  while (waits_for_room() && !parts_.has_inode()) {
    check_wanted();
    show(TransferState::paused, "no room: the file system has no inode left for another file; goes on when it has");
    co_await sleep_for(look_for_room_every);
  }
  const std::function<void()> on_check = [this] { show(TransferState::checking); };
  const auto part = co_await parts_.open(wanted_.path, torrent.torrent.id, layout, on_check);
  const auto make = [&]() -> StoragePtr {
    if (role == Role::provisional) return Storage::provisional(layout, std::move(part->file), part->have, part->roots);
    auto out = std::make_shared<Storage>(layout, std::move(part->file), part->have, part->roots);
    out->set_unfinished(std::move(part->blocks));
    return out;
  };
  const StoragePtr storage = co_await run_on(workers_.brief(), make);
  storage->will_be_synced();
  co_return storage;
}

Task<void> Download::fill_from_here(const HashedFile& file) {
  if (!reuse_ || missing() == 0) co_return;
  co_await wait_for_room();
  co_await reuse_(*this, *storage_, file);
  info_.done = info_.total - missing();
}

void Download::prepare() {
  if (is_read_along()) scheduler().add_cursor(0);
}

Error Download::no_room(std::int64_t needed) const {
  return {Status::failed, printable(wanted_.path) +
                              ": no room: " + of_room(needed, room_.free_bytes(), reservation_.others()) +
                              "; what has arrived is kept, and a get goes on from there"};
}

Task<void> Download::wait_for_room() {
  for (;;) {
    const auto needed = missing();
    const auto free = room_.free_bytes();
    const auto others = reservation_.others();
    const bool admitted = needed + others <= free;
    reservation_.set(admitted ? needed : 0);
    if (admitted) {
      info_.done = info_.total - needed;
      info_.detail.clear();
      co_return;
    }
    check_wanted();
    if (co_await drop_packs()) continue;
    if (!waits_for_room()) throw no_room(needed);
    show(TransferState::paused, "no room: " + of_room(needed, free, others) + "; goes on when there is");
    info_.down_rate = 0;
    co_await sleep_for(look_for_room_every);
  }
}

Task<void> Download::recover_disk() {
  const int code = torrent_->error_code;
  check_wanted();
  if (code != ENOSPC && code != EDQUOT)
    throw Error(Status::failed, printable(wanted_.path) + ": cannot be written: " + torrent_->error);
  const bool dropped = co_await drop_packs();
  if (!dropped && waits_for_room()) {
    show(TransferState::paused, "no room: the disk is full; goes on when there is");
    co_await sleep_for(full_disk_pause);
  }
  if (!dropped && !waits_for_room()) throw no_room(missing());
  co_await wait_for_room();
  show(TransferState::downloading);
  session_.resume(*torrent_);
}

/// The limit of a get is shared evenly by its files; a file that several gets want has the most generous one.
void Download::adjust_limits() {
  std::int64_t down = 0;
  std::int64_t up = 0;
  bool free_down = false;
  bool free_up = false;
  for (const auto& asker : askers_) {
    const auto sharing =
        std::max<std::ptrdiff_t>(1, std::ranges::count(asker->downloads, TransferState::downloading,
                                                       [](const DownloadPtr& other) { return other->state(); }));
    free_down = free_down || asker->max_down() <= 0;
    free_up = free_up || asker->max_up() <= 0;
    down = std::max(down, std::max<std::int64_t>(1, asker->max_down() / sharing));
    up = std::max(up, std::max<std::int64_t>(1, asker->max_up() / sharing));
  }
  session_.limit(*torrent_, free_down ? 0 : down, free_up ? 0 : up);
}

Task<void> Download::place(ContentId id, std::filesystem::path part) {
  show(TransferState::placing);
  order_.wanted = wanted_;
  std::optional<Error> trouble;
  try {
    co_await parts_.place(order_, id, part, torrent_, stop_);
  } catch (const Parts::Mismatch& error) {
    discard_ = true;
    trouble = error;
  }
  if (trouble) throw Error(*trouble);
  wanted_.id = id;
  if (torrent_) {
    session_.seed(torrent_);
    session_.limit(*torrent_, 0, 0);
  }
  reservation_.set(0);
  parts_.drop_older(wanted_.path);
  let_go();
}

}  // namespace mesh
