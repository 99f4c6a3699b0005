// Holds a flow of bytes down to a rate, on average over about a tenth of a second. For the node's loop.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "wire/flow.h"

namespace mesh {

class Pacer {
 public:
  /// `rate`: bytes per second; 0: as fast as it goes.
  explicit Pacer(std::int64_t rate) : rate_(rate) {}
  Pacer() = default;

  /// Returns when `bytes` more may have passed.
  Task<void> spend(std::int64_t bytes) {
    if (rate_ <= 0) co_return;
    const auto now = Clock::now();
    const auto cost = std::chrono::duration<double>(static_cast<double>(bytes) / static_cast<double>(rate_));
    free_at_ = std::max(free_at_, now - burst) + std::chrono::duration_cast<Clock::duration>(cost);
    const auto wait = std::chrono::duration_cast<std::chrono::milliseconds>(free_at_ - now);
    if (wait > std::chrono::milliseconds(0)) co_await sleep_for(wait);
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr auto burst = std::chrono::milliseconds(100);
  std::int64_t rate_ = 0;
  Clock::time_point free_at_{};
};

}  // namespace mesh
