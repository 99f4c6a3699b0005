#include "run_as.h"

#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "core/error.h"
#include "core/format.h"

namespace mesh {

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
  const auto dumpable = ::prctl(PR_GET_DUMPABLE);
  if (::initgroups(user.c_str(), gid) != 0 || ::setresgid(gid, gid, gid) != 0 || ::setresuid(uid, uid, uid) != 0)
    throw trouble(std::generic_category().message(errno));
  if (uid != 0 && ::setuid(0) == 0) throw trouble("root was not given up");
  // Whose /proc this is follows from that; what must not be dumped stays so.
  ::prctl(PR_SET_DUMPABLE, dumpable);
  ::setenv("HOME", home.c_str(), 1);
}

}  // namespace mesh
