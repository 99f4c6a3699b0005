// The URLs that nodes are getting together, each with its plan (url_plan.h). On the tracker's loop.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>

#include "core/catalog.h"
#include "url_plan.h"

namespace mesh {

class UrlPlans {
 public:
  using Clock = std::chrono::steady_clock;
  /// What a node says of a URL, and what it is to do. Throws Error where too much is on its way.
  OriginAssignment turn(NodeKey node, const OriginReport& said, Clock::time_point now);
  void leave(NodeKey node);

 private:
  std::map<ContentId, UrlPlan> plans_;
  std::int64_t epoch_ = std::chrono::system_clock::now().time_since_epoch() / std::chrono::microseconds(1);
};

}  // namespace mesh
