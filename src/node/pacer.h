// Holds a flow of bytes down to a rate, on average over about a tenth of a second. For the node's loop.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>

#include "wire/flow.h"

namespace mesh {

class Pacer {
 public:
  Pacer() = default;
  /// `rate`: bytes per second; 0: as fast as it goes.
  explicit Pacer(std::int64_t rate) : rate_(rate) {}

  /// How much to move in one go: `most`, or what the rate allows in two seconds.
  [[nodiscard]] std::int64_t handful(std::int64_t most) const {
    return rate_ <= 0 ? most : std::clamp<std::int64_t>(2 * rate_, 1, most);
  }

  /// Returns when `bytes` more may have passed, or when `unwanted` says that nobody waits for them any more.
  Task<void> spend(std::int64_t bytes, std::function<bool()> unwanted) {
    if (rate_ <= 0) co_return;
    const auto now = Clock::now();
    const auto cost = std::chrono::duration<double>(static_cast<double>(bytes) / static_cast<double>(rate_));
    free_at_ = std::max(free_at_, now - burst) + std::chrono::duration_cast<Clock::duration>(cost);
    const auto until = free_at_;
    while (Clock::now() < until && !unwanted()) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now());
      co_await sleep_for(std::clamp<std::chrono::milliseconds>(left, std::chrono::milliseconds(1), burst));
    }
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr auto burst = std::chrono::milliseconds(100);
  std::int64_t rate_ = 0;
  Clock::time_point free_at_{};
};

}  // namespace mesh
