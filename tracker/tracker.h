// The tracker service: the catalog of the mesh's files, the swarms that move them, and BEP 3 announces for any client.
//
// It holds no truth: every fact comes from a node that is connected now, so a restarted tracker is whole again once its
// nodes have registered again, which they do by themselves. All of it runs on the one thread of its io_context.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "announced.h"
#include "core/catalog.h"
#include "core/rate_limit.h"
#include "peer_handout.h"
#include "url_plan.h"
#include "wire/announce.h"
#include "wire/channel.h"
#include "wire/flow.h"
#include "wire/server.h"

namespace mesh {

struct TrackerOptions {
  std::optional<asio::ip::tcp::endpoint> listen;  ///< none: only channels that `serve` is given
  ConnectionLimits connections;
  Access access;                              ///< whom it is for
  std::size_t max_paths = 5'000'000;          ///< of one node, of path_bytes on average at most
  std::size_t max_announced_peers = 200'000;  ///< of other BitTorrent clients, over all swarms
  int max_announces = 50;                     ///< and scrapes, a second, of one address but loopback
};

class Tracker {
 public:
  /// Listens at once; throws Error where it cannot.
  Tracker(asio::io_context& io, TrackerOptions options);
  [[nodiscard]] asio::ip::tcp::endpoint local() const { return server_->local(); }
  /// Answers on a control channel until it ends.
  Task<void> serve(ChannelPtr channel);

 private:
  using Clock = std::chrono::steady_clock;

  struct Node {
    NodeKey key = 0;
    Hello hello;
    ChannelPtr channel;
    bool registered = false;  ///< its whole inventory has arrived
    Clock::time_point since;
    std::size_t paths = 0;  ///< in the catalog
    std::size_t path_bytes = 0;
    std::size_t swarms = 0;     ///< that it is in
    bool has_too_many = false;  ///< it was told
  };
  /// A swarm that the mesh's nodes are in. Exists while any of them has the torrent loaded.
  struct Swarm {
    InfoHash infohash;
    std::int64_t size = 0;
    std::string roots;  ///< as in Torrent, once a node has told it
    ContentId foreign;  ///< set, where that is known: what it is to other clients
    std::string info;   ///< of a foreign one
    bool is_foreign = false;
    std::set<NodeKey> ready;
    std::set<NodeKey> sharing;  ///< those of `ready` that share stripes
    bool plan_due = false;
    SwarmCounts counts;  ///< as they were at `counted`
    Clock::time_point counted{};
    Clock::time_point spread{};  ///< when more holders were asked to seed a foreign one
    std::set<NodeKey> asked;     ///< to do that
  };

  /// Whose a name is: the first node's that comes with it, until that has been gone for a while.
  struct Owner {
    std::string instance;
    std::optional<Clock::time_point> left;
  };

  Handlers make_handlers();
  Task<HttpReply> serve_http(std::string target, asio::ip::address remote);
  /// Nothing where nodes have to be asked first whether they know the announced torrent.
  std::optional<HttpReply> answer_now(std::string_view target, const asio::ip::address& remote);

  Welcome enlist(const ChannelPtr& channel, Hello hello);
  void claim_name(const Hello& hello);
  [[nodiscard]] static bool is_free(const Owner& owner);
  /// False where the node has too many paths already.
  bool put(Node& node, const FileEntry& entry);
  static void count(Node& node, const Catalog::Change& change);
  void take_inventory(const ChannelPtr& channel, InventoryDelta delta);
  void drop_node(NodeKey key);

  Task<void> wait_until_settled(bool nothing_found);
  Task<void> sweep();
  Task<void> walk(What what, std::string after, Catalog::Visit visit);
  Task<Resolved> resolve(ChannelPtr channel, Resolve question);
  Task<bool> probe(std::string path);
  /// Why a node could not hash a path, by path and node.
  using Refusals = std::map<std::string, std::map<NodeKey, std::string>>;
  Task<void> hash(std::map<NodeKey, Make> work, std::shared_ptr<Refusals> refusals);
  Task<Torrent> join(ChannelPtr channel, Join question);
  void seeds(NodeKey node, const Torrent& torrent);
  void seeds_foreign(NodeKey node, const Torrent& torrent);
  Task<Torrent> ask_to_load(NodeKey node, Load request, std::chrono::seconds limit);
  Task<Torrent> load(NodeKey node, ContentId id, std::int64_t size);
  Task<Torrent> load_foreign(NodeKey node, ContentId id, std::int64_t size, std::string info);
  Task<void> help_with(NodeKey node, ContentId own);
  void spread(const ContentId& own);
  /// Whether `node`, which is ready in this swarm, has all of it.
  [[nodiscard]] bool has_all(const ContentId& id, const Swarm& swarm, NodeKey node) const {
    return swarm.is_foreign || catalog_.is_holder(id, swarm.size, node);
  }
  void meet_getters(NodeKey node, const ContentId& id);
  Task<Torrent> seeded(ContentId id, std::int64_t size, NodeKey asker);
  Task<Introduced> introduce(ChannelPtr channel, Ready question);
  [[nodiscard]] std::vector<std::uint64_t> sharing(const ContentId& id, const Swarm& swarm) const;
  void plan_soon(const ContentId& id);
  void enter(NodeKey node, Swarm& swarm);
  void leave(NodeKey node, const ContentId& id);

  UrlOrders url_turn(const ChannelPtr& channel, const UrlTurn& said);
  Task<Located> locate(ChannelPtr channel, Locate question);
  Task<Relayed> relay(ChannelPtr channel, Relay asked);
  Task<Listed> list(ChannelPtr channel, List question);
  Task<Versions> info(ChannelPtr channel, Info question);
  Task<StatusReply> status(ChannelPtr channel, StatusAsk question);
  Task<TorrentFile> torrent_for(ChannelPtr channel, TorrentAsk question);

  std::string announce(const AnnounceQuery& query, const asio::ip::address& remote);
  std::string scrape(std::string_view query);
  Task<void> ask_for(InfoHash infohash);
  /// One announce or scrape more; false where the address has had its share.
  bool may_ask(const asio::ip::address& remote);
  void meet_soon(NodeKey node, const ContentId& id, std::string peer);

  [[nodiscard]] Node* node_of(const ChannelPtr& channel);
  [[nodiscard]] std::vector<Copy> copies(std::string_view path) const;
  [[nodiscard]] std::vector<std::string> addresses(const Node& node, const asio::ip::address& asker) const;
  [[nodiscard]] NodeRef reference(const Node& node, const asio::ip::address& asker) const;
  [[nodiscard]] std::unordered_map<ContentId, Swarm>::iterator swarm_of(const InfoHash& infohash);
  [[nodiscard]] SwarmCounts counts(const InfoHash& infohash);
  /// What users call it: its own name, or, where that is another node's, a part of its instance besides.
  [[nodiscard]] std::string name_of(const Node& node) const;
  [[nodiscard]] std::string node_name(NodeKey key) const;
  /// Why no node is called `name`, for an error.
  [[nodiscard]] std::string no_such_node(const std::string& name) const;

  asio::io_context& io_;
  TrackerOptions options_;
  Clock::time_point started_ = Clock::now();
  std::mt19937 random_{std::random_device{}()};
  Catalog catalog_;
  std::set<NodeKey> gone_;  ///< nodes of which the catalog may still have something; keys are not used again
  NodeKey next_key_ = 1;
  std::map<NodeKey, Node> nodes_;
  std::map<std::string, int> names_;  ///< how many of `nodes_` have each name
  std::map<std::string, Owner> owners_;
  std::map<std::string, Clock::time_point> absent_;  ///< names of nodes that were here, and since when they are not
  std::unordered_map<const Channel*, NodeKey> by_channel_;
  std::map<const Channel*, Clock::time_point> silent_;  ///< without a server: channels that nobody said hello on yet
  std::unordered_map<ContentId, Swarm> swarms_;
  std::unordered_map<InfoHash, ContentId> by_infohash_;
  AnnouncedPeers announced_;
  std::map<std::pair<NodeKey, ContentId>, std::vector<std::string>> meets_;  ///< to be told in a moment
  Allowances<asio::ip::address> announces_;
  std::unordered_map<InfoHash, Clock::time_point> unknown_;  ///< infohashes that no node knew a moment ago
  std::map<ContentId, UrlPlan> urls_;
  std::int64_t url_epoch_ = std::chrono::system_clock::now().time_since_epoch() / std::chrono::microseconds(1);
  SingleFlight<std::pair<NodeKey, ContentId>, Torrent> loads_;
  SingleFlight<std::pair<NodeKey, std::string>, FileEntry> makes_;
  Handlers handlers_;
  std::optional<Server> server_;
};

}  // namespace mesh
