// When a download that gets nothing is stalled, and when there is no hope left for it. Pure: time comes in, and what is
// to be done goes out.
#pragma once

#include <chrono>
#include <cstdint>

namespace mesh {

/// How long nothing may come before ...
struct StallTimes {
  std::chrono::milliseconds ask{3'000};           ///< the tracker is asked again, and so often
  std::chrono::milliseconds give_up{6'000};       ///< a version that nobody has, or that is sent wrong, is given up
  std::chrono::milliseconds unreachable{30'000};  ///< not one peer: nobody can be reached
  std::chrono::milliseconds hopeless{180'000};    ///< peers, and none sends anything
};

class StallPolicy {
 public:
  using Clock = std::chrono::steady_clock;
  enum class Verdict {
    go_on,
    version_gone,  ///< another version may be had
    wrong_bytes,   ///< whoever has it was banned; a new swarm has banned nobody
    unreachable,
    hopeless,
  };
  /// What the last question brought.
  struct Situation {
    bool is_refused = false;  ///< the tracker, or who stands in for it, says that nobody has the version
    bool has_peers = false;
    bool has_banned = false;  ///< peers that sent wrong bytes
    bool is_patient = false;  ///< no peer for however long is no error
  };

  StallPolicy(const StallTimes& times, Clock::time_point now) : times_(times), progressed_(now), asked_(now) {}

  /// `good` payload bytes have come so far, those that failed their hashes left out. True where it is more than before.
  bool received(std::int64_t good, Clock::time_point now) {
    if (good <= good_) return false;
    good_ = good;
    progressed_ = now;
    return true;
  }
  /// What was waited for until now was not the peers' fault.
  void forgive(Clock::time_point now) { progressed_ = now; }
  /// Whether to ask the tracker now; counts as asked.
  [[nodiscard]] bool asks(Clock::time_point now) {
    if (now - progressed_ < times_.ask || now - asked_ < times_.ask) return false;
    asked_ = now;
    return true;
  }
  [[nodiscard]] Verdict judge(const Situation& found, Clock::time_point now) const {
    const auto still = now - progressed_;
    if (found.is_refused && still > times_.give_up) return Verdict::version_gone;
    // A bad cable or a bad disk may be good again.
    if (!found.has_peers && found.has_banned && still > times_.give_up) return Verdict::wrong_bytes;
    if (found.is_patient) return Verdict::go_on;
    if (!found.has_peers && still > times_.unreachable) return Verdict::unreachable;
    return still > times_.hopeless ? Verdict::hopeless : Verdict::go_on;
  }
  [[nodiscard]] const StallTimes& times() const { return times_; }

 private:
  StallTimes times_;
  Clock::time_point progressed_;
  Clock::time_point asked_;
  std::int64_t good_ = -1;
};

}  // namespace mesh
