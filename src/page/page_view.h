// What the page in a browser is told, as JSON: of a mesh of any size and of nodes that say anything, never more than
// `most_answer_bytes`. Names are printable, and, where the page asks for a thing again, percent-encoded beside that, as
// they may be any bytes. Pure; any thread.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "wire/messages.h"

namespace mesh::page_view {

inline constexpr std::size_t most_answer_bytes = 200'000;
inline constexpr std::size_t page_rows = 100;

/// Who shows the page.
struct Facts {
  std::string name;     ///< of the node, or the host
  std::string program;  ///< meshseed or meshtracker
  std::string version;
  std::string started;            ///< another text after a restart
  std::set<std::string> allowed;  ///< what the page may have done: get, cancel, delete, cache
};

/// What changes by itself.
[[nodiscard]] std::string live(const Glances& glances, const Facts& facts);
/// Nodes whose name has `find` in it, those after `after`.
[[nodiscard]] std::string nodes(const Glances& glances, const std::string& find, const std::string& after);
/// The nodes that a file is on its way to, after the node `after`.
[[nodiscard]] std::string swarm(const Glances& glances, const std::string& path, const std::string& after);
/// A page of a list; `view` as in Listed.
[[nodiscard]] std::string files(const Listed& listed);
[[nodiscard]] std::string file(const Versions& versions, const std::string& path);
/// A glob for all paths with a part that has `text` in it, in capitals or not.
[[nodiscard]] std::string glob_for(const std::string& text);

}  // namespace mesh::page_view
