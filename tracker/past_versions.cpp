#include "past_versions.h"

#include <algorithm>

namespace mesh {

void PastVersions::add(std::string_view path, const ContentId& id, std::int64_t size, const std::string& instance) {
  auto& versions = paths_.try_emplace(std::string(path)).first->second;
  Version version{id, size, instance};
  if (std::ranges::find(versions, version) != versions.end()) return;
  versions.push_back(std::move(version));
  order_.emplace_back(path);
  path_bytes_ += path.size();
  while (order_.size() > most_ || path_bytes_ > most_path_bytes_) {
    const auto oldest = paths_.find(order_.front());
    oldest->second.erase(oldest->second.begin());
    if (oldest->second.empty()) paths_.erase(oldest);
    path_bytes_ -= order_.front().size();
    order_.pop_front();
  }
}

bool PastVersions::had(std::string_view path, const ContentId& id, std::int64_t size, std::string_view instance) const {
  const auto at = paths_.find(path);
  return at != paths_.end() && std::ranges::any_of(at->second, [&](const Version& version) {
           return version.id == id && version.size == size && version.instance != instance;
         });
}

bool PastVersions::had_size(std::string_view path, std::int64_t size, std::string_view instance) const {
  const auto at = paths_.find(path);
  return at != paths_.end() && std::ranges::any_of(at->second, [&](const Version& version) {
           return version.size == size && version.instance != instance;
         });
}

}  // namespace mesh
