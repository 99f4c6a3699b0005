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

TEST_CASE("moderation: a surge is the beginning of a fast flow") {
  Moderation moderation;
  Moderation::Clock::time_point now{seconds(1000)};
  double moved = 0;
  const auto at = [&](double rate) { after_a_second_of(rate, moderation, now, moved); };
  at(50e6);
  CHECK_FALSE(moderation.is_surge());
  for (const bool again : {false, true}) {
    CAPTURE(again);
    at(200e6);
    CHECK(moderation.is_surge());
    at(200e6);
    CHECK_FALSE(moderation.is_surge());
    at(40e6);
    at(200e6);  // it never ended
    CHECK_FALSE(moderation.is_surge());
    at(20e6);
  }
  at(200e6);
  CHECK(moderation.is_surge());
  // Drops: each comes after a silence, in which nothing is measured.
  for (int i = 0; i < 100; ++i) {
    now += milliseconds(40);
    moved += 16'384;
    moderation.pause(static_cast<std::int64_t>(moved), now);
  }
  CHECK_FALSE(moderation.is_surge());
}

TEST_CASE("moderation: what is small does not wait, nor what comes after silence") {
  Moderation moderation;
  Moderation::Clock::time_point now{seconds(1000)};
  double moved = 0;
  // Files of a megabyte, each in 20 ms, one after another.
  for (int i = 0; i < 100; ++i) {
    for (int block = 0; block < 40; ++block) {
      now += std::chrono::microseconds(500);
      moved += 26'000;
      CHECK(moderation.pause(static_cast<std::int64_t>(moved), now) == Moderation::Clock::duration::zero());
    }
    now += milliseconds(15);
  }
  CHECK(after_a_second_of(16e6, moderation, now, moved) > milliseconds(10));
  now += seconds(10);
  moved += 26'000;
  CHECK(moderation.pause(static_cast<std::int64_t>(moved), now) == Moderation::Clock::duration::zero());
}

TEST_CASE("moderation: pauses that bring nothing get shorter") {
  Moderation moderation;
  Moderation::Clock::time_point now{seconds(1000)};
  double moved = 0;
  CHECK(after_a_second_of(10e6, moderation, now, moved) == Moderation::longest);
  for (const auto pause : {10, 5}) {
    now += milliseconds(1);
    CHECK(moderation.pause(static_cast<std::int64_t>(moved), now) == milliseconds(pause));
  }
}

TEST_CASE("moderation: a surge is noticed in rounds that are cut short, too") {
  Moderation moderation;
  const Moderation::Clock::time_point now{seconds(1000)};
  moderation.pause(0, now);
  moderation.measure(1'000'000, now + milliseconds(10));
  CHECK_FALSE(moderation.is_surge());
  moderation.measure(8'000'000, now + milliseconds(20));
  CHECK(moderation.is_surge());
  // What it says is no pause: the next one goes by what has come since the last.
  CHECK(moderation.pause(9'000'000, now + milliseconds(21)) == Moderation::Clock::duration::zero());
  for (int ms = 100; ms <= 1600; ms += 50) moderation.measure(9'000'000 + ms * 100'000, now + milliseconds(ms));
  CHECK_FALSE(moderation.is_surge());
}
