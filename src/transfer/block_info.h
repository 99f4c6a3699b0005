// What a content's blocks are, from whoever in the mesh knows: its leaves, and its sketch (docs/decisions/0025).
#pragma once

#include <optional>
#include <vector>

#include "core/merkle.h"
#include "core/sketch.h"
#include "wire/task.h"

namespace mesh {

class BlockInfo {
 public:
  virtual ~BlockInfo() = default;
  /// The leaves of each of these pieces, which make its root; empty where nobody tells them.
  virtual Task<std::vector<std::vector<Sha256>>> leaves(std::vector<int> pieces) = 0;
  /// The chunks of each of these segments, which nothing proves; empty where nobody tells them.
  virtual Task<std::vector<std::vector<Chunk>>> chunks(std::vector<int> segments) = 0;
};

}  // namespace mesh
