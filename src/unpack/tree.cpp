#include "unpack/tree.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <libtorrent/hasher.hpp>
#include <system_error>
#include <vector>

#include "core/error.h"
#include "core/format.h"
#include "disk/directory.h"
#include "library/path_gate.h"

namespace mesh {
namespace {

namespace fs = std::filesystem;

std::string reason(int error) { return std::generic_category().message(error); }

class TreeDigest {
 public:
  void walk(int at, const std::string& name, const std::string& path, bool is_root) {
    struct stat s {};
    if (::fstatat(at, name.c_str(), &s, AT_SYMLINK_NOFOLLOW) != 0) fail(path, errno);
    // (Not by st_dev: on overlayfs a file has that of the layer that it comes from.)
    if (!is_root && is_mount(at, name)) throw Error(Status::failed, printable(path) + ": something is mounted here");
    std::string link;
    if (S_ISLNK(s.st_mode)) {
      link.resize(4096);
      const auto n = ::readlinkat(at, name.c_str(), link.data(), link.size());
      link.resize(static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    }
    const bool directory = S_ISDIR(s.st_mode);
    char facts[256];
    std::snprintf(facts, sizeof facts, " %o %u %u %lld %lld %lld %u:%u ", s.st_mode, s.st_uid, s.st_gid,
                  directory ? 0LL : static_cast<long long>(s.st_size), static_cast<long long>(nanoseconds(s.st_mtim)),
                  is_root ? 0LL : static_cast<long long>(nanoseconds(s.st_ctim)), major(s.st_rdev), minor(s.st_rdev));
    add(path + '\0' + link + '\0' + facts);
    if (!directory) return;
    const Fd fd(::openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) fail(path, errno);
    auto names = names_in(fd.get());
    std::ranges::sort(names);
    for (const auto& below : names) walk(fd.get(), below, path + '/' + below, false);
  }
  std::string hex() {
    const auto sum = hasher_.final();
    return to_hex({sum.data(), 32});
  }

 private:
  [[noreturn]] static void fail(const std::string& path, int error) {
    throw Error(Status::failed, printable(path) + ": cannot be examined: " + reason(error));
  }
  void add(const std::string& text) { hasher_.update({text.data(), static_cast<std::ptrdiff_t>(text.size())}); }
  lt::hasher256 hasher_;
};

}  // namespace

void remove_below(int at, const std::string& name) {
  if (::unlinkat(at, name.c_str(), 0) == 0 || (errno != EISDIR && errno != EPERM) || is_mount(at, name)) return;
  Fd fd(::openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd && errno == EACCES) {
    ::fchmodat(at, name.c_str(), 0700, 0);
    fd = Fd(::openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  }
  if (!fd) return;
  ::fchmod(fd.get(), 0700);
  for (const auto& below : names_in(fd.get())) remove_below(fd.get(), below);
  ::unlinkat(at, name.c_str(), AT_REMOVEDIR);
}

void TempTree::sweep(const fs::path& place, const std::string& prefix) {
  const Fd dir(::open(place.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir) return;
  for (const auto& name : names_in(dir.get())) {
    if (!name.starts_with(prefix)) continue;
    const Fd left(::openat(dir.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    struct stat s {};
    if (left && ::fstat(left.get(), &s) == 0 && s.st_uid == ::geteuid() && ::flock(left.get(), LOCK_EX | LOCK_NB) == 0)
      remove_below(dir.get(), name);
  }
}

TempTree::TempTree(const fs::path& place, const std::string& prefix) {
  std::error_code ec;
  fs::create_directories(place, ec);
  sweep(place, prefix);
  // Another process may take it for one that is left over before it is locked.
  for (int tries = 0; !ec && tries < 10; ++tries) {
    auto name = (place / (prefix + "XXXXXX")).string();
    if (::mkdtemp(name.data()) == nullptr) break;
    path_ = name;
    fd_ = Fd(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    struct stat s {};
    if (fd_ && ::flock(fd_.get(), LOCK_EX | LOCK_NB) == 0 && ::fstat(fd_.get(), &s) == 0 && s.st_nlink > 0 &&
        s.st_uid == ::geteuid())
      return;
    ::rmdir(path_.c_str());
  }
  throw Error(Status::failed,
              place.string() + ": cannot make a directory to unpack into: " + (ec ? ec.message() : reason(errno)));
}

TempTree::~TempTree() {
  if (kept_) return;
  for (const auto& name : names_in(fd_.get())) remove_below(fd_.get(), name);
  ::rmdir(path_.c_str());
}

std::string digest_of_tree(int at, const std::string& name) {
  TreeDigest digest;
  digest.walk(at, name, name, true);
  return digest.hex();
}

PlacedTree place_tree(TempTree& made, const std::string& top, const TreePlace& place, const TreeRecords& records,
                      TreeRecord record) {
  PlacedTree out;
  out.path = place.path + (place.path.ends_with('/') ? "" : "/") + top;
  record.path = out.path;
  record.digest = digest_of_tree(made.fd(), top);
  // Known before it appears: a tree is not offered.
  records.put(made.fd(), top, record);
  const auto give_up = [&](const std::string& why) {
    records.remove(made.fd(), top);
    return Error(Status::failed, printable(out.path) + ": " + why);
  };
  std::string kept;
  const auto exchange = [&] {
    const int done = exchange_names(made.fd(), top, place.parent, top, kept);
    if (!kept.empty()) made.keep();
    return done;
  };
  if (move_to_free_name(made.fd(), top, place.parent, top) != 0) {
    if (errno != EEXIST) throw give_up("cannot be put in place: " + reason(errno));
    const auto old = records.find(place.parent, top);
    struct stat s {};
    const bool is_directory = ::fstatat(place.parent, top.c_str(), &s, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(s.st_mode);
    std::string now;
    if (is_directory) {
      try {
        now = digest_of_tree(place.parent, top);
      } catch (const Error& error) {
        throw give_up(std::string("kept: ") + error.what());
      }
    }
    if (!place.force && !(old && old->digest == now))
      throw give_up(old ? "kept: it was changed here since it was unpacked (--force replaces it)"
                        : "kept: it is here already and was not unpacked from this archive (--force replaces it)");
    if (exchange() != 0) throw give_up("cannot be put in place: " + reason(errno));
    // Changed while it was compared: it goes back.
    const auto same = [&] {
      try {
        return digest_of_tree(made.fd(), top) == now;
      } catch (const Error&) {
        return false;  // it is being changed
      }
    };
    if (is_directory && !place.force && !same()) {
      if (exchange() == 0) throw give_up("kept: it is being changed here (--force replaces it)");
      made.keep();
      throw give_up("changed while it was replaced, and could not be put back; it is in " + made.path().string());
    }
    out.replaced = true;
    records.remove(made.fd(), top);
  }
  ::fsync(place.parent);
  return out;
}

}  // namespace mesh
