#include "swarms.h"

#include <algorithm>

#include "core/format.h"
#include "core/merkle.h"
#include "core/piece_plan.h"
#include "peer_handout.h"
#include "wire/endpoint.h"
#include "wire/standard_torrent.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr auto load_limit = seconds(10);
constexpr std::size_t most_peers = 60;  ///< that a getter is introduced to, addresses counted
constexpr int early_sources = 4;
constexpr std::size_t most_swarms = 10'000;  // of one node

}  // namespace

void Swarms::seeds(NodeKey node, const Torrent& torrent) {
  // Where its id does not follow from its roots, it is of no use to anybody.
  if (read_roots(torrent.roots, torrent.size, torrent.id).empty())
    throw Error(Status::failed, members_.node_name(node) + ": told a torrent that is not sound");
  auto& swarm = swarms_[torrent.id];
  if (swarm.infohash != torrent.infohash) {
    if (!swarm.ready.empty())
      throw Error(Status::failed, members_.node_name(node) + ": has it loaded under another key");
    by_infohash_.erase(swarm.infohash);
  }
  swarm.infohash = torrent.infohash;
  swarm.size = torrent.size;
  swarm.roots = torrent.roots;
  swarm.is_told = true;
  enter(node, swarm);
  by_infohash_[torrent.infohash] = torrent.id;
}

void Swarms::seeds_standard(NodeKey node, const Torrent& torrent) {
  const auto read = read_standard_torrent(torrent.info, torrent.id, torrent.size);
  if (!read || read->infohash != torrent.infohash)
    throw Error(Status::failed, members_.node_name(node) + ": told a torrent that is not sound");
  auto& swarm = swarms_[read->own];
  swarm.infohash = torrent.infohash;
  swarm.is_standard = true;
  swarm.standard_of = torrent.id;
  swarm.size = torrent.size;
  swarm.info = torrent.info;
  enter(node, swarm);
  by_infohash_[torrent.infohash] = read->own;
}

void Swarms::seeds_pack(NodeKey node, const Torrent& torrent) {
  seeds(node, torrent);
  swarms_[torrent.id].makers.insert(node);
  meet_getters(node, torrent.id);
}

bool Swarms::has_maker(const ContentId& id) const {
  const auto it = swarms_.find(id);
  return it != swarms_.end() && it->second.is_told && !it->second.makers.empty();
}

bool Swarms::is_maker(const ContentId& id, NodeKey node) const {
  const auto it = swarms_.find(id);
  return it != swarms_.end() && it->second.makers.contains(node);
}

Task<Torrent> Swarms::load(NodeKey node, ContentId id, std::int64_t size) {
  std::function<Task<Torrent>()> work = [this, node, id, size]() -> Task<Torrent> {
    Seed request;
    request.id = id;
    request.size = size;
    if (const auto swarm = swarms_.find(id); swarm != swarms_.end() && !swarm->second.ready.empty())
      request.infohash = swarm->second.infohash;
    Torrent torrent = co_await ask_to_load(node, request, load_limit);
    seeds(node, torrent);
    torrent.info.clear();
    co_return torrent;
  };
  return loads_.run({node, id}, std::move(work));
}

Task<Torrent> Swarms::ask_to_load(NodeKey node, Seed request, std::chrono::seconds limit) {
  Torrent torrent = co_await members_.request(node, request, limit);
  if (torrent.id != request.id) throw Error(Status::failed, members_.node_name(node) + ": loaded something else");
  if (!members_.contains(node)) throw Error(Status::unreachable, "the node is gone");
  co_return torrent;
}

Task<Torrent> Swarms::load_standard(NodeKey node, ContentId id, std::int64_t size, std::string info) {
  Seed request;
  request.id = id;
  request.size = size;
  request.standard = true;
  request.info = std::move(info);
  const Torrent torrent = co_await ask_to_load(node, request, make_limit);
  seeds_standard(node, torrent);
  co_return torrent;
}

Task<void> Swarms::add_seeder(NodeKey node, ContentId own) {
  try {
    const auto it = swarms_.find(own);
    if (it == swarms_.end()) co_return;
    const ContentId content = it->second.standard_of;
    const auto size = it->second.size;
    const std::string info = it->second.info;
    co_await load_standard(node, content, size, info);
    const auto found = swarms_.find(own);
    if (found == swarms_.end()) co_return;
    std::vector<AnnouncedPeer> others;
    announced_.choose(found->second.infohash, {}, most_peers, Clock::now(), random_, others);
    for (const auto& peer : others) meet_soon(node, own, to_text(peer.endpoint));
  } catch (const std::exception&) {
    // It is one source less.
  }
}

void Swarms::recruit_seeders(const ContentId& own) {
  const auto it = swarms_.find(own);
  if (it == swarms_.end() || !it->second.is_standard) return;
  auto& swarm = it->second;
  swarm.recruited = Clock::now();
  if (!swarm.standard_of.is_set()) {  // told by a node that has had it loaded since before this tracker began
    auto ask = [](Swarms* self, InfoHash infohash) -> Task<void> {
      static_cast<void>(co_await self->find_torrent(infohash));
    };
    spawn(io_, ask(this, swarm.infohash));
    return;
  }
  std::vector<NodeKey> more;
  for (const auto holder : lookup_.holders(swarm.standard_of, swarm.size))
    if (!swarm.ready.contains(holder) && !swarm.asked.contains(holder)) more.push_back(holder);
  std::ranges::shuffle(more, random_);
  for (std::size_t seeds = swarm.ready.size(); seeds < static_cast<std::size_t>(early_sources) && !more.empty();
       ++seeds) {
    swarm.asked.insert(more.back());
    spawn(io_, add_seeder(more.back(), own));
    more.pop_back();
  }
}

/// A source that came when getters were introduced already connects to them.
void Swarms::meet_getters(NodeKey node, const ContentId& id) {
  const auto* source = members_.find(node);
  const auto swarm = swarms_.find(id);
  if (source == nullptr || swarm == swarms_.end()) return;
  std::vector<HandoutMember> getters;
  for (const auto key : swarm->second.ready)
    if (!has_all(id, swarm->second, key)) getters.push_back({key, false});
  ConnectTo meet;
  meet.id = id;
  for (const auto key : hand_out(getters, {}, random_))
    if (const auto* getter = members_.find(key); getter != nullptr)
      for (const auto& address : members_.addresses(*getter, source->seen))
        meet.peers.push_back(to_text(address, getter->hello.peer_port));
  if (!meet.peers.empty()) members_.tell(node, meet);
}

/// Nodes other than `asker` that have all of it.
std::vector<NodeKey> Swarms::sources(const ContentId& id, std::int64_t size, NodeKey asker) const {
  std::vector<NodeKey> out = lookup_.holders(id, size);
  if (const auto it = swarms_.find(id); it != swarms_.end())
    out.insert(out.end(), it->second.makers.begin(), it->second.makers.end());
  std::erase(out, asker);
  return out;
}

/// The torrent of `id`, once at least one node that is not the asker seeds it; more are asked in the background.
Task<Torrent> Swarms::seeded(ContentId id, std::int64_t size, NodeKey asker) {
  std::vector<NodeKey> sources = this->sources(id, size, asker);
  std::ranges::shuffle(sources, random_);
  const auto is_ready = [&](NodeKey node) {
    const auto it = swarms_.find(id);
    if (it == swarms_.end() || !it->second.ready.contains(node)) return false;
    // What a view is not connected to may have unloaded it meanwhile.
    const auto* member = members_.find(node);
    return !members_.is_brief() || (member != nullptr && member->channel);
  };
  std::ranges::stable_partition(sources, is_ready);
  std::string trouble = "no node holds it any more";
  std::optional<Torrent> torrent;
  for (const auto source : sources) {
    if (is_ready(source) && swarms_[id].is_told) {
      const auto& swarm = swarms_[id];
      torrent.emplace();
      torrent->id = id;
      torrent->infohash = swarm.infohash;
      torrent->size = swarm.size;
      torrent->roots = swarm.roots;
      break;
    }
    try {
      torrent = co_await load(source, id, size);
      break;
    } catch (const Error& error) {
      trouble = members_.node_name(source) + ": " + error.what();
    }
  }
  // Others help from the start; a source that fails is simply not one.
  auto help = [](Swarms* self, NodeKey node, ContentId what, std::int64_t bytes) -> Task<void> {
    try {
      co_await self->load(node, what, bytes);
      self->meet_getters(node, what);
    } catch (const std::exception&) {
    }
  };
  for (std::size_t i = 0; i < sources.size() && i < static_cast<std::size_t>(early_sources); ++i)
    if (!is_ready(sources[i])) spawn(io_, help(this, sources[i], id, size));
  if (!torrent) {
    // No holder is left, but getters may have all of it between them.
    std::vector<NodeKey> getters;
    if (const auto it = swarms_.find(id); it != swarms_.end())
      for (const auto key : it->second.ready)
        if (key != asker) getters.push_back(key);
    if (getters.empty()) throw Error(Status::failed, trouble);
    torrent = co_await load(getters.front(), id, size);
  }
  torrent->holders = static_cast<int>(this->sources(id, size, asker).size());
  co_return *torrent;
}

Task<Torrent> Swarms::join(ChannelPtr channel, PrepareSwarm question) {
  const auto* asker = members_.of(channel);
  if (asker == nullptr) throw Error(Status::refused, "only a registered node can join a swarm");
  const auto own = asker->key;
  auto id = question.file.id;
  auto size = question.file.size;
  if (!id.is_set()) {
    if (!entry_fault(question.file).empty()) throw Error(Status::failed, "no sensible file");
    const NodeKey holder = question.holder;
    std::function<Task<FileEntry>()> work = [this, holder, file = question.file]() -> Task<FileEntry> {
      if (!members_.contains(holder))
        throw Error(Status::failed, printable(file.path) + ": the node that held it is gone");
      HashFiles request;
      request.files.push_back(file);
      const Made made = co_await members_.request(holder, request, make_limit);
      if (made.files.size() != 1 || made.errors.size() != 1)
        throw Error(Status::failed, members_.node_name(holder) + ": no sensible answer");
      if (!made.errors[0].empty())
        throw Error(Status::failed,
                    printable(file.path) + ": on " + members_.node_name(holder) + ": " + made.errors[0]);
      co_return made.files[0];
    };
    const std::pair<NodeKey, std::string> key(holder, question.file.path + '\0' + std::to_string(question.file.size) +
                                                          ' ' + std::to_string(question.file.mtime));
    const FileEntry made = co_await makes_.run(key, std::move(work));
    id = made.id;
    size = made.size;
  }
  co_return co_await seeded(id, size, own);
}

Task<Introduced> Swarms::introduce(ChannelPtr channel, JoinSwarm question) {
  if (members_.of(channel) == nullptr) throw Error(Status::refused, "only a registered node can join a swarm");
  // Of a view: the keepers bring those together that have come by way of other views.
  std::vector<Introduced> elsewhere;
  if (beyond_ != nullptr && beyond_->join && channel->remote().is_unspecified()) {
    if (question.shares) co_return co_await beyond_->share(question);
    elsewhere = co_await beyond_->join(question);
  }
  const auto* asker = members_.of(channel);
  if (asker == nullptr) throw Error(Status::unreachable, "the node is gone");
  if (memberships_[asker->key] >= most_swarms) throw Error(Status::failed, "this node is in too many swarms at once");
  auto& swarm = swarms_[question.id];
  if (swarm.infohash.is_set() && swarm.infohash != question.infohash)
    throw Error(Status::failed, "this swarm has another infohash; install one version everywhere");
  swarm.infohash = question.infohash;
  if (swarm.ready.empty()) swarm.size = question.size;
  if (swarm.ready.empty()) swarm.is_standard = question.standard;
  by_infohash_[question.infohash] = question.id;
  for (const auto& other : elsewhere)
    for (const auto& node : other.nodes) {
      const auto known = members_.know_of(node, false);
      if (!known || *known == asker->key) continue;
      const auto key = *known;
      enter(key, swarm);
      const auto is_source = [&](const std::string& address) {
        return std::ranges::find(other.sources, to_text(address, node.peer_port)) != other.sources.end();
      };
      if (std::ranges::any_of(node.addresses, is_source)) swarm.makers.insert(key);
    }
  std::vector<HandoutMember> members;
  Introduced reply;
  for (const auto key : swarm.ready)
    if (key != asker->key && !question.standard) members.push_back({key, has_all(question.id, swarm, key)});
  for (const auto key : hand_out(members, {}, random_)) {
    const auto* node = members_.find(key);
    if (node == nullptr) continue;
    if (question.unreached)
      for (const auto& address : members_.addresses(*asker, node->seen))
        meet_soon(key, question.id, to_text(address, asker->hello.peer_port));
    if (members_.is_keeper()) reply.nodes.push_back(members_.reference(*node, channel->remote()));
    for (const auto& address : members_.addresses(*node, channel->remote())) {
      reply.peers.push_back(to_text(address, node->hello.peer_port));
      if (has_all(question.id, swarm, key)) reply.sources.push_back(reply.peers.back());
    }
  }
  if (question.standard) {
    std::vector<AnnouncedPeer> others;
    announced_.choose(swarm.infohash, {}, most_peers, Clock::now(), random_, others);
    for (const auto& peer : others) reply.peers.push_back(to_text(peer.endpoint));
  }
  enter(asker->key, swarm);
  if (question.whole) swarm.makers.insert(asker->key);
  reply.self = asker->key;
  if (question.shares) {
    swarm.sharing.insert(asker->key);
    reply.getters = sharing(question.id, swarm);
    tell_members_soon(question.id);
  } else if (swarm.sharing.erase(asker->key) != 0) {
    tell_members_soon(question.id);
  }
  co_return reply;
}

/// The getters that share the pieces of a URL. Those that take what sources offer need not know each other, however
/// many they are.
std::vector<std::uint64_t> Swarms::sharing(const ContentId& id, const Swarm& swarm) const {
  std::vector<std::uint64_t> out;
  for (const auto key : swarm.sharing)
    if (!has_all(id, swarm, key)) out.push_back(key);
  return out;
}

void Swarms::tell_members_soon(const ContentId& id) {
  const auto it = swarms_.find(id);
  if (it == swarms_.end() || it->second.members_due || it->second.sharing.empty()) return;
  it->second.members_due = true;
  // Getters arrive and finish in bunches; one note for a bunch.
  auto tell = [](Swarms* self, ContentId what) -> Task<void> {
    co_await sleep_for(milliseconds(20));
    const auto found = self->swarms_.find(what);
    if (found == self->swarms_.end()) co_return;
    found->second.members_due = false;
    UrlMembers members;
    members.id = what;
    members.getters = self->sharing(what, found->second);
    for (const auto key : members.getters)
      if (const auto* node = self->members_.find(static_cast<NodeKey>(key)); node != nullptr)
        self->members_.tell(node->key, members);
  };
  spawn(io_, tell(this, id));
}

void Swarms::meet_soon(NodeKey node, const ContentId& id, std::string peer) {
  const bool due = !meets_.empty();
  if (auto& peers = meets_[{node, id}]; peers.size() < most_peers) peers.push_back(std::move(peer));
  if (due) return;
  auto tell = [](Swarms* self) -> Task<void> {
    co_await sleep_for(milliseconds(20));
    for (auto& [who, peers] : std::exchange(self->meets_, {}))
      self->members_.tell(who.first, ConnectTo{who.second, std::move(peers)});
  };
  spawn(io_, tell(this));
}

Task<bool> Swarms::find_torrent(InfoHash infohash) {
  const auto found = std::make_shared<bool>(false);
  Together asked(io_);
  auto ask = [](Swarms* self, NodeKey key, InfoHash hash, std::shared_ptr<bool> hit) -> Task<void> {
    Seed request;
    request.infohash = hash;
    const Torrent torrent = co_await self->members_.request(key, request, seconds(2));
    if (torrent.infohash != hash || !self->members_.contains(key)) co_return;
    self->seeds_standard(key, torrent);
    *hit = true;
  };
  for (const auto& [key, node] : members_.all())
    if (node.channel) asked.add(ask(this, key, infohash, found));
  co_await asked.all();
  co_return *found;
}

const Swarms::Entry* Swarms::find(const InfoHash& infohash) const {
  const auto id = by_infohash_.find(infohash);
  if (id == by_infohash_.end()) return nullptr;
  const auto it = swarms_.find(id->second);
  return it == swarms_.end() ? nullptr : &*it;
}

void Swarms::enter(NodeKey node, Swarm& swarm) {
  if (swarm.ready.insert(node).second) ++memberships_[node];
}

void Swarms::leave(NodeKey node, const ContentId& id) {
  const auto it = swarms_.find(id);
  if (it == swarms_.end() || it->second.ready.erase(node) == 0) return;
  if (const auto in = memberships_.find(node); in != memberships_.end() && --in->second == 0) memberships_.erase(in);
  it->second.sharing.erase(node);
  it->second.makers.erase(node);
  announced_.expire(Clock::now());
  if (it->second.ready.empty()) {
    by_infohash_.erase(it->second.infohash);
    swarms_.erase(it);
  } else {
    tell_members_soon(id);
  }
}

void Swarms::leave_all(NodeKey node) {
  std::vector<ContentId> left;
  for (const auto& [id, swarm] : swarms_)
    if (swarm.ready.contains(node)) left.push_back(id);
  for (const auto& id : left) leave(node, id);
  memberships_.erase(node);
}

}  // namespace mesh
