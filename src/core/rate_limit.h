// Holds flows of bytes that share it down to a rate, on average over about a tenth of a second. For any thread.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <mutex>

namespace mesh {

class RateLimit {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr auto burst = std::chrono::milliseconds(100);

  /// `rate`: bytes per second; 0 or less: as fast as it goes.
  explicit RateLimit(std::int64_t rate) : rate_(rate) {}

  /// How much to move in one go: `most`, or what the rate allows in two seconds.
  [[nodiscard]] std::int64_t handful(std::int64_t most) const {
    return rate_ <= 0 ? most : std::clamp<std::int64_t>(2 * rate_, 1, most);
  }

  /// Counts `bytes` more and says when they may have passed.
  Clock::time_point spend(std::int64_t bytes, Clock::time_point now) {
    if (rate_ <= 0) return now;
    const auto cost = std::chrono::duration<double>(static_cast<double>(bytes) / static_cast<double>(rate_));
    const std::lock_guard lock(mutex_);
    free_at_ = std::max(free_at_, now - burst) + std::chrono::duration_cast<Clock::duration>(cost);
    return free_at_;
  }

 private:
  const std::int64_t rate_;
  std::mutex mutex_;
  Clock::time_point free_at_{};
};

}  // namespace mesh
