// The backing file of a qcow2 image, from its header alone (QEMU's docs/interop/qcow2). Images come from anywhere, so
// nothing in a header is believed: sizes are bounded, and a name that is no path below the files dir is refused. Pure;
// any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/mesh_path.h"

namespace mesh {

/// How much of the beginning of an image find_backing_name needs.
inline constexpr std::size_t qcow2_head_bytes = 32;

/// Where in the image the backing file's name is. Lies in the first cluster, which is at most 2 MiB; `size` is at most
/// 1,023 bytes.
struct BackingName {
  std::uint64_t offset = 0;
  std::uint32_t size = 0;
};
/// Nothing when `head` is not the beginning of a sound qcow2 image of version 2 or 3, or the image has no backing file.
[[nodiscard]] std::optional<BackingName> find_backing_name(std::string_view head);

/// What else a header says that matters to who makes a disk of the image.
struct Qcow2Facts {
  std::int64_t size = 0;         ///< of the disk in it, bytes
  bool is_elsewhere = false;     ///< its bytes are in another file (an external data file)
  std::string backing_format{};  ///< as the image names it; empty where it does not
};
/// `head`: the image's first bytes, most_qcow2_head_bytes or all. Nothing when it is no sound image.
inline constexpr std::size_t most_qcow2_head_bytes = 4096;
[[nodiscard]] std::optional<Qcow2Facts> read_qcow2(std::string_view head);

/// Where a backing file lies. `name` is as read from the image at mesh path `image`; QEMU takes a relative one as
/// relative to the image.
struct Backing {
  std::string path;   ///< its mesh path; empty when it is none
  std::string fault;  ///< why it is none, in words
};
[[nodiscard]] Backing locate_backing(std::string_view image, std::string_view name, const FilesDir& files_dir);

}  // namespace mesh
