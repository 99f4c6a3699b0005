// Where a line for people goes.
#pragma once

#include <functional>
#include <string>

namespace mesh {

using Log = std::function<void(std::string)>;

}  // namespace mesh
