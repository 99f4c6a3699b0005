// How long a network thread may wait between two rounds, so that each finds more to do: what a network card does with
// its interrupts, for an event loop. On slow links nearly every wake-up would else be for one block of one peer.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace mesh {

/// Pure: the caller gives the time. For one thread.
class WakeupCoalescing {
 public:
  using Clock = std::chrono::steady_clock;
  /// What may arrive during one pause: a fraction of what sockets hold, and of what is asked for ahead.
  static constexpr std::int64_t batch = std::int64_t{256} << 10;
  static constexpr Clock::duration shortest = std::chrono::milliseconds(1);
  static constexpr Clock::duration longest = std::chrono::milliseconds(20);
  /// Bytes per second: below `slow` there is little to save; above `middling` a pause costs time and saves nothing; and
  /// what is `fast` is never idle for long.
  static constexpr double slow = 4e6, middling = 32e6, fast = 64e6;
  /// libtorrent takes a second to learn a peer's rate.
  static constexpr Clock::duration ramp_up_lasts = std::chrono::milliseconds(1500);

  /// Call after each round. `moved`: bytes that came and went so far. A pause that brings something is followed by a
  /// longer one, up to a thirtieth of the time that the flow has lasted; one that brings nothing by a shorter. So what
  /// is small, a handshake, and whoever waits for an answer before he goes on are not held up.
  Clock::duration pause(std::int64_t moved, Clock::time_point now) {
    constexpr std::int64_t something = 16 << 10;
    const auto came = moved - moved_;
    moved_ = moved;
    measure(moved, now);
    if (came > 0) {
      if (now - last_ > step_ + std::chrono::milliseconds(10)) began_ = now;
      last_ = now;
    }
    if (came >= something)
      step_ = std::clamp(2 * step_, shortest, longest);
    else if (came == 0 && paused_)
      step_ = step_ > shortest ? step_ / 2 : Clock::duration::zero();
    step_ = std::min(step_, (now - began_) / 30);
    const auto out = step_ < shortest ? Clock::duration::zero() : limited();
    paused_ = out > Clock::duration::zero();
    return out;
  }

  /// Call where a round was cut short, as there is more to do: no time for a pause.
  void measure(std::int64_t moved, Clock::time_point now) {
    const auto came = static_cast<double>(moved - moved_before_);
    if (!is_fast_ && came > fast / 10) {  // perhaps before the tenth is over
      is_fast_ = true;
      fast_since_ = now;
    }
    if (const std::chrono::duration<double> window = now - since_; window >= std::chrono::milliseconds(100)) {
      rate_ = window < std::chrono::milliseconds(500) ? came / window.count() : 0;
      is_fast_ = is_fast_ && rate_ > fast / 2;
      since_ = now;
      moved_before_ = moved;
    }
    is_ramping_up_ = is_fast_ && now - fast_since_ < ramp_up_lasts;
  }

  /// More than `fast` has begun to flow, less than `ramp_up_lasts` before the last look.
  [[nodiscard]] bool is_ramping_up() const { return is_ramping_up_; }

 private:
  /// `step_`, or less.
  [[nodiscard]] Clock::duration limited() const {
    if (rate_ < slow || rate_ > middling) return {};
    const std::chrono::duration<double> fills(static_cast<double>(batch) / rate_);
    return std::min(step_, std::chrono::duration_cast<Clock::duration>(fills));
  }

  std::int64_t moved_ = 0;
  Clock::duration step_{};
  bool paused_ = false;
  Clock::time_point began_{}, last_{};
  Clock::time_point since_{};
  std::int64_t moved_before_ = 0;
  double rate_ = 0;  ///< of the last tenth of a second or so
  bool is_fast_ = false;
  Clock::time_point fast_since_{};
  bool is_ramping_up_ = false;
};

}  // namespace mesh
