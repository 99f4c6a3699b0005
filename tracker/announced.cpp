#include "announced.h"

#include <functional>
#include <string_view>

namespace mesh {

std::size_t AnnouncedPeers::Hash::operator()(const Endpoint& endpoint) const noexcept {
  const auto address = endpoint.address();
  if (address.is_v4()) return (std::size_t{address.to_v4().to_uint()} << 16) + endpoint.port();
  const auto bytes = address.to_v6().to_bytes();
  return std::hash<std::string_view>()({reinterpret_cast<const char*>(bytes.data()), bytes.size()}) + endpoint.port();
}

AnnouncedPeers::Put AnnouncedPeers::put(const InfoHash& infohash, const AnnouncedPeer& peer, bool complete,
                                        TimePoint now) {
  if (const auto it = swarms_.find(infohash); it != swarms_.end()) {
    if (const auto at = it->second.places.find(peer.endpoint); at != it->second.places.end()) {
      auto& known = it->second.peers[at->second];
      it->second.complete += static_cast<int>(complete) - static_cast<int>(known.complete);
      known = {peer, complete, now + lifetime_};
      if (now - it->second.swept >= lifetime_ / 8) sweep(it->second, now);
      return Put::known;
    }
  }
  if (size_ >= most_) expire(now);
  if (size_ >= most_) return Put::no_room;
  auto& swarm = swarms_[infohash];
  if (swarm.peers.empty()) swarm.swept = now;
  swarm.places.emplace(peer.endpoint, swarm.peers.size());
  swarm.peers.push_back({peer, complete, now + lifetime_});
  swarm.complete += static_cast<int>(complete);
  ++size_;
  if (now - swarm.swept >= lifetime_ / 8) sweep(swarm, now);
  return Put::fresh;
}

void AnnouncedPeers::remove(const InfoHash& infohash, const Endpoint& peer) {
  const auto it = swarms_.find(infohash);
  if (it == swarms_.end()) return;
  if (const auto at = it->second.places.find(peer); at != it->second.places.end()) drop(it->second, at->second);
  if (it->second.peers.empty()) swarms_.erase(it);
}

void AnnouncedPeers::count_download(const InfoHash& infohash) {
  if (const auto it = swarms_.find(infohash); it != swarms_.end()) ++it->second.downloaded;
}

SwarmCounts AnnouncedPeers::counts(const InfoHash& infohash, TimePoint now) {
  const auto it = swarms_.find(infohash);
  if (it == swarms_.end()) return {};
  auto& swarm = it->second;
  if (now - swarm.swept >= lifetime_ / 8) sweep(swarm, now);
  if (swarm.peers.empty()) {
    swarms_.erase(it);
    return {};
  }
  return {swarm.complete, static_cast<int>(swarm.peers.size()) - swarm.complete, swarm.downloaded};
}

void AnnouncedPeers::choose(const InfoHash& infohash, const Endpoint& self, std::size_t wanted, TimePoint now,
                            std::mt19937& random, std::vector<AnnouncedPeer>& out) const {
  const auto it = swarms_.find(infohash);
  if (it == swarms_.end()) return;
  const auto& peers = it->second.peers;
  // Neighbours from a random place on: peers lie in no order that means anything.
  auto place = std::uniform_int_distribution<std::size_t>(0, peers.size() - 1)(random);
  for (std::size_t i = 0; i < peers.size() && out.size() < wanted; ++i, place = (place + 1) % peers.size())
    if (const auto& peer = peers[place]; peer.peer.endpoint != self && peer.expires > now) out.push_back(peer.peer);
}

void AnnouncedPeers::expire(TimePoint now) {
  if (now - expired_ < std::chrono::seconds(1)) return;
  expired_ = now;
  for (auto it = swarms_.begin(); it != swarms_.end();) {
    sweep(it->second, now);
    it = it->second.peers.empty() ? swarms_.erase(it) : std::next(it);
  }
}

void AnnouncedPeers::sweep(Swarm& swarm, TimePoint now) {
  swarm.swept = now;
  for (std::size_t place = swarm.peers.size(); place-- > 0;)
    if (swarm.peers[place].expires <= now) drop(swarm, place);
}

void AnnouncedPeers::drop(Swarm& swarm, std::size_t place) {
  swarm.complete -= static_cast<int>(swarm.peers[place].complete);
  swarm.places.erase(swarm.peers[place].peer.endpoint);
  if (place + 1 != swarm.peers.size()) {
    swarm.peers[place] = std::move(swarm.peers.back());
    swarm.places[swarm.peers[place].peer.endpoint] = place;
  }
  swarm.peers.pop_back();
  --size_;
}

}  // namespace mesh
