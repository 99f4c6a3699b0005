// The bytes of one open file into another: as a reflink where the file system has them, within the kernel where it can,
// and with the holes that there are. Blocks; any thread.
#pragma once

#include <cstdint>
#include <functional>

namespace mesh {

/// Makes `to` the same as `from`, `size` bytes long. `is_stopped` is asked now and then. Throws Error: interrupted
/// where it says so, else failed with the system's reason, which `ENOSPC` may be (Error::code).
void copy_bytes(int from, int to, std::int64_t size, const std::function<bool()>& is_stopped);

}  // namespace mesh
