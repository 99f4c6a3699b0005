// Where a transfer's bytes come from: a swarm, a URL's origin, another path with the same bytes. On the node's loop.
#pragma once

#include <chrono>

#include "wire/task.h"

namespace mesh {

class Source {
 public:
  virtual ~Source() = default;
  /// One turn. True where nothing more is to come: the file arrived as a whole. Throws Error where there is no hope
  /// left.
  virtual Task<bool> tend() = 0;
  /// The longest time between two turns.
  [[nodiscard]] virtual std::chrono::milliseconds tick() const { return std::chrono::milliseconds(100); }
  /// That nothing came until now was not this source's fault.
  virtual void forgive() {}
};

}  // namespace mesh
