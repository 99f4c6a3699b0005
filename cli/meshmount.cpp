// meshmount: the mesh as a mounted tree. Parse, mount, serve.
#include <csignal>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "client.h"
#include "core/format.h"
#include "mount/file_system.h"
#include "mount/mount_options.h"
#include "mount/mount_point.h"
#include "options.h"
#include "transfer/prefetcher.h"
#include "wire/server.h"

namespace mesh {
namespace {

struct Asked {
  bool is_foreground = false;
  bool is_unmount = false;
  std::vector<std::string> mount_options;
  std::string prefetch = "none";
  int timeout = 120;
  std::string place;
  std::vector<std::string> places;
};

int unmount_place(const std::string& directory) {
  if (!is_meshmount(directory)) throw Error(Status::failed, printable(directory) + ": no meshmount is mounted there");
  std::optional<Error> trouble;
  try {
    unmount(directory, false);
  } catch (const Error& error) {
    trouble = error;
  }
  // What nobody serves any more goes, whoever stands in it.
  if (trouble && !is_dead(directory)) throw Error(*trouble);
  if (trouble) unmount(directory, true);
  return 0;
}

/// What was left there by one that ended without a word goes; what lives stays.
void make_way(const std::string& directory) {
  if (!is_meshmount(directory)) return;
  if (!is_dead(directory)) throw Error(Status::failed, printable(directory) + ": a meshmount is mounted there already");
  unmount(directory, true);
  say("meshmount", directory + ": what an earlier meshmount left there was unmounted");
}

/// One question, before there are threads: a wrong --files is said at once, and not by a directory that hangs.
void look_for_node(const NodeOptions& options) {
  asio::io_context io(1);
  const auto found = run_to_end(io, find_node(options, "/local"));
  if (!found || !*found)
    say("meshmount",
        "no node runs on " + options.files.string() + "; it is waited for (--files or --control name another)");
}

/// meshvol beside this program, for the same node.
std::vector<std::string> meshvol_words(const Asked& asked, const CommonOptions& options) {
  std::error_code ec;
  const auto beside = std::filesystem::read_symlink("/proc/self/exe", ec).parent_path() / "meshvol";
  std::vector<std::string> words{std::filesystem::exists(beside, ec) ? beside.string() : "meshvol"};
  const auto add = [&](const char* flag, const std::string& value) {
    if (!value.empty()) words.insert(words.end(), {flag, value});
  };
  // From the directory in which it was typed, this process goes away.
  const auto whole = [&](const std::string& path) {
    return path.empty() ? path : std::filesystem::absolute(path, ec).lexically_normal().string();
  };
  const bool is_path = asked.place.starts_with('.') || asked.place.starts_with('/');
  add("--place", is_path ? whole(asked.place) : asked.place);
  add("--files", whole(options.node.files.string()));
  add("--control", options.node.control.string());
  add("--state", whole(options.node.state.string()));
  add("--config", whole(options.config));
  return words;
}

int mount_place(Asked asked, CommonOptions options) {
  std::string all;
  for (const auto& one : asked.mount_options) all += (all.empty() ? "" : ",") + one;
  const auto given = read_mount_options(all);
  if (given.prefetch) asked.prefetch = *given.prefetch;
  if (given.timeout) asked.timeout = *given.timeout;
  if (given.place) asked.place = *given.place;
  if (given.files) options.node.files = *given.files;
  if (given.control) options.node.control = *given.control;
  if (!read_prefetch(asked.prefetch)) throw Error(Status::usage, "prefetch is boot, all or none");
  // What fstab says is mounted is no more than a name.
  const auto source = asked.places.size() > 1 ? asked.places.front() : std::string("meshswarm");
  options.node = checked(std::move(options.node));
  const auto directory = mount_point(asked.places.back());
  make_way(directory);
  check_directory(directory);
  look_for_node(options.node);
  FileSystem::Options how;
  how.mount_options = "fsname=" + std::string(source.find_first_of(",\\") == std::string::npos ? source : "meshswarm") +
                      ",subtype=meshmount,default_permissions,nosuid,nodev" + given.for_kernel;
  how.prefetch = asked.prefetch;
  how.timeout = std::chrono::seconds(asked.timeout);
  how.meshvol = meshvol_words(asked, options);
  raise_descriptor_limit();
  std::signal(SIGPIPE, SIG_IGN);
  FileSystem mounted(std::move(how), directory);
  if (!asked.is_foreground) FileSystem::go_to_background();
  const auto connect = [node = options.node](std::string path) -> Task<ChannelPtr> {
    co_return co_await find_node(node, std::move(path));
  };
  const auto log = asked.is_foreground ? service_log("meshmount", options) : system_log("meshmount", options);
  return mounted.serve(connect, log) ? 0 : 1;
}

}  // namespace
}  // namespace mesh

int main(int argc, char** argv) {
  using namespace mesh;
  return guarded("meshmount", [&] {
    CLI::App app("Mounts the mesh as a tree: files/ is what all nodes have, read where it is or as it arrives.",
                 "meshmount");
    CommonOptions options;
    Asked asked;
    add_common(app, options);
    add_control_group(app, options);
    under(app, "Mount");
    app.add_flag("-f,--foreground", asked.is_foreground, "Stay in the foreground, and log to stderr");
    app.add_flag("-u,--unmount", asked.is_unmount, "Unmount DIR");
    app.add_option("-o", asked.mount_options,
                   "As for mount(8): ro, allow_other, noexec, ...; and prefetch=, timeout=, files=, control=, place=")
        ->type_name("OPTIONS")
        ->allow_extra_args(false);
    app.add_option("--prefetch", asked.prefetch,
                   "Of a file that is opened and not here: none but what is read, boot (what earlier boots of it read, "
                   "then the rest) or all (default: none)")
        ->type_name("HOW");
    app.add_option("--timeout", asked.timeout, "Seconds that a reader waits, at most (default: 120)")
        ->check(CLI::Range(1, 86'400).description(""))
        ->type_name("SECONDS");
    app.add_option("--place", asked.place, "Where vdi/ has its volumes: as for meshvol -c")->type_name("FILE|NAME");
    app.add_option("DIR", asked.places, "Where to mount it; mount(8) names before it what it is called")
        ->type_name("DIR")
        ->required()
        ->expected(1, 2);
    app.footer(
        "In the background as soon as it is mounted; SIGTERM, umount and meshmount -u DIR end it. It asks the node of "
        "this machine (meshseed), and waits for one that restarts.\n\n"
        "Exit status: 0 mounted, or unmounted; 1 failed, 2 usage.");
    if (const int status = parse(app, options, argc, argv); status >= 0) return status;
    if (asked.is_unmount) return unmount_place(mount_point(asked.places.back()));
    return mount_place(std::move(asked), std::move(options));
  });
}
