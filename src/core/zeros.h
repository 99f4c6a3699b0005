// Whether bytes are all zero: such blocks are holes. Pure; any thread.
#pragma once

#include <cstring>
#include <string_view>

namespace mesh {

[[nodiscard]] inline bool is_zero(std::string_view bytes) {
  return bytes.empty() || (bytes.front() == '\0' && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

}  // namespace mesh
