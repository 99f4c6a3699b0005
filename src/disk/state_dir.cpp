#include "disk/state_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <system_error>

#include "core/error.h"
#include "core/format.h"
#include "disk/directory.h"

namespace mesh {
namespace {

constexpr const char* mend = "name another directory with --files or --state";

Error trouble(const std::filesystem::path& path, int error) {
  return {Status::failed, printable(path.string()) + ": " + std::generic_category().message(error)};
}

bool all_of(std::string_view text, std::string_view allowed) {
  return !text.empty() && text.find_first_not_of(allowed) == std::string_view::npos;
}

}  // namespace

StateDir::StateDir(const std::filesystem::path& path, const Trust& trust) : trust_(trust) {
  std::error_code ec;
  path_ = std::filesystem::absolute(path, ec).lexically_normal();
  if (path_.filename().empty()) path_ = path_.parent_path();  // it was given with a '/' behind it
  fd_ = open();
  struct stat s {};
  if (::fstat(fd_.get(), &s) != 0) throw trouble(path_, errno);
  id_ = directory_id(s);
  handle_ = "/proc/self/fd/" + std::to_string(fd_.get());
  make_parts();
}

Fd StateDir::open() const {
  // Its own name is no link; those above it may be, under the same rules.
  const Fd above = open_trusted(path_.parent_path(), {trust_.group, true}, 0755, mend);
  const auto name = path_.filename().string();
  if (::mkdirat(above.get(), name.c_str(), 0700) != 0 && errno != EEXIST)
    throw Error(Status::failed, printable(path_.string()) +
                                    ": cannot make the state directory: " + std::generic_category().message(errno));
  Fd out(::openat(above.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!out && (errno == ELOOP || errno == ENOTDIR))
    throw Error(Status::usage, printable(path_.string()) +
                                   ": is no directory (links are not followed here); move it away, or " + mend);
  if (!out) throw trouble(path_, errno);
  struct stat s {};
  if (::fstat(out.get(), &s) != 0) throw trouble(path_, errno);
  // By the same rules as those above it, but that sticky is not enough for what is in it.
  static_cast<void>(open_trusted(path_, {trust_.group}, 0, mend));
  if (!is_still_at(above.get(), name.c_str(), out.get())) throw trouble(path_, ENOENT);
  if ((s.st_mode & 07777) != 0700) ::fchmod(out.get(), 0700);
  return out;
}

void StateDir::make_parts() const {
  if (::mkdirat(fd_.get(), "parts", 0700) == 0) return;
  struct stat s {};
  if (errno != EEXIST || ::fstatat(fd_.get(), "parts", &s, AT_SYMLINK_NOFOLLOW) != 0)
    throw trouble(path_ / "parts", errno);
  if (!S_ISDIR(s.st_mode))
    throw Error(Status::usage, printable((path_ / "parts").string()) + ": is no directory; move it away, or " + mend);
}

bool StateDir::lock() {
  Fd lock(::openat(fd_.get(), "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!lock) throw trouble(path_ / "lock", errno);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) return false;
  // A file can be taken away. Not every file system locks directories (NFS does not).
  if (::flock(fd_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) return false;
  lock_ = std::move(lock);
  // Where the last one listened is of no use to anybody.
  if (::ftruncate(lock_.get(), 0) == 0) say_alive();
  return true;
}

void StateDir::say_where(const std::string& socket) const {
  const auto text = socket + "\n";
  if (lock_ && ::ftruncate(lock_.get(), 0) == 0) static_cast<void>(!::pwrite(lock_.get(), text.data(), text.size(), 0));
}

void StateDir::say_alive() const {
  if (lock_) ::futimens(lock_.get(), nullptr);
}

/// Under a name of its own, whole; which that is. Throws Error.
std::string StateDir::write_secret(const char* name, const Digest<32>& value) const {
  auto fresh = std::string(name) + ".new-" + std::to_string(::getpid());
  ::unlinkat(fd_.get(), fresh.c_str(), 0);
  const Fd out(::openat(fd_.get(), fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  const auto text = value.hex() + "\n";
  if (out && ::write(out.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
      ::fsync(out.get()) == 0)
    return fresh;
  const int error = errno;
  ::unlinkat(fd_.get(), fresh.c_str(), 0);
  throw trouble(path_ / name, error);
}

void StateDir::set_secret(const char* name, const Digest<32>& value) const {
  const auto fresh = write_secret(name, value);
  if (::renameat(fd_.get(), fresh.c_str(), fd_.get(), name) != 0) {
    const int error = errno;
    ::unlinkat(fd_.get(), fresh.c_str(), 0);
    throw trouble(path_ / name, error);
  }
  ::fsync(fd_.get());
}

Digest<32> StateDir::secret(const char* name, const std::function<Digest<32>()>& make) const {
  const auto fail = [&](int error) { return trouble(path_ / name, error); };
  for (int tries = 0; tries < 2; ++tries) {
    const Fd old(::openat(fd_.get(), name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    if (!old && errno != ENOENT) throw fail(errno);
    if (old) {
      std::string text(256, '\0');
      const auto n = ::read(old.get(), text.data(), text.size());
      text.resize(static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
      if (text.ends_with('\n')) text.pop_back();
      std::optional<Digest<32>> out;
      if (all_of(text, "0123456789abcdef") && text.size() == 64) out = Digest<32>::from(from_hex(text));
      if (out) return *out;
      throw Error(Status::failed, printable((path_ / name).string()) +
                                      ": is not what a node has written there; remove it, and a new one is made");
    }
    // Whole under its name, or not there.
    const auto fresh = write_secret(name, make());
    if (move_to_free_name(fd_.get(), fresh, fd_.get(), name) != 0) {
      const int error = errno;
      ::unlinkat(fd_.get(), fresh.c_str(), 0);
      if (error != EEXIST) throw fail(error);
    }
  }
  throw fail(EAGAIN);
}

std::string StateDir::look_after() {
  std::string lost;
  const auto add = [&](const char* what) { lost += (lost.empty() ? "" : ", ") + std::string(what); };
  struct stat s {};
  if (::lstat(path_.c_str(), &s) != 0 || directory_id(s) != id_) {
    const Fd again = open();
    if (::fstat(again.get(), &s) != 0) throw trouble(path_, errno);
    // Under the same number, so that every handle leads there from now on.
    if (::dup3(again.get(), fd_.get(), O_CLOEXEC) < 0) throw trouble(path_, errno);
    id_ = directory_id(s);
    add("the state directory");
  }
  if (::fstatat(fd_.get(), "parts", &s, AT_SYMLINK_NOFOLLOW) != 0) {
    make_parts();
    add("its partial downloads");
  }
  if (lock_ && !is_still_at(fd_.get(), "lock", lock_.get())) {
    if (!lock())
      throw NodeRunsHere(Status::failed,
                         printable(path_.string()) + ": its lock was taken away, and another node runs here now");
    add("its lock");
  }
  return lost;
}

void sweep_parts(const StateDir& state, const std::function<bool(std::string_view content_id_hex)>& keep) {
  const Fd parts(::openat(state.fd(), "parts", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!parts) return;
  constexpr std::string_view hex = "0123456789abcdef";
  for (const auto& name : names_in(parts.get())) {
    // HEX, HEX.copy, HEX.spool, url-HEX, small-PID-N, link-PID-N.
    const std::string_view text = name;
    const auto id = text.substr(0, 64);
    const auto rest = text.substr(std::min<std::size_t>(64, text.size()));
    bool own =
        id.size() == 64 && all_of(id, hex) && (rest == ".copy" || rest == ".spool" || (rest.empty() && !keep(id)));
    own = own || (text.starts_with("url-") && text.size() == 68 && all_of(text.substr(4), hex));
    own = own || (text.starts_with("small-") && all_of(text.substr(6), "0123456789-"));
    struct stat s {};
    const bool link = text.starts_with("link-") && all_of(text.substr(5), "0123456789-");
    if ((own || link) && ::fstatat(parts.get(), name.c_str(), &s, AT_SYMLINK_NOFOLLOW) == 0 &&
        (link ? S_ISLNK(s.st_mode) : S_ISREG(s.st_mode)))
      ::unlinkat(parts.get(), name.c_str(), 0);
  }
}

}  // namespace mesh
