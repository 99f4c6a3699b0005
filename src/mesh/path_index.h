// The mesh without a tracker: the path index (docs/decisions/0024), as this node uses it and takes part in it.
//
// For each directory the three nodes with the highest weights are its keepers (core/keeper_ring.h), among those that
// gossip knows: a one-hop DHT (Gupta, Liskov and Rodrigues, HotOS 2003). Each node tells the keepers of its directories
// what it has there (index_teller), whether or not there are trackers. When no tracker answers a question, it goes to
// one within this process, the view, which asks the keepers (index_walk) and visits the nodes that it has to ask
// something else. Swarms meet at keepers, too (swarm_meetings). All on the node's loop.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "core/keeper_ring.h"
#include "core/log.h"
#include "core/rate_limit.h"
#include "mesh/embedded_tracker.h"
#include "mesh/gossip.h"
#include "mesh/index_teller.h"
#include "mesh/index_walk.h"
#include "mesh/keeper_links.h"
#include "mesh/swarm_meetings.h"
#include "mesh/tracker_links.h"
#include "wire/workers.h"

namespace mesh {

class PathIndex {
 public:
  struct Facts {
    std::function<Hello()> hello;
    std::function<std::string(const Channel&)> prove;            ///< Hello::proof, for this channel
    std::function<void(const Channel&, Welcome&)> prove_itself;  ///< Welcome::proof and its key
    std::function<bool()> scan_complete;
    std::function<std::vector<FileEntry>(std::string_view after, std::size_t limit)> page;
    std::function<std::vector<FileEntry>(std::string_view directory, std::string_view after, std::size_t limit)> list;
    std::function<std::optional<FileEntry>(std::string_view path)> find;
    std::function<void(const std::string& instance, const Welcome&)> taken;
    std::function<void(const ContentId& id, const Introduced&)> introduced;
    Log log;
  };
  struct Options {
    std::string name;
    EmbeddedTrackerFactory embedded_tracker;
    Access access;
    std::chrono::milliseconds tells_after{0};  ///< of its life: one that is here for a command may be gone by then
  };
  /// `handlers`: what this node answers to other nodes; `tracker_handlers`: to a tracker, and to what stands in for
  /// one. All references must outlive this.
  PathIndex(Workers& workers, Options options, Facts facts, Gossip& gossip, TrackerLinks& links,
            const Handlers& tracker_handlers, const Handlers& handlers);
  ~PathIndex();
  PathIndex(const PathIndex&) = delete;
  PathIndex& operator=(const PathIndex&) = delete;

  /// A channel that answers as a tracker's does, to what the other nodes say; null when there are none. One that asks
  /// with little time gets none before it is known that any can be reached.
  Task<ChannelPtr> open(std::chrono::milliseconds limit);
  /// Whether `channel` is one of `open`, and not a tracker's.
  [[nodiscard]] bool is_view(const ChannelPtr& channel) const { return channel && channel == channel_; }

  /// What another node wants of this one, and not of whoever was here before, by the path at which it opens a channel.
  enum class Wanted { nothing, registration, index };
  [[nodiscard]] Wanted wanted(const std::string& path) const;
  /// One for the index: answers until it ends.
  Task<void> serve(ChannelPtr channel) { return keeper_.serve(std::move(channel)); }
  /// The answer to an announce of another BitTorrent client, a query as in its URL, for this infohash.
  Task<std::string> announce(std::string query, InfoHash infohash, asio::ip::address remote);
  /// Where clients of a swarm may announce themselves: its keepers, "host:port" of their channels.
  [[nodiscard]] std::vector<std::string> announce_addresses(const InfoHash& infohash);

  /// The first scan is over.
  void scan_completed();
  void changed(const InventoryDelta& delta);
  /// A torrent of this node is there for other clients, or is loaded no more.
  void seeds(JoinSwarm ready);
  void unloaded(const ContentId& id) { meetings_.leave(id); }
  void identity_changed();
  void close();

 private:
  [[nodiscard]] std::vector<Member> keepers(std::uint64_t key, std::size_t count);
  [[nodiscard]] std::vector<Member> keepers_to_tell(std::uint64_t key);
  void look_at_ring();
  [[nodiscard]] NodeRef reference(const Member& member) const;
  [[nodiscard]] Beyond beyond();
  Task<void> make();
  Task<bool> reach_any();
  Task<void> tend_view();
  Task<void> tend();

  Workers& workers_;
  Options options_;
  Facts facts_;
  Gossip& gossip_;
  TrackerLinks& tracker_links_;
  const Handlers& tracker_handlers_;
  std::mt19937 random_{std::random_device{}()};
  KeeperRing ring_;
  std::uint64_t ring_of_ = 0;  ///< Gossip::changes
  EmbeddedTracker keeper_;
  Allowances<asio::ip::address> announces_{50};  ///< of each address, a second
  KeeperLinks keeper_links_;
  IndexTeller teller_;
  SwarmMeetings meetings_;
  IndexWalk walk_;
  EmbeddedTracker view_;
  ChannelPtr channel_;  ///< this node's own, to the view; open while that is
  std::chrono::steady_clock::time_point used_{};
  std::chrono::steady_clock::time_point failed_{};
  bool opening_ = false;
  Event opened_;
  bool closed_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace mesh
