// Torrents that other nodes hand on, with and without a mesh key, and key files.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "node/maker.h"
#include "wire/mesh_key.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto keys =
      std::make_shared<const mesh::MeshKeys>(mesh::parse_keys("meshswarm-key-1 " + std::string(64, '5'), "fuzz"));
  std::string text(reinterpret_cast<const char*>(data), size);
  mesh::StoredTorrent torrent;
  if (size > 32) std::copy_n(text.data(), 32, torrent.id.bytes.data());
  torrent.info = text;
  torrent.roots = text;
  for (const auto& with : {mesh::MeshKeysPtr(), keys})
    if (const auto read = mesh::unseal(torrent, with)) {
      // Only with the right infohash, which is not in the input.
      std::abort();
    }
  try {
    if (mesh::parse_keys(text, "fuzz").size() > 4) std::abort();
  } catch (const mesh::Error&) {
  }
  return 0;
}
