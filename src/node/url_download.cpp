#include "node/url_download.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "core/format.h"
#include "library/maker.h"
#include "node/feed.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr auto tick = milliseconds(50);
constexpr auto count_every = milliseconds(100);
constexpr auto checkpoint_every = seconds(5);
constexpr auto resolve_again_after = seconds(15);
constexpr auto turn_limit = seconds(10);
constexpr auto lonely_after = seconds(30);     // without a tracker
constexpr auto hopeless_after = seconds(180);  // without a byte

/// What stands for the torrent while nobody knows its hashes: the same on every node that goes by the same facts.
HashedFile provisional_file(const ContentId& url, const UrlFacts& facts) {
  HashedFile out;
  out.id = sha256("meshswarm url\n" + url.hex() + "\n" + std::to_string(facts.size) + "\n" +
                  std::to_string(facts.mtime) + "\n" + facts.validator);
  out.layout.size = facts.size;
  out.layout.piece_length = piece_length_for(facts.size);
  for (int i = 0; i < piece_count_for(facts.size); ++i) {
    const auto text = out.id.hex() + ' ' + std::to_string(i);
    out.layout.hashes.emplace_back(sha256(text).view().data());
  }
  return out;
}

}  // namespace

UrlDownload::UrlDownload(Workers& workers, const NodeOptions& options, Log log, Library& library, Session& session,
                         TrackerLinks& links, Room& room, const Pacer& download, Downloads& downloads, FileJobPtr job)
    : workers_(workers),
      options_(options),
      log_(std::move(log)),
      library_(library),
      session_(session),
      links_(links),
      room_(room),
      downloads_(downloads),
      job_(std::move(job)) {
  const auto& source = *job_->url;
  key_ = sha256(source.url.identity);
  whole_part_ = library_.parts_dir() / ("url-" + key_.hex());
  auto from = origin_options(source);
  from.limits = {download.limit(), source.limit};
  const auto notify = [&io = workers_.loop(), job = std::weak_ptr<FileJob>(job_)] {
    post_to(io, [job] {
      if (const auto waiting = job.lock()) waiting->changed.notify();
    });
  };
  fetch_ = std::make_shared<UrlFetch>(workers_.origins(), std::move(from), whole_part_, notify,
                                      [&library] { return library.installer().free_bytes(); });
}

UrlDownload::~UrlDownload() { fetch_->stop(); }

/// Two versions that the origin does not tell apart: nothing of either is of use.
Error UrlDownload::changed() {
  job_->discard = true;
  return {Status::failed, printable(job_->wanted.path) + ": the origin's file changed while it was fetched"};
}

void UrlDownload::check_wanted() const {
  if (job_->wanted_by.empty() || workers_.stopping()) throw interrupted(*job_);
}

std::int64_t UrlDownload::missing() const { return swarm_ ? swarm_->storage->missing() : 0; }

Task<void> UrlDownload::run() {
  std::optional<Error> trouble;
  try {
    co_await get();
  } catch (const Error& error) {
    trouble = error;
  } catch (const std::exception& error) {
    trouble = Error(Status::failed, printable(job_->wanted.path) + ": " + error.what());
  }
  fetch_->stop();
  while (!fetch_->is_idle()) co_await sleep_for(milliseconds(5));
  ::unlink(whole_part_.c_str());
  if (!trouble) co_return;
  co_await close(!job_->discard);
  try {
    OriginReport bye;
    bye.url = key_;
    bye.leave = true;
    const auto tracker = co_await links_.first(milliseconds(100));
    static_cast<void>(co_await tracker->request(bye, seconds(2)));
  } catch (const std::exception&) {
    // It will notice.
  }
  throw Error(*trouble);
}

Task<void> UrlDownload::get() {
  while (!placed_) {
    check_wanted();
    co_await take_news();
    if (placed_) break;
    const auto now = Clock::now();
    if (fetching_ && fetch_->is_idle()) {  // it could fetch more
      fetching_ = false;
      next_turn_ = {};
    }
    if (now >= next_turn_) co_await turn();
    if (swarm_) {
      if (now - counted_ >= count_every) count();
      if (!swarm_->error.empty()) co_await downloads_.recover_disk(job_, swarm_, missing());
      if (swarm_->storage->is_complete()) {
        co_await finish();
        break;
      }
      if (now - synced_ >= checkpoint_every) {
        co_await downloads_.checkpoint(swarm_, job_->wanted.path);
        synced_ = Clock::now();
      }
    }
    if (!downloads_.is_patient(*job_) && now - progressed_ > hopeless_after)
      throw Error(Status::failed, printable(job_->wanted.path) + ": nothing has come for " +
                                      human_seconds(seconds(hopeless_after).count()) +
                                      ", neither from the origin nor from another node");
    co_await job_->changed.wait_for(tick);
  }
}

/// What the origin has sent since the last look.
Task<void> UrlDownload::take_news() {
  auto news = fetch_->take();
  job_->info.from_origin = fetch_->received();
  if (news.error) {
    if (news.error->status() == Status::interrupted) check_wanted();
    unable_ = news.error;
    log_(printable(job_->wanted.path) + ": " + news.error->what());
    next_turn_ = {};
  }
  if (news.facts) {
    heard_ = *news.facts;
    next_turn_ = {};
  }
  for (auto& piece : news.pieces) {
    progressed_ = Clock::now();
    if (swarm_)
      give(std::move(piece));
    else
      waiting_.push_back(std::move(piece));
  }
  if (news.whole) co_await finish_whole(*news.whole);
}

void UrlDownload::give(UrlFetch::Piece piece) {
  auto& storage = *swarm_->storage;
  if (piece.facts != facts_) return;
  if (piece.index >= storage.layout().count() ||
      static_cast<std::int64_t>(piece.data.size()) != storage.layout().length_of(piece.index))
    return;
  if (const auto had = storage.root(piece.index)) {
    if (*had != piece.root) throw changed();
    return;
  }
  storage.expect(piece.index, piece.root);
  swarm_->handle.add_piece(lt::piece_index_t(piece.index), std::move(piece.data));
}

/// What the tracker may not know yet; `telling` becomes what it knows then.
OriginReport UrlDownload::statement(std::vector<bool>& telling) const {
  OriginReport said;
  said.url = key_;
  said.path = job_->wanted.path;
  said.epoch = epoch_;
  said.facts = heard_.size >= 0 ? heard_ : facts_;
  said.known = known_;
  said.idle = fetch_->is_idle() && !unable_;
  if (unable_) {
    said.error = unable_->what();
    said.status = static_cast<int>(unable_->status());
  }
  telling = told_;
  // What is here is of no use to who is told that the origin has something else.
  if (swarm_ && (heard_.size < 0 || heard_ == facts_)) {
    said.have = swarm_->storage->verified();
    telling.resize(said.have.size());
    for (std::size_t i = 0; i < said.have.size(); ++i) {
      if (said.have[i] == 0 || telling[i]) continue;
      const auto root = swarm_->storage->root(static_cast<int>(i));
      if (root) said.pieces.push_back({static_cast<int>(i), *root, 0});
      telling[i] = true;
    }
  }
  said.whole = placed_;
  return said;
}

Task<void> UrlDownload::turn() {
  std::vector<bool> telling;
  const auto said = statement(telling);
  std::optional<OriginAssignment> orders;
  std::optional<Error> trouble;
  try {
    const auto tracker = co_await links_.first(milliseconds(100));
    orders = co_await tracker->request(said, turn_limit);
  } catch (const Error& error) {
    trouble = error;
  }
  const auto now = Clock::now();
  if (trouble) {
    if (trouble->status() != Status::unreachable) throw Error(*trouble);
    job_->info.detail = std::string("no tracker: ") + trouble->what();
    if (!downloads_.is_patient(*job_) && now - heard_tracker_ > lonely_after)
      throw Error(Status::unreachable, printable(job_->wanted.path) + ": " + trouble->what());
    next_turn_ = now + milliseconds(500);
    co_return;
  }
  heard_tracker_ = now;
  next_turn_ = now + milliseconds(std::clamp(orders->pause, 50, 5000));
  if (orders->epoch == epoch_) told_ = std::move(telling);
  co_await obey(std::move(*orders));
}

Task<void> UrlDownload::obey(OriginAssignment orders) {
  const auto name = printable(job_->wanted.path);
  if (orders.epoch != epoch_) {
    // A tracker that has heard nothing yet, or an origin that has changed its mind: all is said and asked anew.
    epoch_ = orders.epoch;
    told_.clear();
    next_turn_ = {};
  }
  known_ = orders.known;
  if (orders.facts.size >= 0) heard_ = {};
  if (orders.over && !swarm_) {
    // A small one, or this node came late: it is a file of the mesh like others now.
    job_->version_gone = true;
    throw Error(Status::failed, name + ": is in the mesh by now");
  }
  if (orders.facts.size > 0 && orders.facts != facts_) {
    if (url_facts_fault(orders.facts).empty()) {
      co_await close(false);
      co_await open(orders.facts);
    } else {
      throw Error(Status::failed, name + ": the tracker says what makes no sense");
    }
  }
  if (swarm_)
    for (const auto& piece : orders.pieces) {
      if (piece.index < 0 || piece.index >= swarm_->storage->layout().count()) continue;
      const auto had = swarm_->storage->root(piece.index);
      if (had && *had != piece.root) throw changed();
      if (!had) swarm_->storage->expect(piece.index, piece.root);
      if (gate_ != nullptr) gate_->set_known(piece.index, piece.by);
    }
  if (!orders.error.empty()) {
    const auto status = known_status(orders.status);
    const bool known = status == Status::not_found || status == Status::unreachable || status == Status::refused;
    throw Error(known ? status : Status::failed, name + ": " + orders.error);
  }
  if (orders.over && swarm_ && Clock::now() - progressed_ > resolve_again_after) {
    // Those who have it may have left this swarm: it is to be had under its path.
    job_->version_gone = true;
    throw Error(Status::failed, name + ": is in the mesh by now");
  }
  if (orders.first && fetch_->is_idle()) {
    job_->info.detail = "asking " + printable(job_->url->url.shown);
    fetch_->ask_first();
    fetching_ = true;
  } else if (orders.begin < orders.end && fetch_->is_idle() && facts_.size > 0 &&
             orders.end <= piece_count_for(facts_.size) && orders.begin >= 0) {
    job_->info.detail.clear();
    fetch_->fetch(facts_, orders.begin, orders.end);
    fetching_ = true;
  } else if (!swarm_ && fetch_->is_idle() && !unable_) {
    job_->info.detail = "another node asks the origin";
  }
}

Task<void> UrlDownload::open(UrlFacts facts) {
  auto& wanted = job_->wanted;
  const auto hashed = provisional_file(key_, facts);
  // Nodes that use different ones of the same keys meet all the same.
  const MeshKey* key = nullptr;
  if (const auto& keys = options_.keys) key = &*std::ranges::min_element(keys->all(), {}, &MeshKey::name);
  const SwarmSpec torrent = make_torrent(hashed, key);
  if (room_.is_claimed(torrent.id))
    throw Error(Status::failed, printable(wanted.path) + ": the same URL is on its way to this node already");
  claim_ = room_.claim(torrent.id);
  facts_ = facts;
  wanted.size = facts.size;
  wanted.mtime = facts.mtime;
  wanted.mode = 0644;
  job_->info.total = facts.size;
  const auto part = co_await downloads_.open_part(job_, torrent.id, hashed.layout);
  const auto open_storage = [&hashed, part]() -> StoragePtr {
    return Storage::provisional(hashed.layout, std::move(part->file), part->have, part->roots);
  };
  const StoragePtr storage = co_await run_on(workers_.brief(), open_storage);
  storage->will_be_synced();
  auto gate = std::make_unique<UrlGate>(hashed.layout.count());
  gate_ = gate.get();
  swarm_ = co_await session_.load(torrent, key, storage, true, std::move(gate));
  swarm_->provisional = swarm_->in_order = true;
  swarm_->path = wanted.path;
  job_->swarm = swarm_;
  rated_ = job_->info.total - missing();
  known_ = 0;
  told_.clear();
  co_await downloads_.wait_for_room(job_, missing());
  job_->info.state = "downloading";
  co_await join_swarm(session_, links_, swarm_);
  for (auto& piece : std::exchange(waiting_, {})) give(std::move(piece));
  next_turn_ = {};
}

Task<void> UrlDownload::close(bool keep) {
  if (!swarm_) co_return;
  const auto id = swarm_->torrent.id;
  gate_ = nullptr;
  if (keep && !placed_) co_await downloads_.checkpoint(swarm_, job_->wanted.path);
  if (!placed_) {
    session_.unload(id);
    const auto retire = [storage = swarm_->storage] { storage->retire(); };
    co_await run_on(workers_.brief(), retire);
  }
  if (!keep && !placed_) downloads_.drop_partial(id);
  swarm_.reset();
  claim_.reset();
}

void UrlDownload::count() {
  counted_ = Clock::now();
  session_.refresh(*swarm_);
  session_.update_gate(*swarm_);
  auto& info = job_->info;
  info.done = info.total - missing();
  job_->reservation.set(missing());
  info.up_rate = swarm_->up_rate;
  info.sent = swarm_->sent;
  info.peers = swarm_->peers;
  info.from_origin = fetch_->received();
  if (const std::chrono::duration<double> time = counted_ - rated_at_; time > seconds(1)) {
    info.down_rate =
        static_cast<std::int64_t>(static_cast<double>(std::max<std::int64_t>(0, info.done - rated_)) / time.count());
    rated_ = info.done;
    rated_at_ = counted_;
  }
  info.eta = info.down_rate > 0 ? (info.total - info.done) / info.down_rate : -1;
  const auto got = swarm_->got + info.from_origin;
  if (got != had_) {
    had_ = got;
    progressed_ = Clock::now();
    if (!unable_) info.detail.clear();
  }
}

Task<void> UrlDownload::finish() {
  count();
  auto& info = job_->info;
  info.done = info.total;
  for (const auto& [peer, bytes] : swarm_->received) info.from_getters += bytes;
  const auto storage = swarm_->storage;
  const auto id = *storage->content_id();
  const auto part = library_.part_file(swarm_->torrent.id);
  gate_ = nullptr;
  const auto keep_torrent = [this, storage, id] {
    HashedFile file{id, storage->layout()};
    file.layout.roots = storage->roots();
    store_roots(library_.db(), file);
    if (!facts_.validator.empty()) library_.db().put_note("origin " + id.hex(), facts_.validator);
  };
  co_await run_on(workers_.brief(), keep_torrent);
  co_await downloads_.put_in_place(job_, swarm_, part, id);
  placed_ = true;
  co_await say_whole();
}

/// A file that needed no swarm.
Task<void> UrlDownload::finish_whole(UrlFetch::Whole whole) {
  auto& wanted = job_->wanted;
  wanted.size = whole.size;
  wanted.mtime = whole.mtime;
  wanted.mode = 0644;
  job_->info.total = job_->info.done = whole.size;
  const auto hash = [this, &whole] {
    const Fd fd(::open(whole_part_.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) throw Error(Status::failed, whole_part_.string() + ": " + std::generic_category().message(errno));
    auto hashed = hash_file(fd.get(), whole.size, 2, workers_.stopping());
    store_roots(library_.db(), hashed);
    if (!whole.validator.empty()) library_.db().put_note("origin " + hashed.id.hex(), whole.validator);
    return hashed.id;
  };
  const ContentId id = co_await run_on(workers_.reading(), hash);
  co_await downloads_.put_in_place(job_, nullptr, whole_part_, id);
  placed_ = true;
  co_await say_whole();
}

/// The others look for it in the catalog from now on; the inventory delta came before this on the same channel.
Task<void> UrlDownload::say_whole() {
  std::vector<bool> telling;
  const auto said = statement(telling);
  try {
    const auto tracker = co_await links_.first(milliseconds(100));
    static_cast<void>(co_await tracker->request(said, seconds(5)));
  } catch (const std::exception&) {
    // The others fetch what they miss from this node's swarm, or find the file when they ask again.
  }
}

}  // namespace mesh
