// What a node counts of itself for its metrics, beside what its parts count anyway. On its loop.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <vector>

#include "wire/messages.h"
#include "wire/metrics.h"

namespace mesh {

class SelfWatch {
 public:
  using Clock = std::chrono::steady_clock;
  /// A timer of the loop was due then.
  void due(Clock::time_point then, Clock::time_point now) { loop_.note(std::max(now - then, Clock::duration::zero())); }
  void answered(std::string_view request, Clock::duration took) {
    const auto it = requests_.find(request);
    (it != requests_.end() ? it : requests_.emplace(request, TimeHistogram()).first)->second.note(took);
  }
  /// The gets under way.
  void look(const std::vector<GetInfo>& gets, Clock::time_point now) {
    std::map<std::int64_t, Moving> next;
    for (const auto& get : gets) {
      if (get.state != GetState::running) continue;
      const auto it = moving_.find(get.number);
      const auto done = get.done + get.files_done;
      next[get.number] = it != moving_.end() && it->second.done == done ? it->second : Moving{done, now};
    }
    moving_ = std::move(next);
  }
  /// Of the get for which nothing has come for the longest time, for how long.
  [[nodiscard]] Clock::duration silence(Clock::time_point now) const {
    auto out = Clock::duration::zero();
    for (const auto& [number, get] : moving_) out = std::max(out, now - get.since);
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
  std::map<std::int64_t, Moving> moving_;
};

}  // namespace mesh
