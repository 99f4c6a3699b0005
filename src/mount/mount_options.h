// What stands behind -o, as mount(8) and fstab(5) write it. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mesh {

struct MountOptions {
  std::string for_kernel;  ///< what mount(2) and libfuse are given, beside what is always so
  /// Flags of meshmount's, for who can write only this (fstab).
  std::optional<std::string> prefetch{};
  std::optional<int> timeout{};  ///< seconds
  std::optional<std::string> files{};
  std::optional<std::string> control{};
  std::optional<std::string> place{};
};

/// Commas separate; a backslash takes the meaning from what follows it. Throws Error(usage) for what nobody knows.
[[nodiscard]] MountOptions read_mount_options(std::string_view text);

}  // namespace mesh
