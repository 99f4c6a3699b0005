// What is said of a path that is nowhere.
#pragma once

#include <string>

#include "core/format.h"

namespace mesh {

inline std::string no_such(const std::string& what, std::size_t nodes) {
  return printable(what.empty() ? "/" : what) + ": not found on any of " + std::to_string(nodes) +
         (nodes == 1 ? " node" : " nodes");
}

}  // namespace mesh
