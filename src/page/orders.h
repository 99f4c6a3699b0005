// What the page asks to be done, as JSON in the body of a POST. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mesh {

struct PageOrder {
  std::vector<std::string> whats;  ///< as of a command's; what was said percent-encoded is decoded, and is a path alone
  std::vector<std::int64_t> numbers;  ///< of gets of this node
  bool discard = false;
  bool force = false;
};
/// Throws Error(usage).
[[nodiscard]] PageOrder read_page_order(std::string_view body);

}  // namespace mesh
