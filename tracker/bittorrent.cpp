#include "bittorrent.h"

#include <algorithm>

#include "core/address.h"
#include "core/format.h"
#include "core/mesh_path.h"
#include "no_such.h"
#include "peer_handout.h"
#include "wire/endpoint.h"

namespace mesh {
namespace {

using std::chrono::seconds;

constexpr auto recruit_every = seconds(10);
constexpr std::size_t most_counted = 10'000;
constexpr const char* too_many = "too many announces from this address (the tracker's --max-announces)";
constexpr const char* not_here = "this torrent is not in the mesh";

}  // namespace

bool BitTorrent::may_ask(const asio::ip::address& remote) {
  return remote.is_loopback() || announces_.take(counted_as(remote), Clock::now());
}

std::optional<std::string> BitTorrent::announce_now(std::string_view query, const asio::ip::address& remote) {
  std::string fault;
  const auto asked = parse_announce(query, fault);
  if (asked && !swarms_.contains(asked->infohash)) {
    const auto it = unknown_.find(asked->infohash);
    if (it == unknown_.end() || it->second <= Clock::now()) return std::nullopt;
    fault = not_here;
  }
  if (!may_ask(remote)) fault = too_many;
  return fault.empty() ? answer(*asked, remote) : failure_reply(fault);
}

Task<std::string> BitTorrent::announce(std::string query, asio::ip::address remote) {
  if (auto reply = announce_now(query, remote)) co_return std::move(*reply);
  std::string fault;
  const auto asked = parse_announce(query, fault);  // else it was answered
  if (!may_ask(remote)) co_return failure_reply(too_many);
  // The first peer of another client finds a seed at once, or hears that nobody has it.
  if (!co_await swarms_.find_torrent(asked->infohash)) {
    if (unknown_.size() > 10'000) unknown_.clear();
    unknown_[asked->infohash] = Clock::now() + seconds(10);
  }
  co_return swarms_.contains(asked->infohash) ? answer(*asked, remote) : failure_reply(not_here);
}

SwarmCounts BitTorrent::counts(const InfoHash& infohash) {
  const auto now = Clock::now();
  SwarmCounts out = announced_.counts(infohash, now);
  const auto* swarm = swarms_.find(infohash);
  if (swarm == nullptr) return out;
  if (counted_.size() > most_counted) counted_.clear();
  auto& known = counted_[infohash];
  if (now - known.at > seconds(1)) {
    known = {{}, now};
    for (const auto key : swarm->second.ready)
      ++(swarms_.has_all(swarm->first, swarm->second, key) ? known.counts.complete : known.counts.incomplete);
  }
  out.complete += known.counts.complete;
  out.incomplete += known.counts.incomplete;
  return out;
}

std::string BitTorrent::answer(const AnnounceQuery& query, const asio::ip::address& remote) {
  using Said = AnnounceQuery::Event;
  const auto now = Clock::now();
  const asio::ip::tcp::endpoint self(remote, query.port);
  const bool comes = query.event != Said::stopped && query.left != 0;
  if (query.event == Said::stopped) {
    announced_.remove(query.infohash, self);
  } else {
    const auto put = announced_.put(query.infohash, {self, query.peer_id}, query.left == 0, now);
    if (put == AnnouncedPeers::Put::no_room) return failure_reply("the tracker is full; try again later");
    if (query.event == Said::completed) announced_.count_download(query.infohash);
  }
  const auto wanted = static_cast<std::size_t>(query.wanted);
  std::vector<AnnouncedPeer> peers;
  if (const auto* swarm = swarms_.find(query.infohash); swarm != nullptr) {
    std::vector<HandoutMember> members;
    if (comes && now - swarm->second.recruited >= recruit_every) swarms_.recruit_seeders(swarm->first);
    for (const auto key : swarm->second.ready)
      members.push_back({key, swarms_.has_all(swarm->first, swarm->second, key)});
    for (const auto key : hand_out(members, {}, random_)) {
      const auto* node = members_.find(key);
      if (node == nullptr) continue;
      // Transmission tries uTP alone for minutes; a connection from this side is TCP.
      if (comes) swarms_.meet_soon(key, swarm->first, to_text(self));
      for (const auto& address : members_.addresses(*node, remote)) {
        const auto parsed = parse_address(address);
        if (parsed && peers.size() < wanted) peers.push_back({{*parsed, node->hello.peer_port}, {}});
      }
    }
  }
  announced_.choose(query.infohash, self, wanted, now, random_, peers);
  return announce_reply(query, peers, counts(query.infohash), announce_interval);
}

std::string BitTorrent::scrape(std::string_view query, const asio::ip::address& remote) {
  if (!may_ask(remote)) return failure_reply(too_many);
  std::string fault;
  const auto hashes = parse_scrape(query, fault);
  if (!hashes) return failure_reply(fault);
  std::vector<std::pair<InfoHash, SwarmCounts>> out;
  for (const auto& hash : *hashes)
    if (swarms_.contains(hash) || announced_.contains(hash)) out.emplace_back(hash, counts(hash));
  return scrape_reply(out);
}

Task<TorrentFile> BitTorrent::make_torrent(ChannelPtr channel, std::string path) {
  Resolve ask;
  ask.pattern = path;
  const Resolved found = co_await lookup_.resolve(channel, ask);
  if (found.files.empty() || found.files[0].entry.path != path)
    throw Error(Status::not_found, no_such(path, members_.count()));
  const auto& file = found.files[0];
  if (!file.problem.empty()) throw Error(Status::failed, printable(path) + ": " + file.problem);
  if (file.entry.kind != Kind::file)
    throw Error(Status::usage, printable(path) + ": a torrent is made of a file, and this is none");
  if (file.entry.size == 0)
    throw Error(Status::usage, printable(path) + ": is empty, and a torrent has at least one byte");
  std::string trouble = "no node holds it any more";
  for (const auto key : file.holders) {
    if (!members_.contains(key)) continue;
    try {
      HashFiles make;
      make.files.push_back(file.entry);
      make.standard = true;
      const Made made = co_await members_.request(key, make, make_limit);
      if (made.files.size() != 1 || made.errors.size() != 1) continue;
      if (!made.errors[0].empty()) throw Error(Status::failed, made.errors[0]);
      TorrentFile out;
      const std::string unknown;
      out.torrent = co_await swarms_.load_standard(key, made.files[0].id, made.files[0].size, unknown);
      out.file_name = std::string(last_part(path));
      co_return out;
    } catch (const Error& error) {
      trouble = "on " + members_.node_name(key) + ": " + error.what();
    }
  }
  throw Error(Status::failed, printable(path) + ": " + trouble);
}

}  // namespace mesh
