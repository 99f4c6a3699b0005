// What is allowed per second, of bytes and of questions.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>

namespace mesh {

/// Holds flows of bytes that share it down to a rate, on average over about a tenth of a second. For any thread.
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

/// So many questions a second of each asker, ten seconds' worth in one go. Remembers 100,000 askers; of more at once it
/// allows nothing. For one thread.
template <class Asker>
class Allowances {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::size_t most_askers = 100'000;

  explicit Allowances(int per_second)
      : each_(std::chrono::duration_cast<Clock::duration>(std::chrono::seconds(1)) / std::max(1, per_second)) {}

  /// Whether `asker` may ask one more.
  bool take(const Asker& asker, Clock::time_point now) {
    if (used_up_to_.size() >= most_askers && !used_up_to_.contains(asker)) {
      if (now - swept_ < std::chrono::seconds(1)) return false;
      swept_ = now;
      std::erase_if(used_up_to_, [&](const auto& pair) { return pair.second <= now; });
      if (used_up_to_.size() >= most_askers) return false;
    }
    auto& up_to = used_up_to_[asker];
    up_to = std::max(up_to, now);
    if (up_to - now > saved) return false;
    up_to += each_;
    return true;
  }

 private:
  static constexpr auto saved = std::chrono::seconds(10);
  Clock::duration each_;
  std::map<Asker, Clock::time_point> used_up_to_;  ///< when all that was taken is paid for
  Clock::time_point swept_{};
};

}  // namespace mesh
