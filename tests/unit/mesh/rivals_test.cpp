#include "mesh/rivals.h"

#include "test.h"
#include "wire/mesh_key.h"

using namespace mesh;

namespace {

struct Program {
  explicit Program(IdentityPtr own) : identity(std::move(own)) {}
  IdentityPtr identity;
  int yielded = 0;
  Rivals rivals{[this] { return identity; }, [this] { ++yielded; }};
};

}  // namespace

TEST_CASE("two programs of one identity: each believes who has it, and the later one yields") {
  const auto identity = std::make_shared<const Identity>(random_secret());
  Program a(identity), b(identity);
  auto& early = a.rivals.run() < b.rivals.run() ? a : b;
  auto& late = &early == &a ? b : a;
  const auto& instance = identity->instance();
  const auto& early_run = early.rivals.run();
  const auto& late_run = late.rivals.run();

  // What one says for another, says for itself, or says by another identity is no proof.
  late.rivals.hear(instance, early_run, {});
  late.rivals.hear(instance, early_run, early.rivals.proof_for("0000"));
  late.rivals.hear(instance, early_run,
                   Program(std::make_shared<const Identity>(random_secret())).rivals.proof_for(late_run));
  late.rivals.hear(instance, "0000", early.rivals.proof_for(late_run));
  late.rivals.hear("0123456789abcdef0123456789abcdef", early_run, early.rivals.proof_for(late_run));
  CHECK(late.rivals.proof_for(late_run).empty());
  CHECK(late.rivals.proof_for({}).empty());
  CHECK(late.yielded == 0);

  early.rivals.hear(instance, late_run, late.rivals.proof_for(early_run));
  CHECK(early.yielded == 0);
  CHECK(early.rivals.later() == late_run);  // whom it will tell
  late.rivals.hear(instance, early_run, early.rivals.proof_for(late_run));
  CHECK(late.yielded == 1);
  CHECK(late.rivals.later().empty());
  // It has another one by now.
  late.identity = std::make_shared<const Identity>(random_secret());
  late.rivals.hear(instance, early_run, early.rivals.proof_for(late_run));
  CHECK(late.yielded == 1);
  // Met on a channel on which both have proven who they are; itself is nobody else.
  early.rivals.meet(instance, early_run);
  CHECK(early.yielded == 0);
}
