// Lists of nodes as minimega writes them (`ns hosts`, `mesh send`): "n[1-3,7],head" is n1, n2, n3, n7 and head; numbers
// keep the zeros that the first of a range begins with ("n[08-10]": n08, n09, n10). Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mesh {

/// Throws Error(usage) for a list that is not closed, a range that runs backwards, and for more than 10,000 nodes.
[[nodiscard]] std::vector<std::string> expand_nodes(std::string_view list);

}  // namespace mesh
