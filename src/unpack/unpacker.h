// Archives to directories: libarchive's formats and filters, unpacked below one directory and nowhere else.
//
// Made for container file systems from anywhere: the archive is hostile until it has proved otherwise. Every name is
// checked before libarchive sees it (none absolute, none with "..", no hard link or relative link that leads out of the
// top-level directory), libarchive writes through no link, and as root the thread that unpacks has the directory for
// its root (chroot(2)). Blocks.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace mesh {

struct UnpackLimits {
  std::int64_t bytes = std::int64_t{100} << 30;  ///< of all files together; holes do not count
  std::int64_t entries = 500'000;
  const std::atomic<bool>* stop = nullptr;  ///< when it is set, unpacking ends with Error(interrupted)
  /// Set-user-id and set-group-id bits and capabilities of files, and what the modes of devices allow others: without
  /// this they are left out, as every user of the machine who reaches the files would have what they give.
  bool keep_setid = false;
  std::int64_t ratio = 200;  ///< unpacked bytes for each packed one, beyond the first 64 MiB
};

struct Unpacked {
  std::string top;  ///< the single top-level directory
  std::int64_t entries = 0;
  std::int64_t bytes = 0;
  bool dropped_setid = false;  ///< something was left out for want of keep_setid
  /// What could not be restored, a line each: owners, devices, attributes.
  std::vector<std::string> skipped;
};

/// Where the archive's bytes come from, in order.
class ArchiveSource {
 public:
  virtual ~ArchiveSource() = default;
  /// The next bytes, at least one, valid until the next call; none at the end. Throws Error when there will be no more.
  virtual std::span<const char> next() = 0;
};

/// Whether an archive that begins with these bytes (512 of them, or all) can be unpacked from its beginning to its end.
/// The others have their table of contents at the end.
[[nodiscard]] bool is_streamable(std::span<const char> head);

/// Unpacks below the directory `into`, which should be empty, and syncs what it wrote. Throws Error(failed), whose text
/// begins with `name`, and leaves what it has made by then.
[[nodiscard]] Unpacked unpack(ArchiveSource& source, int into, const UnpackLimits& limits, const std::string& name);
/// The same from a file that is open for reading, in whatever order the format needs.
[[nodiscard]] Unpacked unpack(int file, int into, const UnpackLimits& limits, const std::string& name);

}  // namespace mesh
