#include <string>

#include "core/log_limit.h"
#include "core/rate_limit.h"
#include "core/rate_window.h"
#include "test.h"
#include "wire/endpoint.h"

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

TEST_CASE("each asker has its own allowance, and what it has not used for ten seconds at most") {
  Allowances<std::string> allowed(10);
  RateLimit::Clock::time_point now{std::chrono::hours(1)};
  int taken = 0;
  while (taken < 1000 && allowed.take("a", now)) ++taken;
  CHECK(taken == 101);
  CHECK(allowed.take("b", now));
  CHECK_FALSE(allowed.take("a", now + milliseconds(90)));
  CHECK(allowed.take("a", now + milliseconds(100)));
  CHECK_FALSE(allowed.take("a", now + milliseconds(110)));
  now += std::chrono::hours(1);
  for (taken = 0; taken < 1000 && allowed.take("a", now);) ++taken;
  CHECK(taken == 101);
}

TEST_CASE("more askers than can be remembered are allowed nothing, until others have been silent") {
  Allowances<std::size_t> allowed(1);
  const RateLimit::Clock::time_point now{std::chrono::hours(1)};
  for (std::size_t i = 0; i < Allowances<std::size_t>::most_askers; ++i) REQUIRE(allowed.take(i, now));
  CHECK_FALSE(allowed.take(1'000'000, now));
  CHECK(allowed.take(5, now));
  CHECK_FALSE(allowed.take(1'000'000, now + milliseconds(900)));
  CHECK(allowed.take(1'000'000, now + milliseconds(1100)));
}

TEST_CASE("a log takes so many lines a minute, and says how many it left out") {
  LogLimit limit(2);
  LogLimit::Clock::time_point now{std::chrono::hours(1)};
  using Lines = std::vector<std::string>;
  CHECK(limit.pass("a", now) == Lines{"a"});
  CHECK(limit.pass("b", now) == Lines{"b"});
  CHECK(limit.pass("c", now).size() == 1);
  CHECK(limit.pass("d", now).empty());
  now += std::chrono::minutes(1);
  CHECK(limit.pass("e", now) == Lines{"2 more lines were left out", "e"});
  now += std::chrono::minutes(1);
  CHECK(limit.pass("f", now) == Lines{"f"});
}

TEST_CASE("of IPv6 a /64 counts as one address") {
  const auto counted = [](const char* text) { return counted_as(boost::asio::ip::make_address(text)).to_string(); };
  CHECK(counted("2001:db8:1:2:3:4:5:6") == "2001:db8:1:2::");
  CHECK(counted("2001:db8:1:2:ffff::1") == "2001:db8:1:2::");
  CHECK(counted("10.1.2.3") == "10.1.2.3");
  CHECK(counted("::ffff:10.1.2.3") == "10.1.2.3");
  CHECK(counted("::1") == "::1");
}

TEST_CASE("a rate is that of the last seconds, from the first bytes on") {
  RateWindow window;
  const auto start = RateWindow::Clock::time_point{};
  const auto at = [&](int ms) { return start + std::chrono::milliseconds(ms); };
  for (int ms = 0; ms <= 2000; ms += 250) window.add(0, at(ms));  // nothing has come
  CHECK(window.rate() == 0);
  window.add(1'000'000, at(2250));
  CHECK(window.rate() == 4'000'000);
  for (int ms = 2500; ms <= 10'000; ms += 250) window.add(1'000'000 + (ms - 2250) * 1000, at(ms));
  CHECK(window.rate() == 1'000'000);
  for (int ms = 10'250; ms <= 20'000; ms += 250) window.add(8'750'000, at(ms));
  CHECK(window.rate() == 0);
  window.add(5, at(20'250));  // another transfer
  CHECK(window.rate() == 0);
}
