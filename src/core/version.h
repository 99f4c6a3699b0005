// Which version of a path a get brings, where nodes hold different ones. Pure; any thread.
//
// The newest mtime wins; ties go to the larger content id; copies on nodes started with --head win over that; --from
// NODE over both. Where the answer hangs on content ids that nobody has computed yet, the choice says who must hash.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/entry.h"

namespace mesh {

/// A node in a catalog; small, so that catalogs stay small.
using NodeKey = std::uint32_t;

struct Copy {
  NodeKey node = 0;
  Kind kind = Kind::file;
  std::int64_t size = 0;
  std::int64_t mtime = 0;
  std::uint32_t mode = 0;
  const ContentId* id = nullptr;  ///< null until the node has hashed it
  std::string_view target;
  bool head = false;
  std::string_view origin{};
};

struct ChoiceRules {
  std::optional<NodeKey> from;  ///< only this node's copy counts
  bool strict = false;          ///< more than one version is a conflict
};

struct Choice {
  std::optional<Copy> chosen;
  std::vector<NodeKey> to_hash;  ///< not empty: ask again when these have hashed their copies
  bool conflict = false;         ///< strict, and there are several versions
};

/// How many versions `copies` are, for listings: those that are certain to differ, and whether there may be more.
struct VersionCount {
  int certain = 0;
  bool unsure = false;
};
[[nodiscard]] VersionCount count_versions(std::span<const Copy> copies);

[[nodiscard]] Choice choose_version(std::span<const Copy> copies, const ChoiceRules& rules);

}  // namespace mesh
