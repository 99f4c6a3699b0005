// What a node shows of itself and of the mesh at a glance, for the page in a browser.
#include <algorithm>
#include <chrono>

#include "get/getter.h"
#include "library/library.h"
#include "mesh/gossip.h"
#include "mesh/path_index.h"
#include "mesh/tracker_links.h"
#include "node/node.h"
#include "swarm/session.h"
#include "transfer/transfer.h"
#include "transfer/transfers.h"
#include "wire/endpoint.h"

namespace mesh {
namespace {

constexpr auto glance_limit = std::chrono::seconds(10);

template <class Unit>
std::int64_t since_epoch() {
  return std::chrono::duration_cast<Unit>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// `verified`: a byte a piece.
std::string tenths_of(const std::string& verified) {
  std::string out;
  const auto parts = std::min(verified.size(), Glance::parts);
  for (std::size_t i = 0; i < parts; ++i) {
    const auto first = verified.size() * i / parts;
    const auto last = verified.size() * (i + 1) / parts;
    const auto begin = verified.begin() + static_cast<std::ptrdiff_t>(first);
    const auto here = std::count(begin, begin + static_cast<std::ptrdiff_t>(last - first), '\1');
    const auto tenths = here * 10 / static_cast<std::ptrdiff_t>(last - first);
    out += tenths == 10 ? 'a' : static_cast<char>('0' + tenths);
  }
  return out;
}

GetGlance glance_of(const GetInfo& get) {
  GetGlance out;
  out.number = get.number;
  out.whats = {get.whats.begin(),
               get.whats.begin() + std::min(std::ssize(get.whats), std::ptrdiff_t{Glance::most_whats})};
  out.more_whats = static_cast<int>(get.whats.size() - out.whats.size());
  out.state = get.state;
  out.detail = get.errors.empty() ? get.detail : get.errors.front();
  out.files_done = get.files_done;
  out.files_total = get.files_total;
  out.done = get.done;
  out.total = get.total;
  out.rate = get.rate;
  return out;
}

}  // namespace

std::vector<Giver> Node::givers_of(const SwarmTorrent& torrent) const {
  std::vector<std::pair<std::int64_t, lt::tcp::endpoint>> most;
  for (const auto& [peer, bytes] : torrent.received)
    if (bytes > 0) most.emplace_back(bytes, peer);
  std::ranges::sort(most, std::greater<>());
  most.resize(std::min(most.size(), Glance::most_givers));
  std::vector<Giver> out;
  for (const auto& [bytes, peer] : most) {
    const auto address = unmapped(peer.address());
    auto name = gossip_->members().name_at(address.to_string(), peer.port());
    if (name.empty()) name = to_text(asio::ip::tcp::endpoint(address, peer.port()));
    out.push_back({std::move(name), bytes});
  }
  return out;
}

Glance Node::glance(bool with_hour) const {
  const auto now = status();
  Glance out;
  out.node = now.node;
  out.version = now.version;
  out.clock = since_epoch<std::chrono::milliseconds>();
  out.has_no_view = !now.tracker_connected && now.members == 0 && !links_->is_alone();
  out.entries = now.files;
  out.members = now.members;
  out.space = now.space;
  out.free = now.free;
  out.cached = now.cached;
  std::map<std::string, SwarmTorrentPtr> loaded;
  for (const auto& torrent : session_->all())
    if (torrent->downloading) loaded[torrent->path] = torrent;
  for (const auto& one : now.transfers) {
    out.up_rate += one.up_rate;
    if (is_seeding(one.state)) continue;
    out.rate += one.down_rate;
    Moving moving;
    moving.path = one.path;
    moving.state = one.state;
    moving.done = one.done;
    moving.total = one.total;
    moving.rate = one.down_rate;
    moving.up_rate = one.up_rate;
    moving.eta = one.eta;
    moving.peers = one.peers;
    moving.detail = one.detail;
    if (const auto it = loaded.find(one.path); it != loaded.end()) {
      moving.have = tenths_of(it->second->storage->verified());
      moving.givers = givers_of(*it->second);
    }
    if (one.from_origin > 0) moving.givers.push_back({"its origin", one.from_origin});
    out.moving.push_back(std::move(moving));
  }
  // Those that move before those that wait.
  std::ranges::stable_sort(out.moving, std::greater<>(), [](const Moving& one) { return one.rate; });
  std::vector<GetInfo> gets = now.gets;
  std::ranges::stable_sort(gets, std::greater<>(), [](const GetInfo& one) { return one.state == GetState::failed; });
  for (const auto& get : gets) out.gets.push_back(glance_of(get));
  if (with_hour) out.hour = throughput_.hour();
  bound(out);
  return out;
}

void Node::count_throughput() {
  std::map<std::string, Throughput::Bytes> under_way;
  for (const auto& info : transfers_->infos())
    if (!is_seeding(info.state)) under_way[info.path].from_origin = info.from_origin;
  for (const auto& torrent : session_->all()) {
    if (!torrent->downloading || !under_way.contains(torrent->path)) continue;
    const auto received = received_of(*torrent);
    under_way[torrent->path].from_sources = received.from_sources;
    under_way[torrent->path].from_getters = received.from_getters;
  }
  throughput_.look(under_way, getter_->small_files().arrived_bytes(),
                   std::chrono::seconds(since_epoch<std::chrono::seconds>()));
}

std::string Node::view_of(const ChannelPtr& tracker, std::size_t nodes, std::size_t silent) const {
  if (!index_ || !index_->is_view(tracker)) return {};
  const auto others = nodes - std::min<std::size_t>(nodes, 1);
  const auto answers = std::to_string(others - silent) + " of the " + std::to_string(others) +
                       (others == 1 ? " other" : " others") + " that it knows";
  if (!links_->names().empty()) return "no tracker answers: this is the word of this node and of " + answers;
  return silent > 0 ? "incomplete: this is the word of this node and of " + answers : std::string();
}

Task<Glances> Node::glance_at_mesh(GlanceAsk asked) {
  ChannelPtr tracker;
  Glances out = co_await links_->ask(asked, glance_limit, glance_limit, &tracker);
  const auto silent =
      std::ranges::count_if(out.nodes, [](const Glance& node) { return !node.error.empty() && !node.is_old; });
  out.view = view_of(tracker, out.nodes.size(), static_cast<std::size_t>(silent));
  co_return out;
}

}  // namespace mesh
