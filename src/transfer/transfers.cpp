#include "transfer/transfers.h"

#include <algorithm>
#include <utility>

#include "core/format.h"
#include "transfer/local_source.h"
#include "transfer/origin_source.h"
#include "transfer/swarm_source.h"
#include "wire/flow.h"

namespace mesh {
namespace {

constexpr auto look_every = std::chrono::milliseconds(100);
constexpr double usual_link_rate = 12.5e6;  // until a download has shown what there is: 100 Mbit/s
constexpr double least_link_rate = 2e6;     // one download may have been held back
constexpr std::int64_t enough_to_rate = std::int64_t{16} << 20;

/// Whether a download that is under way brings what is ordered.
bool is_same(const Download& download, const FileOrder& order) {
  const auto& other = download.order();
  if (!download.has_askers() || other.force != order.force || other.sha256 != order.sha256) return false;
  if (other.url.has_value() != order.url.has_value()) return false;
  if (order.url) return other.url->url.identity == order.url->url.identity && other.url->ordered == order.url->ordered;
  const auto& known = download.wanted();
  return known.id.is_set() && order.wanted.id.is_set()
             ? known.id == order.wanted.id
             : known.size == order.wanted.size && known.mtime == order.wanted.mtime;
}

}  // namespace

Transfers::Transfers(Workers& workers, Options options, Log log, Library& library, Session& session,
                     TrackerLinks& links, NodeChannels& channels, Room& room, Pacer from_origins)
    : workers_(workers),
      options_(std::move(options)),
      log_(std::move(log)),
      library_(library),
      session_(session),
      links_(links),
      room_(room),
      from_origins_(std::move(from_origins)),
      parts_(workers, library, room, log_),
      delta_(workers, library, links, channels, log_, options_.self),
      link_rate_(usual_link_rate),
      slot_free_(workers.loop()) {}

DownloadPtr Transfers::make(FileOrder order) {
  return std::make_shared<Download>(workers_, session_, links_, room_, parts_, std::move(order));
}

Task<DownloadPtr> Transfers::get(AskerPtr asker, FileOrder order) {
  const auto path = order.wanted.path;
  // Another version of this path is on its way: this one comes after it.
  for (bool waited = false;;) {
    if (!asker->wants(path)) co_return nullptr;
    const auto it = downloads_.find(path);
    const bool is_free = it == downloads_.end();
    if (is_free && waited) {
      const auto ended = make(std::move(order));
      ended->end({Download::End::look_again, Status::failed, printable(path) + ": was got otherwise meanwhile"});
      co_return ended;
    }
    if (is_free || is_same(*it->second, order)) break;
    const auto other = it->second;
    while (!other->is_over() && asker->wants(path)) co_await other->wait();
    waited = true;
  }
  auto& known = downloads_[path];
  if (!known) known = make(std::move(order));
  const auto download = known;
  const bool fresh = !download->has_askers();
  download->add(asker);
  asker->downloads.push_back(download);
  if (fresh) spawn(workers_.loop(), run(download));
  while (!download->is_over() && asker->wants(path)) co_await download->wait();
  download->remove(asker);
  // The last one to lose interest waits for the partial to be safe.
  while (!download->has_askers() && !download->is_over()) co_await download->wait();
  std::erase(asker->downloads, download);
  co_return download;
}

void Transfers::stop() {
  for (const auto& [path, download] : downloads_) download->stop_soon();
}

void Transfers::wake() {
  for (const auto& [path, download] : downloads_) download->wake();
}

std::vector<std::string> Transfers::discard(const What& what) {
  std::vector<std::string> out;
  for (const auto& download : running(what)) {
    download->discard();
    out.push_back(download->wanted().path);
  }
  return out;
}

std::vector<DownloadPtr> Transfers::running(const What& what) const {
  std::vector<DownloadPtr> out;
  for (const auto& [path, download] : downloads_)
    if (names(what, path)) out.push_back(download);
  return out;
}

std::vector<TransferInfo> Transfers::infos() const {
  std::vector<TransferInfo> out;
  for (const auto& [path, download] : downloads_) out.push_back(download->info());
  return out;
}

Task<void> Transfers::wait_for_slot(DownloadPtr download) {
  queue_.push_back(download);
  while (queue_.front() != download || active_ >= options_.max_active) {
    download->show(TransferState::queued);
    if (download->is_unwanted()) {
      std::erase(queue_, download);
      slot_free_.notify();
      download->check_wanted();
    }
    co_await slot_free_.wait_for(look_every);
  }
  queue_.pop_front();
  ++active_;
  slot_free_.notify();  // the next one may have a slot as well
}

Task<void> Transfers::run(DownloadPtr download) {
  Download::Outcome outcome;
  bool in_slot = false;
  try {
    co_await wait_for_slot(download);
    in_slot = true;
    outcome.end = co_await bring(download);
  } catch (const Error& error) {
    outcome.status = error.status();
    outcome.error = error.what();
  } catch (const std::exception& error) {
    outcome.status = Status::failed;
    outcome.error = printable(download->wanted().path) + ": " + error.what();
  }
  if (outcome.status != Status::ok)
    outcome.end = outcome.status == Status::interrupted ? Download::End::interrupted
                  : download->has_lost_version()        ? Download::End::version_gone
                                                        : Download::End::failed;
  if (in_slot) --active_;
  slot_free_.notify();
  const auto path = download->wanted().path;
  if (const auto it = downloads_.find(path); it != downloads_.end() && it->second == download) downloads_.erase(it);
  download->end(std::move(outcome));
}

Task<Download::End> Transfers::bring(DownloadPtr download) {
  if (!download->order().url) co_return co_await from_swarm(download);
  co_await from_origin(download);
  co_return Download::End::placed;
}

DeltaSearch::Options Transfers::search_options() const {
  DeltaSearch::Options out;
  out.link_rate = link_rate_;
  out.patience = options_.search_patience;
  return out;
}

/// What is here already, before the swarm is asked for the rest.
Task<void> Transfers::reuse(Download& download, Storage& storage, const HashedFile& file) {
  FoundInStorage found(storage);
  DeltaSearch::Options options = search_options();
  options.stop = &download.stop();
  const auto before = storage.missing();
  options.check = [&] {
    download.check_wanted();
    download.show(TransferState::comparing, "with what is here");
    download.show_done(file.layout.size - storage.missing());
    download.show_reused(before - storage.missing());
    download.reserve_rest();
  };
  auto order = download.order();
  order.wanted = download.wanted();
  const auto found_bytes = co_await delta_.search(std::move(order), file, found, std::move(options));
  download.show_reused(found_bytes);
  download.reserve_rest();
}

void Transfers::note_link_rate(const Download& download) {
  const auto& info = download.info();
  if (info.from_sources + info.from_getters >= enough_to_rate && download.best_rate() > 0)
    link_rate_ = std::max(least_link_rate, static_cast<double>(download.best_rate()));
}

void Transfers::note_arrival(const Download& download) {
  const auto& info = download.info();
  ++totals_.files;
  totals_.from_mesh += info.from_sources + info.from_getters;
  totals_.from_origin += info.from_origin;
  totals_.reused += info.reused;
  if (on_arrived) on_arrived(info);
  log_(LogLine(printable(info.path) + ": here; " + human_bytes(download.wanted().size) +
               (info.reused > 0 ? ", of which " + human_bytes(info.reused) + " were here already" : "") +
               ", from sources " + human_bytes(info.from_sources) + ", from other getters " +
               human_bytes(info.from_getters) +
               (download.order().url ? ", from the origin " + human_bytes(info.from_origin) : ""))
           .of("here", info.path, download.wanted().size));
}

Task<Download::End> Transfers::from_swarm(DownloadPtr download) {
  const auto& order = download->order();
  const auto& before = order.before;
  download->show(order.wanted.id.is_set() ? TransferState::connecting : TransferState::hashing);
  std::optional<Error> trouble;
  std::optional<Torrent> told;
  try {
    const std::function<void()> check = [&download] { download->check_wanted(); };
    told = co_await prepare_swarm(workers_, links_, order.wanted, order.holders, check);
  } catch (const Error& error) {
    trouble = error;
  }
  if (trouble) {
    // What no holder can give any more may be there in another version.
    if (trouble->status() == Status::failed) download->lose_version();
    throw Error(*trouble);
  }
  auto torrent = verified(*told, order.wanted, options_.keys);
  const auto id = torrent.file.id;
  auto wanted = download->wanted();
  wanted.id = id;
  download->learn(wanted);
  // What is here could not be compared before the wanted version had been hashed.
  if (before.verdict == LocalState::Verdict::unknown) {
    if (before.id == id) {
      co_await parts_.check(order, download->stop());
      co_return Download::End::kept;
    }
    if (!before.replaceable && !order.force) co_return Download::End::in_the_way;
  }
  co_await download->claim(id);
  SwarmSource source(links_, options_.stall, *download);
  LocalSource local(library_, parts_, log_, *download);
  if (co_await local.tend()) co_return Download::End::placed;

  try {
    co_await parts_.remember_roots(torrent.file);
    const PieceScheduler::Options demand;
    download->set_reuse(
        [this](Download& into, Storage& storage, const HashedFile& file) { return reuse(into, storage, file); });
    co_await download->open(std::move(torrent), Role::download, demand);
    co_await download->join();
    download->show(TransferState::downloading);
    co_await download->fill(source);
    note_link_rate(*download);
    co_await download->place(id, parts_.path_of(id));
  } catch (const Error& error) {
    trouble = error;
  } catch (const std::exception& error) {
    trouble = Error(Status::failed, printable(wanted.path) + ": " + error.what());
  }
  if (trouble) {
    if (source.version_is_gone()) download->lose_version();
    co_await download->close(!download->is_discarded());
    throw Error(*trouble);
  }
  note_arrival(*download);
  co_return Download::End::placed;
}

Task<void> Transfers::from_origin(DownloadPtr download) {
  download->show(TransferState::connecting);
  OriginSource source(workers_, links_, room_, parts_, options_.keys, log_, from_origins_, download);
  std::optional<Error> trouble;
  try {
    co_await download->fill(source);
    if (download->torrent()) co_await source.finish();
  } catch (const Error& error) {
    trouble = error;
  } catch (const std::exception& error) {
    trouble = Error(Status::failed, printable(download->wanted().path) + ": " + error.what());
  }
  co_await source.stop();
  if (!trouble) {
    note_arrival(*download);
    co_return;
  }
  co_await download->close(!download->is_discarded());
  co_await source.leave();
  throw Error(*trouble);
}

}  // namespace mesh
