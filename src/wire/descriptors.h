// Open files, handed from one process of this machine to another over a local socket (unix(7), SCM_RIGHTS), each under
// a number. Never blocks; any thread, one at a time a socket.
#pragma once

#include <cstdint>
#include <map>

#include "disk/fd.h"

namespace mesh {

/// False where the socket has no room at the moment, or is gone.
[[nodiscard]] bool send_descriptor(int socket, std::int64_t number, int fd);
/// Adds what has arrived; what this process has no room for is lost. False where the other side is gone, or speaks of
/// something else.
[[nodiscard]] bool receive_descriptors(int socket, std::map<std::int64_t, Fd>& arrived);

}  // namespace mesh
