// A node of the mesh: its files dir, its seat in the swarms, its channels. What meshseed is, and what meshget becomes
// for a while where no daemon runs.
//
// One node per state directory, held by a lock. All of it runs on one thread, the io_context's; blocking work goes to a
// small pool and comes back.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <set>
#include <string>

#include "core/log.h"
#include "disk/state_dir.h"
#include "mesh/rivals.h"
#include "node/node_options.h"
#include "node/self_watch.h"
#include "node/throughput.h"
#include "wire/channel.h"
#include "wire/flow.h"
#include "wire/http_reply.h"
#include "wire/identity.h"
#include "wire/workers.h"

namespace mesh {

class BlockTeller;
class CheckUp;
class GetQueue;
class HttpGateway;
class HttpListener;
class Keeper;
class Getter;
class Guests;
class Library;
class LocalServer;
class MountTeller;
class NodeChannels;
class Differ;
class Gossip;
class Seeder;
class PackMaker;
class Page;
class PathIndex;
class RangeTeller;
class Prefetcher;
class ReadCache;
class ReadProfiles;
struct ReadFrom;
class RemoteCommands;
class StoreCommands;
class Room;
class Server;
class Session;
class Spools;
class Streamer;
class TrackerLinks;
struct SwarmTorrent;
class Transfers;

class Node {
 public:
  /// What a node that ends leaves to the one that begins in its place.
  struct Legacy {
    IdentityPtr identity;                 ///< null: nobody was here before
    std::vector<Get> gets;                ///< that had not ended
    std::vector<std::string> trackers{};  ///< that it was told to have in place of those that it began with; or none
  };
  /// Opens the files dir and listens; `state` is take_state's, `options` are checked. Throws Error.
  Node(asio::io_context& io, NodeOptions options, std::unique_ptr<StateDir> state, Log log, const Legacy& legacy);
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  /// Saves what is under way and lets go of everything; returns when it is safe to destroy the node.
  Task<void> stop();
  /// For a node that lives for one command: returns when nobody has needed it for as long as it was told to stay.
  Task<void> until_unneeded();
  /// Returns when the path of the files directory leads elsewhere: this node is to end, and another one to begin there.
  Task<void> until_it_begins_anew();
  [[nodiscard]] Legacy legacy() const;

  [[nodiscard]] std::string describe() const;
  /// Whether it ended because it could not go on.
  [[nodiscard]] bool has_failed() const { return failed_; }
  /// Whether it ended for that.
  [[nodiscard]] bool begins_anew() const { return begins_anew_; }

 private:
  void listen();
  void listen_locally();
  void listen_for_http();
  [[nodiscard]] std::string metrics();
  void listen_to_library();
  [[nodiscard]] std::unique_ptr<TrackerLinks> make_links();
  [[nodiscard]] std::unique_ptr<Gossip> make_gossip();
  [[nodiscard]] std::unique_ptr<PathIndex> make_index();
  Task<HttpReply> serve_http(std::string target, asio::ip::address remote, asio::ip::address local);
  bool is_in_place();
  bool look_after_state();
  void check_head() const;
  void give_up_identity();
  void remember_identity();
  Hello hello() const;
  [[nodiscard]] NodeRef as_teller() const;
  [[nodiscard]] std::vector<std::string> guest_addresses(const Hello& self) const;
  void serve_mesh();
  void serve_commands();
  [[nodiscard]] std::unique_ptr<MountTeller> make_mount_teller();
  [[nodiscard]] ClusterTold cluster() const;
  void set_trackers(const std::vector<std::string>& trackers);
  Task<void> call(Call asked);
  Task<void> serve_channel(std::string path, ChannelPtr channel, const Handlers& handlers);
  Task<void> tick();
  NodeStatus status() const;
  [[nodiscard]] Glance glance(bool with_hour) const;
  [[nodiscard]] std::vector<Giver> givers_of(const SwarmTorrent& torrent) const;
  Task<Glances> glance_at_mesh(GlanceAsk asked);
  void count_throughput();
  /// Where no tracker answers, whose word an answer is; else empty.
  [[nodiscard]] std::string view_of(const ChannelPtr& tracker, std::size_t nodes, std::size_t silent) const;
  [[nodiscard]] ReadFrom read_from();

  asio::io_context& io_;
  std::unique_ptr<StateDir> state_;
  NodeOptions options_;
  Log log_;
  IdentityPtr identity_;
  std::vector<std::string> former_;  ///< instances that this node has had
  Rivals rivals_{[this] { return identity_; }, [this] { give_up_identity(); }};
  std::unique_ptr<Workers> workers_;
  std::unique_ptr<Library> library_;
  std::unique_ptr<Room> room_;
  std::unique_ptr<Session> session_;
  Handlers mesh_handlers_;     ///< for nodes
  Handlers tracker_handlers_;  ///< for trackers: the same, and orders
  Handlers command_handlers_;
  std::unique_ptr<TrackerLinks> links_;
  std::unique_ptr<NodeChannels> node_channels_;
  std::unique_ptr<Seeder> seeder_;
  std::unique_ptr<BlockTeller> block_teller_;
  std::unique_ptr<PackMaker> pack_maker_;
  std::unique_ptr<Guests> guests_;
  std::unique_ptr<Transfers> transfers_;
  std::unique_ptr<Spools> spools_;
  std::unique_ptr<ReadCache> read_cache_;
  std::unique_ptr<ReadProfiles> profiles_;
  std::unique_ptr<Prefetcher> prefetcher_;
  std::unique_ptr<CheckUp> check_up_;
  std::unique_ptr<RangeTeller> range_teller_;
  std::unique_ptr<Getter> getter_;
  std::unique_ptr<Differ> differ_;
  std::unique_ptr<Streamer> streamer_;
  std::unique_ptr<GetQueue> gets_;
  std::unique_ptr<StoreCommands> store_commands_;
  std::unique_ptr<RemoteCommands> remote_commands_;
  std::unique_ptr<MountTeller> mounts_;
  std::unique_ptr<Keeper> keeper_;
  std::unique_ptr<Gossip> gossip_;
  std::unique_ptr<PathIndex> index_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<HttpListener> http_;
  std::unique_ptr<HttpGateway> gateway_;
  std::unique_ptr<Page> page_;
  SelfWatch watch_;
  Throughput throughput_;
  std::unique_ptr<LocalServer> local_;
  std::set<ChannelPtr> channels_;     ///< that others opened
  std::multiset<std::string> calls_;  ///< to nodes that could not reach this one, by where they are
  bool failed_ = false;
  bool missing_ = false;  ///< the files directory was, when it was looked at last
  bool begins_anew_ = false;
  Event lost_place_;
  int commands_ = 0;        ///< connected to the local socket
  bool was_asked_ = false;  ///< by a command, once
  std::chrono::steady_clock::time_point needed_ = std::chrono::steady_clock::now();
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace mesh
