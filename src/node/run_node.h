// The life of a node, from the moment its state directory is taken until the program may end. A node whose files
// directory was moved away, deleted or mounted over begins anew with what is there: the same program, another Node.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/log.h"
#include "disk/state_dir.h"
#include "node/node_options.h"

namespace mesh {

/// Makes the files and state directories and takes what only one node has at a time; null where another one has it.
/// Throws Error, as StateDir does.
[[nodiscard]] std::unique_ptr<StateDir> take_state(const NodeOptions& options);
/// What a node says that finds it taken: device_or_resource_busy.
[[nodiscard]] Error already_runs(const NodeOptions& options);

/// What the program does at the turns of a node's life. All may be called more than once.
struct NodeEvents {
  Log log;
  /// Its state directory is taken. May be unset.
  std::function<void(const StateDir&)> begins;
  /// Takes the state directory anew, for another life; waits for who is about to leave it. Unset: take_state, once.
  std::function<std::unique_ptr<StateDir>()> take;
  /// It serves, on this loop. What is returned lives until it ends; while it does, the loop runs. May be unset.
  std::function<std::shared_ptr<void>(asio::io_context&)> serves;
};

/// Runs a node until it is told to stop (SIGTERM, SIGINT; it takes five seconds at most) or is not needed any more.
/// Returns the exit status. Throws Error where it cannot begin.
int run_node(NodeOptions options, std::unique_ptr<StateDir> state, const NodeEvents& events);

}  // namespace mesh
