#include "wire/codec.h"

namespace mesh {

void write_bencode(const lt::entry& value, std::string& out) {
  const auto text = [&out](std::string_view bytes) {
    out += std::to_string(bytes.size());
    out += ':';
    out += bytes;
  };
  switch (value.type()) {
    case lt::entry::int_t:
      out += 'i';
      out += std::to_string(value.integer());
      out += 'e';
      break;
    case lt::entry::string_t:
      text(value.string());
      break;
    case lt::entry::list_t:
      out += 'l';
      for (const auto& item : value.list()) write_bencode(item, out);
      out += 'e';
      break;
    case lt::entry::dictionary_t:
      out += 'd';
      for (const auto& [key, item] : value.dict()) {
        text(key);
        write_bencode(item, out);
      }
      out += 'e';
      break;
    default:
      lt::bencode(std::back_inserter(out), value);
  }
}

lt::bdecode_node parse_bencode(std::string_view bytes) {
  lt::error_code ec;
  auto node = lt::bdecode({bytes.data(), static_cast<std::ptrdiff_t>(bytes.size())}, ec, nullptr, 16, 4'000'000);
  if (ec) throw CodecError("no bencoding: " + ec.message());
  return node;
}

}  // namespace mesh
