#include "transfer/prefetcher.h"

#include <algorithm>
#include <utility>

namespace mesh {
namespace {

using std::chrono::milliseconds;

constexpr auto look_every = milliseconds(250);
/// On its way at once, where a round trip does not take more: who reads what is not in the profile waits for that.
constexpr std::int64_t least_ahead = std::int64_t{1} << 20;
constexpr std::int64_t most_at_once = std::int64_t{256} << 10;

}  // namespace

std::optional<Prefetch> read_prefetch(std::string_view name) {
  if (name == "none") return Prefetch::none;
  if (name == "boot") return Prefetch::boot;
  if (name == "all") return Prefetch::all;
  return std::nullopt;
}

std::shared_ptr<void> Prefetcher::want(const CachedContentPtr& content, std::vector<NodeRef> holders,
                                       Prefetch prefetch) {
  if (prefetch == Prefetch::none) return nullptr;
  std::erase_if(runs_, [](const auto& pair) { return pair.second->is_over && pair.second->open == 0; });
  RunPtr run = runs_[content->wanted().id];
  // Of what was closed in between, it begins anew.
  const bool is_new = !run || run->content != content;
  if (is_new) run = std::make_shared<Run>();
  runs_[content->wanted().id] = run;
  run->prefetch = std::max(run->prefetch, prefetch);
  ++run->open;
  std::shared_ptr<void> open(nullptr, [run](void*) { --run->open; });
  if (!is_new) return open;
  run->content = content;
  run->holders = std::move(holders);
  spawn(workers_.loop(), fetch(run));
  return open;
}

bool Prefetcher::goes_on(const Run& run) const {
  return run.open > 0 && run.content->is_stored() && !workers_.stopping();
}

/// Ahead of who reads, as much as is on the links in a round trip.
Task<void> Prefetcher::fetch_profile(RunPtr run) {
  const auto& content = run->content;
  const auto profile = co_await profiles_.learn(content->wanted(), run->holders);
  Slice slice;  // of what is here already there may be much
  for (const auto& part : profile) {
    const auto end = std::min((part.first + part.count) * profile_grain, content->wanted().size);
    for (auto at = part.first * profile_grain; at < end; at += most_at_once) {
      const auto most = std::max(least_ahead, content->fetcher().in_flight_bytes());
      while (goes_on(*run) && run->prefetch == Prefetch::boot && content->bytes_coming() >= most)
        co_await content->wait_for_news(look_every);
      if (slice.is_over()) co_await slice.next();
      if (!goes_on(*run) || run->prefetch != Prefetch::boot) co_return;
      content->want_ahead(at, std::min(at + most_at_once, end));
    }
  }
  while (goes_on(*run) && run->prefetch == Prefetch::boot && content->bytes_coming() > 0)
    co_await content->wait_for_news(look_every);
}

Task<void> Prefetcher::fetch(RunPtr run) {
  const auto& content = run->content;
  const auto used = content->use();
  try {
    if (run->prefetch == Prefetch::boot) co_await fetch_profile(run);
    const auto is_due = [&] {
      const auto now = Clock::now();
      return run->prefetch == Prefetch::all || (now - run->opened >= options_.least_open &&
                                                now - std::max(content->last_missed(), run->opened) >= options_.quiet);
    };
    while (goes_on(*run) && !is_due()) co_await content->wait_for_news(look_every);
    if (goes_on(*run)) get_rest_(content->wanted());
  } catch (const std::exception&) {
    // It is read all the same.
  }
  run->is_over = true;
}

}  // namespace mesh
