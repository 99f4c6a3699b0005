#include "library/path_gate.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "core/error.h"
#include "core/format.h"
#include "core/mesh_path.h"
#include "disk/trusted_dir.h"

namespace mesh {
namespace {

namespace fs = std::filesystem;

std::string reason(int error) { return std::generic_category().message(error); }

Error failure(std::string_view path, int error) {
  const auto status = error == ENOENT ? Status::not_found : Status::failed;
  std::string why = reason(error);
  if (error == EXDEV) why = "leads out of the files directory; start meshseed with --follow DIR for where it leads";
  if (error == ELOOP) why = "lies behind a symbolic link, and files are not written through links";
  return {status, printable(path) + ": " + why};
}

std::string zero_terminated(std::string_view path) { return path.empty() ? "." : std::string(path); }

std::string in_proc(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

std::optional<std::string> read_link(int dir, const char* name) {
  std::string target(max_path_bytes + 1, '\0');
  const auto n = ::readlinkat(dir, name, target.data(), target.size());
  if (n < 0 || static_cast<std::size_t>(n) > max_path_bytes) return std::nullopt;
  target.resize(static_cast<std::size_t>(n));
  return target;
}

}  // namespace

PathGate::PathGate(const fs::path& files_dir, int state, const std::vector<fs::path>& follow,
                   std::optional<gid_t> group)
    : state_(state) {
  std::error_code ec;
  // Whoever may write to it may; but it is this directory, and not what somebody puts in its place. (Where the state
  // directory lies in it, that asks for more.)
  const Fd found = open_trusted(files_dir, {group, true, true, true}, 0755, "name another directory with --files");
  root_ = Fd(::openat(found.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root_) throw Error(Status::failed, files_dir.string() + ": cannot open the files directory: " + reason(errno));
  if (const Fd probe(open_beneath(root_.get(), ".", O_PATH, 0)); !probe && (errno == ENOSYS || errno == EPERM))
    throw Error(Status::failed,
                "this kernel, or the sandbox that this runs in, has no openat2(2), without which files "
                "cannot be opened safely: Linux 5.6 or later is needed" +
                    std::string(errno == EPERM ? " (a container's seccomp profile of before 2020?)" : ""));
  files_dir_.given = fs::absolute(files_dir, ec).lexically_normal().string();
  files_dir_.real = fs::read_symlink(in_proc(root_.get()), ec).string();
  if (ec) throw Error(Status::failed, files_dir.string() + ": cannot open the files directory: " + ec.message());
  for (const auto& dir : follow) {
    const auto real = fs::canonical(dir, ec);
    Fd fd(ec ? -1 : ::open(real.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd)
      throw Error(Status::usage, dir.string() + ": --follow needs a directory that can be read: " +
                                     (ec ? ec.message() : reason(errno)));
    follow_.emplace_back(real, std::move(fd));
  }
}

int PathGate::open_beneath(int root, const char* path, int flags, unsigned resolve) const {
  open_how how{};
  how.flags = static_cast<unsigned>(flags | O_CLOEXEC);
  how.resolve = resolve | RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  for (int tries = 0;; ++tries) {
    const auto fd = static_cast<int>(::syscall(SYS_openat2, root, path, &how, sizeof how));
    // EAGAIN: a rename raced with the look-up of "..".
    if (fd >= 0 || errno != EAGAIN || tries > 100) return fd;
  }
}

Fd PathGate::open_following(std::string_view path, int flags) const {
  Fd fd(open_beneath(root_.get(), zero_terminated(path).c_str(), flags, 0));
  if (fd || errno != EXDEV || follow_.empty()) return fd;
  // A link leads out. Where it leads is looked up, and then opened beneath the --follow directory, whatever happens
  // between.
  std::error_code ec;
  const auto real = fs::canonical(fs::path(files_dir_.real) / path, ec);
  if (ec) {
    errno = ec.value();
    return {};
  }
  for (const auto& [dir, dir_fd] : follow_) {
    if (real != dir && !is_below(real.string(), dir.string())) continue;
    const auto rest = real == dir ? std::string(".") : real.string().substr(dir.string().size() + 1);
    return Fd(open_beneath(dir_fd.get(), rest.c_str(), flags, 0));
  }
  errno = EXDEV;
  return {};
}

PathGate::Opened PathGate::open_file_with_entry(std::string_view path) const {
  if (const auto fault = path_fault(path); !fault.empty())
    throw Error(Status::usage, printable(path) + ": the path " + std::string(fault));
  Opened out;
  // To open a device or a FIFO does something to it, so it is looked at first.
  const Fd found = open_following(path, O_PATH);
  struct stat s {};
  if (!found || ::fstat(found.get(), &s) != 0) throw failure(path, errno);
  if (!S_ISREG(s.st_mode)) throw Error(Status::failed, printable(path) + ": is no regular file");
  out.fd = Fd(::open(in_proc(found.get()).c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!out.fd || ::fstat(out.fd.get(), &s) != 0) throw failure(path, errno);
  auto& entry = out.local.entry;
  entry.path = path;
  entry.size = s.st_size;
  entry.mode = s.st_mode & 07777;
  entry.mtime = nanoseconds(s.st_mtim);
  out.local.stamp = stamp_of(s);
  return out;
}

PathGate::Place PathGate::place() const {
  struct stat there {};
  struct stat here {};
  if (::stat(files_dir_.given.c_str(), &there) != 0) {
    // Something else is on the way there; or what was mounted there has died (FUSE, NFS).
    if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) return Place::missing;
    return errno == ENOTCONN || errno == ESTALE || errno == ENODEV ? Place::elsewhere : Place::here;
  }
  return ::fstat(root_.get(), &here) != 0 || is_same_file(there, here) ? Place::here : Place::elsewhere;
}

bool PathGate::is_state(const DirectoryId& id) const {
  struct stat s {};
  return state_ >= 0 && ::fstat(state_, &s) == 0 && directory_id(s) == id;
}

PathGate::Opened PathGate::open_offered(std::string_view path) const {
  auto out = open_file_with_entry(path);
  if (!is_offered(path, out.fd.get())) throw failure(path, ENOENT);
  return out;
}

/// Whether none of the directories on the way to `path` at `at` is kept from others, nor what it leads to.
bool PathGate::lies_open(int at, const std::string& path) const {
  for (auto end = path.find('/');; end = path.find('/', end + 1)) {
    const auto part = path.substr(0, end);
    struct stat s {};
    if (::fstatat(at, part.c_str(), &s, AT_SYMLINK_NOFOLLOW) != 0) return false;
    if (S_ISDIR(s.st_mode) && is_state(directory_id(s))) return false;
    if (is_private_ && part != "." && is_private_(at, part)) return false;
    if (end == std::string::npos) return true;
  }
}

/// `fd` was opened at `path`.
bool PathGate::is_offered(std::string_view path, int fd) const {
  const auto where = [](int open) {
    std::error_code ec;
    return fs::read_symlink(in_proc(open), ec).string();
  };
  if (!lies_open(root_.get(), std::string(path))) return false;
  // Where it lies, which links may have led to.
  const auto real = where(fd);
  const auto below = [&](int dir) -> std::optional<std::string> {
    const auto base = where(dir);
    if (real == base) return ".";
    if (base.empty() || !is_below(real, base == "/" ? "" : base)) return std::nullopt;
    return real.substr(base == "/" ? 1 : base.size() + 1);
  };
  const auto is_it = [&](int at, const std::string& rest) { return is_still_at(at, rest.c_str(), fd); };
  if (const auto rest = below(root_.get()))
    return (*rest == path || lies_open(root_.get(), *rest)) && is_it(root_.get(), *rest);
  for (const auto& [dir, dir_fd] : follow_)
    if (const auto rest = below(dir_fd.get())) return lies_open(dir_fd.get(), *rest) && is_it(dir_fd.get(), *rest);
  return false;
}

Fd PathGate::open_file(std::string_view path) const { return std::move(open_file_with_entry(path).fd); }

Fd PathGate::open_directory(std::string_view path) const {
  return open_following(path, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
}

Fd PathGate::open_own_directory(std::string_view path) const {
  return Fd(open_beneath(root_.get(), zero_terminated(path).c_str(), O_RDONLY | O_DIRECTORY, RESOLVE_NO_SYMLINKS));
}

bool PathGate::is_special(std::string_view path) const {
  const Fd dir = open_directory(parent_path(path));
  struct stat s {};
  return dir && ::fstatat(dir.get(), std::string(last_part(path)).c_str(), &s, AT_SYMLINK_NOFOLLOW) == 0 &&
         !S_ISREG(s.st_mode) && !S_ISDIR(s.st_mode) && !S_ISLNK(s.st_mode);
}

std::optional<LocalEntry> PathGate::look(std::string_view path) const {
  if (!is_mesh_path(path)) return std::nullopt;
  const auto name = std::string(last_part(path));
  const Fd dir = open_directory(parent_path(path));
  if (!dir) return std::nullopt;
  struct stat s {};
  if (::fstatat(dir.get(), name.c_str(), &s, AT_SYMLINK_NOFOLLOW) != 0) return std::nullopt;
  LocalEntry out;
  out.entry.path = path;
  if (S_ISLNK(s.st_mode)) {
    const auto target = read_link(dir.get(), name.c_str());
    if (!target) return std::nullopt;
    out.entry.kind = Kind::link;
    out.entry.target = *target;
    // An absolute link into the files dir means the same place on every node only when it is written relative to it.
    if (const auto below = files_dir_.relative(*target); below && !below->empty()) {
      std::string up;
      for (auto p = parent_path(path); !p.empty(); p = parent_path(p)) up += "../";
      out.entry.target = up + std::string(*below);
    }
    if (link_destination(path, out.entry.target).empty()) {
      const Fd led = open_following(path, O_PATH);
      struct stat there {};
      if (!led || ::fstat(led.get(), &there) != 0 || (!S_ISREG(there.st_mode) && !S_ISDIR(there.st_mode)) ||
          !is_offered(path, led.get())) {
        out.entry.kind = Kind::outside;
      } else {
        s = there;  // a --follow directory: offered as what it leads to
        out.entry.target.clear();
      }
    }
  }
  if (S_ISREG(s.st_mode)) {
    out.entry.kind = Kind::file;
    out.entry.size = s.st_size;
  } else if (S_ISDIR(s.st_mode)) {
    out.entry.kind = Kind::directory;
  } else if (!S_ISLNK(s.st_mode)) {
    return std::nullopt;
  }
  out.entry.mode = s.st_mode & 07777;
  out.entry.mtime = nanoseconds(s.st_mtim);
  out.stamp = stamp_of(s);
  return out;
}

bool PathGate::make_directory(std::string_view path, const OnMade& made) const {
  const Fd above = open_parent(path, made);
  const std::string name(last_part(path));
  const std::string directory(path);
  struct stat s {};
  if (::fstatat(above.get(), name.c_str(), &s, AT_SYMLINK_NOFOLLOW) == 0) return false;
  // Known before it is there, so that a crash in between leaves none that nobody knows what to do with.
  const DirectoryId to_be;
  made(directory, &to_be);
  if (::mkdirat(above.get(), name.c_str(), 0700) != 0) {
    const int error = errno;
    made(directory, nullptr);
    if (error == EEXIST) return false;
    throw failure(path, error);
  }
  if (::fstatat(above.get(), name.c_str(), &s, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(s.st_mode)) {
    const auto id = directory_id(s);
    made(directory, &id);
  }
  return true;
}

Fd PathGate::open_parent(std::string_view path, const OnMade& made) const {
  if (const auto fault = path_fault(path); !fault.empty())
    throw Error(Status::usage, printable(path) + ": the path " + std::string(fault));
  const std::string parent(parent_path(path));
  constexpr int flags = O_RDONLY | O_DIRECTORY;
  Fd fd(open_beneath(root_.get(), zero_terminated(parent).c_str(), flags, RESOLVE_NO_SYMLINKS));
  if (fd) return fd;
  if (errno != ENOENT || !made) throw failure(parent, errno);
  static_cast<void>(make_directory(parent, made));
  fd = Fd(open_beneath(root_.get(), parent.c_str(), flags, RESOLVE_NO_SYMLINKS));
  if (!fd) throw failure(parent, errno);
  return fd;
}

std::optional<bool> PathGate::ask_lease(int fd) {
  // The kernel grants a read lease only while nobody has the file open for writing (fcntl(2)).
  if (::fcntl(fd, F_SETLEASE, F_RDLCK) == 0) {
    ::fcntl(fd, F_SETLEASE, F_UNLCK);
    return false;
  }
  if (errno == EAGAIN || errno == EBUSY) return true;
  return std::nullopt;
}

std::set<std::pair<std::uint64_t, std::uint64_t>> PathGate::open_for_writing() {
  std::set<std::pair<std::uint64_t, std::uint64_t>> out;
  std::error_code ec;
  for (const auto& process : fs::directory_iterator("/proc", ec)) {
    if (process.path().filename().string().find_first_not_of("0123456789") != std::string::npos) continue;
    for (const auto& open : fs::directory_iterator(process.path() / "fd", ec)) {
      // The mode of the link itself shows how the file was opened.
      struct stat link {};
      struct stat s {};
      if (::lstat(open.path().c_str(), &link) == 0 && (link.st_mode & S_IWUSR) != 0 &&
          ::stat(open.path().c_str(), &s) == 0 && S_ISREG(s.st_mode))
        out.emplace(s.st_dev, s.st_ino);
    }
  }
  return out;
}

bool PathGate::is_being_written(int fd) {
  if (const auto lease = ask_lease(fd)) return *lease;
  struct stat s {};
  return ::fstat(fd, &s) == 0 && open_for_writing().contains({s.st_dev, s.st_ino});
}

}  // namespace mesh
