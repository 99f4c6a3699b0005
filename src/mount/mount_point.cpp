#include "mount/mount_point.h"

#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <vector>

#include "core/error.h"
#include "core/format.h"

namespace mesh {
namespace {

namespace fs = std::filesystem;

/// As mountinfo writes it.
std::string escaped(const std::string& path) {
  std::string out;
  for (const char c : path) {
    if (c != ' ' && c != '\t' && c != '\n' && c != '\\') {
      out += c;
      continue;
    }
    constexpr const char* digits = "01234567";
    const auto byte = static_cast<unsigned char>(c);
    out += {'\\', digits[byte >> 6], digits[(byte >> 3) & 7], digits[byte & 7]};
  }
  return out;
}

struct Mounted {
  std::string device;
  std::string type;
};

/// The last one there.
std::optional<Mounted> mounted_on(const std::string& directory) {
  std::optional<Mounted> out;
  std::ifstream table("/proc/self/mountinfo");
  const auto wanted = escaped(directory);
  for (std::string line; std::getline(table, line);) {
    std::istringstream words(line);
    std::string number, parent, device, from, at, word, type;
    words >> number >> parent >> device >> from >> at;
    if (at != wanted) continue;
    while (words >> word && word != "-") continue;
    words >> type;
    out = Mounted{device, type};
  }
  return out;
}

std::string reason(int error) { return std::generic_category().message(error); }

/// What it says, and how it ended.
std::pair<int, std::string> run(std::vector<std::string> words) {
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return {-1, reason(errno)};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
  pid_t child = 0;
  const int failed = ::posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  std::string said;
  char buffer[1024];
  for (ssize_t n = 0; failed == 0 && (n = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    said.append(buffer, static_cast<std::size_t>(n));
  ::close(ends[0]);
  if (failed != 0) return {-1, words.front() + ": " + reason(failed)};
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, said.substr(0, said.find('\n'))};
}

}  // namespace

std::string device_of_mount(const std::string& directory) {
  const auto mounted = mounted_on(directory);
  return mounted ? mounted->device : std::string();
}

bool is_meshmount(const std::string& directory) {
  const auto mounted = mounted_on(directory);
  return mounted && mounted->type == "fuse.meshmount";
}

std::string mount_point(const std::string& directory) {
  std::error_code ec;
  auto whole = fs::absolute(directory, ec).lexically_normal();
  if (!whole.has_filename()) whole = whole.parent_path();  // a '/' at its end
  if (ec || !whole.has_filename()) return whole.string();
  const auto above = fs::canonical(whole.parent_path(), ec);
  if (ec) return whole.string();
  whole = above / whole.filename();
  // A link to a directory is that directory, where it can be asked.
  const auto real = fs::canonical(whole, ec);
  return ec ? whole.string() : real.string();
}

void check_directory(const std::string& directory) {
  struct stat s {};
  if (::stat(directory.c_str(), &s) != 0) throw Error(Status::failed, printable(directory) + ": " + reason(errno));
  if (!S_ISDIR(s.st_mode)) throw Error(Status::failed, printable(directory) + ": is no directory");
}

bool is_dead(const std::string& directory) {
  // Whose answer is not kept, as attributes are.
  struct statvfs s {};
  return ::statvfs(directory.c_str(), &s) != 0 && errno == ENOTCONN;
}

void unmount(const std::string& directory, bool is_lazy) {
  if (::geteuid() == 0) {
    if (::umount2(directory.c_str(), UMOUNT_NOFOLLOW | (is_lazy ? MNT_DETACH : 0)) == 0) return;
    throw Error(Status::failed,
                printable(directory) + ": " + (errno == EBUSY ? "is in use" : "cannot be unmounted: " + reason(errno)));
  }
  std::vector<std::string> words{"fusermount3", "-u"};
  if (is_lazy) words.emplace_back("-z");
  words.insert(words.end(), {"--", directory});
  const auto [status, said] = run(std::move(words));
  if (status != 0)
    throw Error(Status::failed, printable(directory) + ": cannot be unmounted" +
                                    (said.empty() ? std::string() : ": " + printable(said)));
}

}  // namespace mesh
