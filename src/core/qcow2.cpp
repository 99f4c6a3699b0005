#include "core/qcow2.h"

#include "core/mesh_path.h"

namespace mesh {
namespace {

constexpr std::string_view magic = "QFI\xfb";
constexpr std::uint64_t smallest_header = 72;  // of version 2
constexpr std::uint32_t longest_name = 1023;

std::uint64_t big_endian(std::string_view bytes) {
  std::uint64_t out = 0;
  for (const char c : bytes) out = out << 8 | static_cast<unsigned char>(c);
  return out;
}

}  // namespace

std::optional<BackingName> find_backing_name(std::string_view head) {
  if (head.size() < qcow2_head_bytes || !head.starts_with(magic)) return std::nullopt;
  const auto version = big_endian(head.substr(4, 4));
  const auto offset = big_endian(head.substr(8, 8));
  const auto size = big_endian(head.substr(16, 4));
  const auto cluster_bits = big_endian(head.substr(20, 4));
  if (version != 2 && version != 3) return std::nullopt;
  if (cluster_bits < 9 || cluster_bits > 21) return std::nullopt;
  if (offset == 0 || size == 0 || size > longest_name) return std::nullopt;
  const auto cluster = std::uint64_t{1} << cluster_bits;
  if (offset < smallest_header || offset > cluster || size > cluster - offset) return std::nullopt;
  return BackingName{offset, static_cast<std::uint32_t>(size)};
}

std::optional<Qcow2Facts> read_qcow2(std::string_view head) {
  constexpr std::uint64_t smallest_v3 = 104;
  constexpr std::uint32_t backing_format = 0xe2792aca;
  constexpr std::uint64_t has_data_file = 4;
  constexpr std::size_t longest_format = 32;
  if (head.size() < smallest_header || !head.starts_with(magic)) return std::nullopt;
  const auto version = big_endian(head.substr(4, 4));
  const auto cluster_bits = big_endian(head.substr(20, 4));
  const auto size = big_endian(head.substr(24, 8));
  if ((version != 2 && version != 3) || cluster_bits < 9 || cluster_bits > 21) return std::nullopt;
  if (size > std::uint64_t{1} << 60) return std::nullopt;
  Qcow2Facts out;
  out.size = static_cast<std::int64_t>(size);
  auto at = smallest_header;
  if (version == 3) {
    if (head.size() < smallest_v3) return std::nullopt;
    out.is_elsewhere = (big_endian(head.substr(72, 8)) & has_data_file) != 0;
    at = big_endian(head.substr(100, 4));
    if (at < smallest_v3) return std::nullopt;
  }
  // The header's extensions: a type, a length, and so many bytes, padded to eight.
  while (at + 8 <= head.size()) {
    const auto type = big_endian(head.substr(at, 4));
    const auto length = big_endian(head.substr(at + 4, 4));
    at += 8;
    if (type == 0 || length > head.size() - at) break;
    if (type == backing_format && length <= longest_format) out.backing_format = head.substr(at, length);
    at += (length + 7) / 8 * 8;
  }
  return out;
}

Backing locate_backing(std::string_view image, std::string_view name, const FilesDir& files_dir) {
  const auto fault = [](std::string_view why) { return Backing{{}, std::string(why)}; };
  if (name.starts_with("file:")) name.remove_prefix(5);
  if (name.empty()) return fault("has an empty name");
  if (name.find('\0') != std::string_view::npos) return fault("has a NUL in its name");
  // As QEMU tells them apart: a protocol is what stands before a colon that comes before any slash.
  if (const auto colon = name.find(':'); colon != std::string_view::npos && colon < name.find('/'))
    return fault("is no file but something that QEMU reaches by a protocol");
  std::string path;
  if (name.front() != '/') {
    path = link_destination(image, name, true);
  } else if (const auto below = files_dir.relative(name)) {
    path = link_destination("x", *below, true);  // as seen from the root
  }
  if (path.empty()) return fault("lies outside the files directory");
  return {path, {}};
}

}  // namespace mesh
