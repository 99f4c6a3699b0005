// How the mesh looks from this node, for `meshfile doctor`: whether it is registered, and of other nodes which version
// they are, how late it is there, and whether each reaches the other. On the node's loop.
//
// Who is asked dials back only where he sees the asker, a few at a time: he can be made to knock at nobody else's
// ports.
#pragma once

#include <functional>
#include <random>
#include <string>

#include "mesh/gossip.h"
#include "mesh/node_channels.h"
#include "mesh/tracker_links.h"
#include "wire/channel.h"
#include "wire/workers.h"

namespace mesh {

class CheckUp {
 public:
  CheckUp(Workers& workers, TrackerLinks& links, NodeChannels& channels, Gossip& gossip)
      : workers_(workers), links_(links), channels_(channels), gossip_(gossip) {}

  /// What it answers to other nodes.
  void serve(Handlers& handlers);
  Task<MeshChecked> look();

 private:
  Task<CheckUpTold> answer(ChannelPtr channel, CheckUpAsk asked);
  Task<void> ask(Member member, std::shared_ptr<MeshChecked> out);

  Workers& workers_;
  TrackerLinks& links_;
  NodeChannels& channels_;
  Gossip& gossip_;
  std::mt19937 random_{std::random_device{}()};
  int dialing_ = 0;
};

}  // namespace mesh
