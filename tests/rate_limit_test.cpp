#include "core/rate_limit.h"

#include "test.h"

using namespace mesh;
using std::chrono::milliseconds;

TEST_CASE("a rate holds for all that share it, and what was not used is not saved up") {
  RateLimit limit(1000);
  RateLimit::Clock::time_point now{std::chrono::hours(1)};
  CHECK(limit.spend(500, now) - now == milliseconds(400));  // a tenth of a second is free after a silence
  CHECK(limit.spend(500, now) - now == milliseconds(900));
  CHECK(limit.spend(100, now + milliseconds(900)) - now == milliseconds(1000));
  now += std::chrono::hours(1);
  CHECK(limit.spend(1000, now) - now == milliseconds(900));
  CHECK(limit.handful(1'000'000) == 2000);
  CHECK(limit.handful(100) == 100);
}

TEST_CASE("without a rate nothing waits") {
  RateLimit limit(0);
  const RateLimit::Clock::time_point now{std::chrono::hours(1)};
  CHECK(limit.spend(1'000'000'000'000, now) == now);
  CHECK(limit.handful(123) == 123);
}
