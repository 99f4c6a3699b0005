#include "mesh/rivals.h"

#include "core/format.h"
#include "wire/mesh_key.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;

constexpr const char* said = "rival";
/// Who hears of an age hears it late, and takes himself for older than he is beside it: so that never both yield, and
/// of two that began at about the same time perhaps neither. Those go by their runs in the end.
constexpr int most_heard = 10;

std::string text_of(const RivalClaim& claim, std::string_view to) {
  return claim.run + " " + std::string(to) + " " + std::to_string(claim.age);
}

}  // namespace

bool is_run(std::string_view text) { return is_hex(text, 64); }

Rivals::Rivals(std::function<IdentityPtr()> identity, std::function<void()> yield, Clock::time_point now)
    : identity_(std::move(identity)), yield_(std::move(yield)), begun_(now), run_(random_secret().hex()) {}

RivalClaim Rivals::claim_to(std::string_view run, Clock::time_point now) const {
  RivalClaim out;
  out.run = run_;
  out.age = std::chrono::duration_cast<milliseconds>(now - begun_).count();
  if (is_run(run) && run != run_) out.proof = identity_()->prove(said, text_of(out, run));
  return out;
}

void Rivals::hear(std::string_view instance, const RivalClaim& claim, Clock::time_point now) {
  const auto identity = identity_();
  if (instance != identity->instance() || !is_run(claim.run) || claim.run == run_ ||
      !is_proven(instance, identity->public_key(), said, text_of(claim, run_), claim.proof))
    return;
  const auto age = std::chrono::duration_cast<milliseconds>(now - begun_).count();
  if (later_ != claim.run) heard_ = 0;
  const bool by_age = claim.age != age && ++heard_ < most_heard;
  const bool is_older = by_age ? claim.age > age : claim.run < run_;
  later_ = is_older ? std::string() : claim.run;
  if (is_older) yield_();
}

}  // namespace mesh
