#include "tracker.h"

#include <algorithm>

#include "core/format.h"
#include "core/glob.h"
#include "core/merkle.h"
#include "core/piece_plan.h"
#include "wire/codec.h"
#include "wire/endpoint.h"
#include "wire/foreign.h"
#include "wire/identity.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr auto make_limit = std::chrono::hours(24);  // a terabyte from a slow disk; a lost node ends it at once
constexpr auto load_limit = seconds(10);
constexpr auto probe_limit = milliseconds(300);
constexpr auto status_limit = seconds(2);
constexpr auto settle_limit = seconds(2);  // nodes reconnect within this after a restart
constexpr int announce_interval = 120;
constexpr const char* too_many = "too many announces from this address (the tracker's --max-announces)";
constexpr const char* not_here = "this torrent is not in the mesh";
constexpr std::size_t most_peers = 60;  ///< that a getter is introduced to, addresses counted
constexpr int early_sources = 4;
constexpr auto spread_every = seconds(10);
constexpr auto order_limit = std::chrono::minutes(10);  // a tree of millions of files takes a while to delete
constexpr std::size_t most_answer_bytes = 16 * 1024;    // of one node, of which there may be a thousand
constexpr std::size_t most_absent = 10'000;
constexpr std::size_t most_swarms = 10'000;          // of one node
constexpr std::size_t path_bytes = 100;              // of a path, on average; as much again is kept beside it
constexpr auto name_kept = std::chrono::minutes(1);  // for a node that may be back in a moment
constexpr std::ptrdiff_t most_members_told = 32;
constexpr std::size_t most_urls = 1000;
constexpr std::size_t most_url_pieces = 2'000'000;  // of all, some 60 bytes each
constexpr std::size_t most_located = 8;  // holders of one small file; a getter spreads its questions over them

std::string no_such(const std::string& what, std::size_t nodes) {
  return printable(what.empty() ? "/" : what) + ": not found on any of " + std::to_string(nodes) +
         (nodes == 1 ? " node" : " nodes");
}

FileEntry entry_of(const std::string& path, const Copy& copy) {
  return {path,
          copy.kind,
          copy.size,
          copy.mtime,
          copy.mode,
          std::string(copy.target),
          copy.id != nullptr ? *copy.id : ContentId{}};
}

}  // namespace

Tracker::Tracker(asio::io_context& io, TrackerOptions options)
    : io_(io),
      options_(std::move(options)),
      announced_(options_.max_announced_peers, seconds(2 * announce_interval)),
      announces_(options_.max_announces),
      handlers_(make_handlers()) {
  if (!options_.listen) return;
  const auto on_channel = [this](std::string path, ChannelPtr channel) -> Task<void> {
    if (path == "/control") co_await serve(std::move(channel));
  };
  const auto on_http = [this](std::string target, asio::ip::address remote, asio::ip::address) {
    return serve_http(std::move(target), remote);
  };
  const auto on_http_now = [this](std::string_view target, const asio::ip::address& remote) {
    return answer_now(target, remote);
  };
  server_.emplace(io, *options_.listen, on_http, on_channel, options_.connections, options_.access, on_http_now);
}

Handlers Tracker::make_handlers() {
  Handlers h;
  h.on<Hello>(
      [this](ChannelPtr channel, Hello hello) -> Task<Welcome> { co_return enlist(channel, std::move(hello)); });
  h.on_note<InventoryDelta>(
      [this](const ChannelPtr& channel, InventoryDelta delta) { take_inventory(channel, std::move(delta)); });
  h.on<Resolve>(
      [this](ChannelPtr channel, Resolve question) { return resolve(std::move(channel), std::move(question)); });
  h.on<Join>([this](ChannelPtr channel, Join question) { return join(std::move(channel), std::move(question)); });
  h.on<Ready>([this](ChannelPtr channel, Ready question) { return introduce(std::move(channel), question); });
  h.on_note<Unloaded>([this](const ChannelPtr& channel, Unloaded note) {
    if (const auto* node = node_of(channel)) leave(node->key, note.id);
  });
  h.on<UrlTurn>([this](ChannelPtr channel, UrlTurn said) -> Task<UrlOrders> { co_return url_turn(channel, said); });
  h.on<Locate>([this](ChannelPtr channel, Locate question) { return locate(std::move(channel), std::move(question)); });
  h.on<Relay>([this](ChannelPtr channel, Relay asked) { return relay(std::move(channel), std::move(asked)); });
  h.on<List>([this](ChannelPtr channel, List question) { return list(std::move(channel), std::move(question)); });
  h.on<Info>([this](ChannelPtr channel, Info question) { return info(std::move(channel), std::move(question)); });
  h.on<StatusAsk>([this](ChannelPtr channel, StatusAsk question) { return status(std::move(channel), question); });
  h.on<TorrentAsk>(
      [this](ChannelPtr channel, TorrentAsk question) { return torrent_for(std::move(channel), std::move(question)); });
  return h;
}

Task<void> Tracker::serve(ChannelPtr channel) {
  if (!server_) silent_[channel.get()] = Clock::now();
  co_await channel->run(handlers_);
  silent_.erase(channel.get());
  if (const auto it = by_channel_.find(channel.get()); it != by_channel_.end()) drop_node(it->second);
}

// --- membership
// --------------------------------------------------------------------------------------------------------

Welcome Tracker::enlist(const ChannelPtr& channel, Hello hello) {
  if (hello.version != protocol_version)
    throw Error(Status::refused, "this tracker speaks protocol " + std::to_string(protocol_version) + ", " +
                                     printable(hello.node) + " speaks " + std::to_string(hello.version) +
                                     "; install one version everywhere");
  if (by_channel_.contains(channel.get())) throw Error(Status::refused, "a second hello on one channel");
  if (const auto fault = node_name_fault(hello.node); !fault.empty()) throw Error(Status::refused, fault);
  if (hello.addresses.size() > 32) throw Error(Status::refused, "no sensible hello");
  if (!is_proven(hello.instance, hello.public_key, Hello::name, channel->binding(), hello.proof))
    throw Error(Status::refused, printable(hello.node) + ": does not prove that it is the node that it says it is");
  // A node that lost its connection may be back before this side has noticed.
  std::vector<NodeKey> stale;
  for (const auto& [key, node] : nodes_)
    if (node.hello.instance == hello.instance) stale.push_back(key);
  for (const auto key : stale) {
    const auto old = nodes_[key].channel;
    drop_node(key);
    old->close();
  }
  claim_name(hello);
  const auto key = next_key_++;
  channel->set_where(hello.node);
  absent_.erase(hello.node);
  silent_.erase(channel.get());
  by_channel_[channel.get()] = key;
  ++names_[hello.node];
  nodes_[key] = Node{key, std::move(hello), channel, false, Clock::now()};
  Welcome out;
  if (const auto name = name_of(nodes_[key]); name != nodes_[key].hello.node) out.known_as = name;
  out.observed = channel->remote().to_string();
  out.key = key;
  std::vector<const Node*> others;
  for (const auto& [other, node] : nodes_)
    if (other != key) others.push_back(&node);
  std::vector<const Node*> some;
  std::ranges::sample(others, std::back_inserter(some), most_members_told, random_);
  for (const auto* node : some)
    out.members.push_back({node->hello.instance, node->hello.node, addresses(*node, channel->remote()),
                           node->hello.peer_port, node->hello.channel_port, 0});
  return out;
}

void Tracker::claim_name(const Hello& hello) {
  if (owners_.size() >= most_absent) std::erase_if(owners_, [&](const auto& pair) { return is_free(pair.second); });
  const auto [at, fresh] = owners_.try_emplace(hello.node);
  auto& owner = at->second;
  // One that is here by this name already has it before any that comes.
  if (!fresh && is_free(owner) && owner.instance != hello.instance)
    for (const auto& [key, node] : nodes_)
      if (node.hello.node == hello.node) {
        owner = {node.hello.instance, std::nullopt};
        break;
      }
  if (fresh || is_free(owner) || owner.instance == hello.instance) owner = {hello.instance, std::nullopt};
}

void Tracker::drop_node(NodeKey key) {
  const auto it = nodes_.find(key);
  if (it == nodes_.end()) return;
  by_channel_.erase(it->second.channel.get());
  const auto name = it->second.hello.node;
  const auto paths = it->second.paths;
  if (const auto owner = owners_.find(name);
      owner != owners_.end() && owner->second.instance == it->second.hello.instance)
    owner->second.left = Clock::now();
  nodes_.erase(it);
  if (--names_[name] == 0) {
    names_.erase(name);
    absent_[name] = Clock::now();
    if (absent_.size() > most_absent)
      absent_.erase(std::ranges::min_element(absent_, {}, [](const auto& pair) { return pair.second; }));
  }
  if (paths > 0) {
    gone_.insert(key);
    if (gone_.size() == 1) spawn(io_, sweep());
  }
  for (auto url = urls_.begin(); url != urls_.end();) {
    url->second.leave(key);
    url = url->second.is_over() ? urls_.erase(url) : std::next(url);
  }
  std::vector<ContentId> left;
  for (const auto& [id, swarm] : swarms_)
    if (swarm.ready.contains(key)) left.push_back(id);
  for (const auto& id : left) leave(key, id);
}

void Tracker::count(Node& node, const Catalog::Change& change) {
  node.paths += static_cast<std::size_t>(change.paths);
  node.path_bytes += static_cast<std::size_t>(change.bytes);
}

bool Tracker::put(Node& node, const FileEntry& entry) {
  const auto change = catalog_.put(node.key, entry);
  count(node, change);
  const bool is_full = node.paths > options_.max_paths || node.path_bytes > options_.max_paths * path_bytes;
  if (!is_full || (change.paths == 0 && change.bytes <= 0)) return true;
  count(node, catalog_.remove(node.key, entry.path));
  if (!std::exchange(node.has_too_many, true))
    node.channel->note(
        Notice{"this node offers more than " + std::to_string(options_.max_paths) +
               " paths (the tracker's --max-paths), or as many long ones as take their memory; the others "
               "are not in the mesh, the first of them " +
               printable(entry.path)});
  return false;
}

void Tracker::take_inventory(const ChannelPtr& channel, InventoryDelta delta) {
  auto* node = node_of(channel);
  if (node == nullptr) return;
  for (const auto& path : delta.removed) count(*node, catalog_.remove(node->key, path));
  for (const auto& entry : delta.put) {
    if (!entry_fault(entry).empty()) continue;
    if (!put(*node, entry)) continue;
    if (entry.id.is_set() && swarms_.contains(entry.id)) plan_soon(entry.id);
  }
  if (delta.end) node->registered = true;
}

Tracker::Node* Tracker::node_of(const ChannelPtr& channel) {
  const auto it = by_channel_.find(channel.get());
  return it == by_channel_.end() ? nullptr : &nodes_.at(it->second);
}

std::string Tracker::node_name(NodeKey key) const {
  const auto it = nodes_.find(key);
  return it == nodes_.end() ? "a node that is gone" : name_of(it->second);
}

bool Tracker::is_free(const Owner& owner) { return owner.left && Clock::now() - *owner.left > name_kept; }

std::string Tracker::name_of(const Node& node) const {
  const auto& name = node.hello.node;
  const auto it = owners_.find(name);
  bool owns = it == owners_.end() || it->second.instance == node.hello.instance;
  // A name whose node has been gone for a while is the next one's, by the time that they have been here.
  if (!owns && is_free(it->second))
    owns = std::ranges::none_of(
        nodes_, [&](const auto& pair) { return pair.first < node.key && pair.second.hello.node == name; });
  return owns ? name : name + "#" + node.hello.instance.substr(0, 8);
}

std::string Tracker::no_such_node(const std::string& name) const {
  std::string several;
  for (const auto& [key, node] : nodes_)
    if (node.hello.node == name) several += (several.empty() ? "" : ", ") + name_of(node);
  if (!several.empty()) return "the node of this name is not in the mesh now; others that are called so: " + several;
  return absent_.contains(name) ? "has left the mesh" : "no node of this name is in the mesh";
}

std::vector<std::string> Tracker::addresses(const Node& node, const asio::ip::address& asker) const {
  if (node.hello.advertised) return node.hello.addresses;
  const auto seen = node.channel->remote();
  // The node that this tracker is within.
  if (seen.is_unspecified()) return asker.is_loopback() ? std::vector{asker.to_string()} : node.hello.addresses;
  // A node beside the tracker is seen on loopback, which serves only its neighbours there.
  if (!seen.is_loopback()) return {seen.to_string()};
  if (asker.is_loopback() || asker.is_unspecified()) return {seen.to_string()};
  return node.hello.addresses;
}

NodeRef Tracker::reference(const Node& node, const asio::ip::address& asker) const {
  return {node.key, name_of(node), addresses(node, asker), node.hello.peer_port, node.hello.channel_port};
}

// --- which files
// ---------------------------------------------------------------------------------------------------------

/// Nodes that are still telling what they have get a moment: where the answer would be that nothing is there, and while
/// this tracker itself has just begun. (One without a server begins with each question, so to speak.)
Task<void> Tracker::wait_until_settled(bool nothing_found) {
  const auto deadline = Clock::now() + settle_limit;
  const auto settled = [&] {
    const auto now = Clock::now();
    const bool fresh = !server_ || now - started_ < settle_limit;
    if (now > deadline || (!nothing_found && !fresh)) return true;
    if (nothing_found && server_ && fresh) return false;
    const auto is_new = [&](Clock::time_point since) { return now - since < settle_limit; };
    return std::ranges::none_of(silent_, [&](const auto& pair) { return is_new(pair.second); }) &&
           std::ranges::none_of(nodes_,
                                [&](const auto& pair) { return !pair.second.registered && is_new(pair.second.since); });
  };
  while (!settled()) co_await sleep_for(milliseconds(20));
}

/// Takes what nodes that are gone have said out of the catalog, a slice at a time; it counts no more from the first on.
Task<void> Tracker::sweep() {
  Slice slice;
  const Catalog::Due due = [&] { return slice.is_over(); };
  while (!gone_.empty()) {
    const auto leaving = gone_;
    std::string after;
    while (auto reached = catalog_.remove_nodes(leaving, after, due)) {
      after = std::move(*reached);
      co_await slice.next();
    }
    for (const auto key : leaving) gone_.erase(key);
  }
}

/// Catalog::walk, a slice at a time.
Task<void> Tracker::walk(What what, std::string after, Catalog::Visit visit) {
  Slice slice;
  const Catalog::Due due = [&] { return slice.is_over(); };
  for (;;) {
    auto reached = catalog_.walk(what, after, visit, due);
    if (!reached) co_return;
    after = std::move(*reached);
    co_await slice.next();
  }
}

std::vector<Copy> Tracker::copies(std::string_view path) const {
  auto out = catalog_.copies(path);
  if (!gone_.empty()) std::erase_if(out, [this](const Copy& copy) { return gone_.contains(copy.node); });
  for (auto& copy : out)
    if (const auto it = nodes_.find(copy.node); it != nodes_.end()) {
      const auto& keys = options_.access.keys;
      copy.head = keys ? keys->is_head(it->second.hello.instance) : it->second.hello.head;
    }
  return out;
}

Task<bool> Tracker::probe(std::string path) {
  const auto found = std::make_shared<bool>(false);
  Together asked(io_);
  ProbePath question;
  question.path = path;
  // A node that does not answer in time has no say.
  auto ask = [](Tracker* self, NodeKey key, ChannelPtr channel, ProbePath asked_for,
                std::shared_ptr<bool> hit) -> Task<void> {
    const Probed reply = co_await channel->request(asked_for, probe_limit);
    for (const auto& entry : reply.found)
      if (entry.path == asked_for.path && entry_fault(entry).empty())
        if (const auto node = self->nodes_.find(key); node != self->nodes_.end() && self->put(node->second, entry))
          *hit = true;
  };
  for (const auto& [key, node] : nodes_) asked.add(ask(this, key, node.channel, question, found));
  co_await asked.all();
  co_return *found;
}

Task<void> Tracker::hash(std::map<NodeKey, Make> work, std::shared_ptr<Refusals> refusals) {
  Together asked(io_);
  // What was hashed is in the catalog by the time of the reply: the node's delta came before it on the same channel.
  // When a node goes, its copies go with it, and the question is settled too.
  auto ask = [](NodeKey key, ChannelPtr channel, Make request, std::shared_ptr<Refusals> refused) -> Task<void> {
    const Made reply = co_await channel->request(request, make_limit);
    for (std::size_t i = 0; i < request.files.size() && i < reply.errors.size(); ++i)
      if (!reply.errors[i].empty()) (*refused)[request.files[i].path][key] = reply.errors[i];
  };
  for (auto& [key, request] : work)
    if (const auto it = nodes_.find(key); it != nodes_.end())
      asked.add(ask(key, it->second.channel, std::move(request), refusals));
  co_await asked.all();
}

Task<Resolved> Tracker::resolve(ChannelPtr channel, Resolve question) {
  const What what{question.pattern, question.pattern, question.glob};
  if (!what.pattern.empty() && !is_mesh_path(what.pattern))
    throw Error(Status::usage, printable(what.pattern) + ": the path " + std::string(path_fault(what.pattern)));
  if (what.is_glob)
    if (const auto fault = glob_fault(what.pattern); !fault.empty())
      throw Error(Status::usage, printable(what.pattern) + ": the path " + std::string(fault));
  std::vector<std::string> paths;
  const Catalog::Visit take = [&](const std::string& path) {
    if (!gone_.empty() && copies(path).empty()) return true;
    paths.push_back(path);
    return paths.size() < page_entries;
  };
  // A path that is there is told at once.
  if (what.is_glob || !server_ || !catalog_.contains(what.pattern)) co_await wait_until_settled(false);
  co_await walk(what, question.after, take);
  if (paths.empty() && question.after.empty()) {
    co_await wait_until_settled(true);
    co_await walk(what, question.after, take);
    if (paths.empty() && !what.is_glob && !what.pattern.empty()) {
      co_await probe(what.pattern);
      co_await walk(what, question.after, take);
    }
    if (paths.empty()) {
      if (what.pattern.empty() && !nodes_.empty()) co_return Resolved{};  // the whole of an empty mesh
      throw Error(Status::not_found, no_such(what.pattern, nodes_.size()));
    }
  }
  const auto* asker = node_of(channel);
  const NodeKey own = asker != nullptr ? asker->key : 0;
  std::optional<NodeKey> from;
  if (!question.from.empty()) {
    for (const auto& [key, node] : nodes_)
      if (name_of(node) == question.from || node.hello.instance == question.from) from = key;
    if (!from) throw Error(Status::not_found, printable(question.from) + ": " + no_such_node(question.from));
  }
  const auto refusals = std::make_shared<Refusals>();
  const auto choose = [&](const std::string& path) {
    auto field = copies(path);
    if (!from && field.size() > 1) std::erase_if(field, [&](const Copy& c) { return c.node == own; });
    if (const auto it = refusals->find(path); it != refusals->end())
      std::erase_if(field, [&](const Copy& c) { return c.id == nullptr && it->second.contains(c.node); });
    return choose_version(field, {from, question.strict});
  };
  // Each round hashes what the choice hangs on; files that change meanwhile may need another.
  for (int round = 0; round < 3; ++round) {
    std::map<NodeKey, Make> work;
    for (const auto& path : paths)
      for (const auto key : choose(path).to_hash) {
        for (const auto& copy : copies(path))
          if (copy.node == key) work[key].files.push_back(entry_of(path, copy));
      }
    if (work.empty()) break;
    co_await hash(std::move(work), refusals);
  }
  Resolved out;
  std::set<NodeKey> mentioned;
  for (const auto& path : paths) {
    const auto choice = choose(path);
    ResolvedFile file;
    file.entry.path = path;
    if (choice.conflict) {
      file.problem = "several versions, and --strict allows one:";
      for (const auto& copy : copies(path)) {
        file.problem += " " + node_name(copy.node) + " (" + human_bytes(copy.size) + ", " + human_time(copy.mtime);
        if (copy.id != nullptr) file.problem += ", " + copy.id->hex().substr(0, 12);
        file.problem += ")";
      }
    } else if (!choice.chosen) {
      if (from) continue;
      file.problem = choice.to_hash.empty() ? "no node holds it any more"
                                            : "it changes faster than it can be hashed; try again later";
      if (const auto it = refusals->find(path); it != refusals->end())
        file.problem = "on " + node_name(it->second.begin()->first) + ": " + it->second.begin()->second;
    } else if (choice.chosen->kind == Kind::outside) {
      file.problem = "on " + node_name(choice.chosen->node) + " it is a link out of the files directory, to " +
                     printable(choice.chosen->target) + "; start meshseed there with --follow DIR for where it leads";
    } else {
      file.entry = entry_of(path, *choice.chosen);
      if (!from) {
        const auto all = choose_version(copies(path), {});
        file.own_wins = all.chosen && all.chosen->node == own;
      }
      if (choice.chosen->id != nullptr && file.entry.size <= small_file_bytes) {
        // Small files are fetched by path.
        for (const auto& copy : copies(path))
          if (copy.node != own && copy.id != nullptr && *copy.id == file.entry.id) file.holders.push_back(copy.node);
        if (file.holders.empty()) file.holders.push_back(choice.chosen->node);
      } else if (choice.chosen->id != nullptr) {
        for (const auto& holder : catalog_.holders(*choice.chosen->id, file.entry.size)) {
          if (!gone_.contains(holder.node) && (holder.node != own || choice.chosen->node == own))
            file.holders.push_back(holder.node);
        }
      } else {
        file.holders.push_back(choice.chosen->node);
      }
      if (file.holders.size() > 16) {
        std::ranges::shuffle(file.holders, random_);
        file.holders.resize(16);
      }
      mentioned.insert(file.holders.begin(), file.holders.end());
    }
    out.files.push_back(std::move(file));
  }
  std::set<std::string> above;
  for (const auto& path : paths)
    for (auto up = parent_path(path); !up.empty(); up = parent_path(up))
      if (!above.emplace(up).second) break;
  for (const auto& path : paths) above.erase(path);
  for (const auto& path : above) {
    auto field = copies(path);
    std::erase_if(field, [](const Copy& copy) { return copy.kind != Kind::directory; });
    if (const auto choice = choose_version(field, {}); choice.chosen)
      out.above.push_back(entry_of(path, *choice.chosen));
  }
  if (paths.size() == page_entries) out.next = paths.back();
  if (from && out.files.empty() && question.after.empty() && out.next.empty())
    throw Error(Status::not_found, printable(what.pattern) + ": not found on node " + printable(question.from));
  for (const auto key : mentioned)
    if (const auto it = nodes_.find(key); it != nodes_.end())
      out.nodes.push_back(reference(it->second, channel->remote()));
  co_return out;
}

// --- swarms
// -----------------------------------------------------------------------------------------------------------

void Tracker::seeds(NodeKey node, const Torrent& torrent) {
  // Where its id does not follow from its roots, it is of no use to anybody.
  if (read_roots(torrent.roots, torrent.size, torrent.id).empty())
    throw Error(Status::failed, node_name(node) + ": told a torrent that is not sound");
  auto& swarm = swarms_[torrent.id];
  if (swarm.infohash != torrent.infohash) {
    if (!swarm.ready.empty()) throw Error(Status::failed, node_name(node) + ": has it loaded under another key");
    by_infohash_.erase(swarm.infohash);
  }
  swarm.infohash = torrent.infohash;
  swarm.size = torrent.size;
  swarm.roots = torrent.roots;
  enter(node, swarm);
  by_infohash_[torrent.infohash] = torrent.id;
}

void Tracker::seeds_foreign(NodeKey node, const Torrent& torrent) {
  const auto read = read_foreign(torrent.info, torrent.id, torrent.size);
  if (!read || read->infohash != torrent.infohash)
    throw Error(Status::failed, node_name(node) + ": told a torrent that is not sound");
  auto& swarm = swarms_[read->own];
  swarm.infohash = torrent.infohash;
  swarm.is_foreign = true;
  swarm.foreign = torrent.id;
  swarm.size = torrent.size;
  swarm.info = torrent.info;
  enter(node, swarm);
  by_infohash_[torrent.infohash] = read->own;
}

Task<Torrent> Tracker::load(NodeKey node, ContentId id, std::int64_t size) {
  std::function<Task<Torrent>()> work = [this, node, id, size]() -> Task<Torrent> {
    Load request;
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

Task<Torrent> Tracker::ask_to_load(NodeKey node, Load request, std::chrono::seconds limit) {
  const auto it = nodes_.find(node);
  if (it == nodes_.end()) throw Error(Status::unreachable, "the node is gone");
  Torrent torrent = co_await it->second.channel->request(request, limit);
  if (torrent.id != request.id) throw Error(Status::failed, node_name(node) + ": loaded something else");
  if (!nodes_.contains(node)) throw Error(Status::unreachable, "the node is gone");
  co_return torrent;
}

/// `info`: of the torrent, where it is known already.
Task<Torrent> Tracker::load_foreign(NodeKey node, ContentId id, std::int64_t size, std::string info) {
  Load request;
  request.id = id;
  request.size = size;
  request.foreign = true;
  request.info = std::move(info);
  const Torrent torrent = co_await ask_to_load(node, request, make_limit);
  seeds_foreign(node, torrent);
  co_return torrent;
}

Task<void> Tracker::help_with(NodeKey node, ContentId own) {
  try {
    const auto it = swarms_.find(own);
    if (it == swarms_.end()) co_return;
    const ContentId content = it->second.foreign;
    const auto size = it->second.size;
    const std::string info = it->second.info;
    co_await load_foreign(node, content, size, info);
    const auto found = swarms_.find(own);
    if (found == swarms_.end()) co_return;
    std::vector<AnnouncedPeer> others;
    announced_.choose(found->second.infohash, {}, most_peers, Clock::now(), random_, others);
    for (const auto& peer : others) meet_soon(node, own, to_text(peer.endpoint));
  } catch (const std::exception&) {
    // It is one source less.
  }
}

/// Other clients want it: more of its holders seed it, and connect to those who have announced themselves. None is
/// asked twice.
void Tracker::spread(const ContentId& own) {
  const auto it = swarms_.find(own);
  if (it == swarms_.end() || !it->second.is_foreign) return;
  auto& swarm = it->second;
  swarm.spread = Clock::now();
  if (!swarm.foreign.is_set()) {  // told by a node that has had it loaded since before this tracker began
    spawn(io_, ask_for(swarm.infohash));
    return;
  }
  std::vector<NodeKey> more;
  for (const auto& holder : catalog_.holders(swarm.foreign, swarm.size))
    if (!swarm.ready.contains(holder.node) && !swarm.asked.contains(holder.node)) more.push_back(holder.node);
  std::ranges::shuffle(more, random_);
  for (std::size_t seeds = swarm.ready.size(); seeds < static_cast<std::size_t>(early_sources) && !more.empty();
       ++seeds) {
    swarm.asked.insert(more.back());
    spawn(io_, help_with(more.back(), own));
    more.pop_back();
  }
}

/// A source that came when getters were introduced already connects to them.
void Tracker::meet_getters(NodeKey node, const ContentId& id) {
  const auto source = nodes_.find(node);
  const auto swarm = swarms_.find(id);
  if (source == nodes_.end() || swarm == swarms_.end()) return;
  std::vector<HandoutMember> getters;
  for (const auto key : swarm->second.ready)
    if (!has_all(id, swarm->second, key)) getters.push_back({key, false});
  Meet meet;
  meet.id = id;
  for (const auto key : hand_out(getters, {}, random_))
    if (const auto getter = nodes_.find(key); getter != nodes_.end())
      for (const auto& address : addresses(getter->second, source->second.channel->remote()))
        meet.peers.push_back(to_text(address, getter->second.hello.peer_port));
  if (!meet.peers.empty()) source->second.channel->note(meet);
}

/// The torrent of `id`, once at least one node that is not the asker seeds it; more are asked in the background.
Task<Torrent> Tracker::seeded(ContentId id, std::int64_t size, NodeKey asker) {
  std::vector<NodeKey> sources;
  for (const auto& holder : catalog_.holders(id, size))
    if (holder.node != asker) sources.push_back(holder.node);
  std::ranges::shuffle(sources, random_);
  const auto is_ready = [&](NodeKey node) {
    const auto it = swarms_.find(id);
    return it != swarms_.end() && it->second.ready.contains(node);
  };
  std::ranges::stable_partition(sources, is_ready);
  std::string trouble = "no node holds it any more";
  std::optional<Torrent> torrent;
  for (const auto source : sources) {
    if (is_ready(source) && !swarms_[id].roots.empty()) {
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
      trouble = node_name(source) + ": " + error.what();
    }
  }
  // Others help from the start; a source that fails is simply not one.
  auto help = [](Tracker* self, NodeKey node, ContentId what, std::int64_t bytes) -> Task<void> {
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
  torrent->holders = 0;
  for (const auto& holder : catalog_.holders(id, size))
    if (holder.node != asker && !gone_.contains(holder.node)) ++torrent->holders;
  co_return *torrent;
}

Task<Torrent> Tracker::join(ChannelPtr channel, Join question) {
  const auto* asker = node_of(channel);
  if (asker == nullptr) throw Error(Status::refused, "only a registered node can join a swarm");
  const auto own = asker->key;
  auto id = question.file.id;
  auto size = question.file.size;
  if (!id.is_set()) {
    if (!entry_fault(question.file).empty()) throw Error(Status::failed, "no sensible file");
    const NodeKey holder = question.holder;
    std::function<Task<FileEntry>()> work = [this, holder, file = question.file]() -> Task<FileEntry> {
      const auto it = nodes_.find(holder);
      if (it == nodes_.end()) throw Error(Status::failed, printable(file.path) + ": the node that held it is gone");
      Make request;
      request.files.push_back(file);
      const Made made = co_await it->second.channel->request(request, make_limit);
      if (made.files.size() != 1 || made.errors.size() != 1)
        throw Error(Status::failed, node_name(holder) + ": no sensible answer");
      if (!made.errors[0].empty())
        throw Error(Status::failed, printable(file.path) + ": on " + node_name(holder) + ": " + made.errors[0]);
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

Task<Introduced> Tracker::introduce(ChannelPtr channel, Ready question) {
  const auto* asker = node_of(channel);
  if (asker == nullptr) throw Error(Status::refused, "only a registered node can join a swarm");
  if (asker->swarms >= most_swarms) throw Error(Status::failed, "this node is in too many swarms at once");
  auto& swarm = swarms_[question.id];
  if (swarm.infohash.is_set() && swarm.infohash != question.infohash)
    throw Error(Status::failed, "this swarm has another infohash; install one version everywhere");
  swarm.infohash = question.infohash;
  if (swarm.ready.empty()) swarm.size = question.size;
  if (swarm.ready.empty()) swarm.is_foreign = question.foreign;
  by_infohash_[question.infohash] = question.id;
  std::vector<HandoutMember> members;
  Introduced reply;
  for (const auto key : swarm.ready)
    if (key != asker->key && !question.foreign) members.push_back({key, has_all(question.id, swarm, key)});
  for (const auto key : hand_out(members, {}, random_)) {
    const auto it = nodes_.find(key);
    if (it == nodes_.end()) continue;
    const auto& node = it->second;
    for (const auto& address : addresses(node, channel->remote())) {
      reply.peers.push_back(to_text(address, node.hello.peer_port));
      if (has_all(question.id, swarm, key)) reply.sources.push_back(reply.peers.back());
    }
  }
  if (question.foreign) {
    std::vector<AnnouncedPeer> others;
    announced_.choose(swarm.infohash, {}, most_peers, Clock::now(), random_, others);
    for (const auto& peer : others) reply.peers.push_back(to_text(peer.endpoint));
  }
  enter(asker->key, swarm);
  reply.self = asker->key;
  if (question.shares) {
    swarm.sharing.insert(asker->key);
    reply.getters = sharing(question.id, swarm);
    plan_soon(question.id);
  } else if (swarm.sharing.erase(asker->key) != 0) {
    plan_soon(question.id);
  }
  co_return reply;
}

/// The getters that share the stripes of a swarm. Those that take what sources offer need no plan, however many they
/// are.
std::vector<std::uint64_t> Tracker::sharing(const ContentId& id, const Swarm& swarm) const {
  std::vector<std::uint64_t> out;
  for (const auto key : swarm.sharing)
    if (!has_all(id, swarm, key)) out.push_back(key);
  return out;
}

void Tracker::plan_soon(const ContentId& id) {
  const auto it = swarms_.find(id);
  if (it == swarms_.end() || it->second.plan_due || it->second.sharing.empty()) return;
  it->second.plan_due = true;
  // Getters arrive and finish in bunches; one plan for a bunch.
  auto tell = [](Tracker* self, ContentId what) -> Task<void> {
    co_await sleep_for(milliseconds(20));
    const auto found = self->swarms_.find(what);
    if (found == self->swarms_.end()) co_return;
    found->second.plan_due = false;
    Plan plan;
    plan.id = what;
    plan.getters = self->sharing(what, found->second);
    for (const auto key : plan.getters)
      if (const auto node = self->nodes_.find(static_cast<NodeKey>(key)); node != self->nodes_.end())
        node->second.channel->note(plan);
  };
  spawn(io_, tell(this, id));
}

void Tracker::enter(NodeKey node, Swarm& swarm) {
  if (!swarm.ready.insert(node).second) return;
  if (const auto it = nodes_.find(node); it != nodes_.end()) ++it->second.swarms;
}

void Tracker::leave(NodeKey node, const ContentId& id) {
  const auto it = swarms_.find(id);
  if (it == swarms_.end() || it->second.ready.erase(node) == 0) return;
  if (const auto in = nodes_.find(node); in != nodes_.end()) --in->second.swarms;
  it->second.sharing.erase(node);
  announced_.expire(Clock::now());
  if (it->second.ready.empty()) {
    by_infohash_.erase(it->second.infohash);
    swarms_.erase(it);
  } else {
    plan_soon(id);
  }
}

// --- questions
// ---------------------------------------------------------------------------------------------------------

UrlOrders Tracker::url_turn(const ChannelPtr& channel, const UrlTurn& said) {
  const auto* node = node_of(channel);
  if (node == nullptr) throw Error(Status::refused, "only a registered node can get a URL with others");
  auto it = urls_.find(said.url);
  if (it == urls_.end()) {
    if (said.leave || said.whole) return {};
    if (urls_.size() >= most_urls) throw Error(Status::failed, "too many URLs are on their way; try again later");
    // An epoch may grow by one for each time that an origin changes its mind.
    it = urls_.emplace(said.url, UrlPlan(url_epoch_ += 1000)).first;
  }
  auto orders = it->second.turn(node->key, said, Clock::now());
  std::size_t pieces = 0;
  for (const auto& [url, plan] : urls_) pieces += plan.piece_count();
  const bool full = pieces > most_url_pieces;
  if (it->second.is_over() || full) urls_.erase(it);
  if (full) throw Error(Status::failed, "too much is on its way from URLs; try again later");
  return orders;
}

Task<Located> Tracker::locate(ChannelPtr channel, Locate question) {
  const auto* asker = node_of(channel);
  const NodeKey own = asker != nullptr ? asker->key : 0;
  Located out;
  std::set<NodeKey> mentioned;
  if (question.files.size() > page_entries) question.files.resize(page_entries);
  for (const auto& file : question.files) {
    auto& holders = out.files.emplace_back().nodes;
    for (const auto& copy : copies(file.path)) {
      if (copy.node == own || copy.kind != Kind::file || copy.size != file.size) continue;
      if (file.id.is_set() ? copy.id != nullptr && *copy.id == file.id : copy.mtime == file.mtime)
        holders.push_back(copy.node);
    }
    if (holders.size() > most_located) {
      std::ranges::shuffle(holders, random_);
      holders.resize(most_located);
    }
    mentioned.insert(holders.begin(), holders.end());
  }
  for (const auto key : mentioned)
    if (const auto it = nodes_.find(key); it != nodes_.end())
      out.nodes.push_back(reference(it->second, channel->remote()));
  co_return out;
}

Task<Relayed> Tracker::relay(ChannelPtr channel, Relay asked) {
  // Who asks is this tracker's word, not the asker's.
  const auto* asker = node_of(channel);
  asked.order.asker = asker != nullptr ? name_of(*asker) : std::string();
  co_await wait_until_settled(false);
  const auto reply = std::make_shared<Relayed>();
  Together orders(io_);
  auto pass_on = [](std::string name, ChannelPtr to, Order order, std::shared_ptr<Relayed> all) -> Task<void> {
    Relayed::Answer answer;
    answer.node = name;
    try {
      Ordered done = co_await to->request(order, order_limit);
      if (done.body.size() > most_answer_bytes) throw Error(Status::failed, "answered at too great length");
      answer.body = std::move(done.body);
    } catch (const Error& error) {
      answer.status = static_cast<int>(error.status());
      answer.error = error.what();
    }
    all->answers.push_back(std::move(answer));
  };
  std::set<std::string> wanted(asked.nodes.begin(), asked.nodes.end());
  std::set<std::string> found;
  for (const auto& [key, node] : nodes_) {
    const auto name = name_of(node);
    if (!wanted.empty() && !wanted.contains(name) && !wanted.contains(node.hello.instance)) continue;
    found.insert(name);
    found.insert(node.hello.instance);
    orders.add(pass_on(name, node.channel, asked.order, reply));
  }
  for (const auto& name : wanted) {
    if (found.contains(name)) continue;
    Relayed::Answer answer;
    answer.node = name;
    answer.status = static_cast<int>(absent_.contains(name) ? Status::unreachable : Status::not_found);
    answer.error = no_such_node(name);
    reply->answers.push_back(std::move(answer));
  }
  co_await orders.all();
  for (const auto& [name, since] : absent_)
    if (wanted.empty()) reply->absent.push_back(name);
  std::ranges::sort(reply->answers, {}, &Relayed::Answer::node);
  co_return std::move(*reply);
}

Task<Listed> Tracker::list(ChannelPtr, List question) {
  co_await wait_until_settled(false);
  Listed out;
  std::string last;
  const auto add = [&](const std::string& path) {
    const auto all = copies(path);
    if (all.empty()) return true;
    ListItem item;
    const auto choice = choose_version(all, {});
    // An undecided choice still has a newest mtime to show.
    const auto& shown = choice.chosen ? *choice.chosen : *std::ranges::max_element(all, {}, &Copy::mtime);
    item.entry = entry_of(path, shown);
    item.holders = static_cast<int>(all.size());
    const auto versions = count_versions(all);
    item.versions = versions.certain;
    item.unsure = versions.unsure;
    out.items.push_back(std::move(item));
    last = path;
    return out.items.size() < page_entries;
  };
  const What what{question.pattern, question.pattern, question.glob};
  if (what.is_glob)
    if (const auto fault = glob_fault(what.pattern); !fault.empty())
      throw Error(Status::usage, printable(what.pattern) + ": the path " + std::string(fault));
  const Catalog::Visit visit = add;
  const auto page = [&]() -> Task<void> {
    if (what.is_glob || question.recursive) {
      co_await walk(what, question.after, visit);
      co_return;
    }
    // A file is listed as itself, a directory as what is in it.
    const auto own = copies(what.pattern);
    const bool directory = what.pattern.empty() || own.empty() ||
                           std::ranges::any_of(own, [](const Copy& c) { return c.kind == Kind::directory; });
    if (directory)
      catalog_.list(what.pattern, question.prefix, question.after, add);
    else if (question.after.empty())
      add(what.pattern);
  };
  co_await page();
  if (out.items.empty() && question.after.empty() && question.prefix.empty()) {
    co_await wait_until_settled(true);
    co_await page();
    const bool empty_directory = !what.is_glob && (what.pattern.empty() || !copies(what.pattern).empty());
    if (out.items.empty() && !empty_directory) throw Error(Status::not_found, no_such(what.pattern, nodes_.size()));
  }
  if (out.items.size() >= page_entries) out.next = last;
  co_return out;
}

Task<Versions> Tracker::info(ChannelPtr, Info question) {
  if (!server_ || !catalog_.contains(question.path)) co_await wait_until_settled(false);
  if (!is_mesh_path(question.path))
    throw Error(Status::usage, printable(question.path) + ": the path " + std::string(path_fault(question.path)));
  auto all = copies(question.path);
  if (all.empty()) {
    co_await wait_until_settled(true);
    co_await probe(question.path);
    all = copies(question.path);
  }
  if (all.empty()) throw Error(Status::not_found, no_such(question.path, nodes_.size()));
  const auto choice = choose_version(all, {});
  Versions out;
  for (const auto& copy : all) {
    auto entry = entry_of(question.path, copy);
    auto it = std::ranges::find_if(out.versions, [&](const VersionInfo& v) {
      if (v.entry.kind != entry.kind) return false;
      if (entry.kind == Kind::file) return entry.id.is_set() && v.entry.id == entry.id;
      return v.entry.target == entry.target;
    });
    if (it == out.versions.end()) {
      out.versions.push_back({entry, false, {}});
      it = std::prev(out.versions.end());
    }
    if (entry.mtime > it->entry.mtime) it->entry = entry;
    it->nodes.push_back(node_name(copy.node));
    if (choice.chosen && choice.chosen->node == copy.node) it->chosen = true;
  }
  co_return out;
}

Task<StatusReply> Tracker::status(ChannelPtr, StatusAsk) {
  const auto reply = std::make_shared<StatusReply>();
  Together asked(io_);
  auto ask = [](std::string name, ChannelPtr channel, std::shared_ptr<StatusReply> all) -> Task<void> {
    NodeStatus one;
    one.node = name;
    try {
      const StatusAsk question;
      StatusReply answer = co_await channel->request(question, status_limit);
      if (!answer.nodes.empty()) one = std::move(answer.nodes.front());
      one.node = name;
    } catch (const Error& error) {
      one.error = error.what();
    }
    all->nodes.push_back(std::move(one));
  };
  for (const auto& [key, node] : nodes_) asked.add(ask(name_of(node), node.channel, reply));
  co_await asked.all();
  std::ranges::sort(reply->nodes, {}, &NodeStatus::node);
  co_return std::move(*reply);
}

Task<TorrentFile> Tracker::torrent_for(ChannelPtr channel, TorrentAsk question) {
  if (options_.access.keys)
    throw Error(Status::refused, printable(question.path) +
                                     ": other clients have no key to this mesh; on a node that has it, --for 1h makes "
                                     "a guest torrent");
  Resolve ask;
  ask.pattern = question.path;
  const Resolved found = co_await resolve(channel, ask);
  if (found.files.empty() || found.files[0].entry.path != question.path)
    throw Error(Status::not_found, no_such(question.path, nodes_.size()));
  const auto& file = found.files[0];
  if (!file.problem.empty()) throw Error(Status::failed, printable(question.path) + ": " + file.problem);
  if (file.entry.kind != Kind::file)
    throw Error(Status::usage, printable(question.path) + ": a torrent is made of a file, and this is none");
  if (file.entry.size == 0)
    throw Error(Status::usage, printable(question.path) + ": is empty, and a torrent has at least one byte");
  std::string trouble = "no node holds it any more";
  for (const auto key : file.holders) {
    const auto it = nodes_.find(key);
    if (it == nodes_.end()) continue;
    try {
      Make make;
      make.files.push_back(file.entry);
      make.foreign = true;
      const Made made = co_await it->second.channel->request(make, make_limit);
      if (made.files.size() != 1 || made.errors.size() != 1) continue;
      if (!made.errors[0].empty()) throw Error(Status::failed, made.errors[0]);
      TorrentFile out;
      const std::string unknown;
      out.torrent = co_await load_foreign(key, made.files[0].id, made.files[0].size, unknown);
      out.file_name = std::string(last_part(question.path));
      if (!server_) co_return out;  // nobody could announce to it
      // This tracker, as the asker reached it.
      const auto here = channel->local();
      out.trackers.push_back(here.empty() ? to_text(server_->local()) : here);
      co_return out;
    } catch (const Error& error) {
      trouble = "on " + node_name(key) + ": " + error.what();
    }
  }
  throw Error(Status::failed, printable(question.path) + ": " + trouble);
}

// --- BEP 3
// ------------------------------------------------------------------------------------------------------------

Task<HttpReply> Tracker::serve_http(std::string target, asio::ip::address remote) {
  if (auto reply = answer_now(target, remote)) co_return std::move(*reply);
  HttpReply reply;
  std::string fault;
  const auto query = parse_announce(std::string_view(target).substr(target.find('?') + 1), fault);
  if (!may_ask(remote))
    reply.body = failure_reply(too_many);
  else if (query)
    co_await ask_for(query->infohash);
  if (reply.body.empty() && query)
    reply.body = by_infohash_.contains(query->infohash) ? announce(*query, remote) : failure_reply(not_here);
  co_return reply;
}

bool Tracker::may_ask(const asio::ip::address& remote) {
  return remote.is_loopback() || announces_.take(counted_as(remote), Clock::now());
}

std::optional<HttpReply> Tracker::answer_now(std::string_view target, const asio::ip::address& remote) {
  HttpReply reply;
  if (options_.access.keys) {
    // /TOKEN/announce. Without the token there is nothing to be learnt here but that it runs.
    if (target == "/healthz") {
      reply.body = "ok\n";
      return reply;
    }
    const auto slash = target.find('/', 1);
    if (slash == std::string_view::npos || !options_.access.keys->is_token(target.substr(1, slash - 1)))
      return HttpReply{403, "this mesh has a key\n"};
    target.remove_prefix(slash);
  }
  const auto mark = std::min(target.find('?'), target.size());
  const auto path = target.substr(0, mark);
  const auto query = target.substr(std::min(mark + 1, target.size()));
  if (path == "/announce") {
    std::string fault;
    const auto asked = parse_announce(query, fault);
    if (asked && !by_infohash_.contains(asked->infohash)) {
      const auto it = unknown_.find(asked->infohash);
      if (it == unknown_.end() || it->second <= Clock::now()) return std::nullopt;
      fault = not_here;
    }
    if (!may_ask(remote)) fault = too_many;
    reply.body = fault.empty() ? announce(*asked, remote) : failure_reply(fault);
  } else if (path == "/scrape") {
    reply.body = may_ask(remote) ? scrape(query) : failure_reply(too_many);
  } else if (path == "/healthz") {
    const auto registered = std::ranges::count_if(nodes_, [](const auto& pair) { return pair.second.registered; });
    reply.body = "ok nodes=" + std::to_string(nodes_.size()) + " registered=" + std::to_string(registered) +
                 " paths=" + std::to_string(catalog_.path_count()) +
                 " copies=" + std::to_string(catalog_.copy_count()) + " swarms=" + std::to_string(swarms_.size()) +
                 "\n";
  } else {
    reply = {404, "not found; this tracker serves /announce, /scrape, /healthz and the channel /control\n"};
  }
  return reply;
}

/// Asks the nodes for a torrent of which no swarm is loaded, so that the first peer of another BitTorrent client finds
/// a seed at once; notes that nobody has it otherwise.
Task<void> Tracker::ask_for(InfoHash infohash) {
  const auto found = std::make_shared<bool>(false);
  Together asked(io_);
  auto ask = [](Tracker* self, NodeKey key, ChannelPtr channel, InfoHash hash,
                std::shared_ptr<bool> hit) -> Task<void> {
    Load request;
    request.infohash = hash;
    const Torrent torrent = co_await channel->request(request, seconds(2));
    if (torrent.infohash != hash || !self->nodes_.contains(key)) co_return;
    self->seeds_foreign(key, torrent);
    *hit = true;
  };
  for (const auto& [key, node] : nodes_) asked.add(ask(this, key, node.channel, infohash, found));
  co_await asked.all();
  if (*found) co_return;
  if (unknown_.size() > 10'000) unknown_.clear();
  unknown_[infohash] = Clock::now() + seconds(10);
}

std::unordered_map<ContentId, Tracker::Swarm>::iterator Tracker::swarm_of(const InfoHash& infohash) {
  const auto id = by_infohash_.find(infohash);
  return id == by_infohash_.end() ? swarms_.end() : swarms_.find(id->second);
}

SwarmCounts Tracker::counts(const InfoHash& infohash) {
  SwarmCounts out = announced_.counts(infohash, Clock::now());
  const auto swarm = swarm_of(infohash);
  if (swarm == swarms_.end()) return out;
  auto& nodes = swarm->second.counts;
  if (const auto now = Clock::now(); now - swarm->second.counted > seconds(1)) {
    swarm->second.counted = now;
    nodes = {};
    for (const auto key : swarm->second.ready)
      ++(has_all(swarm->first, swarm->second, key) ? nodes.complete : nodes.incomplete);
  }
  out.complete += nodes.complete;
  out.incomplete += nodes.incomplete;
  return out;
}

std::string Tracker::announce(const AnnounceQuery& query, const asio::ip::address& remote) {
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
  if (const auto swarm = swarm_of(query.infohash); swarm != swarms_.end()) {
    std::vector<HandoutMember> members;
    if (comes && now - swarm->second.spread >= spread_every) spread(swarm->first);
    for (const auto key : swarm->second.ready) members.push_back({key, has_all(swarm->first, swarm->second, key)});
    for (const auto key : hand_out(members, {}, random_)) {
      const auto node = nodes_.find(key);
      if (node == nodes_.end()) continue;
      // Transmission tries uTP alone for minutes; a connection from this side is TCP.
      if (comes) meet_soon(key, swarm->first, to_text(self));
      for (const auto& address : addresses(node->second, remote)) {
        boost::system::error_code ec;
        const auto parsed = asio::ip::make_address(address, ec);
        if (!ec && peers.size() < wanted) peers.push_back({{parsed, node->second.hello.peer_port}, {}});
      }
    }
  }
  announced_.choose(query.infohash, self, wanted, now, random_, peers);
  return announce_reply(query, peers, counts(query.infohash), announce_interval);
}

/// Other clients arrive in bunches; one note for a bunch.
void Tracker::meet_soon(NodeKey node, const ContentId& id, std::string peer) {
  const bool due = !meets_.empty();
  if (auto& peers = meets_[{node, id}]; peers.size() < most_peers) peers.push_back(std::move(peer));
  if (due) return;
  auto tell = [](Tracker* self) -> Task<void> {
    co_await sleep_for(milliseconds(20));
    for (auto& [who, peers] : std::exchange(self->meets_, {}))
      if (const auto it = self->nodes_.find(who.first); it != self->nodes_.end())
        it->second.channel->note(Meet{who.second, std::move(peers)});
  };
  spawn(io_, tell(this));
}

std::string Tracker::scrape(std::string_view query) {
  std::string fault;
  const auto hashes = parse_scrape(query, fault);
  if (!hashes) return failure_reply(fault);
  std::vector<std::pair<InfoHash, SwarmCounts>> out;
  for (const auto& hash : *hashes)
    if (by_infohash_.contains(hash) || announced_.contains(hash)) out.emplace_back(hash, counts(hash));
  return scrape_reply(out);
}

}  // namespace mesh
