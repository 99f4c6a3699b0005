#include "run_as.h"

#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <string_view>

#include "core/error.h"
#include "core/format.h"

namespace mesh {
namespace {

using Capabilities = std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3>;

/// Of those that this process has, this one alone from now on; false where that cannot be.
bool keep_only(unsigned capability) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  Capabilities now{};
  if (::syscall(SYS_capget, &header, now.data()) != 0) return false;
  Capabilities next{};
  const auto bit = 1U << (capability % 32);
  next[capability / 32].permitted = next[capability / 32].effective = now[capability / 32].permitted & bit;
  return ::syscall(SYS_capset, &header, next.data()) == 0;
}

}  // namespace

void run_as(const std::string& user) {
  const auto trouble = [&user](const std::string& why) {
    return Error(Status::usage, "--user " + printable(user) + ": " + why);
  };
  errno = 0;
  const passwd* entry = ::getpwnam(user.c_str());
  if (entry == nullptr) throw trouble("there is no such user");
  const uid_t uid = entry->pw_uid;
  const gid_t gid = entry->pw_gid;
  const std::string home = entry->pw_dir;
  if (::getuid() == uid && ::geteuid() == uid) return;
  if (::geteuid() != 0) throw trouble("only root can run it as another user");
  if (const char* directory = std::getenv("RUNTIME_DIRECTORY");
      directory != nullptr && *directory == '/' && ::lchown(directory, uid, gid) != 0)
    throw trouble(std::string(directory) + ": " + std::generic_category().message(errno));
  const auto dumpable = ::prctl(PR_GET_DUMPABLE);
  ::prctl(PR_SET_KEEPCAPS, 1);
  if (::initgroups(user.c_str(), gid) != 0 || ::setresgid(gid, gid, gid) != 0 || ::setresuid(uid, uid, uid) != 0)
    throw trouble(std::generic_category().message(errno));
  ::prctl(PR_SET_KEEPCAPS, 0);
  if (!keep_only(CAP_LEASE)) throw trouble("root's rights were not given up");
  if (uid != 0 && ::setuid(0) == 0) throw trouble("root was not given up");
  // Whose /proc this is follows from that; what must not be dumped stays so.
  ::prctl(PR_SET_DUMPABLE, dumpable);
  ::setenv("HOME", home.c_str(), 1);
}

void run_as_configured(const std::string& user, int argc, char** argv) {
  if (user.empty()) return;
  bool is_asked = ::geteuid() == 0;
  for (int i = 1; i < argc; ++i) is_asked = is_asked || std::string_view(argv[i]).starts_with("--user");
  if (is_asked) run_as(user);
}

}  // namespace mesh
