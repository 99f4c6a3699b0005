// Channels to other nodes, for what one node asks another: opened when they are wanted, shared by all who ask, and
// closed when nobody has asked for a while. A node that cannot be reached is asked to call, by way of a tracker. On the
// node's loop.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "mesh/tracker_links.h"
#include "wire/access.h"
#include "wire/channel.h"
#include "wire/flow.h"
#include "wire/messages.h"
#include "wire/workers.h"

namespace mesh {

class NodeChannels {
 public:
  /// `handlers`: what this node answers on them.
  NodeChannels(Workers& workers, Access access, TrackerLinks& links, const Handlers& handlers)
      : workers_(workers), access_(std::move(access)), links_(links), handlers_(handlers) {}
  NodeChannels(const NodeChannels&) = delete;
  NodeChannels& operator=(const NodeChannels&) = delete;

  /// An open one. Throws Error where the node is not to be had.
  Task<ChannelPtr> to(NodeRef node);
  /// While what is returned lives, the channel is not closed to make room for another. Must not outlive this.
  [[nodiscard]] std::shared_ptr<void> use(const ChannelPtr& channel);
  /// A node calls back that could not be reached: true where it was asked to, by this token.
  bool called(const std::string& token, const ChannelPtr& channel);
  void close();

 private:
  Task<ChannelPtr> connect(std::string where, std::string name);
  Task<ChannelPtr> be_called(NodeRef node);
  Task<void> hang_up_unused(ChannelPtr channel);

  Workers& workers_;
  Access access_;
  TrackerLinks& links_;
  const Handlers& handlers_;
  std::map<std::string, ChannelPtr> channels_;        ///< by address
  std::map<ChannelPtr, int> users_;                   ///< of these: how many ask by it
  std::map<std::string, ChannelPtr> callers_;         ///< of nodes that cannot be reached, by instance
  std::map<std::string, ChannelPtr> calls_;           ///< that are waited for, by token; null until they come
  SingleFlight<std::string, ChannelPtr> connecting_;  ///< by address
  SingleFlight<std::string, ChannelPtr> being_called_;
  bool closed_ = false;
};

}  // namespace mesh
