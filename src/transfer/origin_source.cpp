#include "transfer/origin_source.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "core/format.h"
#include "core/piece_plan.h"
#include "library/maker.h"
#include "wire/flow.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr auto resolve_again_after = seconds(15);
constexpr auto turn_limit = seconds(10);
constexpr auto ask_again_after = milliseconds(500);  // where no tracker answered
constexpr auto rate_over = seconds(1);
constexpr auto alone_after = seconds(10);  // without a tracker; at once where none is known
constexpr int most_changes = 6;
constexpr auto hopeless_after = seconds(180);  // without a byte
constexpr auto first_tracker_limit = milliseconds(100);

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

OriginSource::OriginSource(Workers& workers, TrackerLinks& links, Room& room, Parts& parts, MeshKeysPtr keys, Log log,
                           const Pacer& from_origins, DownloadPtr download)
    : workers_(workers),
      links_(links),
      room_(room),
      parts_(parts),
      keys_(std::move(keys)),
      log_(std::move(log)),
      download_(std::move(download)) {
  const auto& source = *download_->order().url;
  key_ = sha256(source.url.identity);
  whole_part_ = parts_.path_of_url(key_);
  auto from = origin_options(source);
  from.limits = {from_origins.limit(), source.limit};
  const auto notify = [&io = workers_.loop(), weak = std::weak_ptr<Download>(download_)] {
    post_to(io, [weak] {
      if (const auto waiting = weak.lock()) waiting->wake();
    });
  };
  fetch_ = std::make_shared<UrlFetch>(workers_.origins(), std::move(from), whole_part_, notify,
                                      [&room] { return room.free_bytes(); });
}

OriginSource::~OriginSource() { fetch_->stop(); }

/// Two versions that the origin does not tell apart: nothing of either is of use.
Error OriginSource::changed() {
  download_->discard();
  return {Status::failed, printable(download_->wanted().path) + ": the origin's file changed while it was fetched"};
}

Task<bool> OriginSource::tend() {
  co_await take_news();
  if (placed_) co_return true;
  if (fetching_ && fetch_->is_idle()) {  // it could fetch more
    fetching_ = false;
    next_turn_ = {};
  }
  if (Clock::now() >= next_turn_) co_await take_turn();
  watch_progress();
  if (!download_->is_patient() && Clock::now() - progressed_ > hopeless_after)
    throw Error(Status::failed, printable(download_->wanted().path) + ": nothing has come for " +
                                    human_seconds(seconds(hopeless_after).count()) +
                                    ", neither from the origin nor from another node");
  co_return false;
}

Task<void> OriginSource::stop() {
  fetch_->stop();
  while (!fetch_->is_idle()) co_await sleep_for(milliseconds(5));
  ::unlink(whole_part_.c_str());
}

Task<void> OriginSource::leave() {
  try {
    OriginReport bye;
    bye.url = key_;
    bye.leave = true;
    const auto tracker = co_await links_.first(first_tracker_limit);
    static_cast<void>(co_await tracker->request(bye, seconds(2)));
  } catch (const std::exception&) {
    // It will notice.
  }
}

/// What the origin has sent since the last look.
Task<void> OriginSource::take_news() {
  auto news = fetch_->take();
  download_->show_from_origin(fetch_->received());
  if (news.error) {
    if (news.error->status() == Status::interrupted) download_->check_wanted();
    unable_ = news.error;
    log_(warning(printable(download_->wanted().path) + ": " + news.error->what())
             .of("origin-failed", download_->wanted().path));
    next_turn_ = {};
  }
  if (news.facts) {
    heard_ = *news.facts;
    next_turn_ = {};
  }
  for (auto& piece : news.pieces) {
    progressed_ = Clock::now();
    if (torrent_)
      add_piece(std::move(piece));
    else
      waiting_.push_back(std::move(piece));
  }
  if (news.whole) co_await place_whole(*news.whole);
}

void OriginSource::add_piece(UrlFetch::Piece piece) {
  auto& storage = *torrent_->storage;
  if (piece.facts != facts_) return;
  if (piece.index >= storage.layout().count() ||
      static_cast<std::int64_t>(piece.data.size()) != storage.layout().length_of(piece.index))
    return;
  if (const auto had = storage.root(piece.index)) {
    if (*had != piece.root) throw changed();
    return;
  }
  storage.expect(piece.index, piece.root);
  torrent_->handle.add_piece(lt::piece_index_t(piece.index), std::move(piece.data));
}

/// What the tracker may not know yet; `telling` becomes what it knows then.
OriginReport OriginSource::statement(std::vector<bool>& telling) const {
  OriginReport said;
  said.url = key_;
  said.path = download_->wanted().path;
  said.epoch = epoch_;
  said.facts = heard_.size >= 0 ? heard_ : facts_;
  said.known = known_;
  said.idle = fetch_->is_idle() && !unable_;
  if (unable_) {
    said.error = unable_->what();
    said.status = unable_->status();
  }
  telling = told_;
  // What is here is of no use to who is told that the origin has something else.
  if (torrent_ && (heard_.size < 0 || heard_ == facts_)) {
    said.have = torrent_->storage->verified();
    telling.resize(said.have.size());
    for (std::size_t i = 0; i < said.have.size(); ++i) {
      if (said.have[i] == 0 || telling[i]) continue;
      const auto root = torrent_->storage->root(static_cast<int>(i));
      if (root) said.pieces.push_back({static_cast<int>(i), *root, 0});
      telling[i] = true;
    }
  }
  said.whole = placed_;
  return said;
}

Task<void> OriginSource::take_turn() {
  std::vector<bool> telling;
  const auto said = statement(telling);
  std::optional<OriginAssignment> assignment;
  std::optional<Error> trouble;
  try {
    const auto tracker = co_await links_.first(first_tracker_limit);
    assignment = co_await tracker->request(said, turn_limit);
  } catch (const Error& error) {
    trouble = error;
  }
  const auto now = Clock::now();
  if (trouble) {
    if (trouble->status() != Status::unreachable) throw Error(*trouble);
    if (!no_tracker_since_) no_tracker_since_ = now;
    next_turn_ = now + ask_again_after;
    alone_ = alone_ || links_.is_alone() || now - *no_tracker_since_ > alone_after;
    if (alone_)
      co_await go_alone();
    else
      download_->show_detail(std::string("no tracker: ") + trouble->what());
    co_return;
  }
  no_tracker_since_.reset();
  if (std::exchange(alone_, false) && torrent_) co_await offer_whole();
  next_turn_ = now + milliseconds(std::clamp(assignment->pause, 50, 5000));
  if (assignment->epoch == epoch_) told_ = std::move(telling);
  co_await follow(std::move(*assignment));
}

void OriginSource::ask_first() {
  download_->show_detail("asking " + printable(download_->order().url->url.shown));
  fetch_->ask_first();
  fetching_ = true;
}

/// Nobody is there to share the work with: this node fetches what it misses.
Task<void> OriginSource::go_alone() {
  const auto name = printable(download_->wanted().path);
  if (unable_) throw Error(unable_->status(), name + ": " + unable_->what());
  if (heard_.size > 0 && heard_ != facts_) {
    const bool is_fickle = facts_.size > 0 && ++changes_ > most_changes;
    if (is_fickle && heard_.size != facts_.size)
      throw Error(Status::failed, name + ": the origin has something else each time that it is asked");
    auto facts = heard_;
    if (is_fickle || servers_take_turns(earlier_, facts_, facts)) facts = without_validator(std::move(facts));
    earlier_.push_back(facts_);
    if (const auto fault = url_facts_fault(facts); !fault.empty())
      throw Error(Status::failed, name + ": the origin says what makes no sense: " + fault);
    co_await open(facts);
  }
  heard_ = {};
  if (!fetch_->is_idle()) co_return;
  if (!torrent_) {
    ask_first();
    co_return;
  }
  const auto have = torrent_->storage->verified();
  const auto begin = have.find('\0');
  if (begin == std::string::npos) co_return;
  const auto next = facts_.ranges ? have.find('\1', begin) : std::string::npos;
  download_->show_detail({});
  fetch_->fetch(facts_, static_cast<int>(begin), static_cast<int>(next == std::string::npos ? have.size() : next));
  fetching_ = true;
}

Task<void> OriginSource::follow(OriginAssignment assignment) {
  const auto name = printable(download_->wanted().path);
  if (assignment.epoch != epoch_) {
    // A tracker that has heard nothing yet, or an origin that has changed its mind: all is said and asked anew.
    epoch_ = assignment.epoch;
    told_.clear();
    next_turn_ = {};
  }
  known_ = assignment.known;
  if (assignment.facts.size >= 0) heard_ = {};
  if (assignment.over && !torrent_) {
    // A small one, or this node came late: it is a file of the mesh like others now.
    download_->lose_version();
    throw Error(Status::failed, name + ": is in the mesh by now");
  }
  if (assignment.facts.size > 0 && assignment.facts != facts_) {
    if (!url_facts_fault(assignment.facts).empty())
      throw Error(Status::failed, name + ": the tracker says what makes no sense");
    co_await open(assignment.facts);
  }
  if (torrent_) set_known(assignment.pieces);
  if (!assignment.error.empty()) {
    const auto status = assignment.status;
    const bool known = status == Status::not_found || status == Status::unreachable || status == Status::refused;
    throw Error(known ? status : Status::failed, name + ": " + assignment.error);
  }
  if (assignment.over && torrent_ && Clock::now() - progressed_ > resolve_again_after) {
    // Those who have it may have left this swarm: it is to be had under its path.
    download_->lose_version();
    throw Error(Status::failed, name + ": is in the mesh by now");
  }
  if (assignment.first && fetch_->is_idle()) {
    ask_first();
  } else if (assignment.begin < assignment.end && fetch_->is_idle() && facts_.size > 0 &&
             assignment.end <= piece_count_for(facts_.size) && assignment.begin >= 0) {
    download_->show_detail({});
    fetch_->fetch(facts_, assignment.begin, assignment.end);
    fetching_ = true;
  } else if (!torrent_ && fetch_->is_idle() && !unable_) {
    download_->show_detail("another node asks the origin");
  }
}

/// Pieces that other nodes have, or this one: they can be asked for, and are right by these roots.
void OriginSource::set_known(const std::vector<UrlPiece>& pieces) {
  for (const auto& piece : pieces) {
    if (piece.index < 0 || piece.index >= torrent_->storage->layout().count()) continue;
    const auto had = torrent_->storage->root(piece.index);
    if (had && *had != piece.root) throw changed();
    if (!had) torrent_->storage->expect(piece.index, piece.root);
    download_->scheduler().set_known(piece.index, piece.by);
  }
}

/// The origin has something else than was thought, or something at all.
Task<void> OriginSource::open(UrlFacts facts) {
  torrent_.reset();
  co_await download_->close(false);
  auto wanted = download_->wanted();
  VerifiedTorrent torrent;
  torrent.file = provisional_file(key_, facts);
  // Nodes that use different ones of the same keys meet all the same.
  if (keys_) torrent.key = &*std::ranges::min_element(keys_->all(), {}, &MeshKey::name);
  torrent.torrent = make_torrent(torrent.file, torrent.key);
  if (room_.is_claimed(torrent.torrent.id))
    throw Error(Status::failed, printable(wanted.path) + ": the same URL is on its way to this node already");
  facts_ = facts;
  wanted.size = facts.size;
  wanted.mtime = facts.mtime;
  wanted.mode = 0644;
  download_->learn(wanted);
  PieceScheduler::Options demand;
  demand.sharing = PieceScheduler::Sharing::first_hop;
  co_await download_->open(std::move(torrent), Role::provisional, demand);
  download_->torrent()->meeting = key_;
  rated_ = wanted.size - download_->missing();
  known_ = 0;
  told_.clear();
  if (download_->missing() > 0)
    co_await download_->join(alone_);
  else if (!alone_)
    co_await offer_whole();
  download_->show(TransferState::downloading);
  torrent_ = download_->torrent();
  forgive();  // that it took long was the disk's doing
  for (auto& piece : std::exchange(waiting_, {})) add_piece(std::move(piece));
  next_turn_ = {};
}

/// Others may want what is all here already. If not, there is nothing that this node waits for.
Task<void> OriginSource::offer_whole() {
  try {
    co_await download_->enter_swarm();
  } catch (const Error& error) {
    log_(warning(printable(download_->wanted().path) + ": " + error.what())
             .of("origin-failed", download_->wanted().path));
  }
}

void OriginSource::watch_progress() {
  const auto now = Clock::now();
  const auto done = download_->info().done;
  if (const std::chrono::duration<double> time = now - rated_at_; time > rate_over) {
    download_->show_rate(
        static_cast<std::int64_t>(static_cast<double>(std::max<std::int64_t>(0, done - rated_)) / time.count()));
    rated_ = done;
    rated_at_ = now;
  }
  const auto got = (torrent_ ? torrent_->got : 0) + fetch_->received();
  if (got == had_) return;
  had_ = got;
  progressed_ = now;
  if (torrent_ && !unable_) download_->show_detail({});
}

Task<void> OriginSource::finish() {
  download_->show_from_origin(fetch_->received());
  const auto storage = torrent_->storage;
  HashedFile file{*storage->content_id(), storage->layout()};
  file.layout.roots = storage->roots();
  co_await parts_.remember_roots(file);
  co_await place(file.id, parts_.path_of(torrent_->torrent.id), facts_.validator);
}

/// A file that needed no swarm.
Task<void> OriginSource::place_whole(UrlFetch::Whole whole) {
  if (torrent_) {  // it was larger a moment ago
    torrent_.reset();
    co_await download_->close(false);
  }
  auto wanted = download_->wanted();
  wanted.size = whole.size;
  wanted.mtime = whole.mtime;
  wanted.mode = 0644;
  download_->learn(wanted);
  download_->show_done(whole.size);
  const ContentId id = co_await parts_.hash(whole_part_, whole.size);
  co_await place(id, whole_part_, whole.validator);
}

Task<void> OriginSource::place(ContentId id, std::filesystem::path part, std::string validator) {
  co_await parts_.remember_origin(id, validator);
  co_await download_->place(id, part);
  placed_ = true;
  // The others look for it in the catalog from now on; the inventory delta came before this on the same channel.
  std::vector<bool> telling;
  const auto said = statement(telling);
  try {
    const auto tracker = co_await links_.first(first_tracker_limit);
    static_cast<void>(co_await tracker->request(said, seconds(5)));
  } catch (const std::exception&) {
    // The others fetch what they miss from this node's swarm, or find the file when they ask again.
  }
}

}  // namespace mesh
