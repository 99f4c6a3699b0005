// The mesh without a tracker: whom this node knows, and what stands in for a tracker when none answers.
//
// Nodes greet each other now and then and pass on whom they know (core/member_list.h); the list outlives a restart.
// When no tracker answers a question, this node opens a channel to each of the others, on which they register as they
// would with a tracker, and the question goes to a tracker within this process (NodeOptions::embedded_tracker), which
// knows nothing but what they say. It is closed again when nobody has asked anything for a while. All on the node's
// loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>

#include "core/log.h"
#include "core/member_list.h"
#include "mesh/discover.h"
#include "mesh/embedded_tracker.h"
#include "mesh/rivals.h"
#include "mesh/tracker_links.h"
#include "wire/identity.h"
#include "wire/workers.h"

namespace mesh {

/// Of a node's --listen.
inline constexpr std::uint16_t default_peer_port = 6881;

class Gossip {
 public:
  /// What it takes from the rest of the node.
  struct Facts {
    std::function<Hello()> hello;
    std::function<bool()> scan_complete;
    /// The list of nodes, as it was remembered; and to remember it (blocks, any thread).
    std::function<std::string()> recall;
    std::function<void(const std::string&)> remember;
    std::function<IdentityPtr()> identity;
    Rivals* rivals = nullptr;
    Log log;
  };
  struct Options {
    std::string name;
    std::vector<std::string> peers;           ///< other nodes, as HOST:PORT of their --listen
    bool discover = false;                    ///< by broadcast
    EmbeddedTrackerFactory embedded_tracker;  ///< may be unset
    Access access;
  };
  /// `tracker_handlers`: what it answers to what stands in for a tracker; must outlive this. `handlers`: where it adds
  /// what it answers to those who greet it.
  Gossip(Workers& workers, Options options, Facts facts, TrackerLinks& links, const Handlers& tracker_handlers,
         Handlers& handlers);
  ~Gossip();
  Gossip(const Gossip&) = delete;
  Gossip& operator=(const Gossip&) = delete;

  /// How many other nodes this one knows of.
  [[nodiscard]] std::size_t known() const { return members_.size(); }
  /// Others that a tracker named.
  void welcomed(const Welcome& welcome);
  /// A channel that answers as a tracker's does, to what the nodes that can be reached say; null when there are none.
  /// One that asks with little time gets none before the view is open.
  Task<ChannelPtr> open(std::chrono::milliseconds limit);
  /// Whose word `channel` gives, in words; empty when it is a tracker's.
  [[nodiscard]] std::string describe(const ChannelPtr& channel) const;
  /// Whether on `path` another node asks this one, and not whoever was here before, to register with it.
  [[nodiscard]] bool is_asked(const std::string& path) const;
  /// This node's identity is another one from now on.
  void identity_changed();
  /// For good; what was learnt is saved.
  Task<void> close();

 private:
  struct PeerLink;
  using PeerLinkPtr = std::shared_ptr<PeerLink>;

  [[nodiscard]] Member self() const;
  /// Not this node itself, nor, in a mesh that stays on loopback, anybody elsewhere.
  [[nodiscard]] bool may_ask(const std::string& address, std::uint16_t port) const;
  void hear(const Greeted& said, const asio::ip::address& from);
  [[nodiscard]] std::vector<Member> twins_of(const Greet& said, const asio::ip::address& from);
  Task<void> gossip();
  Task<bool> greet(std::string address, std::string expected);
  Task<void> save();
  Task<void> round(std::set<std::string>& unmet, int number);
  Task<void> make();
  Task<ChannelPtr> connect_any(Member member, std::string path);
  void connect(const Member& member);
  Task<void> keep(PeerLinkPtr link);
  Task<void> tend();
  [[nodiscard]] std::size_t answering() const;
  void hang_up();

  Workers& workers_;
  Options options_;
  Facts facts_;
  TrackerLinks& links_;
  const Handlers& tracker_handlers_;
  std::string instance_;
  MemberList members_;
  std::mt19937 random_{std::random_device{}()};
  std::set<std::string> own_addresses_;
  bool unsaved_ = false;
  /// Of each node that has greeted, by instance: its last run, and where it was; and where one of another run was
  /// before.
  struct Seen {
    std::string run;
    Member member;
    std::optional<Member> twin;
    std::chrono::steady_clock::time_point twin_seen;
  };
  std::map<std::string, Seen> seen_;
  std::set<std::string> twins_;  ///< node channels of copies of this node, to be greeted
  std::set<std::string> found_;  ///< node channels that were discovered and not met yet
  std::unique_ptr<Discover> discover_;

  std::function<Task<void>(ChannelPtr)> embedded_tracker_;
  ChannelPtr channel_;  ///< this node's own, to the embedded tracker; open while the view is
  std::vector<PeerLinkPtr> peer_links_;
  std::chrono::steady_clock::time_point used_{};
  std::chrono::steady_clock::time_point failed_{};
  bool opening_ = false;
  Event opened_;
  bool closed_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace mesh
