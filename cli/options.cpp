#include "options.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "config.h"
#include "core/format.h"
#include "core/log_limit.h"
#include "disk/trusted_dir.h"
#include "tracker.h"
#include "version.h"

namespace mesh {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t most_ca_bytes = std::size_t{1} << 20;

std::vector<fs::path> default_configs() {
  std::vector<fs::path> out;
  if (const char* home = std::getenv("HOME"); home != nullptr) out.push_back(fs::path(home) / ".config/mesh.conf");
  out.emplace_back("/etc/mesh/mesh.conf");
  return out;
}

/// A file that nobody named (HOME may be another user's, by sudo) says what this user or root wants.
void check_owner(const fs::path& file) {
  struct stat s {};
  if (::stat(file.c_str(), &s) != 0) return;
  const bool ours = s.st_uid == 0 || s.st_uid == ::geteuid();
  if (ours && (s.st_mode & S_IWOTH) == 0) return;
  throw Error(Status::usage, file.string() + ": " +
                                 (ours ? "everybody may write to it; mend that with: chmod o-w " + file.string()
                                       : "belongs to user " + user_name(s.st_uid) + "; --config " + file.string() +
                                             " takes it all the same"));
}

std::optional<std::chrono::milliseconds> test_time(const char* name) {
  const char* ms = std::getenv(name);
  if (ms == nullptr || std::atoi(ms) <= 0) return std::nullopt;
  return std::chrono::milliseconds(std::atoi(ms));
}

void read_config(CLI::App& app, const fs::path& file, CommonOptions& options) {
  std::ifstream in(file);
  if (!in) throw Error(Status::usage, file.string() + ": cannot be read");
  // The file that is read first says what a store is.
  const auto before = options.node.stores.size();
  for (auto& item : apply_config(app, in, file.string())) {
    if (item.section == "volumes") {
      options.volumes.push_back({std::move(item.key), std::move(item.values.front()), file});
      continue;
    }
    auto& stores = options.node.stores;
    const auto name = item.section.substr(item.section.find('.') + 1);
    auto it = std::ranges::find(stores, name, &StoreOptions::name);
    if (it != stores.end() && static_cast<std::size_t>(it - stores.begin()) < before) continue;
    if (it == stores.end()) {
      StoreOptions fresh;
      fresh.name = name;
      it = stores.insert(it, std::move(fresh));
    }
    try {
      if (!item.key.empty()) set_store_option(*it, item.key, item.values);
    } catch (const Error& error) {
      throw Error(Status::usage, file.string() + ": " + error.what());
    }
  }
}

}  // namespace

void under(CLI::App& app, const char* heading) { app.option_defaults()->group(heading); }

void add_common(CLI::App& app, CommonOptions& options) {
  under(app, "Options");
  app.set_version_flag("--version", std::string(MESH_VERSION));
  under(app, "Connection");
  app.add_option("--files", options.node.files, "The files directory")
      ->envname("MESH_FILES")
      ->type_name("DIR")
      ->default_str(options.node.files.string());
  app.add_option("--state", options.node.state,
                 "Where this node keeps its state, on the same file system (default: .mesh in the files directory)")
      ->type_name("DIR");
  app.add_option("--tracker", options.node.trackers, "A tracker; may be given several times")
      ->envname("MESH_TRACKER")
      ->type_name("HOST:PORT")
      ->delimiter(',')
      ->allow_extra_args(false);
  app.add_option("--control", options.node.control, "The local socket (default: control in the state directory)")
      ->envname("MESH_CONTROL")
      ->type_name("SOCKET");
  app.add_flag("--open", options.node.open,
               "Without a key, let everyone who can reach the ports use them; without either, all stays on loopback, "
               "for this user and root alone");
  app.add_option("--http-name", options.node.http_names,
                 "A name of this machine, besides its host name, by which HTTP requests may ask for it; may be given "
                 "several times")
      ->type_name("NAME")
      ->allow_extra_args(false);
  app.add_option("--key", options.key,
                 "The mesh key, made by meshkey new: only who has it too is let in, and what is said is encrypted")
      ->envname("MESH_KEY")
      ->type_name("FILE");
  app.add_option("--config", options.config,
                 "Configuration file (default: ~/.config/mesh.conf, then /etc/mesh/mesh.conf)")
      ->type_name("FILE");
  app.add_option("--log-level", options.log_level, "error, warning or info: what is at least as bad")
      ->check(CLI::IsMember({"error", "warning", "info"}).description(""))
      ->type_name("LEVEL");
  app.add_option("--log-format", options.log_format, "text, or json: an object a line")
      ->check(CLI::IsMember({"text", "json"}).description(""))
      ->type_name("FORMAT");
  add_count(app, "--max-log-lines", options.max_log_lines, "Lines in the log of a service, a minute");
}

void add_control_group(CLI::App& app, CommonOptions& options) {
  app.add_option("--control-group", options.node.control_group,
                 "Let this group's members use the local socket, too, which has to be at a --control that they reach")
      ->type_name("GROUP");
}

void add_node(CLI::App& app, CommonOptions& options, std::string& hash, const char* heading) {
  auto& node = options.node;
  under(app, heading);
  node.embedded_tracker = [](asio::io_context& io, Access access, EmbeddedRole role) {
    TrackerOptions tracker_options;
    tracker_options.role = role.keepers ? Members::Role::keeper : Members::Role::view;
    tracker_options.access = std::move(access);
    tracker_options.beyond = std::move(role.beyond);
    tracker_options.keepers = std::move(role.keepers);
    tracker_options.prove = std::move(role.prove);
    const auto tracker = std::make_shared<Tracker>(io, tracker_options);
    EmbeddedTracker out;
    out.serve = [tracker](ChannelPtr channel) { return tracker->serve(std::move(channel)); };
    out.announce = [tracker](std::string query, asio::ip::address remote) {
      return tracker->announce(std::move(query), remote);
    };
    return out;
  };
  app.add_option("--peer", node.peers,
                 "Another node, by its --listen: how to find the mesh when no tracker answers and none was ever met; "
                 "may be given several times")
      ->envname("MESH_PEER")
      ->type_name("HOST:PORT")
      ->delimiter(',')
      ->allow_extra_args(false);
  add_control_group(app, options);
  app.add_flag("--discover", node.discover,
               "Find other nodes of the mesh by broadcast on the local networks; needs --key");
  app.add_option("--listen", node.listen,
                 "Peers connect here, and to the next port for the node channel (default: [::]:6881, IPv4 and IPv6, or "
                 "the next free pair)")
      ->type_name("ADDR:PORT");
  app.add_option("--advertise", node.advertise,
                 "An address at which others reach this node; may be given several times")
      ->type_name("ADDR")
      ->allow_extra_args(false);
  app.add_option("--name", node.name, "This node's name (default: the host name)")->type_name("NODE");
  app.add_flag("--head", node.head, "This node's copies win over newer ones elsewhere");
  app.add_option("--follow", node.follow,
                 "Serve what links in the files directory lead to in DIR; may be given several times")
      ->type_name("DIR")
      ->allow_extra_args(false);
  app.add_option(
         "--keep", node.keep,
         "Get what matches this glob, and newer versions of it, without being asked; may be given several times")
      ->type_name("GLOB")
      ->allow_extra_args(false);
  app.add_option(
         "--keep-max", node.keep_max,
         "Keep at most so many bytes by --keep (500G; default: no bound): any member of the mesh may add to them")
      ->transform(CLI::AsSizeValue(true).description(""))
      ->type_name("SIZE");
  app.add_option("--ignore", node.ignore, "Never offer files of this name (a glob); may be given several times")
      ->type_name("GLOB")
      ->allow_extra_args(false);
  app.add_option(
         "--http", node.http,
         "Serve the mesh's files over HTTP here, to who sends the token, and to this user and root on this "
         "machine: GET /files/PATH, whole or a range, whether it is here or not; and at / a page for browsers that "
         "shows the mesh")
      ->type_name("ADDR:PORT");
  app.add_option("--http-allow", node.http_allow,
                 "What the page at --http may have this node do, for who sends the token: get, cancel, delete, cache "
                 "(drop it); may be given several times (default: nothing, it only shows)")
      ->check(CLI::IsMember({"get", "cancel", "delete", "cache"}).description(""))
      ->type_name("WHAT")
      ->allow_extra_args(false);
  app.add_option("--http-token", node.http_token,
                 "The file of that token, made where there is none (default: http-token in the state directory)")
      ->type_name("FILE");
  app.add_option("--hash", hash, "When to hash files: ondemand, or eager, at idle priority")
      ->check(CLI::IsMember({"ondemand", "eager"}).description(""))
      ->type_name("WHEN");
  app.add_option(
         "--control-allow", node.control_allow,
         "What the members of --control-group may have this node do beside what all may: store-write (meshfile put, "
         "and delete of an object)")
      ->check(CLI::IsMember({"store-write"}).description(""))
      ->type_name("WHAT")
      ->allow_extra_args(false);
  app.add_option(
         "--refuse", node.refuse,
         "What not to do for other nodes: get (meshfile get --on), url (the same of a URL), delete (meshfile delete "
         "--mesh, and get --on --force); may be given several times")
      ->check(CLI::IsMember({"get", "delete", "url"}).description(""))
      ->type_name("ORDER")
      ->allow_extra_args(false);
  app.add_option("--url-ignore", node.url_ignore,
                 "A key of URLs' queries that is another one each time, as a signature's is, and no part of what they "
                 "name, beside the usual ones (X-Amz-*, Signature, token, ...); may be given several times")
      ->type_name("KEY")
      ->allow_extra_args(false);
  app.add_flag("--local-urls", node.local_urls,
               "Get URLs at this machine's own addresses, and link-local ones, for other nodes, too");
  under(app, "Limits");
  add_limits(app, node.max_down, node.max_up, node.max_active);
  add_connections(app, node.connections);
  app.add_option("--cache", node.cache,
                 "Keep at most so many bytes of what was read and not got (20G; default: a tenth of the file system)")
      ->transform(CLI::AsSizeValue(true).description(""))
      ->type_name("SIZE");
  add_count(app, "--max-gets", node.max_gets, "Gets under way at once, those that wait included");
  add_count(app, "--max-peers", node.max_peers, "Connections to other nodes' and clients' swarms at once");
}

void add_connections(CLI::App& app, ConnectionLimits& limits) {
  add_count(app, "--max-connections", limits.all, "Channels and requests at once");
  add_count(app, "--max-per-address", limits.of_one_address,
            "The same from one address (of IPv6: one /64), but for this machine's own");
}

void add_limits(CLI::App& app, std::int64_t& down, std::int64_t& up, int& active) {
  app.add_option("--max-down", down, "Take at most this many bytes per second (10M, 500K; default: no limit)")
      ->transform(CLI::AsSizeValue(true).description(""))
      ->type_name("RATE");
  app.add_option("--max-up", up, "Send at most this many bytes per second (default: no limit)")
      ->transform(CLI::AsSizeValue(true).description(""))
      ->type_name("RATE");
  app.add_option("--max-active", active, "Download at most this many large files at once (default: 6)")
      ->check(CLI::Range(1, 1000).description(""))
      ->type_name("N");
}

void add_url(CLI::App& app, Get& get, std::string& cacert) {
  app.add_flag("--refresh", get.refresh,
               "Of a URL that the mesh has: ask the origin first whether it is still the same, and get what is newer");
  app.add_option("--cacert", cacert, "Trust these certificates (PEM) for https, in place of the system's")
      ->type_name("FILE");
  app.add_option("--timeout", get.timeout, "Give an origin up that is silent for so long (default: 30)")
      ->type_name("SECONDS")
      ->check(CLI::Range(1, 86400).description(""));
}

std::string read_ca(const std::string& file) {
  if (file.empty()) return {};
  std::ifstream in(file, std::ios::binary);
  std::string out((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (!in) throw Error(Status::usage, "--cacert " + file + ": cannot be read");
  if (out.find("-----BEGIN CERTIFICATE-----") == std::string::npos || out.size() > most_ca_bytes)
    throw Error(Status::usage, "--cacert " + file + ": is no file of PEM certificates");
  return out;
}

void add_unpack(CLI::App& app, UnpackLimits& limits) {
  app.add_option("--max-unpacked", limits.bytes, "Unpack at most so many bytes (10G; default: 100G)")
      ->transform(CLI::AsSizeValue(false).description(""))
      ->type_name("SIZE");
  app.add_option("--max-entries", limits.entries, "Unpack at most so many entries (default: 500000)")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40).description(""))
      ->type_name("N");
  app.add_flag(
      "--keep-setid", limits.keep_setid,
      "Unpack set-user-id and set-group-id bits, file capabilities and the modes of devices as they were packed: "
      "where other users of this machine cannot reach the directory");
  app.add_option("--max-ratio", limits.ratio, "Unpack at most so many times the archive's size (default: 200)")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40).description(""))
      ->type_name("N");
}

void add_user(CLI::App& app, std::string& user) {
  app.add_option("--user", user,
                 "Go on as this user once the configuration and the key are read, where root has started it")
      ->type_name("NAME");
}

void add_get(CLI::App& app, Get& get) {
  app.add_option("WHAT", get.whats,
                 "A path, a directory, or a glob (*, ?, [...], and ** across directories), each with an optional file: "
                 "prefix; id: and a content id, as meshfile info shows it; an http://, https:// or s3:// URL, with "
                 "#sha256=... behind it where that is known; or, for meshget, "
                 "tar: and the path of an archive")
      ->required();
  app.add_option("--from", get.from, "Only this node's version")->type_name("NODE");
  app.add_flag("--strict", get.strict, "Several versions of a path are an error");
  app.add_flag("--force", get.force, "Replace local files that were made or changed here");
  app.add_flag("--wait", get.wait, "Wait for what is not there yet: a tracker, the file, room on the disk");
  app.add_flag("--no-backing", get.no_backing, "Leave out the backing files of qcow2 images");
  app.add_option("--seed", get.seeds,
                 "A file here that may have some of the bytes, of the files directory or any other: looked at before "
                 "those that are likely to (may be given up to four times)")
      ->type_name("PATH")
      ->allow_extra_args(false);
  app.add_flag("--no-seed", get.no_seed, "Have all bytes come from other nodes");
  app.add_flag("--no-preserve-modes", get.no_preserve_modes,
               "Files and directories that arrive cannot be written by their group");
}

void find_seeds(Get& get) {
  for (auto& seed : get.seeds) {
    std::error_code ec;
    if (!std::filesystem::is_regular_file(seed, ec)) continue;
    const auto whole = std::filesystem::absolute(seed, ec).lexically_normal();
    if (!ec) seed = whole.string();
  }
}

int parse(CLI::App& app, CommonOptions& options, int argc, char** argv) {
  app.get_formatter()->column_width(34);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {
      app.exit(error);
      return 0;
    }
    say(app.get_name(), std::string(error.what()) + " (" + app.get_name() + " --help shows the usage)");
    return static_cast<int>(Status::usage);
  }
  const bool gave_key = !options.key.empty();
  if (!options.config.empty()) {
    read_config(app, options.config, options);
  } else {
    std::error_code ec;
    for (const auto& file : default_configs())
      if (fs::exists(file, ec)) {
        check_owner(file);
        read_config(app, file, options);
      }
  }
  auto& stores = options.node.stores;
  for (auto& own : stores_of_environment([](const char* name) -> const char* { return std::getenv(name); }))
    if (std::ranges::none_of(
            stores, [&](const StoreOptions& one) { return one.name == own.name && one.is_swift() == own.is_swift(); }))
      stores.push_back(std::move(own));
  // Nor are its passwords for others to see.
  if (!stores.empty()) ::prctl(PR_SET_DUMPABLE, 0);
  if (!options.key.empty()) {
    if (options.node.open) throw Error(Status::usage, "--key and --open contradict each other: give one of them");
    // What a configuration file says is said for everybody, and who may use the node's socket alone needs no key.
    const bool is_asker = app.get_name() == "meshfile" || app.get_name() == "meshget" ||
                          app.get_name() == "meshmount" || app.get_name() == "meshvol";
    try {
      options.node.keys = read_keys(options.key);
    } catch (const Error& error) {
      if (!is_asker || gave_key) throw;
      options.node.key_trouble = error.what();
    }
    ::prctl(PR_SET_DUMPABLE, 0);  // keys do not go into core dumps, nor to other processes of this user
  }
  if (!options.node.control_group.empty() && options.node.control.empty())
    throw Error(Status::usage,
                "--control-group: the state directory is closed to others; name a socket outside of it with --control");
  if (options.node.discover && !options.node.keys)
    throw Error(Status::usage, "--discover: needs --key, by which members know each other's broadcasts");
  // For tests of what never gets better (docs/testing.md).
  if (const auto ms = test_time("MESH_TEST_STALL_MS"))
    options.node.stall.ask = *ms, options.node.stall.give_up = 2 * *ms;
  if (const auto ms = test_time("MESH_TEST_SEARCH_MS")) options.node.search_patience = *ms;
  if (const auto ms = test_time("MESH_TEST_READ_MS")) options.node.read_patience = *ms;
  if (const auto ms = test_time("MESH_TEST_QUIET_MS")) options.node.quiet = *ms;
  if (const auto ms = test_time("MESH_TEST_KEEP_MS")) options.node.keep_look = *ms;
  return -1;
}

namespace {

/// Whether stderr is what systemd has connected to the journal (systemd.exec(5), JOURNAL_STREAM).
bool writes_to_journal() {
  const char* stream = std::getenv("JOURNAL_STREAM");
  struct stat s {};
  if (stream == nullptr || ::fstat(STDERR_FILENO, &s) != 0) return false;
  return std::to_string(s.st_dev) + ":" + std::to_string(s.st_ino) == stream;
}

/// RFC 3339, to the millisecond.
std::string time_now() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  std::tm tm{};
  ::gmtime_r(&now.tv_sec, &tm);
  char day[32];
  char out[80];
  std::strftime(day, sizeof day, "%FT%T", &tm);
  std::snprintf(out, sizeof out, "%s.%03ldZ", day, now.tv_nsec / 1'000'000);
  return out;
}

std::string as_json(const std::string& program, const LogLine& line) {
  nlohmann::ordered_json out = {{"time", time_now()},
                                {"level", line.level == LogLevel::error     ? "error"
                                          : line.level == LogLevel::warning ? "warning"
                                                                            : "info"},
                                {"program", program}};
  if (!line.event.empty()) out["event"] = line.event;
  if (!line.path.empty()) out["path"] = line.path;
  if (line.size >= 0) out["size"] = line.size;
  if (!line.node.empty()) out["node"] = line.node;
  out["message"] = line.text;
  return out.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

}  // namespace

void say(const std::string& program, const std::string& text) {
  // Whatever others have put into it: one line, and nothing that a terminal obeys.
  std::fprintf(stderr, "%s: %s\n", program.c_str(), printable(text).c_str());
}

void say_failure(const std::string& program, Status status, const std::string& text) {
  const bool can_be_asked = program == "meshget" || program == "meshfile";
  say(program, status == Status::unreachable && can_be_asked ? text + " (meshfile doctor says what is amiss)" : text);
}

FilesDir files_dir(const NodeOptions& node) {
  std::error_code ec;
  return {node.files.string(), std::filesystem::canonical(node.files, ec).string()};
}

namespace {

/// What is bad enough, and not too much of it.
Log limited(const CommonOptions& options, std::function<void(const LogLine&)> write) {
  const auto worst = options.log_level == "error"     ? LogLevel::error
                     : options.log_level == "warning" ? LogLevel::warning
                                                      : LogLevel::info;
  return [=, limit = std::make_shared<LogLimit>(options.max_log_lines)](LogLine line) {
    if (line.level > worst) return;
    for (const auto& text : limit->pass(line.text, LogLimit::Clock::now()))
      write(text == line.text ? line : warning(text));
  };
}

/// Whatever others have put into it: one line, and nothing that a terminal obeys.
std::string as_line(const std::string& program, bool is_json, const LogLine& said) {
  return is_json ? as_json(program, said) : printable(said.text);
}

}  // namespace

Log service_log(const std::string& program, const CommonOptions& options) {
  const bool is_journal = writes_to_journal();
  const bool is_json = options.log_format == "json";
  return limited(options, [=](const LogLine& said) {
    std::string out = is_journal ? "<" + std::to_string(static_cast<int>(said.level)) + ">" : std::string();
    out += (is_json ? "" : program + ": ") + as_line(program, is_json, said);
    std::fprintf(stderr, "%s\n", out.c_str());
  });
}

Log system_log(const std::string& program, const CommonOptions& options) {
  static std::string name;  // openlog(3) keeps the pointer
  name = program;
  ::openlog(name.c_str(), LOG_PID, LOG_DAEMON);
  const bool is_json = options.log_format == "json";
  return limited(options, [=](const LogLine& said) {
    ::syslog(static_cast<int>(said.level), "%s", as_line(program, is_json, said).c_str());
  });
}

namespace {

/// The status with which to end: that of a failure where stdout could not be written.
int flushed(const std::string& program, int status) {
  errno = 0;
  const bool failed = std::fflush(stdout) != 0 || std::ferror(stdout) != 0;
  if (!failed) return status;
  // A reader that has seen enough (head) is told by a signal, or knows.
  say(program, std::string("stdout: cannot be written") +
                   (errno != 0 ? ": " + std::generic_category().message(errno) : std::string()));
  return std::max(status, static_cast<int>(Status::failed));
}

/// Otherwise the next file that is opened gets the number, and is written to as if it were the terminal. What the
/// program prints on a stream that was closed fails as it should: it is open the other way round.
void fill_standard_streams() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd)
    if (::fcntl(fd, F_GETFD) < 0 && errno == EBADF)
      static_cast<void>(::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY));
}

}  // namespace

void leave(const std::string& program, int status) {
  status = flushed(program, status);
  std::fflush(stderr);
  std::_Exit(status);
}

int guarded(const std::string& program, const std::function<int()>& run) {
  fill_standard_streams();
  try {
    return flushed(program, run());
  } catch (const Error& error) {
    say_failure(program, error.status(), error.what());
    return static_cast<int>(error.status());
  } catch (const std::exception& error) {
    say(program, error.what());
    return static_cast<int>(Status::failed);
  }
}

}  // namespace mesh
