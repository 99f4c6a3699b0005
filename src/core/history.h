// What arrived in each minute of the last hour. Pure; one thread.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace mesh {

/// Of some counts that only grow, by how much each did in each minute. Minutes are whole ones of the clock that is
/// passed in, so that those of several nodes can be added up.
template <std::size_t Counts>
class History {
 public:
  static constexpr std::size_t minutes = 60;
  using Totals = std::array<std::int64_t, Counts>;

  /// `totals` so far, at `now` (since any fixed moment). A count that is smaller than before has lost something, and
  /// goes on from there.
  void add(const Totals& totals, std::chrono::seconds now) {
    move_to(now);
    for (std::size_t i = 0; i < Counts; ++i) {
      if (totals[i] > last_[i]) grown_[at_ % minutes][i] += totals[i] - last_[i];
      last_[i] = totals[i];
    }
  }
  /// Of count `which`, the oldest minute first; the last one is not over yet.
  [[nodiscard]] std::vector<std::int64_t> of(std::size_t which) const {
    std::vector<std::int64_t> out;
    for (std::size_t i = 1; i <= minutes; ++i) out.push_back(grown_[(at_ + i) % minutes][which]);
    return out;
  }

 private:
  void move_to(std::chrono::seconds now) {
    const auto minute = static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::minutes>(now).count());
    constexpr std::uint64_t small_step = 5;
    if (minute <= at_ && at_ - minute <= small_step) return;
    // A clock that was set back begins anew.
    if (minute < at_) grown_ = {}, at_ = minute;
    for (auto next = minute - at_ > minutes ? minute - minutes : at_; next < minute;) grown_[++next % minutes] = {};
    at_ = minute;
  }
  std::array<Totals, minutes> grown_{};
  Totals last_{};
  std::uint64_t at_ = 0;
};

}  // namespace mesh
