// How much of a file a get would fetch, and how much of it is here already, without fetching it (meshfile diff). On the
// node's loop.
#pragma once

#include "get/resolver.h"
#include "library/library.h"
#include "mesh/tracker_links.h"
#include "transfer/transfers.h"
#include "wire/channel.h"
#include "wire/workers.h"

namespace mesh {

class Differ {
 public:
  Differ(Workers& workers, MeshKeysPtr keys, Library& library, TrackerLinks& links, Resolver& resolver,
         Transfers& transfers)
      : workers_(workers),
        keys_(std::move(keys)),
        library_(library),
        links_(links),
        resolver_(resolver),
        transfers_(transfers) {}

  /// Throws Error. Ends soon when the channel closes.
  Task<Difference> diff(ChannelPtr channel, DiffAsk asked);

 private:
  Workers& workers_;
  MeshKeysPtr keys_;
  Library& library_;
  TrackerLinks& links_;
  Resolver& resolver_;
  Transfers& transfers_;
};

}  // namespace mesh
