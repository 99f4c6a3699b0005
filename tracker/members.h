// Who is in the mesh: the nodes that have said hello on a control channel, what they are called, and how to reach them.
//
// A name is the first node's that comes with it, until that has been gone for a minute. All on the tracker's loop.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/catalog.h"
#include "wire/channel.h"
#include "wire/flow.h"

namespace mesh {

/// How long a node may take to hash: a terabyte from a slow disk. One that is lost ends it at once.
inline constexpr auto make_limit = std::chrono::hours(24);

class Members {
 public:
  using Clock = std::chrono::steady_clock;
  struct Node {
    NodeKey key = 0;
    Hello hello;
    ChannelPtr channel;
    bool registered = false;  ///< its whole inventory has arrived
    Clock::time_point since;
  };

  /// `keys`: of a closed mesh, which name the head nodes. `is_brief`: this tracker lives for a question or so, within a
  /// node, and everybody comes anew.
  Members(MeshKeysPtr keys, bool is_brief) : keys_(std::move(keys)), is_brief_(is_brief) {}

  /// Told when a node is gone.
  std::function<void(NodeKey)> on_left;

  /// A channel on which nobody said hello yet.
  void opened(const ChannelPtr& channel);
  /// The channel has ended, and with it the membership of whoever was on it.
  void closed(const ChannelPtr& channel);
  /// Throws Error(refused) for what `enlist` would refuse.
  void check(const ChannelPtr& channel, const Hello& hello) const;
  /// What to answer where another program, a copy of the one that says hello, is here by its identity and answers, or
  /// this very program by another of the tracker's names; nothing where neither is.
  Task<std::optional<Welcome>> refusal(Hello hello) const;
  /// Whoever was here by this identity has gone. Throws Error(refused).
  Welcome enlist(const ChannelPtr& channel, Hello hello);
  void set_registered(NodeKey key) { nodes_.at(key).registered = true; }

  /// Null where nobody said hello on it, or is called so.
  [[nodiscard]] const Node* of(const ChannelPtr& channel) const;
  [[nodiscard]] const Node* find(NodeKey key) const;
  [[nodiscard]] const Node* of_instance(const std::string& instance) const;
  [[nodiscard]] bool contains(NodeKey key) const { return nodes_.contains(key); }
  [[nodiscard]] const std::map<NodeKey, Node>& all() const { return nodes_; }
  [[nodiscard]] std::size_t size() const { return nodes_.size(); }
  /// The node with this name, as users call it, or instance.
  [[nodiscard]] std::optional<NodeKey> named(const std::string& name) const;
  [[nodiscard]] bool is_head(const Node& node) const;
  /// Names of nodes that were here, and are not.
  [[nodiscard]] const std::map<std::string, Clock::time_point>& absent() const { return absent_; }

  /// What users call it: its own name, or, where that is another node's, a part of its instance besides.
  [[nodiscard]] std::string name_of(const Node& node) const;
  [[nodiscard]] std::string node_name(NodeKey key) const;
  /// Why no node is called `name`, for an error.
  [[nodiscard]] std::string no_such_node(const std::string& name) const;
  [[nodiscard]] std::vector<std::string> addresses(const Node& node, const asio::ip::address& asker) const;
  [[nodiscard]] NodeRef reference(const Node& node, const asio::ip::address& asker) const;

  /// Nodes that are still telling what they have get a moment: where the answer would be that nothing is there, and
  /// while this tracker itself has just begun. (A brief one begins with each question, so to speak.)
  Task<void> settle(bool nothing_found) const;
  [[nodiscard]] bool is_brief() const { return is_brief_; }

 private:
  struct Owner {
    std::string instance;
    std::optional<Clock::time_point> left;
  };
  void claim_name(const Hello& hello);
  [[nodiscard]] static bool is_free(const Owner& owner);
  void drop(NodeKey key);

  MeshKeysPtr keys_;
  bool is_brief_;
  Clock::time_point started_ = Clock::now();
  std::mt19937 random_{std::random_device{}()};
  NodeKey next_key_ = 1;  ///< keys are not used again
  std::map<NodeKey, Node> nodes_;
  std::map<std::string, int> names_;  ///< how many of `nodes_` have each name
  std::map<std::string, Owner> owners_;
  std::map<std::string, Clock::time_point> absent_;
  std::unordered_map<const Channel*, NodeKey> by_channel_;
  std::map<const Channel*, Clock::time_point> silent_;  ///< of a brief one: nobody said hello there yet
};

}  // namespace mesh
