// What commands have a node do to its files: get, wait, cancel, delete; its own commands by the local socket, those of
// other nodes as orders that the tracker passes on. An order may be refused by configuration (--refuse). On the node's
// loop.
#pragma once

#include "get/get_queue.h"
#include "node/node_options.h"
#include "node/once.h"
#include "wire/channel.h"

namespace mesh {

class RemoteCommands {
 public:
  RemoteCommands(Workers& workers, const NodeOptions& options, Log log, Library& library, TrackerLinks& links,
                 GetQueue& gets)
      : workers_(workers),
        options_(options),
        log_(std::move(log)),
        library_(library),
        links_(links),
        gets_(gets),
        once_(workers, library.db()) {}

  void serve_commands(Handlers& handlers);
  void serve_mesh(Handlers& handlers);
  /// Whether a command may have these files read as seeds; `channel`: null where it came by HTTP. Throws
  /// Error(refused).
  void check_seeds(const ChannelPtr& channel, const std::vector<std::string>& seeds) const;

 private:
  Task<What> read(What what);
  Task<Deleted> remove(Delete asked);
  Task<Cancelled> cancel(Cancel asked);
  Task<Deleted> remove_now(Delete asked);
  Task<Ordered> execute(Order order);

  Workers& workers_;
  const NodeOptions& options_;
  Log log_;
  Library& library_;
  TrackerLinks& links_;
  GetQueue& gets_;
  Once once_;
};

}  // namespace mesh
