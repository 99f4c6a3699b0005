// How much of a file a get would fetch, and how much of it is here already, without fetching it (meshfile diff). On the
// node's loop.
#pragma once

#include <functional>

#include "core/log.h"
#include "get/resolver.h"
#include "library/library.h"
#include "mesh/node_channels.h"
#include "mesh/tracker_links.h"
#include "transfer/delta_source.h"
#include "wire/channel.h"
#include "wire/workers.h"

namespace mesh {

class Differ {
 public:
  Differ(Workers& workers, MeshKeysPtr keys, Log log, Library& library, TrackerLinks& links, NodeChannels& channels,
         Resolver& resolver, std::function<double()> link_rate)
      : workers_(workers),
        keys_(std::move(keys)),
        library_(library),
        links_(links),
        resolver_(resolver),
        link_rate_(std::move(link_rate)),
        delta_(workers, library, links, channels, std::move(log), {}) {}

  /// Throws Error. Ends soon when the channel closes.
  Task<Difference> diff(ChannelPtr channel, DiffAsk asked);

 private:
  Workers& workers_;
  MeshKeysPtr keys_;
  Library& library_;
  TrackerLinks& links_;
  Resolver& resolver_;
  std::function<double()> link_rate_;  ///< as DeltaSearch's
  DeltaSource delta_;
};

}  // namespace mesh
