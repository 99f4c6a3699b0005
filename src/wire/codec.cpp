#include "wire/codec.h"

namespace mesh {

lt::bdecode_node parse_bencode(std::string_view bytes) {
  lt::error_code ec;
  auto node = lt::bdecode({bytes.data(), static_cast<std::ptrdiff_t>(bytes.size())}, ec, nullptr, 16, 4'000'000);
  if (ec) throw CodecError("no bencoding: " + ec.message());
  return node;
}

}  // namespace mesh
