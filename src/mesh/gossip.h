// Who is in the mesh: nodes greet each other now and then and pass on whom they know (core/member_list.h); the list
// outlives a restart. It says, too, which of them keep the path index (mesh/path_index.h). All on the node's loop.
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
#include "mesh/rivals.h"
#include "wire/channel.h"
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
    /// The list of nodes, as it was remembered; and to remember it (blocks, any thread).
    std::function<std::string()> recall;
    std::function<void(const std::string&)> remember;
    std::function<IdentityPtr()> identity;
    Rivals* rivals = nullptr;
    Log log;
  };
  struct Options {
    std::string name;
    std::vector<std::string> peers;  ///< other nodes, as HOST:PORT of their --listen
    bool discover = false;           ///< by broadcast
    bool may_keep = false;           ///< the path index, for others: not a node that is here for a command
    std::chrono::milliseconds keeps_after{std::chrono::seconds(60)};  ///< of its life, where others keep it already
    Access access;
  };
  /// `handlers`: where it adds what it answers to those who greet it.
  Gossip(Workers& workers, Options options, Facts facts, Handlers& handlers);
  ~Gossip();
  Gossip(const Gossip&) = delete;
  Gossip& operator=(const Gossip&) = delete;

  /// The other nodes that this one knows of.
  [[nodiscard]] MemberList& members() { return members_; }
  /// This node, as the others know it.
  [[nodiscard]] Member self() const;
  /// Another number than before: other nodes than before may be keepers, or this one.
  [[nodiscard]] std::uint64_t changes() const { return members_.changes() + own_changes_; }
  /// Others that a tracker named.
  void welcomed(const Welcome& welcome);
  /// Not this node itself, nor, in a mesh that stays on loopback, anybody elsewhere.
  [[nodiscard]] bool may_ask(const std::string& address, std::uint16_t port) const;
  /// A channel to it; null where it cannot be reached.
  Task<ChannelPtr> connect(Member member, std::string path);
  /// This node's identity is another one from now on.
  void identity_changed();
  /// For good; what was learnt is saved.
  Task<void> close();

 private:
  void hear(const Greeted& said, const asio::ip::address& from);
  [[nodiscard]] std::vector<Member> twins_of(const Greet& said, const asio::ip::address& from);
  Task<void> gossip();
  Task<bool> greet(std::string address, std::string expected);
  Task<void> save();
  Task<void> round(std::set<std::string>& unmet, int number);
  void decide();

  Workers& workers_;
  Options options_;
  Facts facts_;
  std::string instance_;
  MemberList members_;
  std::mt19937 random_{std::random_device{}()};
  std::set<std::string> own_addresses_;
  bool unsaved_ = false;
  int quiet_rounds_ = 0;  ///< in which nobody was heard of who was not known, nor that others know more
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

  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  bool is_reached_ = false;  ///< somebody has come to this node's channel
  std::optional<std::chrono::steady_clock::time_point> keeps_since_;
  std::uint64_t own_changes_ = 1;
  bool closed_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace mesh
