// What a tracker within a node, which nobody registers with, asks of the rest of the mesh (mesh/path_index.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "wire/messages.h"
#include "wire/task.h"

namespace mesh {

/// What a question to the tracker is about.
struct CoverAsk {
  std::string pattern;  ///< as in What
  bool glob = false;
  bool below = false;              ///< all below a directory that it names, too; else what is directly in it
  std::vector<std::string> paths;  ///< in place of a pattern: these, and nothing below them
  std::string from;                ///< as in Resolve
  bool certain = false;            ///< all keepers are to be asked, and not the first that knows something
};

/// What the mesh has of that, as far as the nodes say that were asked.
struct Covered {
  std::vector<IndexedNode> nodes;
  std::vector<IndexedVersion> versions;      ///< whose nodes are places in `nodes`
  std::vector<DirectoryQuestion> questions;  ///< that were answered: what is known there besides is known no more
  /// Of a path that nobody is known to have: who might have it all the same, by places in `nodes`.
  std::vector<std::uint32_t> likely;
  bool is_unsure = false;  ///< of a path that nobody is known to have: those who should know are silent
  std::size_t known = 0;   ///< other nodes of the mesh that this one knows of
  std::string view;        ///< whose word it is, in words
};

/// All on the loop. They throw Error(unreachable) where nobody can be asked. May all be unset together.
struct Beyond {
  std::function<Task<Covered>(CoverAsk)> cover;
  /// The other nodes that are known.
  std::function<std::vector<NodeRef>()> everybody;
  /// A channel on which that node says hello as to a tracker, not yet running.
  std::function<Task<ChannelPtr>(NodeRef)> visit;
  /// Whom the keepers of a swarm name to one that has it loaded.
  std::function<Task<std::vector<Introduced>>(JoinSwarm)> join;
  /// The same of one that shares a URL's pieces, and its turn: of one keeper, which plans it.
  std::function<Task<Introduced>(JoinSwarm)> share;
  std::function<Task<OriginAssignment>(OriginReport)> turn;
};

}  // namespace mesh
