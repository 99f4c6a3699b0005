// Who uses a volume: what is mounted (in any mount namespace that this user may look into), loop devices, and processes
// that have it open. Blocks; any thread.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "volume/place.h"

namespace mesh {

/// Where it is mounted, in this process's namespace; the last one is on top.
[[nodiscard]] std::vector<std::string> mounts_of(const Place& place, const Volume& volume);
/// Where else than at itself a directory is to be seen (bind mounts).
[[nodiscard]] std::vector<std::string> binds_of(const std::filesystem::path& directory);
/// "is open in qemu (process 812)"; empty: in none that this user may look into.
[[nodiscard]] std::string open_in(const std::filesystem::path& data);
/// The loop devices that show this file.
[[nodiscard]] std::vector<std::string> loops_of(const std::filesystem::path& file);
/// Whether something is mounted from this device or file, in any namespace.
[[nodiscard]] std::optional<std::string> mount_from(const std::string& device);

/// Why a volume is not to be touched, in words: "is mounted on /mnt", "is attached as /dev/loop3", "is open in qemu
/// (process 812)". Empty: nobody uses it. Of other users' processes an ordinary user sees only that they are there, and
/// not always that.
[[nodiscard]] std::string why_in_use(const Place& place, const Volume& volume);

/// An attachment that lives; what ended without meshvol (a restart of the machine, a kill) is none.
[[nodiscard]] std::optional<Attachment> attachment_of(const Place& place, const Volume& volume);

/// Bytes that would be free if this went: what it shares with others does not count (FIEMAP). Directories: what is in
/// them.
[[nodiscard]] std::int64_t own_bytes(const std::filesystem::path& data);

}  // namespace mesh
