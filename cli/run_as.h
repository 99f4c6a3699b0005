// A service that is started as root, to read what only root may, and goes on as another user.
#pragma once

#include <string>

namespace mesh {

/// From here on this process is that user, in its groups and no others, for good. Nothing where it is so already.
/// Before there is any second thread. Throws Error(usage): there is no such user, or this one may not become it.
void run_as(const std::string& user);

}  // namespace mesh
