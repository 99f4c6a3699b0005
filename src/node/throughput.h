// What has arrived at this node, minute by minute, while it arrives: for the page's last hour. Pure; on the node's
// loop.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "core/history.h"
#include "wire/messages/glance.h"

namespace mesh {

class Throughput {
 public:
  struct Bytes {
    std::int64_t from_sources = 0;
    std::int64_t from_getters = 0;
    std::int64_t from_origin = 0;
  };
  /// Of each file under way, by path, what has come so far; of small files, what has ever come. `now` since the epoch.
  void look(const std::map<std::string, Bytes>& under_way, std::int64_t small_files, std::chrono::seconds now) {
    for (const auto& [path, bytes] : under_way) count(counted_[path], bytes);
    std::erase_if(counted_, [&](const auto& one) { return !under_way.contains(one.first); });
    received_ += std::max<std::int64_t>(0, small_files - small_files_);
    small_files_ = small_files;
    hour_.add({received_, from_sources_, from_origins_}, now);
  }
  /// It is here, and under way no more: what came since the last look is counted, too.
  void arrived(const std::string& path, const Bytes& bytes) {
    count(counted_[path], bytes);
    counted_.erase(path);
  }
  [[nodiscard]] HourTold hour() const { return {hour_.of(0), hour_.of(1), hour_.of(2)}; }

 private:
  void count(Bytes& before, const Bytes& now) {
    const auto sources = std::max<std::int64_t>(0, now.from_sources - before.from_sources);
    const auto getters = std::max<std::int64_t>(0, now.from_getters - before.from_getters);
    const auto origin = std::max<std::int64_t>(0, now.from_origin - before.from_origin);
    received_ += sources + getters + origin;
    from_sources_ += sources;
    from_origins_ += origin;
    // What a download has had is begun anew where its swarm is, and all there in the end.
    before.from_sources = std::max(before.from_sources, now.from_sources);
    before.from_getters = std::max(before.from_getters, now.from_getters);
    before.from_origin = std::max(before.from_origin, now.from_origin);
  }
  std::map<std::string, Bytes> counted_;
  std::int64_t received_ = 0;
  std::int64_t from_sources_ = 0;
  std::int64_t from_origins_ = 0;
  std::int64_t small_files_ = 0;
  History<3> hour_;
};

}  // namespace mesh
