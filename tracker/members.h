// Who is in the mesh: the nodes that have said hello on a control channel, what they are called, and how to reach them.
//
// A name is the first node's that comes with it, until that has been gone for a minute. All on the tracker's loop.
#pragma once

#include <algorithm>
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

/// Nodes that one question has a view ask at once: it has to visit them.
inline constexpr std::size_t most_asked_by_view = 12;

class Members {
 public:
  using Clock = std::chrono::steady_clock;
  struct Node {
    NodeKey key = 0;
    Hello hello;
    ChannelPtr channel;       ///< null: it is known of, and is visited when there is something to ask it
    bool registered = false;  ///< its whole inventory has arrived
    Clock::time_point since;
    asio::ip::address seen{};          ///< where it comes from
    bool is_known_of = false;          ///< others have told of it
    Clock::time_point asked_last{};    ///< of one that is visited
    std::shared_ptr<Event> arrival{};  ///< somebody waits for it to say hello
    bool rests = false;                ///< at a keeper: it hangs up, or has, and is a member all the same
    Clock::time_point rests_until{};
  };
  /// Who comes: to a tracker proper; to one within a node, which lives for that node's questions and visits whom it
  /// has to ask; to one that keeps directories and swarms for others.
  enum class Role { tracker, view, keeper };
  /// Makes a channel to a node that will say hello on it, and has `serve` run it.
  using Visit = std::function<Task<ChannelPtr>(NodeRef)>;

  /// `keys`: of a closed mesh, which name the head nodes.
  Members(asio::io_context& io, MeshKeysPtr keys, Role role)
      : io_(io), keys_(std::move(keys)), role_(role), visiting_(io) {}

  /// Told when a node is gone.
  std::function<void(NodeKey)> on_left;
  /// Told when a node that rests has hung up.
  std::function<void(NodeKey)> on_rested;
  /// Told when this node's own channel to its view is gone.
  std::function<void()> on_view_over;
  /// Of a view. May be unset.
  Visit visit;

  /// At a keeper: the node on this channel is about to hang up, and stays a member for so long.
  void rest(const ChannelPtr& channel, std::chrono::milliseconds lease);

  /// Others say that this node is in the mesh; of a view.
  /// Nothing where that cannot be a node.
  std::optional<NodeKey> know_of(const NodeRef& node, bool head);
  /// A channel to it, on which it has said hello. Throws Error(unreachable), and it is a member no more, where none
  /// can be had.
  Task<ChannelPtr> reach(NodeKey key);
  template <class Request>
  Task<typename Request::Reply> request(NodeKey key, Request question, std::chrono::milliseconds limit) {
    const ChannelPtr channel = co_await reach(key);
    co_return co_await channel->request(std::move(question), limit);
  }
  /// Tells it, if need be by a visit; what cannot be told is lost.
  template <class Note>
  void tell(NodeKey key, Note note) {
    const auto* node = find(key);
    if (node == nullptr) return;
    if (node->channel) {
      node->channel->note(note);
      return;
    }
    auto visit_it = [](Members* self, NodeKey whom, Note what) -> Task<void> {
      try {
        const ChannelPtr channel = co_await self->reach(whom);
        channel->note(what);
      } catch (const std::exception&) {
        // It is gone.
      }
    };
    spawn(io_, visit_it(this, key, std::move(note)));
  }

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
  [[nodiscard]] bool is_head(const Hello& hello) const;
  [[nodiscard]] bool is_head(const Node& node) const { return is_head(node.hello); }
  /// Names of nodes that were here, and are not.
  [[nodiscard]] const std::map<std::string, Clock::time_point>& absent() const { return absent_; }

  /// What users call it: its own name, or, where that is another node's, a part of its instance besides.
  [[nodiscard]] std::string name_of(const Node& node) const;
  [[nodiscard]] std::string node_name(NodeKey key) const;
  /// Why no node is called `name`, for an error.
  [[nodiscard]] std::string no_such_node(const std::string& name) const;
  /// At which `asker` may reach one that comes from `seen`.
  [[nodiscard]] static std::vector<std::string> addresses(const Hello& hello, const asio::ip::address& seen,
                                                          const asio::ip::address& asker);
  [[nodiscard]] static std::vector<std::string> addresses(const Node& node, const asio::ip::address& asker) {
    return addresses(node.hello, node.seen, asker);
  }
  [[nodiscard]] NodeRef reference(const Node& node, const asio::ip::address& asker) const;

  /// Nodes that are still telling what they have get a moment: where the answer would be that nothing is there, and
  /// while this tracker itself has just begun. (A brief one begins with each question, so to speak.)
  Task<void> settle(bool nothing_found) const;
  [[nodiscard]] bool is_brief() const { return role_ == Role::view; }
  [[nodiscard]] bool is_keeper() const { return role_ == Role::keeper; }
  [[nodiscard]] asio::io_context& executor() const { return io_; }
  /// Of a view: how many nodes there are, of which it knows those that it has heard of something.
  void set_known(std::size_t nodes) { known_ = nodes; }
  /// Nodes, for people.
  [[nodiscard]] std::size_t count() const { return std::max(known_, nodes_.size()); }

 private:
  struct Owner {
    std::string instance;
    std::optional<Clock::time_point> left;
  };
  void claim_name(const Hello& hello);
  [[nodiscard]] static bool is_free(const Owner& owner);
  void drop(NodeKey key);
  void forget_known_of(bool all);
  void expire_resting();
  void rename(Node& node, const std::string& name);
  Node* instance_of(const std::string& instance);
  Welcome take_in(Node& node, const ChannelPtr& channel, Hello hello);
  void hang_up_some();

  asio::io_context& io_;
  MeshKeysPtr keys_;
  Role role_;
  std::size_t known_ = 0;
  SingleFlight<NodeKey, ChannelPtr> visits_;
  Together visiting_;
  /// Who is to say hello on a channel that this side opened.
  using Expected = std::map<const Channel*, std::string>;
  std::shared_ptr<Expected> expected_ = std::make_shared<Expected>();
  std::unordered_map<std::string, NodeKey> by_instance_;
  Clock::time_point expired_{};
  Clock::time_point pruned_{};
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
