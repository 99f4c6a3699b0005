#include "mesh/rivals.h"

#include "test.h"
#include "wire/mesh_key.h"

using namespace mesh;
using std::chrono::seconds;

namespace {

struct Program {
  Program(IdentityPtr own, Rivals::Clock::time_point begun)
      : identity(std::move(own)), rivals([this] { return identity; }, [this] { ++yielded; }, begun) {}
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  IdentityPtr identity;
  int yielded = 0;
  Rivals rivals;
};

IdentityPtr any_identity() { return std::make_shared<const Identity>(random_secret()); }

}  // namespace

TEST_CASE("two programs of one identity: each believes who has it, and the one that runs for less time yields") {
  const auto identity = any_identity();
  const auto now = Rivals::Clock::now();
  Program early(identity, now - seconds(500)), late(identity, now - seconds(100));
  const auto& instance = identity->instance();
  const auto claim = early.rivals.claim_to(late.rivals.run(), now);
  CHECK(claim.age == 500'000);

  // What one says to another, says to itself, or says by another identity is no proof; nor is what was changed.
  const auto tell = [&](RivalClaim changed) {
    late.rivals.hear(instance, changed, now);
    CHECK(late.yielded == 0);
  };
  tell({early.rivals.run(), 500'000, {}});
  tell(early.rivals.claim_to(std::string(64, 'a'), now));
  Program stranger(any_identity(), now - seconds(900));
  tell(stranger.rivals.claim_to(late.rivals.run(), now));
  auto forged = claim;
  forged.run = std::string(64, '0');
  tell(forged);
  forged = claim;
  forged.age = 5'000'000;
  tell(forged);
  late.rivals.hear(std::string(32, 'a'), claim, now);
  CHECK(late.yielded == 0);
  CHECK(late.rivals.claim_to(late.rivals.run(), now).proof.empty());
  for (const auto& no_run : {std::string(), std::string("x"), std::string(64, 'A'), claim.run + " " + claim.run})
    CHECK(late.rivals.claim_to(no_run, now).proof.empty());

  early.rivals.hear(instance, late.rivals.claim_to(early.rivals.run(), now), now);
  CHECK(early.yielded == 0);
  CHECK(early.rivals.later() == late.rivals.run());  // whom it will tell
  late.rivals.hear(instance, claim, now);
  CHECK(late.yielded == 1);
  CHECK(late.rivals.later().empty());
  // It has another one by now.
  late.identity = any_identity();
  late.rivals.hear(instance, claim, now);
  CHECK(late.yielded == 1);
}

TEST_CASE("two programs of one identity that began at about the same time: in the end one yields, and not both") {
  using std::chrono::milliseconds;
  const auto identity = any_identity();
  const auto now = Rivals::Clock::now();
  for (const int apart : {0, 1, 40, 49, 51, 80, 200, 3000})
    for (const int late : {0, 20, 45, 60, 500}) {
      INFO(apart << " " << late);
      Program a(identity, now - milliseconds(5000 + apart)), b(identity, now - milliseconds(5000));
      int rounds = 0;
      for (; a.yielded + b.yielded == 0 && rounds < 30; ++rounds) {
        const auto then = now + seconds(rounds);
        const auto to_b = a.rivals.claim_to(b.rivals.run(), then), to_a = b.rivals.claim_to(a.rivals.run(), then);
        b.rivals.hear(identity->instance(), to_b, then + milliseconds(late));
        a.rivals.hear(identity->instance(), to_a, then + milliseconds(late));
      }
      CHECK(a.yielded + b.yielded == 1);
      if (apart > 100 + late) CHECK(b.yielded == 1);
    }
}
