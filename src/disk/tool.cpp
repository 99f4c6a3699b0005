#include "disk/tool.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <map>
#include <string_view>

#include "core/error.h"
#include "core/format.h"
#include "disk/fd.h"

namespace mesh {
namespace {

constexpr std::size_t most_said = std::size_t{1} << 20;

/// This process's, in English, and with root's programs.
std::vector<std::string> environment() {
  std::vector<std::string> out;
  std::string path;
  for (char** one = environ; *one != nullptr; ++one) {
    const std::string_view text(*one);
    if (text.starts_with("PATH="))
      path = text.substr(5);
    else if (!text.starts_with("LC_") && !text.starts_with("LANG"))
      out.emplace_back(text);
  }
  out.push_back("PATH=" + (path.empty() ? "/usr/local/bin:/usr/bin:/bin" : path) + ":/usr/local/sbin:/usr/sbin:/sbin");
  out.emplace_back("LC_ALL=C");
  return out;
}

std::string find(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  std::string path;
  for (const auto& one : environment())
    if (one.starts_with("PATH=")) path = one.substr(5);
  for (std::size_t at = 0; at <= path.size();) {
    const auto end = std::min(path.find(':', at), path.size());
    auto whole = path.substr(at, end - at) + "/" + name;
    if (end > at && ::access(whole.c_str(), X_OK) == 0) return whole;
    at = end + 1;
  }
  return {};
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> out;
  for (auto& word : words) out.push_back(word.data());
  out.push_back(nullptr);
  return out;
}

struct Pipe {
  Fd read, write;
  Pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0)
      throw Error(Status::failed, "no pipe: " + std::generic_category().message(errno));
    read = Fd(ends[0]);
    write = Fd(ends[1]);
  }
};

/// What both have until they are closed.
void read_both(int out, int err, ToolRan& ran) {
  std::array<pollfd, 2> waits{pollfd{out, POLLIN, 0}, pollfd{err, POLLIN, 0}};
  while (waits[0].fd >= 0 || waits[1].fd >= 0) {
    if (::poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR) return;
    for (auto& wait : waits) {
      if (wait.fd < 0 || wait.revents == 0) continue;
      char buffer[4096];
      const auto n = ::read(wait.fd, buffer, sizeof buffer);
      if (n < 0 && errno == EINTR) continue;
      auto& text = wait.fd == out ? ran.out : ran.err;
      if (n <= 0)
        wait.fd = -1;
      else if (text.size() < most_said)
        text.append(buffer, static_cast<std::size_t>(n));
    }
  }
}

const char* package_of(const std::string& name) {
  static const std::map<std::string, const char*> packages = {
      {"qemu-img", "qemu-utils"}, {"qemu-storage-daemon", "qemu-system-common"},
      {"btrfs", "btrfs-progs"},   {"losetup", "mount"},
      {"mkfs.xfs", "xfsprogs"},   {"mkfs.btrfs", "btrfs-progs"},
      {"fusermount3", "fuse3"},   {"mkfs.ext4", "e2fsprogs"}};
  const auto it = packages.find(name);
  return it == packages.end() ? nullptr : it->second;
}

}  // namespace

bool has_tool(const std::string& name) { return !find(name).empty(); }

ToolRan run_tool(std::vector<std::string> words, bool shows) {
  ToolRan ran;
  const auto program = find(words.front());
  if (program.empty()) {
    ran.status = 127;
    const auto* package = package_of(words.front());
    ran.err =
        words.front() + " is not installed" + (package != nullptr ? std::string(" (package ") + package + ")" : "");
    return ran;
  }
  Pipe out, err;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out.write.get(), STDOUT_FILENO);
  if (!shows) posix_spawn_file_actions_adddup2(&actions, err.write.get(), STDERR_FILENO);
  // Signals that this thread does not take, or this process passes over, are the program's all the same.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t signals;
  sigemptyset(&signals);
  posix_spawnattr_setsigmask(&attributes, &signals);
  sigaddset(&signals, SIGPIPE);
  posix_spawnattr_setsigdefault(&attributes, &signals);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  auto variables = environment();
  pid_t child = 0;
  const int failed =
      ::posix_spawn(&child, program.c_str(), &actions, &attributes, pointers(words).data(), pointers(variables).data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  out.write = Fd();
  err.write = Fd();
  if (failed != 0) {
    ran.err = words.front() + ": " + std::generic_category().message(failed);
    return ran;
  }
  read_both(out.read.get(), err.read.get(), ran);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  ran.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return ran;
}

std::string must_run(const std::vector<std::string>& words, const std::string& about) {
  auto ran = run_tool(words);
  if (ran.status == 0) return std::move(ran.out);
  // What comes behind the first line is advice.
  std::string_view said(ran.err);
  while (said.starts_with("\n")) said.remove_prefix(1);
  said = said.substr(0, said.find('\n'));
  throw Error(Status::failed, about + ": " +
                                  (said.empty() ? words.front() + " ended with status " + std::to_string(ran.status)
                                                : printable(said)));
}

}  // namespace mesh
