// Channels to the nodes that keep the path index: one to each that is needed, on which this node says hello.
//
// They are opened when somebody asks for one, and closed when nobody has for a while. At most `most_open` at once:
// where more are needed, the one that was asked for longest ago is closed first, and what was told on it stands for a
// while. All on the node's loop.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/log.h"
#include "core/member.h"
#include "wire/channel.h"
#include "wire/flow.h"
#include "wire/messages.h"

namespace mesh {

class KeeperLinks {
 public:
  using Clock = std::chrono::steady_clock;
  struct Facts {
    std::function<Hello()> hello;
    std::function<std::string(const Channel&)> prove;  ///< Hello::proof, for this channel
    /// A channel to another node's index, for a path; null where it cannot be reached.
    std::function<Task<ChannelPtr>(Member member, std::string path)> connect;
    /// The same to this node's own.
    std::function<Task<ChannelPtr>()> connect_within;
    std::function<void(const std::string& instance)> missed;
    /// Another program is in the mesh by this node's identity.
    std::function<void(const std::string& instance, const Welcome&)> taken;
    /// Whether a channel to it is of use though nobody asks anything.
    std::function<bool(const std::string& instance)> is_needed;
  };
  /// A registered channel. The number is another one for each that is opened.
  struct Link {
    ChannelPtr channel;
    std::uint64_t number = 0;
  };
  /// With the visits of a view (tracker/members.cpp) and the channels for small files, a node has 64 at most.
  static constexpr std::size_t most_open = 20;
  static constexpr std::size_t most_opening = 8;  ///< besides, at once

  /// `handlers` answers what keepers ask, and must outlive this.
  KeeperLinks(asio::io_context& io, Facts facts, const Handlers& handlers);
  ~KeeperLinks();
  KeeperLinks(const KeeperLinks&) = delete;
  KeeperLinks& operator=(const KeeperLinks&) = delete;

  /// The link to it, which is opened where there is none. Throws Error(unreachable).
  Task<Link> to(Member member);
  /// That which is open; 0: none is.
  [[nodiscard]] std::uint64_t number_of(const std::string& instance) const;
  [[nodiscard]] std::size_t size() const { return links_.size(); }
  template <class Note>
  void note(const std::string& instance, const Note& note) {
    if (const auto it = links_.find(instance); it != links_.end()) it->second.link.channel->note(note);
  }
  /// Whether the link of that number ended because this node hung up.
  [[nodiscard]] bool is_resting(const std::string& instance, std::uint64_t number) const;
  [[nodiscard]] bool is_resting(const std::string& instance) const { return resting_.contains(instance); }
  /// The node hangs up; what it told stands for a while.
  void rest(const std::string& instance);
  /// What is of no more use is closed. To be called every few seconds.
  void tend();
  /// This node is another one from now on.
  void drop_all();
  void close();

 private:
  struct Open {
    Link link;
    Clock::time_point used;
  };
  Task<Link> open(Member member);
  Task<Link> greet(Member member, ChannelPtr channel);
  void make_room();

  asio::io_context& io_;
  Facts facts_;
  const Handlers& handlers_;
  std::map<std::string, Open> links_;             ///< by instance
  std::map<std::string, std::uint64_t> resting_;  ///< the last link of each that this node has hung up
  SingleFlight<std::string, Link> opening_;
  std::set<ChannelPtr> passing_;  ///< channels that are not links yet, or not any more
  std::size_t opening_count_ = 0;
  Event opened_;
  std::uint64_t next_number_ = 1;
  bool closed_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace mesh
