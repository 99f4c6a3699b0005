// Flags, environment and configuration file, the same for every command. A flag beats the environment, which beats the
// configuration file (~/.config/mesh.conf before /etc/mesh/mesh.conf; "key = value", keys named like the long flags).
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/log.h"
#include "core/mesh_path.h"
#include "node/node_options.h"
#include "unpack/unpacker.h"
#include "wire/messages.h"

namespace mesh {

struct CommonOptions {
  NodeOptions node;
  std::string key;
  std::string config;
  std::string log_level = "info";
  std::string log_format = "text";
  int max_log_lines = 1000;  ///< a minute
  /// [volumes] of the configuration files, the first of which wins: key, value, and the file.
  struct VolumeItem {
    std::string key, value;
    std::filesystem::path file;
  };
  std::vector<VolumeItem> volumes;
};

/// As the node of these options spells it.
[[nodiscard]] FilesDir files_dir(const NodeOptions& node);

/// Options that are added from now on stand under this heading in --help.
void under(CLI::App& app, const char* heading);
/// --files, --tracker, --open, --key, --control, --state, --config, --log-level, --max-log-lines, --version.
void add_common(CLI::App& app, CommonOptions& options);
/// The flags of a node: --listen, --advertise, --name, --head, --follow, --ignore, --hash, --max-down, --max-up,
/// --max-active, --refuse.
void add_node(CLI::App& app, CommonOptions& options, std::string& hash, const char* heading = "Node");
/// --control-group, which add_node adds as well.
void add_control_group(CLI::App& app, CommonOptions& options);
/// --user: of a service.
void add_user(CLI::App& app, std::string& user);
/// WHAT... and the flags of a get: --from, --strict, --force, --wait, --no-backing, --seed, --no-seed.
void add_get(CLI::App& app, Get& get);
/// Of its seeds, those that are files from where the command was typed are named so that the node finds them; the
/// others are paths of the files directory.
void find_seeds(Get& get);
/// --refresh, --cacert, --timeout: of URLs.
void add_url(CLI::App& app, Get& get, std::string& cacert);
/// The certificates in a file of --cacert; none without one. Throws Error(usage).
[[nodiscard]] std::string read_ca(const std::string& file);
/// --max-unpacked, --max-entries, --max-ratio: of archives.
void add_unpack(CLI::App& app, UnpackLimits& limits);
/// A number of something, from 1; `count` has the default.
template <class Number>
void add_count(CLI::App& app, const std::string& flag, Number& count, const std::string& what) {
  app.add_option(flag, count, what + " (default: " + std::to_string(count) + ")")
      ->check(CLI::Range(1, 1'000'000'000).description(""))
      ->type_name("N");
}
/// --max-connections, --max-per-address; `limits` has the defaults.
void add_connections(CLI::App& app, ConnectionLimits& limits);
/// --max-down, --max-up, --max-active: of a node, or of one get.
void add_limits(CLI::App& app, std::int64_t& down, std::int64_t& up, int& active);

/// Parses; prints help, version and usage errors itself. Returns an exit status to leave with, or -1 to go on.
int parse(CLI::App& app, CommonOptions& options, int argc, char** argv);

/// Where the command's own messages go: "NAME: text" on stderr.
void say(const std::string& program, const std::string& text);
/// The same, of what it ends with: where it found nobody to ask, with how to find out why.
void say_failure(const std::string& program, Status status, const std::string& text);

/// The log of a service: as much of it as was asked for, on stderr; where that is systemd's journal, with priorities
/// (sd-daemon(3)).
Log service_log(const std::string& program, const CommonOptions& options);
/// The same, in syslog(3), for what has no stderr.
Log system_log(const std::string& program, const CommonOptions& options);

/// Ends the program at once. What was printed and could not be written is a failure.
[[noreturn]] void leave(const std::string& program, int status);

/// Runs a main function and turns what it throws into a line and an exit status, as well as output that could not be
/// written. Before that, it sees to it that no file is opened under the number of a standard stream that was closed.
int guarded(const std::string& program, const std::function<int()>& run);

}  // namespace mesh
