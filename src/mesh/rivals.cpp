#include "mesh/rivals.h"

#include <chrono>
#include <cstdio>

#include "wire/mesh_key.h"

namespace mesh {
namespace {

constexpr const char* said = "rival";
constexpr std::size_t longest_run = 200;

std::string make_run() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  char time[17];
  std::snprintf(time, sizeof time, "%016llx",
                static_cast<unsigned long long>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count()));
  return time + random_secret().hex();
}

std::string text_of(std::string_view from, std::string_view to) { return std::string(from) + " " + std::string(to); }

}  // namespace

Rivals::Rivals(std::function<IdentityPtr()> identity, std::function<void()> yield)
    : identity_(std::move(identity)), yield_(std::move(yield)), run_(make_run()) {}

std::string Rivals::proof_for(std::string_view run) const {
  if (run.empty() || run == run_ || run.size() > longest_run) return {};
  return identity_()->prove(said, text_of(run_, run));
}

void Rivals::hear(std::string_view instance, std::string_view run, std::string_view proof) {
  if (run.size() <= longest_run && is_proven(instance, identity_()->public_key(), said, text_of(run, run_), proof))
    meet(instance, run);
}

void Rivals::meet(std::string_view instance, std::string_view run) {
  if (instance != identity_()->instance() || run.empty() || run == run_ || run.size() > longest_run) return;
  const bool was_first = run < run_;
  later_ = was_first ? std::string() : std::string(run);
  if (was_first) yield_();
}

}  // namespace mesh
