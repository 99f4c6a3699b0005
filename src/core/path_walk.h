// Walks over sorted maps whose keys are mesh paths: catalogs and inventory share them.
//
// Both begin behind `after`, so that long answers can be taken page by page, and stop when `visit(iterator)` returns
// false. Whole ranges that cannot match are jumped over. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/glob.h"
#include "core/mesh_path.h"

namespace mesh {

namespace path_walk {

/// The first key behind everything below directory `dir`.
inline std::string behind(std::string_view dir) { return std::string(dir) + static_cast<char>('/' + 1); }

template <class Map>
auto begin(const Map& map, const std::string& first, std::string_view after) {
  return !after.empty() && first <= after ? map.upper_bound(after) : map.lower_bound(first);
}

}  // namespace path_walk

/// What `what` names: a path, a directory with all below it, or what a glob matches with all below that.
/// `due` is asked at each key that is looked at: when it says so, the walk stops and returns that key, behind which it
/// can be gone on with. Returns nothing where it ended otherwise.
template <class Map, class Visit, class Due>
std::optional<std::string> walk_paths(const Map& map, const What& what, std::string_view after, const Visit& visit,
                                      const Due& due) {
  if (!what.is_glob) {
    if (!what.pattern.empty() && (after.empty() || after < what.pattern))
      if (const auto at = map.find(what.pattern); at != map.end() && !visit(at)) return std::nullopt;
    const std::string first = what.pattern.empty() ? std::string{} : what.pattern + '/';
    for (auto at = path_walk::begin(map, first, after); at != map.end() && at->first.starts_with(first); ++at) {
      if (!visit(at)) return std::nullopt;
      if (due()) return at->first;
    }
    return std::nullopt;
  }
  const Glob glob(what.pattern);
  const auto& first = glob.literal_prefix();
  for (auto at = path_walk::begin(map, first, after); at != map.end() && at->first.starts_with(first);) {
    const auto verdict = glob.judge(at->first);
    if (verdict.taken && !visit(at)) return std::nullopt;
    if (due()) return at->first;
    if (verdict.taken || verdict.dead == 0 || verdict.dead == at->first.size())
      ++at;
    else
      at = map.lower_bound(path_walk::behind(std::string_view(at->first).substr(0, verdict.dead)));
  }
  return std::nullopt;
}

/// What lies directly in directory `dir` and has a name that begins with `prefix`, without what is below its
/// directories.
template <class Map, class Visit>
void list_paths(const Map& map, std::string_view dir, std::string_view prefix, std::string_view after,
                const Visit& visit) {
  std::string first(dir);
  if (!first.empty()) first += '/';
  first += prefix;
  for (auto at = path_walk::begin(map, first, after); at != map.end() && at->first.starts_with(first);) {
    const auto slash = at->first.find('/', first.size());
    if (slash == std::string::npos) {
      if (!visit(at)) return;
      ++at;
    } else {
      at = map.lower_bound(path_walk::behind(std::string_view(at->first).substr(0, slash)));
    }
  }
}

}  // namespace mesh
