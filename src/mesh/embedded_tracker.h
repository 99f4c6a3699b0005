// What stands in for a tracker within a node's own process: one for the node's own questions, and one that keeps a
// share of the path index, and swarms, for others.
#pragma once

#include <boost/asio/ip/address.hpp>
#include <functional>
#include <string>
#include <vector>

#include "core/member.h"
#include "wire/access.h"
#include "wire/beyond.h"
#include "wire/channel.h"
#include "wire/task.h"

namespace mesh {

struct EmbeddedTracker {
  /// Answers on a channel, as a tracker does, until it ends.
  std::function<Task<void>(ChannelPtr)> serve;
  /// The answer to an announce of another BitTorrent client, a query as in its URL.
  std::function<Task<std::string>(std::string query, asio::ip::address remote)> announce;
};

/// What it is for.
struct EmbeddedRole {
  Beyond beyond{};  ///< of one for the node's own questions
  /// Of one for others: who else keeps a directory, as far as this node knows.
  std::function<std::vector<Member>(const std::string& directory)> keepers{};
  std::function<void(const Channel&, Welcome&)> prove{};  ///< of the same: says who this node is
};

/// They live as long as the functions.
using EmbeddedTrackerFactory = std::function<EmbeddedTracker(asio::io_context&, Access, EmbeddedRole)>;

}  // namespace mesh
