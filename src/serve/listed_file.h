// Files that others ask for as they were listed: what has changed since is an error, not other bytes. Any thread;
// blocks.
#pragma once

#include <cstdint>
#include <string>

#include "library/path_gate.h"

namespace mesh {

/// Throws Error with the reason: not_found where it is gone; failed where it has changed, or is being written.
[[nodiscard]] PathGate::Opened open_listed(const PathGate& gate, const std::string& path, std::int64_t size,
                                           std::int64_t mtime);
/// Appends all of its bytes, which it still had when they were read. Throws Error, and appends nothing then.
void read_listed(const PathGate::Opened& file, std::string& out);

[[nodiscard]] FileStamp stamp_now(int fd);

}  // namespace mesh
