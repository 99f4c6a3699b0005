#include "wire/messages.h"

#include "core/mesh_path.h"

namespace mesh {

std::string entry_fault(const FileEntry& entry) {
  if (const auto fault = path_fault(entry.path); !fault.empty()) return "the path " + std::string(fault);
  if (entry.kind > Kind::outside) return "the kind is unknown";
  if (entry.size < 0) return "the size is negative";
  if (entry.target.size() > max_path_bytes) return "the link's target is longer than 4000 bytes";
  if (entry.kind == Kind::link && link_destination(entry.path, entry.target).empty() && entry.target != ".")
    return "the link leads out of the files directory";
  return {};
}

}  // namespace mesh
