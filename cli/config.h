// Configuration files: "key = value", keys named like the long flags.
#pragma once

#include <CLI/CLI.hpp>
#include <istream>
#include <string>
#include <vector>

namespace mesh {

/// What a section has, as it is written.
struct ConfigItem {
  std::string section;  ///< volumes, or store.NAME
  std::string key;      ///< empty: the section is there
  std::vector<std::string> values;
};

/// Gives `app` what the file says of options that were not set otherwise. One file serves all commands: of the keys
/// that any of them knows, those that `app` lacks are passed over. Returns what is in [volumes] and in [store.NAME],
/// the sections that there may be. Throws Error(usage), whose text begins with `name`.
std::vector<ConfigItem> apply_config(CLI::App& app, std::istream& in, const std::string& name);

}  // namespace mesh
