// Configuration files: "key = value", keys named like the long flags.
#pragma once

#include <CLI/CLI.hpp>
#include <istream>
#include <string>

namespace mesh {

/// Gives `app` what the file says of options that were not set otherwise. One file serves all commands: of the keys
/// that any of them knows, those that `app` lacks are passed over. Throws Error(usage), whose text begins with `name`.
void apply_config(CLI::App& app, std::istream& in, const std::string& name);

}  // namespace mesh
