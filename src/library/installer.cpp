#include "library/installer.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

#include <atomic>
#include <cstdio>
#include <set>
#include <thread>

#include "core/error.h"
#include "core/format.h"
#include "core/merkle.h"
#include "core/mesh_path.h"
#include "core/zeros.h"
#include "disk/copy_bytes.h"
#include "disk/directory.h"
#include "disk/sync_later.h"
#include "library/maker.h"
#include "library/temporary.h"
#include "wire/mesh_key.h"

namespace mesh {
namespace {

// Set-id bits are not taken from the network: a file would carry the rights of whoever runs the node. Nor is
// everybody's right to write: who that is differs from machine to machine.
constexpr mode_t mode_mask = 01775;

[[noreturn]] void fail(const FileEntry& wanted, const std::string& what, int error) {
  throw Error(Status::failed, printable(wanted.path) + ": " + what + ": " + std::generic_category().message(error));
}

timespec to_timespec(std::int64_t ns) {
  timespec out{};
  out.tv_sec = static_cast<time_t>(ns / 1'000'000'000);
  out.tv_nsec = static_cast<long>(ns % 1'000'000'000);
  if (out.tv_nsec < 0) {
    out.tv_nsec += 1'000'000'000;
    --out.tv_sec;
  }
  return out;
}

void set_time(int fd, const FileEntry& wanted) {
  const timespec times[2] = {{0, UTIME_OMIT}, to_timespec(wanted.mtime)};
  if (::futimens(fd, times) != 0) fail(wanted, "cannot set the time", errno);
}

void set_link_time(int dir, const std::string& name, const FileEntry& wanted) {
  const timespec times[2] = {{0, UTIME_OMIT}, to_timespec(wanted.mtime)};
  ::utimensat(dir, name.c_str(), times, AT_SYMLINK_NOFOLLOW);
}

/// Under which a link is remembered as received: its target is all that is in it.
ContentId id_of_link(const FileEntry& link) {
  return *ContentId::from(sha256("meshswarm link 1\n" + link.target).view());
}

void set_attributes(int fd, const FileEntry& wanted) {
  if (::fchmod(fd, wanted.mode & mode_mask) != 0) fail(wanted, "cannot set the mode", errno);
  set_time(fd, wanted);
}

std::string describe(const FileEntry& entry) {
  return entry.kind == Kind::file        ? human_bytes(entry.size) + " of " + human_time(entry.mtime)
         : entry.kind == Kind::directory ? "a directory"
                                         : "a link";
}

Error taken(const FileEntry& wanted) {
  return {Status::failed,
          printable(wanted.path) + ": somebody put something else there meanwhile; it is kept (--force replaces it)"};
}

Error open_for_writing(const FileEntry& wanted) {
  return {Status::failed, printable(wanted.path) +
                              ": kept: somebody has the local file open for writing (a running VM?); get it again when "
                              "it is closed"};
}

/// What was under a name could not be put back there, and is where the text says: nobody removes that.
class KeptAside : public Error {
 public:
  explicit KeptAside(const std::string& text) : Error(Status::failed, text) {}
};

/// The disk is full.
class NoRoom : public Error {
 public:
  explicit NoRoom(const std::string& text) : Error(Status::failed, text) {}
};

/// Whether a file system that was given the time `wanted` may say `is`: some keep whole microseconds, seconds or pairs
/// of them.
bool is_time_of(std::int64_t is, std::int64_t wanted) {
  const auto lost = wanted - is;
  if (lost == 0) return true;
  for (const std::int64_t grain : {100LL, 1'000LL, 10'000'000LL, 1'000'000'000LL, 2'000'000'000LL})
    if (lost > 0 && lost < grain && is % grain == 0) return true;
  return false;
}

std::int64_t bytes_free(const struct statvfs& s) {
  return static_cast<std::int64_t>(s.f_bavail) * static_cast<std::int64_t>(s.f_frsize);
}

std::string in_proc(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

}  // namespace

LocalState Installer::examine(const FileEntry& wanted, const std::atomic<bool>& stop) const {
  LocalState out;
  const auto local = gate_.look(wanted.path);
  if (!local) return out;
  out.stamp = local->stamp;
  out.entry = local->entry;
  const bool is_file = local->entry.kind == Kind::file;
  if (local->entry.kind == Kind::directory || wanted.kind == Kind::directory) {
    out.verdict = LocalState::Verdict::other_kind;
    return out;
  }
  const auto received = db_.find_received(wanted.path, local->stamp);
  out.received = received.has_value();
  const bool ours = received && received->unchanged;
  out.verdict = ours ? LocalState::Verdict::ours : LocalState::Verdict::users;
  out.replaceable = ours;
  if (is_file != (wanted.kind == Kind::file)) return out;
  if (!is_file) {
    if (local->entry.target == wanted.target) out.verdict = LocalState::Verdict::same;
    return out;
  }
  if (local->entry.size != wanted.size) return out;
  out.id = ours ? received->id : identify(*local, stop);
  if (!wanted.id.is_set())
    out.verdict = LocalState::Verdict::unknown;
  else if (out.id == wanted.id)
    out.verdict = LocalState::Verdict::same;
  return out;
}

ContentId Installer::identify(const LocalEntry& local, const std::atomic<bool>& stop) const {
  if (const auto known = db_.find_hash(local.stamp)) return *known;
  const Fd fd = gate_.open_file(local.entry.path);
  return hash_file(fd.get(), local.entry.size, std::max(1U, std::thread::hardware_concurrency()), stop).id;
}

std::optional<OtherMount> Installer::rehearse(const FileEntry& wanted, const LocalState& before) const {
  const auto say = [&](std::string_view dir, const std::string& what) {
    throw Error(Status::failed, printable(wanted.path) + ": cannot be put in place: " +
                                    (dir.empty() ? "the files directory" : printable(dir)) + " " + what);
  };
  auto dir = parent_path(wanted.path);
  Fd there;
  // What is missing will be made.
  while (!(there = gate_.open_own_directory(dir)) && errno == ENOENT && !dir.empty()) dir = parent_path(dir);
  if (!there) {
    const int error = errno;
    if (error == ENOTDIR) say(dir, "is no directory here, or lies behind something that is none; move that away");
    if (error == ELOOP) say(dir, "lies behind a symbolic link, and files are not written through links");
    say(dir, "cannot be opened: " + std::generic_category().message(error));
  }
  if (::faccessat(there.get(), ".", W_OK | X_OK, AT_EACCESS) != 0)
    say(dir, "cannot be written to: " + std::generic_category().message(errno));
  std::optional<OtherMount> out;
  const Fd parts(::open(parts_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct statvfs room {};
  struct stat in {};
  if (parts && !is_same_mount(there.get(), parts.get()) && ::fstatvfs(there.get(), &room) == 0 &&
      ::fstat(there.get(), &in) == 0)
    out = OtherMount{std::string(dir), in.st_dev, bytes_free(room),
                     room.f_files == 0 ? INT64_MAX : static_cast<std::int64_t>(room.f_favail)};
  if (before.verdict == LocalState::Verdict::absent || dir != parent_path(wanted.path)) return out;
  const std::string name(last_part(wanted.path));
  if (is_mount(there.get(), name))
    throw Error(Status::failed, printable(wanted.path) + ": cannot be put in place: something is mounted there");
  struct statx now {};
  if (::statx(there.get(), name.c_str(), AT_SYMLINK_NOFOLLOW, STATX_UID, &now) == 0) {
    if ((now.stx_attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) != 0)
      throw Error(
          Status::failed,
          printable(wanted.path) + ": cannot be put in place: the file here may not be changed (chattr -ia lets it)");
    struct stat holder {};
    if (::fstat(there.get(), &holder) == 0 && (holder.st_mode & S_ISVTX) != 0 && ::geteuid() != 0 &&
        now.stx_uid != ::geteuid() && holder.st_uid != ::geteuid())
      say(dir, "is sticky, and the file there is another user's");
  }
  const Fd target(::openat(there.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (target && before.entry.kind == Kind::file && PathGate::is_being_written(target.get()))
    throw open_for_writing(wanted);
  return out;
}

/// Gives what is called `name` in the open directory `from` the name where it is wanted. False where nothing was there,
/// and something is by now. Throws Error.
bool Installer::take_name(const Shelf& shelf, const std::string& part, int parent, const FileEntry& wanted,
                          const LocalState& before) const {
  const int from = shelf.directory;
  const std::string name(last_part(wanted.path));
  if (before.verdict == LocalState::Verdict::absent) {
    if (move_to_free_name(from, part, parent, name) == 0) return true;
    if (errno != EEXIST) fail(wanted, "cannot be put in place", errno);
    return false;
  }
  std::string kept;
  const auto exchange = [&] { return exchange_names(from, part, parent, name, kept); };
  const auto kept_as = [&](const std::string& at) {
    return KeptAside(printable(wanted.path) + ": what was here could not be put back; it is kept as " +
                     printable((shelf.shown / at).string()));
  };
  struct stat now {};
  if (::fstatat(parent, name.c_str(), &now, AT_SYMLINK_NOFOLLOW) != 0 || now.st_ino != before.stamp.inode ||
      now.st_size != before.stamp.size || nanoseconds(now.st_mtim) != before.stamp.mtime)
    throw taken(wanted);
  const Fd target(S_ISREG(now.st_mode) ? ::openat(parent, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
                                       : -1);
  if (target && PathGate::is_being_written(target.get())) throw open_for_writing(wanted);
  if (exchange() != 0) {
    if (!kept.empty()) throw kept_as(kept);
    fail(wanted, "cannot be put in place", errno);
  }
  struct stat old {};
  const bool expected = ::fstatat(from, part.c_str(), &old, AT_SYMLINK_NOFOLLOW) == 0 &&
                        old.st_ino == before.stamp.inode && old.st_size == before.stamp.size &&
                        nanoseconds(old.st_mtim) == before.stamp.mtime;
  if (!expected) {
    if (exchange() == 0) throw taken(wanted);
    if (!kept.empty()) throw kept_as(kept);
    // The name may be free by now. If not, nobody takes what is here for a partial file.
    if (put_back(from, part, parent, name)) throw taken(wanted);
    const auto aside = "kept-" + std::to_string(::getpid()) + "-" + part;
    if (move_to_free_name(from, part, from, aside) == 0) throw kept_as(aside);
    throw kept_as(part);
  }
  ::unlinkat(from, part.c_str(), 0);
  return true;
}

/// A place on the same mount as the open directory `parent`: `parts`, or else that directory itself.
Installer::Shelf Installer::shelf_beside(int parent, int parts, const FileEntry& wanted) const {
  if (is_same_mount(parent, parts)) return {parts, shown_parts_};
  return {parent, gate_.absolute(std::string(parent_path(wanted.path)))};
}

bool Installer::is_elsewhere(std::string_view path) const {
  const Fd parts(::open(parts_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  Fd there;
  for (auto dir = parent_path(path); !(there = gate_.open_own_directory(dir)) && !dir.empty();) dir = parent_path(dir);
  return parts && there && !is_same_mount(there.get(), parts.get());
}

/// A copy of the open file on the mount of the open directory `parent`, without a name where the file system has that;
/// open read-only, and nowhere for writing. `name` is its name beside its place where it has to have one. Throws Error,
/// without a trace.
Fd Installer::bring_over(int file, int parent, const FileEntry& wanted, std::string& name,
                         const std::function<bool()>& is_stopped) const {
  Fd copy(::openat(parent, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600));
  if (!copy) {
    name = std::string(own_temporary_prefix) + random_secret().hex().substr(0, 16);
    copy = Fd(::openat(parent, name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!copy) name.clear();
  }
  if (!copy) fail(wanted, "cannot be put in place", errno);
  try {
    copy_bytes(file, copy.get(), wanted.size, is_stopped);
    finish_file(copy.get(), wanted);
    // By the open file itself: a name could be somebody else's by now.
    Fd out(::open(in_proc(copy.get()).c_str(), O_RDONLY | O_CLOEXEC));
    if (!out) fail(wanted, "cannot be read back", errno);
    return out;
  } catch (const Error& error) {
    if (!name.empty()) ::unlinkat(parent, name.c_str(), 0);
    throw Error(error.status(), about(wanted.path, error.what()), error.code());
  }
}

LocalEntry Installer::install(const std::string& part_name, Fd& file, const FileEntry& wanted, const LocalState& before,
                              const ContentId& id, const std::function<bool()>& is_stopped) const {
  const Fd parts(::open(parts_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const Fd parent = gate_.open_parent(wanted.path, made_);
  const auto shelf = shelf_beside(parent.get(), parts.get(), wanted);
  const bool is_elsewhere = shelf.directory != parts.get();
  std::string name = is_elsewhere ? std::string() : part_name;
  if (is_elsewhere) file = bring_over(file.get(), parent.get(), wanted, name, is_stopped);
  LocalEntry out;
  try {
    bool took = false;
    if (name.empty() && before.verdict == LocalState::Verdict::absent) {
      took = link_nameless(file.get(), parent.get(), wanted);
    } else {
      if (name.empty()) {
        name = std::string(own_temporary_prefix) + random_secret().hex().substr(0, 16);
        if (::linkat(AT_FDCWD, in_proc(file.get()).c_str(), parent.get(), name.c_str(), AT_SYMLINK_FOLLOW) != 0)
          fail(wanted, "cannot be put in place", errno);
      }
      took = take_name(shelf, name, parent.get(), wanted, before);
      // Who may write to the directory may have put something else under the name that it had meanwhile.
      if (took && is_elsewhere && !is_still_at(parent.get(), std::string(last_part(wanted.path)).c_str(), file.get()))
        throw taken(wanted);
    }
    out = took ? placed(file.get(), wanted, id) : same_already(wanted, id);
  } catch (const KeptAside&) {
    throw;
  } catch (const Error&) {
    if (is_elsewhere && !name.empty()) ::unlinkat(parent.get(), name.c_str(), 0);
    throw;
  }
  // Where it has not got its name by being moved.
  if (!part_name.empty()) ::unlinkat(parts.get(), part_name.c_str(), 0);
  if (is_elsewhere && !name.empty()) ::unlinkat(parent.get(), name.c_str(), 0);
  return out;
}

/// Gives a file that has no name, open as `file`, the one that it is wanted under; false where something has it.
bool Installer::link_nameless(int file, int parent, const FileEntry& wanted) const {
  const std::string name(last_part(wanted.path));
  if (::linkat(AT_FDCWD, in_proc(file).c_str(), parent, name.c_str(), AT_SYMLINK_FOLLOW) == 0) return true;
  if (errno != EEXIST) fail(wanted, "cannot be put in place", errno);
  return false;
}

/// The name is taken meanwhile: by the very same bytes, which another get brought, or by something else.
LocalEntry Installer::same_already(const FileEntry& wanted, const ContentId& id) const {
  auto there = gate_.look(wanted.path);
  if (!there || there->entry.kind != Kind::file || there->entry.size != wanted.size) throw taken(wanted);
  const Fd fd = gate_.open_file(wanted.path);
  const std::atomic<bool> stop = false;
  if (hash_file(fd.get(), wanted.size, 1, stop).id != id) throw taken(wanted);
  struct stat s {};
  if (::fstat(fd.get(), &s) != 0 || stamp_of(s) != there->stamp) throw taken(wanted);
  there->entry.id = id;
  return *there;
}

/// The file as it is now that it has its name.
LocalEntry Installer::placed(int fd, const FileEntry& wanted, const ContentId& id) const {
  struct stat s {};
  if (::fstat(fd, &s) != 0) fail(wanted, "cannot be read back", errno);
  LocalEntry out{wanted, stamp_of(s)};
  out.entry.id = id;
  out.entry.mode = s.st_mode & 07777;
  // Somebody may have written to it since the rename; then it is theirs.
  if (out.stamp.size == wanted.size && is_time_of(out.stamp.mtime, wanted.mtime)) {
    db_.put_received(wanted.path, out.stamp, id, wanted.origin);
    db_.put_hash(out.stamp, id);
  }
  return out;
}

void Installer::finish_file(int fd, const FileEntry& wanted) const {
  set_attributes(fd, wanted);
  if (::fsync(fd) != 0) fail(wanted, "cannot be synced", errno);
}

LocalEntry Installer::place(const std::filesystem::path& part, Fd& file, const FileEntry& wanted,
                            const LocalState& before, const ContentId& id,
                            const std::function<bool()>& is_stopped) const {
  auto out = install(part.filename().string(), file, wanted, before, id, is_stopped);
  const Fd parent = gate_.open_parent(wanted.path);
  ::fsync(parent.get());
  return out;
}

void Installer::write_small(Small& file, int parts) const {
  // A file without a name, so that directories are touched once: when it is linked. (Not in its own directory: the
  // watcher would hear of it under a name that is none.) What replaces another file is exchanged with it, and needs a
  // name for that.
  const bool nameless = file.before.verdict == LocalState::Verdict::absent;
  Fd fd(nameless ? ::openat(parts, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600) : -1);
  if (!fd) {
    static std::atomic<std::uint64_t> counter = 0;
    file.part = "small-" + std::to_string(::getpid()) + "-" + std::to_string(counter++);
    fd = Fd(::openat(parts, file.part.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  }
  const auto no_room = [&] {
    return NoRoom(printable(file.wanted.path) + ": no room: " +
                  (has_inode() ? human_bytes(file.wanted.size) + " needed, " + human_bytes(free_bytes()) + " free"
                               : "the file system has no inode left for another file"));
  };
  if (!fd && (errno == ENOSPC || errno == EDQUOT)) throw no_room();
  if (!fd) fail(file.wanted, "cannot be written", errno);
  const auto check = [&](bool went_well) {
    if (!went_well && (errno == ENOSPC || errno == EDQUOT)) throw no_room();
    if (!went_well) fail(file.wanted, "cannot be written", errno);
  };
  // Blocks of zeros are holes, as in larger files.
  const std::string_view data = file.data;
  const auto is_hole = [data](std::size_t at) {
    const auto block = data.substr(at, block_bytes);
    return block.size() == block_bytes && is_zero(block);
  };
  std::size_t end = 0;
  for (std::size_t at = 0; at < data.size();) {
    std::size_t next = at + block_bytes;
    if (at % block_bytes == 0 && is_hole(at)) {
      at = next;
      continue;
    }
    next -= at % block_bytes;
    while (next < data.size() && !is_hole(next)) next += block_bytes;
    const auto part = data.substr(at, next - at);
    const auto n = ::pwrite(fd.get(), part.data(), part.size(), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    check(n >= 0);
    at += static_cast<std::size_t>(n);
    end = at;
  }
  if (end < file.data.size()) check(::ftruncate(fd.get(), static_cast<off_t>(file.data.size())) == 0);
  set_attributes(fd.get(), file.wanted);
  if (file.part.empty()) {
    file.file = std::move(fd);
    return;
  }
  // Open for writing nowhere when it appears under its name, so that it can be offered at once.
  file.file = Fd(::openat(parts, file.part.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.file) fail(file.wanted, "cannot be read back", errno);
}

void Installer::write_small(std::vector<Small>& files) const {
  const Fd parts(::open(parts_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (auto& file : files) {
    try {
      write_small(file, parts.get());
    } catch (const NoRoom& error) {
      file.error = error.what();
      file.no_room = true;
    } catch (const Error& error) {
      file.error = error.what();
    }
    if (!file.error.empty()) {
      if (!file.part.empty()) ::unlinkat(parts.get(), file.part.c_str(), 0);
      file.part.clear();
      file.file = Fd();
      if (file.no_room) continue;  // its bytes may still find room
    }
    file.data.clear();
    file.data.shrink_to_fit();
  }
}

/// Syncs the files' data and sizes. syncfs(2) would wait for everything that anybody wrote to the file system, the
/// disks of running VMs included; fsync(2) costs a journal commit for each file. Where the file system has one journal,
/// and ends a page's writeback only after what belongs to it is in the journal, one commit after all writeback serves
/// all.
void Installer::sync_small(std::vector<Small>& files, int parts) const {
  const auto fail_all = [&](int error) {
    for (auto& file : files)
      if (file.error.empty())
        file.error = printable(file.wanted.path) + ": cannot be synced: " + std::generic_category().message(error);
  };
  if (!has_one_journal(parts)) {
    if (::syncfs(parts) != 0) fail_all(errno);
    return;
  }
  const Small* last = nullptr;
  for (const auto& file : files) {
    if (!file.file) continue;
    ::sync_file_range(file.file.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
    last = &file;
  }
  for (auto& file : files) {
    if (!file.file || ::sync_file_range(file.file.get(), 0, 0, SYNC_FILE_RANGE_WAIT_AFTER) == 0) continue;
    // A failed writeback is reported once, here: fsync(2) would not know of it any more.
    const int error = errno;
    if (error == EIO || error == ENOSPC || error == EDQUOT || ::fsync(file.file.get()) != 0)
      file.error = printable(file.wanted.path) + ": cannot be synced: " + std::generic_category().message(error);
  }
  if (last == nullptr) return;
  // Puts this one into the transaction that is open now, which ends all that came before.
  const timespec times[2] = {{0, UTIME_OMIT}, to_timespec(last->wanted.mtime)};
  ::futimens(last->file.get(), times);
  if (::fsync(last->file.get()) != 0) fail_all(errno);
}

std::vector<Installer::Placed> Installer::place_small(std::vector<Small>& files) const {
  std::vector<Placed> out(files.size());
  const Fd parts(::open(parts_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  sync_small(files, parts.get());
  // Before the batch: that a directory is being made is written down at once.
  std::set<std::string_view> places;
  for (const auto& file : files) {
    if (!file.error.empty() || !places.insert(parent_path(file.wanted.path)).second) continue;
    try {
      static_cast<void>(gate_.open_parent(file.wanted.path, made_));
    } catch (const Error&) {
      // Said below, for each file.
    }
  }
  Fd parent;
  std::string_view parent_of;
  bool is_elsewhere = false;
  const std::function<bool()> never = [] { return false; };
  const StateDb::Batch batch(db_);
  for (std::size_t i = 0; i < files.size(); ++i) {
    auto& file = files[i];
    if (!file.error.empty()) {  // it has got one since it was written
      out[i].error = file.error;
      if (!file.part.empty()) ::unlinkat(parts.get(), file.part.c_str(), 0);
      continue;
    }
    try {
      const auto dir = parent_path(file.wanted.path);
      if (!parent || dir != parent_of) {
        parent = gate_.open_parent(file.wanted.path);
        is_elsewhere = !is_same_mount(parent.get(), parts.get());
      }
      parent_of = dir;
      if (!file.part.empty() || is_elsewhere) {
        out[i].entry = install(file.part, file.file, file.wanted, file.before, file.id, never);
      } else {
        // Known to the watcher before it appears: it is open for writing here until this is done.
        struct stat unnamed {};
        if (::fstat(file.file.get(), &unnamed) == 0) own_.add(file.wanted.path, stamp_of(unnamed));
        out[i].entry = link_nameless(file.file.get(), parent.get(), file.wanted)
                           ? placed(file.file.get(), file.wanted, file.id)
                           : same_already(file.wanted, file.id);
      }
      file.file = Fd();
    } catch (const KeptAside& error) {
      out[i].error = error.what();
    } catch (const Error& error) {
      out[i].error = error.what();
      if (!file.part.empty()) ::unlinkat(parts.get(), file.part.c_str(), 0);
    }
  }
  return out;
}

void Installer::sync_names(const std::set<std::string>& directories) const {
  for (const auto& dir : directories)
    if (const Fd fd = gate_.open_directory(dir)) ::fsync(fd.get());
}

void Installer::refresh_attributes(const FileEntry& wanted, const LocalState& state) const {
  if (wanted.kind == Kind::link) {
    if (state.entry.mtime == wanted.mtime) return;
    const Fd parent = gate_.open_parent(wanted.path);
    set_link_time(parent.get(), std::string(last_part(wanted.path)), wanted);
    if (const auto now = gate_.look(wanted.path); now && now->stamp.inode == state.stamp.inode)
      db_.put_received(wanted.path, now->stamp, id_of_link(wanted));
    return;
  }
  const auto origin = wanted.origin.empty() ? db_.find_origin(wanted.path, state.stamp) : wanted.origin;
  if (state.entry.mtime == wanted.mtime && state.entry.mode == (wanted.mode & mode_mask)) return;
  const Fd fd = gate_.open_file(wanted.path);
  struct stat s {};
  if (::fstat(fd.get(), &s) != 0 || stamp_of(s) != state.stamp || PathGate::is_being_written(fd.get())) return;
  set_attributes(fd.get(), wanted);
  if (::fstat(fd.get(), &s) != 0 || s.st_size != state.stamp.size || nanoseconds(s.st_mtim) != wanted.mtime) return;
  db_.put_received(wanted.path, stamp_of(s), wanted.id, origin);
  db_.put_hash(stamp_of(s), wanted.id);
}

void Installer::make_directory(const FileEntry& wanted) const {
  if (gate_.make_directory(wanted.path, made_)) return;
  if (const auto local = gate_.look(wanted.path); !local || local->entry.kind != Kind::directory)
    throw Error(Status::failed, printable(wanted.path) + ": a directory in the mesh, but here it is " +
                                    (local ? describe(local->entry) : "something else") + "; move that away");
}

void Installer::finish_directory(const FileEntry& wanted, bool implied) const {
  const Fd fd = gate_.open_own_directory(wanted.path);
  struct stat s {};
  // One that is a link here leads to what is somebody's own.
  if (!fd || ::fstat(fd.get(), &s) != 0) return;
  if (db_.is_made(wanted.path, directory_id(s))) {
    if (::fchmod(fd.get(), wanted.mode & mode_mask) != 0) fail(wanted, "cannot set the mode", errno);
    if (implied && wanted.mtime != 0) set_time(fd.get(), wanted);
    db_.remove_made(wanted.path);
    ::fchmod(fd.get(), wanted.mode & mode_mask);  // once more: the watcher hears of what it is from now on
  }
  if (!implied) set_time(fd.get(), wanted);
}

void Installer::place_link(const FileEntry& wanted, const LocalState& before) const {
  if (link_destination(wanted.path, wanted.target).empty())
    throw Error(Status::failed, printable(wanted.path) + ": is a link out of the files directory, to " +
                                    printable(wanted.target) + "; it is not made");
  const Fd parts(::open(parts_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const Fd parent = gate_.open_parent(wanted.path, made_);
  const auto shelf = shelf_beside(parent.get(), parts.get(), wanted);
  const int at = shelf.directory;
  static std::atomic<std::uint64_t> counter = 0;
  const auto fresh = std::string(at == parts.get() ? "link-" : own_temporary_prefix) + std::to_string(::getpid()) +
                     "-" + std::to_string(counter++);
  ::unlinkat(at, fresh.c_str(), 0);
  if (::symlinkat(wanted.target.c_str(), at, fresh.c_str()) != 0) fail(wanted, "cannot make the link", errno);
  try {
    set_link_time(at, fresh, wanted);
    if (!take_name(shelf, fresh, parent.get(), wanted, before)) {
      const auto there = gate_.look(wanted.path);
      if (!there || there->entry.kind != Kind::link || there->entry.target != wanted.target) throw taken(wanted);
    }
  } catch (const KeptAside&) {
    throw;
  } catch (const Error&) {
    ::unlinkat(at, fresh.c_str(), 0);
    throw;
  }
  ::unlinkat(at, fresh.c_str(), 0);
  if (const auto there = gate_.look(wanted.path); there && there->entry.kind == Kind::link)
    db_.put_received(wanted.path, there->stamp, id_of_link(wanted));
}

bool Installer::has_inode() const {
  struct statvfs s {};
  // Some (btrfs) make them as they are needed, and count none.
  return ::statvfs(parts_.c_str(), &s) != 0 || s.f_files == 0 || s.f_favail > 0;
}

std::int64_t Installer::free_bytes() const {
  struct statvfs s {};
  return ::statvfs(parts_.c_str(), &s) != 0 ? INT64_MAX : bytes_free(s);
}

}  // namespace mesh
