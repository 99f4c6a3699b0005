#include "serve/guests.h"

#include <algorithm>

#include "core/mesh_path.h"
#include "library/maker.h"
#include "wire/announce.h"
#include "wire/endpoint.h"

namespace mesh {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t most_guests = 100;
constexpr int announce_interval = 120;
constexpr int most_peers = 100;
constexpr UnauthenticatedConnections::Limits limits{100, 20};

}  // namespace

Task<TorrentFile> Guests::issue(std::string path, std::chrono::seconds time, std::vector<std::string> addresses,
                                std::uint16_t channel_port) {
  tend();
  if (guests_.size() >= most_guests)
    throw Error(Status::refused, printable(path) + ": this node has " + std::to_string(most_guests) +
                                     " guest torrents already; they end with their time, and with the node");
  const auto* item = library_.inventory().find(path);
  if (item == nullptr || item->entry.kind != Kind::file)
    throw Error(Status::not_found,
                printable(path) + ": is no file of this node, which would have to serve it; meshget brings it here");
  const FileEntry entry = item->entry;
  if (entry.size == 0) throw Error(Status::usage, printable(path) + ": is empty, and a torrent has at least one byte");
  const FileEntry made = co_await seeder_.make(entry, true);
  const StandardTorrent standard = co_await seeder_.standard(made.id, made.size);
  const Seeder::Held held = co_await seeder_.open_for_seeding(made.id, made.size, standard.pieces);
  const SwarmSpec torrent = make_guest_torrent(standard.info, std::string(last_part(path)));
  if (!swarm_) {
    Session::Options options;
    options.listen = options_.listen;
    for (auto& endpoint : options.listen) endpoint.port(0);
    options.max_up = options_.max_up;
    options.max_peers = most_peers;
    options.access = options_.access;
    // Who has the torrent has no key; where all is for one user, so are guests.
    options.access.open = options.access.open || options.access.keys;
    options.access.keys.reset();
    options.unauthenticated = limits;
    swarm_ = std::make_unique<Session>(workers_.loop(), options, log_);
  }
  // Known before it is loaded, so that the session stays for it.
  guests_[torrent.infohash] = {torrent.id, path, Clock::now() + time, false};
  const std::shared_ptr<void> given_up(nullptr, [this, infohash = torrent.infohash](void*) {
    if (const auto it = guests_.find(infohash); it != guests_.end() && !it->second.loaded) guests_.erase(it);
  });
  const auto loaded = co_await swarm_->load_standard(torrent, held.storage, made.id, true);
  loaded->path = path;
  guests_[torrent.infohash].loaded = true;
  // Its infohash is what it takes to have the file.
  log_("guest torrent of " + printable(path) + " for " + std::to_string(time.count()) + " s: peers on port " +
       std::to_string(swarm_->port()));
  TorrentFile out;
  out.torrent.id = made.id;
  out.torrent.infohash = torrent.infohash;
  out.torrent.info = torrent.info;
  out.file_name = std::string(last_part(path));
  out.guest = true;
  for (const auto& address : addresses) out.trackers.push_back(to_text(address, channel_port));
  co_return out;
}

bool Guests::is_for(std::string_view target) const {
  const auto mark = std::min(target.find('?'), target.size());
  std::string fault;
  const auto query = parse_announce(target.substr(std::min(mark + 1, target.size())), fault);
  return query && guests_.contains(query->infohash);
}

Task<HttpReply> Guests::serve_http(std::string target, asio::ip::address local) {
  HttpReply reply{404, "not found\n"};
  const auto mark = std::min(target.find('?'), target.size());
  if (std::string_view(target).substr(0, mark) != "/announce") co_return reply;
  reply = {};
  std::string fault;
  const auto query = parse_announce(std::string_view(target).substr(std::min(mark + 1, target.size())), fault);
  tend();
  const auto it = query ? guests_.find(query->infohash) : guests_.end();
  if (it == guests_.end() || !swarm_ || !swarm_->find(it->second.id)) {
    reply.body = failure_reply(query ? "no such torrent" : fault);
    co_return reply;
  }
  AnnouncedPeer self;
  self.endpoint = {local, swarm_->port()};
  SwarmCounts counts;
  counts.complete = 1;
  const bool wants = query->event != AnnounceQuery::Event::stopped && query->left != 0;
  reply.body = announce_reply(*query, {&self, wants ? std::size_t{1} : std::size_t{0}}, counts, announce_interval);
  co_return reply;
}

void Guests::tend() {
  const auto now = Clock::now();
  for (auto it = guests_.begin(); it != guests_.end();) {
    const auto torrent = swarm_ ? swarm_->find(it->second.id) : nullptr;
    const bool changed = torrent && torrent->storage->is_faulted();
    if (!it->second.loaded || (it->second.until > now && !changed)) {
      ++it;
      continue;
    }
    log_("guest torrent of " + printable(it->second.path) + " has ended" + (changed ? ": the file has changed" : ""));
    const ContentId id = it->second.id;
    it = guests_.erase(it);
    swarm_->unload(id);
  }
  if (guests_.empty()) swarm_.reset();
  if (swarm_) swarm_->hang_up_on_unauthenticated();
}

}  // namespace mesh
