// A RateLimit to wait for on the node's loop.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "core/rate_limit.h"
#include "wire/flow.h"

namespace mesh {

class Pacer {
 public:
  explicit Pacer(std::int64_t rate = 0) : limit_(std::make_shared<RateLimit>(rate)) {}

  /// For what flows on other threads at the same limit.
  [[nodiscard]] const std::shared_ptr<RateLimit>& limit() const { return limit_; }
  [[nodiscard]] std::int64_t handful(std::int64_t most) const { return limit_->handful(most); }

  /// Returns when `bytes` more may have passed, or when `unwanted` says that nobody waits for them any more.
  Task<void> spend(std::int64_t bytes, std::function<bool()> unwanted) {
    const auto until = limit_->spend(bytes, RateLimit::Clock::now());
    for (auto now = RateLimit::Clock::now(); now < until && !unwanted(); now = RateLimit::Clock::now()) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - now);
      co_await sleep_for(std::clamp<std::chrono::milliseconds>(left, std::chrono::milliseconds(1), RateLimit::burst));
    }
  }

 private:
  std::shared_ptr<RateLimit> limit_;
};

}  // namespace mesh
