#include "transfer/stall_policy.h"

#include "test.h"

using namespace mesh;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Verdict = StallPolicy::Verdict;

namespace {

const StallPolicy::Clock::time_point start{std::chrono::hours(1)};

StallPolicy::Situation nobody() { return {}; }
StallPolicy::Situation with_peers() {
  StallPolicy::Situation out;
  out.has_peers = true;
  return out;
}

}  // namespace

TEST_CASE("while bytes come nobody is asked, and then every three seconds") {
  StallPolicy policy({}, start);
  CHECK_FALSE(policy.asks(start + milliseconds(2999)));
  CHECK(policy.received(100, start + seconds(2)));
  CHECK_FALSE(policy.asks(start + milliseconds(4999)));
  CHECK(policy.asks(start + seconds(5)));
  CHECK_FALSE(policy.asks(start + milliseconds(7999)));
  CHECK(policy.asks(start + seconds(8)));
}

TEST_CASE("wrong bytes are no progress: what is counted does not grow by them") {
  StallPolicy policy({}, start);
  CHECK(policy.received(0, start));
  CHECK_FALSE(policy.received(0, start + seconds(4)));
  CHECK(policy.asks(start + seconds(4)));
}

TEST_CASE("a version that nobody has is given up after six seconds, by who waits for peers, too") {
  StallPolicy policy({}, start);
  auto found = nobody();
  found.is_refused = true;
  found.is_patient = true;
  CHECK(policy.judge(found, start + seconds(6)) == Verdict::go_on);
  CHECK(policy.judge(found, start + milliseconds(6001)) == Verdict::version_gone);
  policy.forgive(start + seconds(6));
  CHECK(policy.judge(found, start + seconds(12)) == Verdict::go_on);
}

TEST_CASE("where all who have it sent wrong bytes, a new swarm is begun; not while one is left") {
  StallPolicy policy({}, start);
  auto found = nobody();
  found.has_banned = true;
  CHECK(policy.judge(found, start + milliseconds(6001)) == Verdict::wrong_bytes);
  found.has_peers = true;
  CHECK(policy.judge(found, start + milliseconds(6001)) == Verdict::go_on);
}

TEST_CASE("no peer for half a minute is an error, peers that send nothing for three; who is patient minds neither") {
  StallPolicy policy({}, start);
  CHECK(policy.judge(nobody(), start + seconds(30)) == Verdict::go_on);
  CHECK(policy.judge(nobody(), start + seconds(31)) == Verdict::unreachable);
  CHECK(policy.judge(with_peers(), start + seconds(180)) == Verdict::go_on);
  CHECK(policy.judge(with_peers(), start + seconds(181)) == Verdict::hopeless);
  auto patient = nobody();
  patient.is_patient = true;
  CHECK(policy.judge(patient, start + std::chrono::hours(24)) == Verdict::go_on);
}

TEST_CASE("times are what they are said to be") {
  StallTimes times;
  times.ask = milliseconds(30);
  times.give_up = milliseconds(60);
  StallPolicy policy(times, start);
  CHECK(policy.asks(start + milliseconds(30)));
  auto found = nobody();
  found.has_banned = true;
  CHECK(policy.judge(found, start + milliseconds(61)) == Verdict::wrong_bytes);
}
