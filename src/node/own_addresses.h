// The addresses of this machine, as others may reach it. Any thread.
#pragma once

#include <string>
#include <vector>

namespace mesh {

/// Those of all interfaces that are up, without loopback and link-local ones.
[[nodiscard]] std::vector<std::string> own_addresses();
/// Those from which it speaks to the rest of the world: of its default routes.
[[nodiscard]] std::vector<std::string> outward_addresses();

}  // namespace mesh
