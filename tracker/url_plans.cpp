#include "url_plans.h"

#include "core/error.h"

namespace mesh {
namespace {

constexpr std::size_t most_urls = 1000;
constexpr std::size_t most_pieces = 2'000'000;  // of all, some 60 bytes each

}  // namespace

OriginAssignment UrlPlans::turn(NodeKey node, const OriginReport& said, Clock::time_point now) {
  auto it = plans_.find(said.url);
  if (it == plans_.end()) {
    if (said.leave || said.whole) return {};
    if (plans_.size() >= most_urls) throw Error(Status::failed, "too many URLs are on their way; try again later");
    // An epoch may grow by one for each time that an origin changes its mind.
    it = plans_.emplace(said.url, UrlPlan(epoch_ += 1000)).first;
  }
  auto orders = it->second.turn(node, said, now);
  std::size_t pieces = 0;
  for (const auto& [url, plan] : plans_) pieces += plan.piece_count();
  const bool full = pieces > most_pieces;
  if (it->second.is_over() || full) plans_.erase(it);
  if (full) throw Error(Status::failed, "too much is on its way from URLs; try again later");
  return orders;
}

void UrlPlans::leave(NodeKey node) {
  for (auto it = plans_.begin(); it != plans_.end();) {
    it->second.leave(node);
    it = it->second.is_over() ? plans_.erase(it) : std::next(it);
  }
}

}  // namespace mesh
