// What commands have a node do to its files: get, wait, cancel, delete; its own commands by the local socket, those of
// other nodes as orders that the tracker passes on. An order may be refused by configuration (--refuse). On the node's
// loop.
#pragma once

#include "node/gets.h"
#include "node/node_parts.h"
#include "wire/channel.h"

namespace mesh {

class Orders {
 public:
  Orders(NodeParts& parts, Gets& gets) : parts_(parts), gets_(gets) {}

  void serve_commands(Handlers& handlers);
  void serve_mesh(Handlers& handlers);

 private:
  Task<Deleted> remove(Delete asked);
  Task<Ordered> obey(Order order);

  NodeParts& parts_;
  Gets& gets_;
};

}  // namespace mesh
