// Fetches what is likely to be read next of contents that are open, ahead of those who read them
// (docs/decisions/0029): what was read first of them elsewhere, in that order, and once nobody waits for anything any
// more the rest, as an ordinary get. On the node's loop.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "transfer/cached_content.h"
#include "transfer/read_profiles.h"

namespace mesh {

enum class Prefetch {
  none,  ///< what is read, and a little ahead of that
  boot,  ///< its profile, and then the rest
  all,   ///< the rest at once
};
/// Nothing: there is no such.
[[nodiscard]] std::optional<Prefetch> read_prefetch(std::string_view name);

class Prefetcher {
 public:
  using Clock = std::chrono::steady_clock;
  struct Options {
    std::chrono::milliseconds quiet{10'000};       ///< nobody has waited for so long
    std::chrono::milliseconds least_open{20'000};  ///< a look into a file is over before that
  };
  /// `get_rest` begins a get of the whole content.
  Prefetcher(Workers& workers, Options options, ReadProfiles& profiles, std::function<void(const FileEntry&)> get_rest)
      : workers_(workers), options_(options), profiles_(profiles), get_rest_(std::move(get_rest)) {}

  /// Somebody has it open while what is returned lives. Holders: who may know its profile.
  [[nodiscard]] std::shared_ptr<void> want(const CachedContentPtr& content, std::vector<NodeRef> holders,
                                           Prefetch prefetch);

 private:
  struct Run {
    Prefetch prefetch = Prefetch::none;
    CachedContentPtr content;
    std::vector<NodeRef> holders;
    Clock::time_point opened = Clock::now();
    int open = 0;
    bool is_over = false;
  };
  using RunPtr = std::shared_ptr<Run>;
  [[nodiscard]] bool goes_on(const Run& run) const;
  Task<void> fetch(RunPtr run);
  Task<void> fetch_profile(RunPtr run);

  Workers& workers_;
  Options options_;
  ReadProfiles& profiles_;
  std::function<void(const FileEntry&)> get_rest_;
  std::map<ContentId, RunPtr> runs_;
};

}  // namespace mesh
