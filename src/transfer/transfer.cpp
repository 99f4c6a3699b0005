#include "transfer/transfer.h"

#include <algorithm>
#include <utility>

#include "wire/flow.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr auto count_every = milliseconds(250);
constexpr auto schedule_every = milliseconds(100);
constexpr auto save_every = seconds(5);
constexpr auto let_go_time = milliseconds(300);
constexpr auto introduction_limit = seconds(10);

}  // namespace

Received received_of(const SwarmTorrent& torrent) {
  Received out;
  for (const auto& [peer, bytes] : torrent.received) {
    // Of a file on its way from a URL, all are getters.
    const bool is_source = torrent.role != Role::provisional && torrent.sources.contains(peer);
    (is_source ? out.from_sources : out.from_getters) += bytes;
  }
  return out;
}

JoinSwarm to_message(const SwarmTorrent& torrent) {
  JoinSwarm out;
  out.id = torrent.torrent.id;
  out.infohash = torrent.torrent.infohash;
  out.shares = torrent.scheduler && !torrent.scheduler->takes_offers();
  out.standard = torrent.is_standard();
  out.size = torrent.storage->layout().size;
  out.meeting = torrent.meeting;
  return out;
}

Transfer::Transfer(Workers& workers, Session& session, TrackerLinks& links, Room& room, FileEntry wanted)
    : workers_(workers),
      session_(session),
      links_(links),
      room_(room),
      reservation_(room),
      wanted_(std::move(wanted)),
      changed_(workers.loop()) {
  info_.path = wanted_.path;
  info_.state = TransferState::queued;
  info_.total = std::max<std::int64_t>(0, wanted_.size);  // of a URL: not known yet
}

void Transfer::wake() {
  changed_.notify();
  if (torrent_) torrent_->changed.notify();
}

void Transfer::learn(FileEntry wanted) {
  wanted_ = std::move(wanted);
  info_.total = wanted_.size;
}

void Transfer::show(TransferState state, std::string detail) {
  info_.state = state;
  info_.queued = state == TransferState::queued;
  info_.detail = std::move(detail);
}

void Transfer::show_rate(std::int64_t down) {
  info_.down_rate = down;
  info_.eta = down > 0 ? (info_.total - info_.done) / down : -1;
}

Task<void> Transfer::open(VerifiedTorrent torrent, Role role, PieceScheduler::Options demand) {
  if (!claim_.is_of(torrent.torrent.id)) claim_ = room_.claim(torrent.torrent.id);
  storage_ = co_await make_storage(torrent, role);
  stored_ = torrent.torrent.id;
  co_await fill_from_here(torrent.file);
  demand.pieces = torrent.file.layout.count();
  scheduler_ = std::make_shared<PieceScheduler>(demand);
  prepare();
  torrent_ = co_await session_.load(role, torrent.torrent, torrent.key, storage_, scheduler_);
  torrent_->path = wanted_.path;
  saved_ = Clock::now();
}

Task<void> Transfer::join(bool alone) {
  if (missing() == 0) co_return;
  co_await wait_for_room();
  if (alone)
    enter_alone();
  else
    co_await enter_swarm();
}

void Transfer::enter_alone() { session_.introduce(torrent_, Introduced{}); }

Task<void> Transfer::enter_swarm(bool unreached) {
  const auto torrent = torrent_;
  JoinSwarm ready = to_message(*torrent);
  ready.unreached = unreached;
  ChannelPtr tracker;
  const Introduced introduced = co_await links_.ask(ready, tracker_limit, introduction_limit, &tracker);
  session_.introduce(torrent, introduced);
  links_.tell_ready(ready, tracker);
}

void Transfer::count() {
  const auto now = Clock::now();
  if (now - counted_ < (scheduler_->is_ordered() ? schedule_every : count_every)) return;
  counted_ = now;
  session_.refresh(*torrent_);
  session_.schedule(*torrent_);
  info_.done = info_.total - missing();
  info_.up_rate = torrent_->up_rate;
  info_.sent = torrent_->sent;
  info_.peers = torrent_->peers;
  // What comes from an origin is not among what libtorrent counts.
  if (torrent_->role == Role::provisional) return;
  rate_.add(torrent_->got, now);
  show_rate(rate_.rate());
  best_rate_ = std::max(best_rate_, rate_.rate());
}

Task<void> Transfer::fill(Source& source) {
  source.forgive();
  while (!is_complete()) {
    check_wanted();
    if (torrent_) co_await tend(source);
    if (is_complete()) break;
    const bool came_whole = co_await source.tend();
    if (came_whole) co_return;
    // What is waited for may have come during that.
    if (is_complete()) break;
    const auto torrent = torrent_;
    Event& news = torrent ? torrent->changed : changed_;
    co_await news.wait_for(source.tick());
  }
  finish_counters();
}

/// The turn that does not depend on where the bytes come from.
Task<void> Transfer::tend(Source& source) {
  adjust_limits();
  count();
  reserve();
  if (!torrent_->error.empty()) {
    co_await recover_disk();
    source.forgive();
  }
  if (!scheduler_->is_hungry()) source.forgive();
  if (Clock::now() - saved_ < save_every) co_return;
  co_await save();
  saved_ = Clock::now();
}

Task<bool> Transfer::drop_packs() {
  if (session_.pack_bytes() == 0) co_return false;
  session_.shrink_packs(0, true);
  co_await sleep_for(let_go_time);
  co_return true;
}

void Transfer::finish_counters() {
  session_.refresh(*torrent_);
  info_.sent = torrent_->sent;
  info_.done = info_.total - missing();
  const auto received = received_of(*torrent_);
  info_.from_sources += received.from_sources;
  info_.from_getters += received.from_getters;
}

void Transfer::let_go() {
  torrent_.reset();
  storage_.reset();
  scheduler_.reset();
  claim_.release();
}

Task<void> Transfer::close(bool keep) {
  if (storage_) {
    const auto id = stored_;
    const auto storage = storage_;
    if (keep) co_await save();
    if (torrent_) session_.unload(id);
    // The next transfer of it begins when nothing of this one is written any more.
    const auto retire = [storage] { storage->retire(); };
    co_await run_on(workers_.brief(), retire);
    if (!keep) drop(id);
  }
  let_go();
}

}  // namespace mesh
