#include "library/remove_tree.h"

#include <fcntl.h>

#include <cerrno>
#include <system_error>
#include <vector>

#include "core/error.h"
#include "core/format.h"
#include "core/glob.h"

namespace mesh {
namespace {

constexpr int deepest = 1000;  // PATH_MAX allows more only by relative steps

class Remover {
 public:
  Remover(const Removal& removal, const Glob* glob) : removal_(removal), glob_(glob) {}

  /// Removes what is in `dir`, which is `path` in the files dir: all of it, or what the glob takes.
  void clear(int dir, const std::string& path, int depth, bool all) {
    for (const auto& name : names_in(dir)) remove(dir, name, path.empty() ? name : path + '/' + name, depth, all);
  }

  void remove(int dir, const std::string& name, const std::string& path, int depth, bool all) {
    bool taken = all;
    if (!taken) {
      const auto verdict = glob_->judge(path);
      if (!verdict.taken && verdict.dead != 0) return;
      taken = verdict.taken;
    }
    struct stat s {};
    if (::fstatat(dir, name.c_str(), &s, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno != ENOENT) fail(path, errno);
      return;
    }
    // Another file system's files are not meant, unless something in it is named.
    if (is_mount(dir, name) && (taken || !glob_->literal_prefix().starts_with(path + '/'))) {
      if (taken) removal_.on_error(printable(path) + ": something is mounted here; it stays");
      return;
    }
    if (!S_ISDIR(s.st_mode)) {
      if (taken) unlink(dir, name, path, s);
      return;
    }
    if (directory_id(s) == removal_.keep) return;
    // O_NOFOLLOW: what was a directory a moment ago may be a link now.
    const Fd below(::openat(dir, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!below) return fail(path, errno);
    if (depth > deepest) return removal_.on_error(printable(path) + ": is nested too deep");
    clear(below.get(), path, depth + 1, taken);
    if (!taken) return;
    if (::unlinkat(dir, name.c_str(), AT_REMOVEDIR) == 0)
      removal_.on_removed(path, true, 0);
    else if (errno != ENOENT && !(errno == ENOTEMPTY && (kept_ || holds_kept(below.get()))))
      fail(path, errno);
  }

 private:
  void unlink(int dir, const std::string& name, const std::string& path, const struct stat& s) {
    if (!removal_.force && S_ISREG(s.st_mode)) {
      const Fd file(::openat(dir, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
      const auto lease = file ? PathGate::ask_lease(file.get()) : std::nullopt;
      if (lease.value_or(false) || (!lease && is_in_use(s))) {
        kept_ = true;
        return removal_.on_error(printable(path) +
                                 ": stays: somebody has it open for writing (a running VM?); --force deletes it");
      }
    }
    if (::unlinkat(dir, name.c_str(), 0) == 0)
      removal_.on_removed(path, false, S_ISREG(s.st_mode) ? s.st_size : 0);
    else if (errno != ENOENT)
      fail(path, errno);
  }
  /// By /proc, which is read once: where there are no leases, or for this user none.
  bool is_in_use(const struct stat& s) {
    if (!in_use_) in_use_ = PathGate::open_for_writing();
    return in_use_->contains({s.st_dev, s.st_ino});
  }
  bool holds_kept(int dir) const {
    for (const auto& name : names_in(dir)) {
      struct stat s {};
      if (::fstatat(dir, name.c_str(), &s, AT_SYMLINK_NOFOLLOW) == 0 && directory_id(s) == removal_.keep) return true;
    }
    return false;
  }
  void fail(const std::string& path, int error) {
    removal_.on_error(printable(path) + ": cannot be deleted: " + std::generic_category().message(error));
  }

  const Removal& removal_;
  const Glob* glob_;
  bool kept_ = false;  ///< something stays, and the directories that it is in
  std::optional<std::set<std::pair<std::uint64_t, std::uint64_t>>> in_use_;
};

}  // namespace

void remove_tree(const PathGate& gate, const What& what, const Removal& removal) {
  if (what.is_glob) {
    const Glob glob(what.pattern);
    Remover(removal, &glob).clear(gate.root(), {}, 0, false);
    return;
  }
  Remover remover(removal, nullptr);
  if (what.pattern.empty()) return remover.clear(gate.root(), {}, 0, true);
  Fd parent;
  try {
    parent = gate.open_parent(what.pattern);
  } catch (const Error& error) {
    if (error.status() != Status::not_found) throw;
    throw Error(Status::not_found, printable(what.pattern) + ": not found on this node");
  }
  // The state directory may have any name, and nothing in it is anybody's file.
  for (auto above = std::string_view(what.pattern); !above.empty(); above = parent_path(above)) {
    struct stat dir {};
    if (::fstatat(gate.root(), std::string(above).c_str(), &dir, AT_SYMLINK_NOFOLLOW) == 0 &&
        directory_id(dir) == removal.keep)
      throw Error(Status::usage, printable(what.pattern) + ": is the node's own state");
  }
  const std::string name(last_part(what.pattern));
  struct stat s {};
  if (::fstatat(parent.get(), name.c_str(), &s, AT_SYMLINK_NOFOLLOW) != 0)
    throw errno == ENOENT
        ? Error(Status::not_found, printable(what.pattern) + ": not found on this node")
        : Error(Status::failed, printable(what.pattern) + ": " + std::generic_category().message(errno));
  remover.remove(parent.get(), name, what.pattern, 0, true);
}

}  // namespace mesh
