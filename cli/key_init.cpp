#include "key_init.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>

#include "core/error.h"
#include "core/format.h"
#include "disk/fd.h"
#include "wire/endpoint.h"
#include "wire/mesh_key.h"

namespace mesh {
namespace {

namespace fs = std::filesystem;

Error trouble(const fs::path& file, const std::string& why) { return {Status::failed, file.string() + ": " + why}; }

std::string reason() { return std::generic_category().message(errno); }

/// Under its name once all of it is there, with the owner and group of `like` where that is given. Other than with
/// `over`, what has the name by then stays, and false is returned.
bool write_whole(const fs::path& file, const std::string& text, mode_t mode, bool over,
                 const struct stat* like = nullptr) {
  auto temporary = file.string() + ".XXXXXX";
  const Fd fd(::mkstemp(temporary.data()));
  if (!fd) throw trouble(file.parent_path(), reason());
  const auto fail = [&](const std::string& why) {
    ::unlink(temporary.c_str());
    return trouble(file, why);
  };
  if (like != nullptr && ::fchown(fd.get(), like->st_uid, like->st_gid) != 0) throw fail(reason());
  if (::fchmod(fd.get(), mode) != 0 || ::write(fd.get(), text.data(), text.size()) != std::ssize(text) ||
      ::fsync(fd.get()) != 0)
    throw fail(reason());
  if (over) {
    if (::rename(temporary.c_str(), file.c_str()) != 0) throw fail(reason());
    return true;
  }
  const bool is_new = ::link(temporary.c_str(), file.c_str()) == 0;
  if (!is_new && errno != EEXIST) throw fail(reason());
  ::unlink(temporary.c_str());
  return is_new;
}

std::string own_host() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == 0)
    throw Error(Status::usage, "this machine has no host name; name the tracker with --tracker HOST:PORT");
  return name.data();
}

/// What the configuration says already, by key.
std::map<std::string, std::string> read_settings(const fs::path& file) {
  std::map<std::string, std::string> out;
  std::ifstream in(file);
  if (!in && !fs::exists(file)) return out;
  if (!in) throw trouble(file, "cannot be read");
  try {
    for (const auto& item : CLI::ConfigBase().from_config(in))
      if (!item.inputs.empty() && item.parents.empty()) out[item.name] = item.inputs.front();
  } catch (const CLI::Error& error) {
    throw Error(Status::usage, file.string() + ": " + error.what());
  }
  return out;
}

bool has_units() {
  for (const auto* where : {"/etc", "/lib", "/usr/lib", "/usr/local/lib"})
    if (fs::exists(fs::path(where) / "systemd/system/meshseed.service")) return true;
  return false;
}

fs::path default_directory() {
  if (::geteuid() == 0) return "/etc/mesh";
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home == 0) throw Error(Status::usage, "HOME is not set; name a directory with --dir");
  return fs::path(home) / ".config";
}

}  // namespace

void init_mesh(KeyInit init) {
  const bool is_elsewhere = !init.directory.empty();
  if (!is_elsewhere) init.directory = default_directory();
  const auto directory = fs::absolute(init.directory).lexically_normal();
  std::error_code ec;
  fs::create_directories(directory, ec);
  if (ec) throw trouble(directory, ec.message());
  const auto key = directory / "mesh.key";
  const auto config = directory / "mesh.conf";
  for (const char byte : directory.string())
    if (byte == '"' || byte == '\\' || byte == '\n') throw trouble(directory, "a configuration cannot hold that name");

  auto settings = read_settings(config);
  if (settings.contains("open") && settings["open"] != "false")
    throw Error(Status::usage, config.string() + ": says open, which a key contradicts; take that line away first");
  if (settings.contains("key") && settings["key"] != key.string())
    throw Error(Status::usage, config.string() + ": has another key already, " + printable(settings["key"]));
  if (!init.tracker.empty() && settings.contains("tracker") && settings["tracker"] != init.tracker)
    throw Error(Status::usage, config.string() + ": has another tracker already, " + printable(settings["tracker"]));
  if (init.tracker.empty()) init.tracker = settings.contains("tracker") ? settings["tracker"] : own_host() + ":6969";
  const auto where = parse_host_port(init.tracker, 6969);
  if (where.host.find_first_of("\"\\ \t\n") != std::string::npos)
    throw Error(Status::usage, "--tracker " + printable(init.tracker) + ": that is no host");
  if (where.host == "localhost" || where.host.starts_with("127."))
    std::fprintf(stderr, "meshkey: %s: other machines do not reach that; name it with --tracker HOST:PORT\n",
                 printable(init.tracker).c_str());

  const bool is_new = write_whole(key, new_key_line() + "\n", 0600, false);
  const auto keys = read_keys(key);
  std::printf("%s: %s, %s\n", key.c_str(), is_new ? "a new key" : "the key that was there", keys->first().name.c_str());

  std::string added;
  if (!settings.contains("tracker")) added += "tracker = \"" + init.tracker + "\"\n";
  if (!settings.contains("key")) added += "key = \"" + key.string() + "\"\n";
  if (added.empty()) {
    std::printf("%s: has both already\n", config.c_str());
  } else {
    std::ostringstream text;
    struct stat s {};
    mode_t mode = 0644;
    const bool is_there = ::stat(config.c_str(), &s) == 0;
    if (is_there) {
      mode = s.st_mode & 0777;
      std::ifstream in(config);
      text << std::string(std::istreambuf_iterator<char>(in), {});
      if (!text.str().empty() && !text.str().ends_with('\n')) text << '\n';
      text << '\n';
    }
    // What stands behind the first section belongs to that.
    auto before = text.str();
    auto section = before.starts_with("[") ? 0 : before.find("\n[");
    if (section != std::string::npos && section != 0) ++section;
    const auto behind = section == std::string::npos ? std::string() : before.substr(section);
    if (section != std::string::npos) before.resize(section);
    text.str(before + "# By meshkey init.\n" + added + (behind.empty() ? "" : "\n") + behind);
    // Where the name is a link, what it leads to is written anew.
    write_whole(is_there ? fs::canonical(config) : config, text.str(), mode, true, is_there ? &s : nullptr);
    std::printf("%s: now says\n", config.c_str());
    std::istringstream lines(added);
    for (std::string line; std::getline(lines, line);) std::printf("    %s\n", line.c_str());
  }

  const bool by_systemd = has_units() && ::geteuid() == 0;
  std::printf("\nHere, start a tracker and a node:\n");
  const auto with = is_elsewhere ? " --config " + config.string() : std::string();
  if (by_systemd && !is_elsewhere)
    std::printf("    systemctl enable --now meshtracker meshseed\n");
  else
    std::printf("    meshtracker%s &\n    meshseed%s &\n", with.c_str(), with.c_str());
  std::printf("On the others, by ssh as root:\n    mesh-rollout%s n1 n2 ...\n",
              directory != "/etc/mesh" ? (" --from " + directory.string()).c_str() : "");
  std::printf(
      "or by hand: bring them %s (mode 600), put the same lines into their mesh.conf, and start meshseed.\n"
      "Then `meshfile doctor` on any of them says what is amiss, if anything is.\n",
      key.c_str());
}

}  // namespace mesh
