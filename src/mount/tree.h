// What is where in a mount: its own directories and files, which are always there, and which of what the mesh has is
// shown. Pure; any thread.
#pragma once

#include <fuse_lowlevel.h>

#include <array>
#include <cstdint>

#include "core/entry.h"
#include "core/mesh_path.h"

namespace mesh::tree {

/// The mount's own inodes.
enum Own : fuse_ino_t {
  root = FUSE_ROOT_ID,
  files,
  cluster,
  cluster_info_text,
  cluster_info_as_json,
  cluster_nodes_text,
  cluster_nodes_as_json,
  node,
  transfers_text,
  transfers_as_json,
  config,
  config_tracker,
  version,
  vdi,
  vdi_list,
  vdi_mount,
  vdi_unmount,
  vdi_status,
  volume,
  end_of_own,
};
inline constexpr std::uint64_t first_of_nodes = std::uint64_t{1} << 10;
inline constexpr std::uint64_t first_of_files = std::uint64_t{1} << 40;
inline constexpr std::uint64_t first_of_versions = std::uint64_t{1} << 52;  ///< files, too: each one version's for ever
inline constexpr std::uint64_t first_of_volumes = std::uint64_t{1} << 56;

struct OwnEntry {
  fuse_ino_t number;
  fuse_ino_t parent;
  const char* name;
  mode_t mode;
};
inline constexpr std::array own_entries{
    OwnEntry{root, root, "", S_IFDIR | 0755},
    OwnEntry{files, root, "files", S_IFDIR | 0755},
    OwnEntry{cluster, root, "cluster", S_IFDIR | 0755},
    OwnEntry{cluster_info_text, cluster, "info", S_IFREG | 0444},
    OwnEntry{cluster_info_as_json, cluster, "info.json", S_IFREG | 0444},
    OwnEntry{cluster_nodes_text, cluster, "nodes", S_IFREG | 0444},
    OwnEntry{cluster_nodes_as_json, cluster, "nodes.json", S_IFREG | 0444},
    OwnEntry{node, root, "node", S_IFDIR | 0755},
    OwnEntry{transfers_text, root, "transfers", S_IFREG | 0444},
    OwnEntry{transfers_as_json, root, "transfers.json", S_IFREG | 0444},
    OwnEntry{config, root, "config", S_IFDIR | 0755},
    OwnEntry{config_tracker, config, "tracker", S_IFREG | 0600},
    // Whoever knows the name of a version reads that, whatever its file's mode: meshvol's clones do. So it is for this
    // mount's user. There is no list of them.
    OwnEntry{version, root, "version", S_IFDIR | 0700},
    OwnEntry{vdi, root, "vdi", S_IFDIR | 0755},
    OwnEntry{vdi_list, vdi, "list", S_IFREG | 0400},
    OwnEntry{vdi_mount, vdi, "mount", S_IFREG | 0600},
    OwnEntry{vdi_unmount, vdi, "unmount", S_IFREG | 0600},
    OwnEntry{vdi_status, vdi, "status", S_IFREG | 0400},
    OwnEntry{volume, root, "volume", S_IFDIR | 0711},
};
[[nodiscard]] inline const OwnEntry* own_entry(fuse_ino_t number) {
  return number >= root && number < end_of_own ? &own_entries[number - root] : nullptr;
}
/// Files that something is told by writing to them.
[[nodiscard]] inline bool is_told(fuse_ino_t number) {
  return number == config_tracker || number == vdi_mount || number == vdi_unmount;
}
inline constexpr const char* node_info_name = "info";
inline constexpr const char* node_json_name = "info.json";

inline constexpr std::size_t longest_name = 255;
inline constexpr std::int64_t always_now = INT64_MIN;  ///< the mtime of what is made when it is read

/// What the kernel can be shown: no link out of the mount, no name that it does not take.
[[nodiscard]] inline bool is_shown(const FileEntry& entry) {
  if (last_part(entry.path).size() > longest_name) return false;
  if (entry.kind == Kind::outside) return false;
  return entry.kind != Kind::link || !link_destination(entry.path, entry.target).empty();
}

}  // namespace mesh::tree
