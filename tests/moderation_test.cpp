#include "core/moderation.h"

#include "test.h"

using namespace mesh;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

/// What it says after a second of so many bytes per second, in rounds of 5 ms.
Moderation::Clock::duration after_a_second_of(double rate, Moderation& moderation, Moderation::Clock::time_point& now,
                                              double& moved) {
  Moderation::Clock::duration out{};
  for (int i = 0; i < 200; ++i) {
    now += milliseconds(5);
    moved += rate / 200;
    out = moderation.pause(static_cast<std::int64_t>(moved), now);
  }
  return out;
}

}  // namespace

TEST_CASE("moderation: waits for about a batch, never long, and not at all where little or very much moves") {
  Moderation moderation;
  Moderation::Clock::time_point now{seconds(1000)};
  double moved = 0;
  const auto at = [&](double rate) { return after_a_second_of(rate, moderation, now, moved); };
  CHECK(at(0) == Moderation::Clock::duration::zero());
  CHECK(at(0.5e6) == Moderation::Clock::duration::zero());
  CHECK(at(6e6) == Moderation::longest);
  for (const double rate : {16e6, 30e6, 60e6}) {
    const double bytes = std::chrono::duration<double>(at(rate)).count() * rate;
    CHECK(bytes > 0.95 * Moderation::batch);
    CHECK(bytes < 1.05 * Moderation::batch);
  }
  CHECK(at(200e6) == Moderation::Clock::duration::zero());
}

TEST_CASE("moderation: what has only begun does not wait, nor what comes after silence") {
  Moderation moderation;
  Moderation::Clock::time_point now{seconds(1000)};
  CHECK(moderation.pause(0, now) == Moderation::Clock::duration::zero());
  // A megabyte at once, in the middle of a window.
  CHECK(moderation.pause(1 << 20, now + milliseconds(50)) == Moderation::Clock::duration::zero());
  CHECK(moderation.pause(2 << 20, now + milliseconds(100)) > Moderation::Clock::duration::zero());
  // Nothing was moved for long; then an event.
  CHECK(moderation.pause(4 << 20, now + seconds(10)) == Moderation::Clock::duration::zero());
}
