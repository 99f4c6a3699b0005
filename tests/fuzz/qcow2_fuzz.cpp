// libFuzzer target: the qcow2 header and the backing file's name. The first 32 bytes are the header, the rest is a
// name.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "core/mesh_path.h"
#include "core/qcow2.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (const auto where = mesh::find_backing_name(bytes))
    if (where->size == 0 || where->size > 1023 || where->offset + where->size > (2U << 20)) std::abort();
  if (const auto facts = mesh::read_qcow2(bytes))
    if (facts->size < 0 || facts->backing_format.size() > 32) std::abort();
  const auto name = bytes.substr(bytes.size() < mesh::qcow2_head_bytes ? bytes.size() : mesh::qcow2_head_bytes);
  for (const char* image : {"a", "d/e/image"}) {
    const auto backing = mesh::locate_backing(image, name, {"/files"});
    if (backing.path.empty() == backing.fault.empty()) std::abort();
    if (!backing.path.empty() && !mesh::is_mesh_path(backing.path)) std::abort();
  }
  return 0;
}
