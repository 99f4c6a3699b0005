// What a get may do about what is here already. On the node's loop.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "get/get_task.h"

namespace mesh {

class LocalRules {
 public:
  /// A node by the key that the tracker gave it, for what is said to people.
  void learn(const NodeRef& node) { node_names_[node.key] = node.name; }
  /// Whether what is here stays and is what the get is about; false: the mesh's version is to be brought. Throws Error
  /// where a local file is in the way and is kept.
  [[nodiscard]] bool keeps(const Planned& planned, bool force) const;
  /// Why a local file is kept: what is here, what the mesh has, and who has it.
  [[nodiscard]] std::string conflict(const FileEntry& wanted, const LocalState& local,
                                     const std::vector<std::uint32_t>& holders) const;

 private:
  std::map<std::uint32_t, std::string> node_names_;
};

}  // namespace mesh
