// How long a network thread may wait between two rounds, so that each finds more to do: what a network card does with
// its interrupts, for an event loop. On slow links nearly every wake-up would else be for one block of one peer.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace mesh {

/// Pure: the caller gives the time. For one thread.
class Moderation {
 public:
  using Clock = std::chrono::steady_clock;
  /// What may arrive during one pause: a fraction of what sockets hold, and of what is asked for ahead.
  static constexpr std::int64_t batch = std::int64_t{256} << 10;
  static constexpr auto longest = std::chrono::milliseconds(20);
  /// Below, there is nothing to save; above, whoever moves the bytes is never idle for long.
  static constexpr double slow = 1e6, fast = 64e6;

  /// `moved`: bytes that came and went so far. The rate is that of the last tenth of a second or so, so that what has
  /// only begun, or is small, never waits.
  Clock::duration pause(std::int64_t moved, Clock::time_point now) {
    if (const std::chrono::duration<double> window = now - since_; window >= std::chrono::milliseconds(100)) {
      rate_ = window < std::chrono::milliseconds(500) ? static_cast<double>(moved - moved_before_) / window.count() : 0;
      since_ = now;
      moved_before_ = moved;
    }
    if (rate_ < slow || rate_ > fast) return {};
    const std::chrono::duration<double> fills(static_cast<double>(batch) / rate_);
    return std::min<Clock::duration>(longest, std::chrono::duration_cast<Clock::duration>(fills));
  }

 private:
  Clock::time_point since_{};
  std::int64_t moved_before_ = 0;
  double rate_ = 0;
};

}  // namespace mesh
