// What is amiss in the mesh as far as a glance shows it, and what mends it. Pure; any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "wire/messages/glance.h"

namespace mesh {

struct Warning {
  bool is_fault = false;  ///< something does not work; else it soon may not
  std::string node;       ///< empty: of no single one
  std::string what;
  std::string mend;
  bool operator==(const Warning&) const = default;
};

/// A WHAT as people write it: a path without `file:`.
[[nodiscard]] std::string_view shown_what(std::string_view what);

/// Faults first, then by node.
[[nodiscard]] std::vector<Warning> warnings_of(const Glances& glances);

}  // namespace mesh
