// A service that is started as root, to read what only root may, and goes on as another user.
#pragma once

#include <string>

namespace mesh {

/// From here on this process is that user, in its groups and no others, for good. Of root's rights it keeps one, where
/// it has it: to ask the kernel who has a file open for writing, whoever's that is (CAP_LEASE). The directory that
/// systemd has made for it (RUNTIME_DIRECTORY) becomes the user's. Nothing where it is so already. Before there is any
/// second thread. Throws Error(usage): there is no such user, or this one may not become it.
void run_as(const std::string& user);

/// The same, where a configuration file that serves everybody may be who names the user: then who is not root goes on
/// as who he is.
void run_as_configured(const std::string& user, int argc, char** argv);

}  // namespace mesh
