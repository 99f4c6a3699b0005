// This node's control channels: one to each tracker of its list, kept up for as long as the node lives.
//
// A lost tracker is tried again after a random wait that grows to two seconds, so that a restarted tracker is whole
// again within moments and is not met by everybody at once. All on the node's loop.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "core/log.h"
#include "core/mesh_path.h"
#include "wire/channel.h"
#include "wire/flow.h"

namespace mesh {

/// How long a question may wait for a tracker, and for one that is hashing on the way to its answer.
inline constexpr auto tracker_limit = std::chrono::seconds(5);
inline constexpr auto question_limit = std::chrono::hours(24);

class TrackerLinks {
 public:
  struct Facts {
    std::function<Hello()> hello;
    std::function<std::string(const Channel&)> prove;  ///< Hello::proof, for this channel
    std::function<std::vector<FileEntry>(std::string_view after, std::size_t limit)> page;
    std::function<bool()> scan_complete;
    std::function<std::vector<JoinSwarm>()> loaded;
    std::function<void(const Welcome&)> welcomed;
    /// Another program is in the mesh by the identity of this instance, as Welcome has it.
    std::function<void(const std::string& instance, const Welcome&)> taken;
    /// A channel that answers like a tracker's when no tracker does; null where there is none within about so long. May
    /// be unset.
    std::function<Task<ChannelPtr>(std::chrono::milliseconds limit)> fallback;
    /// Nobody else is known, nor named. May be unset.
    std::function<bool()> is_alone;
    Log log;
    Access access;
  };

  /// `handlers` answers the trackers' requests; both must outlive this.
  TrackerLinks(asio::io_context& io, std::vector<std::string> trackers, Facts facts, const Handlers& handlers);
  ~TrackerLinks();
  /// This node is another one from now on: it says hello anew everywhere.
  void reconnect();
  /// These trackers from now on; those that were named before and are not among them are let go of.
  void replace(std::vector<std::string> trackers);
  TrackerLinks(const TrackerLinks&) = delete;
  TrackerLinks& operator=(const TrackerLinks&) = delete;

  /// The first tracker, in sorted order, that knows this node, or else what stands in for one. Waits up to `limit`;
  /// throws Error(unreachable) with each tracker's trouble.
  Task<ChannelPtr> first(std::chrono::milliseconds limit);
  /// Asks the first tracker, and where that goes away before it answers, the next. `who`: whose answer it is.
  template <class Request>
  Task<typename Request::Reply> ask(Request question, std::chrono::milliseconds find_limit,
                                    std::chrono::milliseconds answer_limit, ChannelPtr* who = nullptr) {
    for (int tries = 1;; ++tries) {
      const ChannelPtr channel = co_await first(find_limit);
      if (who != nullptr) *who = channel;
      std::optional<typename Request::Reply> reply;
      std::optional<Error> trouble;
      try {
        reply = co_await channel->request(question, answer_limit);
      } catch (const Error& error) {
        trouble = error;
      }
      if (reply) co_return std::move(*reply);
      if (channel->is_open() || tries == most_tries) throw Error(*trouble);
    }
  }
  [[nodiscard]] bool any() const;
  /// There is no tracker, nor another node.
  [[nodiscard]] bool is_alone() const;
  /// Of each tracker that is named, what is wrong.
  [[nodiscard]] std::vector<TrackerChecked> states() const;
  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }

  /// Registers this node on a channel that somebody else opened, and keeps it told of changes until the channel ends.
  /// `told_all`: of what there is already, too.
  void adopt(ChannelPtr channel, bool told_all);
  /// Whether this node's inventory has been told on `channel`.
  [[nodiscard]] bool is_told(const ChannelPtr& channel) const;
  /// Tells all but `channel` that a torrent is loaded here: who joins its swarm by way of them is introduced, too.
  void tell_ready(const JoinSwarm& ready, const ChannelPtr& channel);

  void note_all(const InventoryDelta& delta);
  void note_all(const Unloaded& note);
  /// The first scan is over: trackers may take the inventory for whole.
  void scan_completed();
  void close();

 private:
  static constexpr int most_tries = 3;
  struct Link;
  struct Shared;
  void add(const std::string& name);
  static Task<void> keep(std::shared_ptr<Shared> shared, std::shared_ptr<Link> link);
  static Task<void> enlist(std::shared_ptr<Shared> shared, std::shared_ptr<Link> link);
  std::shared_ptr<Shared> shared_;
  std::vector<std::string> names_;
};

}  // namespace mesh
