// The mount's own files: how the mesh and its nodes are, as text for people and as JSON for programs. Pure.
#pragma once

#include <string>

#include "wire/messages.h"

namespace mesh {

/// cluster/info: who is there, of which versions, how much room there is, who says what the mesh has, and who came and
/// went last.
[[nodiscard]] std::string cluster_info(const ClusterTold& cluster, const StatusReply& mesh);
[[nodiscard]] std::string cluster_info_json(const ClusterTold& cluster, const StatusReply& mesh);
/// cluster/nodes: a line a node.
[[nodiscard]] std::string cluster_nodes(const StatusReply& mesh);
[[nodiscard]] std::string cluster_nodes_json(const StatusReply& mesh);
/// node/NAME/info.
[[nodiscard]] std::string node_info(const NodeStatus& node);
[[nodiscard]] std::string node_info_json(const NodeStatus& node);
/// transfers: a line a get and a file that is moved, of this node.
[[nodiscard]] std::string transfers(const StatusReply& here);
[[nodiscard]] std::string transfers_json(const StatusReply& here);
/// config/tracker: a line a tracker; and what was written there, read. Throws Error(usage).
[[nodiscard]] std::string trackers(const ClusterTold& cluster);
[[nodiscard]] std::vector<std::string> read_trackers(std::string_view text);

}  // namespace mesh
