// What a node counts of itself for its metrics, beside what its parts count anyway. On its loop.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "wire/messages.h"
#include "wire/metrics.h"

namespace mesh {

class SelfWatch {
 public:
  using Clock = std::chrono::steady_clock;
  /// A timer of the loop was due then.
  void due(Clock::time_point then, Clock::time_point now) { loop_.note(now - then); }
  void answered(std::string_view request, Clock::duration took) { note_request(requests_, request, took); }
  /// What is under way.
  void look(const std::vector<TransferInfo>& transfers, Clock::time_point now) {
    std::map<std::string, Moving> next;
    for (const auto& one : transfers) {
      // What waits for its turn, is looked for, hashed or placed is not waited for in vain.
      if (one.queued || (one.state != TransferState::downloading && one.state != TransferState::connecting)) continue;
      const auto it = moving_.find(one.path);
      next[one.path] = it != moving_.end() && it->second.done == one.done ? it->second : Moving{one.done, now};
    }
    moving_ = std::move(next);
  }
  /// Of the download for which nothing has come for the longest time, for how long.
  [[nodiscard]] Clock::duration silence(Clock::time_point now) const {
    auto out = Clock::duration::zero();
    for (const auto& [path, one] : moving_) out = std::max(out, now - one.since);
    return out;
  }
  [[nodiscard]] const TimeHistogram& loop() const { return loop_; }
  [[nodiscard]] const RequestTimes& requests() const { return requests_; }

 private:
  struct Moving {
    std::int64_t done = 0;
    Clock::time_point since;
  };
  TimeHistogram loop_;
  RequestTimes requests_;
  std::map<std::string, Moving> moving_;
};

}  // namespace mesh
