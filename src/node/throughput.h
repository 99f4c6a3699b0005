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
    auto& of = counted_[path];
    const auto missing = [](std::int64_t counted, std::int64_t all) {
      return std::max<std::int64_t>(0, all - counted);
    };
    add(of, {missing(of.sum.from_sources, bytes.from_sources), missing(of.sum.from_getters, bytes.from_getters),
             missing(of.sum.from_origin, bytes.from_origin)});
    counted_.erase(path);
  }
  [[nodiscard]] HourTold hour() const { return {hour_.of(0), hour_.of(1), hour_.of(2)}; }

 private:
  struct Counted {
    Bytes last;  ///< as it was looked at: a swarm that is entered anew begins at 0
    Bytes sum;   ///< that has been counted
  };
  void count(Counted& of, const Bytes& now) {
    const auto grown = [](std::int64_t from, std::int64_t to) { return to < from ? to : to - from; };
    add(of, {grown(of.last.from_sources, now.from_sources), grown(of.last.from_getters, now.from_getters),
             grown(of.last.from_origin, now.from_origin)});
    of.last = now;
  }
  void add(Counted& to, const Bytes& more) {
    to.sum.from_sources += more.from_sources;
    to.sum.from_getters += more.from_getters;
    to.sum.from_origin += more.from_origin;
    received_ += more.from_sources + more.from_getters + more.from_origin;
    from_sources_ += more.from_sources;
    from_origins_ += more.from_origin;
  }
  std::map<std::string, Counted> counted_;
  std::int64_t received_ = 0;
  std::int64_t from_sources_ = 0;
  std::int64_t from_origins_ = 0;
  std::int64_t small_files_ = 0;
  History<3> hour_;
};

}  // namespace mesh
