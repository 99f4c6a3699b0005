#include "core/wakeup_coalescing.h"

#include "test.h"

using namespace mesh;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

/// What it says after a second of so many bytes per second, in rounds of 5 ms.
WakeupCoalescing::Clock::duration after_a_second_of(double rate, WakeupCoalescing& coalescing,
                                                    WakeupCoalescing::Clock::time_point& now, double& moved) {
  WakeupCoalescing::Clock::duration out{};
  for (int i = 0; i < 200; ++i) {
    now += milliseconds(5);
    moved += rate / 200;
    out = coalescing.pause(static_cast<std::int64_t>(moved), now);
  }
  return out;
}

}  // namespace

TEST_CASE("wakeup coalescing: waits for about a batch, never long, and not at all where little or very much moves") {
  WakeupCoalescing coalescing;
  WakeupCoalescing::Clock::time_point now{seconds(1000)};
  double moved = 0;
  const auto at = [&](double rate) { return after_a_second_of(rate, coalescing, now, moved); };
  CHECK(at(0) == WakeupCoalescing::Clock::duration::zero());
  CHECK(at(0.5e6) == WakeupCoalescing::Clock::duration::zero());
  CHECK(at(6e6) == WakeupCoalescing::longest);
  for (const double rate : {16e6, 24e6, 30e6}) {
    const double bytes = std::chrono::duration<double>(at(rate)).count() * rate;
    CHECK(bytes > 0.95 * WakeupCoalescing::batch);
    CHECK(bytes < 1.05 * WakeupCoalescing::batch);
  }
  CHECK(at(50e6) == WakeupCoalescing::Clock::duration::zero());
  CHECK(at(200e6) == WakeupCoalescing::Clock::duration::zero());
}

TEST_CASE("wakeup coalescing: a ramp-up is the beginning of a fast flow") {
  WakeupCoalescing coalescing;
  WakeupCoalescing::Clock::time_point now{seconds(1000)};
  double moved = 0;
  const auto at = [&](double rate) { after_a_second_of(rate, coalescing, now, moved); };
  at(50e6);
  CHECK_FALSE(coalescing.is_ramping_up());
  for (const bool again : {false, true}) {
    CAPTURE(again);
    at(200e6);
    CHECK(coalescing.is_ramping_up());
    at(200e6);
    CHECK_FALSE(coalescing.is_ramping_up());
    at(40e6);
    at(200e6);  // it never ended
    CHECK_FALSE(coalescing.is_ramping_up());
    at(20e6);
  }
  at(200e6);
  CHECK(coalescing.is_ramping_up());
  // Drops: each comes after a silence, in which nothing is measured.
  for (int i = 0; i < 100; ++i) {
    now += milliseconds(40);
    moved += 16'384;
    coalescing.pause(static_cast<std::int64_t>(moved), now);
  }
  CHECK_FALSE(coalescing.is_ramping_up());
}

TEST_CASE("wakeup coalescing: what is small does not wait, nor what comes after silence") {
  WakeupCoalescing coalescing;
  WakeupCoalescing::Clock::time_point now{seconds(1000)};
  double moved = 0;
  // Files of a megabyte, each in 20 ms, one after another.
  for (int i = 0; i < 100; ++i) {
    for (int block = 0; block < 40; ++block) {
      now += std::chrono::microseconds(500);
      moved += 26'000;
      CHECK(coalescing.pause(static_cast<std::int64_t>(moved), now) == WakeupCoalescing::Clock::duration::zero());
    }
    now += milliseconds(15);
  }
  CHECK(after_a_second_of(16e6, coalescing, now, moved) > milliseconds(10));
  now += seconds(10);
  moved += 26'000;
  CHECK(coalescing.pause(static_cast<std::int64_t>(moved), now) == WakeupCoalescing::Clock::duration::zero());
}

TEST_CASE("wakeup coalescing: pauses that bring nothing get shorter") {
  WakeupCoalescing coalescing;
  WakeupCoalescing::Clock::time_point now{seconds(1000)};
  double moved = 0;
  CHECK(after_a_second_of(10e6, coalescing, now, moved) == WakeupCoalescing::longest);
  for (const auto pause : {10, 5}) {
    now += milliseconds(1);
    CHECK(coalescing.pause(static_cast<std::int64_t>(moved), now) == milliseconds(pause));
  }
}

TEST_CASE("wakeup coalescing: a ramp-up is noticed in rounds that are cut short, too") {
  WakeupCoalescing coalescing;
  const WakeupCoalescing::Clock::time_point now{seconds(1000)};
  coalescing.pause(0, now);
  coalescing.measure(1'000'000, now + milliseconds(10));
  CHECK_FALSE(coalescing.is_ramping_up());
  coalescing.measure(8'000'000, now + milliseconds(20));
  CHECK(coalescing.is_ramping_up());
  // What it says is no pause: the next one goes by what has come since the last.
  CHECK(coalescing.pause(9'000'000, now + milliseconds(21)) == WakeupCoalescing::Clock::duration::zero());
  for (int ms = 100; ms <= 1600; ms += 50) coalescing.measure(9'000'000 + ms * 100'000, now + milliseconds(ms));
  CHECK_FALSE(coalescing.is_ramping_up());
}
