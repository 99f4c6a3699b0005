// The datagrams of --discover: what does not carry the key's proof is none, what does comes through unchanged.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "mesh/discover.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const mesh::MeshKeys keys(mesh::parse_keys("meshswarm-key-1 " + std::string(64, '5'), "fuzz"));
  static const mesh::MeshKeys others(mesh::parse_keys("meshswarm-key-1 " + std::string(64, '6'), "fuzz"));
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (mesh::read_discovery(text, keys)) std::abort();  // nobody finds the proof by chance
  mesh::Discovery said;
  said.answers = size % 2 == 1;
  std::copy_n(text.begin(), std::min(size, said.nonce.size()), said.nonce.begin());
  if (size > 17) said.channel_port = static_cast<std::uint16_t>(data[16] << 8 | data[17]);
  auto datagram = mesh::write_discovery(said, keys.first());
  const auto read = mesh::read_discovery(datagram, keys);
  if (!read || read->answers != said.answers || read->nonce != said.nonce || read->channel_port != said.channel_port)
    std::abort();
  if (mesh::read_discovery(datagram, others)) std::abort();
  if (size < 20 || data[18] == 0) return 0;
  datagram[data[19] % datagram.size()] ^= static_cast<char>(data[18]);
  if (mesh::read_discovery(datagram, keys)) std::abort();
  return 0;
}
