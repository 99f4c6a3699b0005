// `meshkey init`: the key and the configuration of a new mesh, on its head node.
#pragma once

#include <filesystem>
#include <string>

namespace mesh {

struct KeyInit {
  std::filesystem::path directory;  ///< empty: /etc/mesh for root, else ~/.config
  std::string tracker;              ///< HOST:PORT as the other nodes reach it; empty: the host name and 6969
};

/// Makes what is not there yet, leaves what is, and prints what is to be done next. Throws Error.
void init_mesh(KeyInit init);

}  // namespace mesh
