// Torrents that other nodes hand on, the mesh's own and those for other clients, and key files.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "library/maker.h"
#include "wire/mesh_key.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto keys =
      std::make_shared<const mesh::MeshKeys>(mesh::parse_keys("meshswarm-key-1 " + std::string(64, '5'), "fuzz"));
  const std::string text(reinterpret_cast<const char*>(data), size);
  mesh::ContentId id;
  std::int64_t length = 0;
  if (size > 40) {
    std::copy_n(text.data(), 32, id.bytes.data());
    std::copy_n(text.data() + 32, 8, reinterpret_cast<char*>(&length));
  }
  const auto rest = text.substr(std::min<std::size_t>(size, 40));
  for (const auto& with : {mesh::MeshKeysPtr(), keys})
    for (const auto wanted : {length, static_cast<std::int64_t>(rest.size() / 32 * 65536)})
      if (mesh::verify_torrent(id, wanted, rest, mesh::InfoHash{}, with))
        std::abort();  // the right infohash is not given
  for (const auto wanted : {length, std::int64_t{1000}, std::int64_t{100'000}})
    if (const auto read = mesh::read_standard_torrent(rest, id, wanted); read && read->info != rest) std::abort();
  try {
    if (mesh::parse_keys(text, "fuzz").size() > 4) std::abort();
  } catch (const mesh::Error&) {
  }
  return 0;
}
