// libFuzzer target: names of versions in a mount, which any process of the machine may look up.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "core/mesh_path.h"
#include "core/version_name.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view name(reinterpret_cast<const char*>(data), size);
  if (const auto entry = mesh::read_version_name(name))
    if (mesh::version_name(*entry) != name || !mesh::is_mesh_path(entry->path) || entry->size < 0) std::abort();
  return 0;
}
