// What stands in for a tracker within a node's own process.
#pragma once

#include <functional>

#include "wire/access.h"
#include "wire/task.h"

namespace mesh {

/// Makes what answers on control channels as a tracker does: the returned function serves one until it ends. It lives
/// as long as that function.
using EmbeddedTrackerFactory = std::function<std::function<Task<void>(ChannelPtr)>(asio::io_context&, Access)>;

}  // namespace mesh
