#include "past_versions.h"

#include <algorithm>

namespace mesh {
namespace {

constexpr std::size_t most_of_path = 32;

}  // namespace

void PastVersions::add(std::string_view path, const ContentId& id, std::int64_t size, const std::string& instance) {
  auto& versions = paths_.try_emplace(std::string(path)).first->second;
  if (std::ranges::any_of(versions, [&](const Version& known) {
        return known.id == id && known.size == size && known.instance == instance;
      }))
    return;
  order_.emplace_back(path);
  versions.push_back({id, size, instance, std::prev(order_.end())});
  path_bytes_ += path.size();
  if (versions.size() > most_of_path) forget_oldest(path);
  while (order_.size() > most_ || path_bytes_ > most_path_bytes_) forget_oldest(std::string(order_.front()));
}

void PastVersions::forget_oldest(std::string_view path) {
  const auto at = paths_.find(path);
  path_bytes_ -= path.size();
  order_.erase(at->second.front().order);
  at->second.erase(at->second.begin());
  if (at->second.empty()) paths_.erase(at);
}

bool PastVersions::had(std::string_view path, const ContentId& id, std::int64_t size, const Names& own) const {
  const auto at = paths_.find(path);
  return at != paths_.end() && std::ranges::any_of(at->second, [&](const Version& version) {
           return version.id == id && version.size == size && std::ranges::find(own, version.instance) == own.end();
         });
}

bool PastVersions::had_size(std::string_view path, std::int64_t size, const Names& own) const {
  const auto at = paths_.find(path);
  return at != paths_.end() && std::ranges::any_of(at->second, [&](const Version& version) {
           return version.size == size && std::ranges::find(own, version.instance) == own.end();
         });
}

}  // namespace mesh
