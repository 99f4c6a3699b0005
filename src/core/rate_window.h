// How fast a count grows, over the last few seconds: from its first bytes on, so that a rate is right as soon as there
// is one. Pure; one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <utility>

namespace mesh {

class RateWindow {
 public:
  using Clock = std::chrono::steady_clock;

  /// `total`: bytes so far. One that is smaller than before begins anew.
  void add(std::int64_t total, Clock::time_point now) {
    const bool idle = samples_.size() == 1 && samples_.front().second == total;
    if (idle || (!samples_.empty() && total < samples_.back().second)) samples_.clear();  // it has not begun yet
    samples_.emplace_back(now, total);
    while (samples_.size() > 2 && samples_[1].first <= now - span) samples_.pop_front();
  }
  /// Bytes per second.
  [[nodiscard]] std::int64_t rate() const {
    if (samples_.size() < 2) return 0;
    const auto time = std::chrono::duration<double>(samples_.back().first - samples_.front().first).count();
    const auto bytes = static_cast<double>(samples_.back().second - samples_.front().second);
    return time > 0 ? static_cast<std::int64_t>(bytes / time) : 0;
  }

 private:
  static constexpr std::chrono::seconds span{4};
  std::deque<std::pair<Clock::time_point, std::int64_t>> samples_;
};

}  // namespace mesh
