// What nodes had under a path, and have not any more: whoever holds an old version of a file did not make it himself
// when another node had it. Bounded, of each path and in all: the oldest are forgotten first. Pure; one thread owns it.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/digest.h"

namespace mesh {

class PastVersions {
 public:
  explicit PastVersions(std::size_t most = 100'000, std::size_t most_path_bytes = std::size_t{16} << 20)
      : most_(most), most_path_bytes_(most_path_bytes) {}

  /// The node of this instance had these bytes under `path`.
  void add(std::string_view path, const ContentId& id, std::int64_t size, const std::string& instance);
  /// What a node is and was called.
  using Names = std::vector<std::string>;
  /// Whether a node that has none of the names `own` had these bytes under `path`.
  [[nodiscard]] bool had(std::string_view path, const ContentId& id, std::int64_t size, const Names& own) const;
  /// Whether one had bytes of this size.
  [[nodiscard]] bool had_size(std::string_view path, std::int64_t size, const Names& own) const;

 private:
  struct Version {
    ContentId id;
    std::int64_t size;
    std::string instance;
    std::list<std::string>::iterator order;
  };
  void forget_oldest(std::string_view path);
  std::size_t most_;
  std::size_t most_path_bytes_;
  std::size_t path_bytes_ = 0;  ///< of order_
  std::map<std::string, std::vector<Version>, std::less<>> paths_;
  std::list<std::string> order_;  ///< the path of each version, the oldest first
};

}  // namespace mesh
