// What a node says of itself to `meshfile status`.
#include <sys/statvfs.h>

#include "get/get_queue.h"
#include "library/library.h"
#include "mesh/gossip.h"
#include "mesh/tracker_links.h"
#include "node/node.h"
#include "serve/guests.h"
#include "swarm/session.h"
#include "transfer/read_cache.h"
#include "transfer/spools.h"
#include "transfer/transfers.h"
#include "version.h"

namespace mesh {

NodeStatus Node::status() const {
  NodeStatus out;
  out.node = options_.name;
  out.tracker_connected = links_->any();
  out.has_no_tracker = links_->names().empty();
  out.files = static_cast<int>(library_->inventory().size());
  out.members = static_cast<int>(gossip_->members().size());
  out.gets = gets_->list();
  out.cached = read_cache_->bytes();
  out.version = MESH_VERSION;
  if (struct statvfs disk{}; ::statvfs(options_.files.c_str(), &disk) == 0) {
    out.space = static_cast<std::int64_t>(disk.f_blocks * disk.f_frsize);
    out.free = static_cast<std::int64_t>(disk.f_bavail * disk.f_frsize);
  }
  out.transfers = transfers_->infos();
  for (auto& info : spools_->infos()) out.transfers.push_back(std::move(info));
  auto loaded = session_->all();
  const auto guests = guests_->torrents();
  loaded.insert(loaded.end(), guests.begin(), guests.end());
  for (const auto& torrent : loaded) {
    ++out.torrents_loaded;
    if (torrent->downloading || !torrent->checked) continue;
    TransferInfo info;
    const auto* item = library_->inventory().find(torrent->torrent.id, torrent->storage->layout().size);
    torrent->role == Role::guest ? guests_->refresh(*torrent) : session_->refresh(*torrent);
    info.path = item != nullptr ? item->entry.path : !torrent->path.empty() ? torrent->path : torrent->torrent.id.hex();
    info.state = torrent->role == Role::guest ? TransferState::guest
                 : torrent->is_standard()     ? TransferState::foreign
                                              : TransferState::seeding;
    if (torrent->role != Role::guest) info.infohash = torrent->torrent.infohash.hex();  // a guest's is its secret
    info.done = info.total = torrent->storage->layout().size;
    info.up_rate = torrent->up_rate;
    info.sent = torrent->sent;
    info.peers = torrent->peers;
    // Of a file that came from a URL, those that got it at the same time have the swarm of then.
    const auto same = std::ranges::find_if(out.transfers, [&](const TransferInfo& other) {
      return info.state == TransferState::seeding && other.state == info.state && other.path == info.path;
    });
    if (same == out.transfers.end()) {
      out.transfers.push_back(std::move(info));
      continue;
    }
    same->up_rate += info.up_rate;
    same->sent += info.sent;
    same->peers += info.peers;
  }
  return out;
}

}  // namespace mesh
