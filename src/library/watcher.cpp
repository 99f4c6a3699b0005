#include "library/watcher.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <fstream>
#include <sstream>

#include "core/format.h"
#include "core/glob.h"
#include "core/mesh_path.h"
#include "library/temporary.h"

namespace mesh {
namespace {

constexpr const char* mount_table = "/proc/self/mountinfo";
constexpr std::size_t batch_entries = 1000;
constexpr int deepest = 200;
/// For how long a file that is found being written to is looked at again, without an event.
constexpr std::chrono::milliseconds last_again{512};
constexpr std::uint32_t wanted_events = IN_CREATE | IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB | IN_MOVED_FROM |
                                        IN_MOVED_TO | IN_DELETE | IN_ONLYDIR | IN_DONT_FOLLOW | IN_EXCL_UNLINK;

}  // namespace

Watcher::Watcher(const PathGate& gate, Options options, OnChange on_change, Log log)
    : gate_(gate), options_(std::move(options)), on_change_(std::move(on_change)), log_(std::move(log)) {
  inotify_ = Fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!inotify_ && errno == EMFILE) no_watch_mend_ = "fs.inotify.max_user_instances";
  wake_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  mounts_ = Fd(::open(mount_table, O_RDONLY | O_CLOEXEC));
  static_cast<void>(has_new_mounts());
  thread_ = std::thread([this] { run(); });
}

Watcher::~Watcher() {
  stop_ = true;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wake_.get(), &one, sizeof one);
  thread_.join();
}

bool Watcher::is_ignored(std::string_view name) const {
  return is_own_temporary(name) ||
         std::ranges::any_of(options_.ignore, [&](const std::string& pattern) { return Glob(pattern).matches(name); });
}

void Watcher::emit(TreeChange change) {
  batch_.push_back(std::move(change));
  if (batch_.size() >= batch_entries) flush();
}

void Watcher::flush() {
  if (!batch_.empty()) on_change_(std::exchange(batch_, {}));
}

void Watcher::run() {
  using Clock = std::chrono::steady_clock;
  scan_all();
  flush();
  auto next_scan = Clock::now() + options_.rescan;
  while (!stop_) {
    std::array<pollfd, 3> fds{{{wake_.get(), POLLIN, 0}, {inotify_.get(), POLLIN, 0}, {mounts_.get(), POLLPRI, 0}}};
    auto next = complete_ ? Clock::time_point::max() : next_scan;
    for (const auto& [path, again] : again_) next = std::min(next, again.at);
    for (const auto& [path, at] : temporary_) next = std::min(next, at);
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now()).count();
    ::poll(fds.data(), fds.size(),
           next == Clock::time_point::max() ? -1 : static_cast<int>(std::clamp<std::int64_t>(left, 0, 1'000'000)));
    if (stop_) return;
    if (fds[1].revents != 0) read_events();
    if (fds[2].revents != 0 && has_new_mounts()) rescan_now_ = true;
    look_again();
    if (!complete_ && Clock::now() >= next_scan) rescan_now_ = true;
    if (std::exchange(rescan_now_, false)) {
      const auto begun = Clock::now();
      scan_all();
      // A tree that takes long to scan is scanned less often.
      next_scan = Clock::now() + std::max<Clock::duration>(options_.rescan, 10 * (Clock::now() - begun));
    }
    tell_touched();
    flush();
  }
}

bool Watcher::has_new_mounts() {
  const auto real = gate_.files_dir().real.empty() ? gate_.files_dir().given : gate_.files_dir().real;
  const auto below = real.ends_with('/') ? real : real + '/';
  std::vector<std::string> now;
  std::ifstream lines(mount_table);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string id, parent, device, root, at;
    // The fifth field is where it is mounted, with blanks and the like in octal (proc(5)).
    if (!(fields >> id >> parent >> device >> root >> at)) continue;
    std::string path;
    for (std::size_t i = 0; i < at.size(); ++i) {
      unsigned char code = 0;
      const bool is_octal =
          at[i] == '\\' && i + 3 < at.size() && std::from_chars(&at[i + 1], &at[i + 4], code, 8).ptr == &at[i + 4];
      path += is_octal ? static_cast<char>(code) : at[i];
      i += is_octal ? 3 : 0;
    }
    if (path.starts_with(below)) now.push_back(id + " " + path);
  }
  const bool is_new = now != mounted_;
  mounted_ = std::move(now);
  return is_new;
}

void Watcher::tell_touched() {
  for (const auto& dir : std::exchange(touched_, {})) {
    if (dir.empty() || is_below_temporary(dir)) continue;
    auto entry = gate_.look(dir);
    if (!entry || entry->entry.kind != Kind::directory)
      continue;  // something else has the name by now: it had an event
    if (options_.is_private && options_.is_private(dir)) continue;
    if (leave_out_for_now(dir, *entry)) {
      leave_out(dir, true);
      emit({TreeChange::Kind::gone, dir, {}});
      continue;
    }
    entry->entry.size = left_out(dir);
    emit({TreeChange::Kind::put, dir, std::move(*entry)});
  }
}

bool Watcher::leave_out_for_now(const std::string& path, const LocalEntry& entry) {
  const auto yet = temporary_yet(path, entry.entry.kind, entry.stamp.ctime, options_.temporary_for);
  if (yet.count() <= 0) return false;
  temporary_[path] = std::chrono::steady_clock::now() + yet;
  return true;
}

bool Watcher::is_below_temporary(std::string_view path) const {
  const auto slash = path.find('/');
  return slash != std::string_view::npos && temporary_.contains(std::string(path.substr(0, slash)));
}

std::int64_t Watcher::count_of(const LeftOut& names, const std::string& dir) {
  const auto at = names.find(dir);
  return at == names.end() ? 0 : std::ssize(at->second);
}

std::int64_t Watcher::left_out(const std::string& dir) const {
  // While all is scanned anew, what was known before is what is told; what is different is told in the end.
  return count_of(before_scan_ ? *before_scan_ : left_out_, dir);
}

void Watcher::leave_out(const std::string& path, bool out) {
  const auto dir = std::string(parent_path(path));
  const auto name = std::string(last_part(path));
  if (out) {
    if (left_out_[dir].insert(name).second) touched_.insert(dir);
    return;
  }
  const auto at = left_out_.find(dir);
  if (at == left_out_.end() || at->second.erase(name) == 0) return;
  if (at->second.empty()) left_out_.erase(at);
  touched_.insert(dir);
}

void Watcher::scan_all() {
  writing_.clear();
  before_scan_ = std::exchange(left_out_, {});
  emit({TreeChange::Kind::scan_begins, {}, {}});
  scan({}, 0);
  const auto before = std::exchange(before_scan_, std::nullopt);
  std::erase_if(touched_, [&](const std::string& dir) { return count_of(*before, dir) == count_of(left_out_, dir); });
  for (const auto& [dir, names] : *before)
    if (!left_out_.contains(dir)) touched_.insert(dir);
  tell_touched();
  emit({TreeChange::Kind::scan_ends, {}, {}});
}

bool Watcher::watch(const std::string& dir, int fd) {
  // Also where it is watched already: after lost events the name may stand for another directory.
  const auto known = watch_of_.find(dir);
  if (known != watch_of_.end() || complete_ || watch_of_.size() < options_.most_watches) {
    // Through the descriptor, so that it is the very directory that is listed next.
    const std::string path = "/proc/self/fd/" + std::to_string(fd);
    const int wd =
        known != watch_of_.end() || watch_of_.size() < options_.most_watches
            ? ::inotify_add_watch(inotify_.get(), path.c_str(), wanted_events & ~std::uint32_t{IN_DONT_FOLLOW})
            : (errno = ENOSPC, -1);
    if (!inotify_) errno = EMFILE;
    if (wd >= 0) {
      if (known != watch_of_.end() && known->second != wd) dir_of_.erase(known->second);
      // One directory under two names (by --follow) gets its events under the last one alone; rescans see to the other.
      if (const auto other = dir_of_.find(wd); other != dir_of_.end() && other->second != dir) complete_ = false;
      dir_of_[wd] = dir;
      watch_of_[dir] = wd;
      return true;
    }
    if (complete_)
      log_(warning("cannot watch " + gate_.absolute(dir) + ": " + std::strerror(errno) +
                   "; the files directory is scanned again every " + human_seconds(options_.rescan.count()) +
                   " (mend: raise " + no_watch_mend_ + ")"));
    complete_ = false;
  }
  return false;
}

void Watcher::forget_watches(const std::string& dir) {
  for (auto it = left_out_.lower_bound(dir); it != left_out_.end() && it->first.starts_with(dir);)
    it = it->first == dir || is_below(it->first, dir) ? left_out_.erase(it) : std::next(it);
  std::erase_if(touched_, [&](const std::string& one) { return one == dir || is_below(one, dir); });
  for (auto it = watch_of_.lower_bound(dir);
       it != watch_of_.end() && (it->first == dir || it->first.starts_with(dir));) {
    if (it->first != dir && !is_below(it->first, dir)) {
      ++it;
      continue;
    }
    if (const auto own = dir_of_.find(it->second); own != dir_of_.end() && own->second == it->first) {
      ::inotify_rm_watch(inotify_.get(), it->second);
      dir_of_.erase(own);
    }
    it = watch_of_.erase(it);
  }
}

void Watcher::scan(const std::string& dir, int depth) {
  if (stop_) return;
  const Fd fd = gate_.open_directory(dir);
  if (!fd) {
    if (errno != ENOENT)
      log_(
          warning(gate_.absolute(printable(dir)) + ": cannot be read: " + std::strerror(errno)).of("not-offered", dir));
    return;
  }
  struct stat own {};
  if (::fstat(fd.get(), &own) != 0) return;
  const std::pair<std::uint64_t, std::uint64_t> self(own.st_dev, own.st_ino);
  if (gate_.is_state(directory_id(own))) return;
  if (depth > deepest || std::ranges::find(above_, self) != above_.end()) {
    log_(warning(gate_.absolute(printable(dir)) + (depth > deepest
                                                       ? ": is nested too deep; not offered"
                                                       : ": leads back to a directory above it; not offered"))
             .of("not-offered", dir));
    return;
  }
  above_.push_back(self);
  watch(dir, fd.get());
  for (const auto& name : names_in(fd.get())) {
    const auto path = dir.empty() ? name : dir + '/' + name;
    if (is_ignored(name)) continue;
    if (!is_mesh_path(path)) {
      if (path != reserved_part)
        log_(warning(printable(gate_.absolute(path)) + ": is not offered: the path " + std::string(path_fault(path)))
                 .of("not-offered", path));
      if (path != reserved_part) leave_out(path, true);
      continue;
    }
    if (examine(path) == Kind::directory) scan(path, depth + 1);
  }
  above_.pop_back();
}

bool Watcher::is_own(const std::string& path) const {
  if (options_.own == nullptr || !options_.own->contains(path)) return false;
  struct stat s {};
  return ::fstatat(gate_.root(), path.c_str(), &s, AT_SYMLINK_NOFOLLOW) == 0 && options_.own->take(path, stamp_of(s));
}

std::optional<Kind> Watcher::examine(const std::string& path) {
  auto found = gate_.look(path);
  if (found && found->entry.kind == Kind::directory && gate_.is_state({found->stamp.device, found->stamp.inode}))
    return std::nullopt;
  if (found && found->entry.kind == Kind::directory) found->entry.size = left_out(path);
  temporary_.erase(path);
  const bool was_there = found.has_value();
  if (found) {
    // (One of this node's own: is_private says so of the others.)
    if (leave_out_for_now(path, *found)) found.reset();
  }
  if (found && found->entry.kind == Kind::directory && options_.is_private && options_.is_private(path)) found.reset();
  if (found && found->entry.kind == Kind::file) {
    try {
      const Fd fd = gate_.open_file(path);
      if (PathGate::is_being_written(fd.get())) {
        found.reset();
        again_.try_emplace(path, Again{std::chrono::steady_clock::now(), std::chrono::milliseconds(1)});
      }
    } catch (const std::exception&) {
      // Unreadable: offered all the same, so that who asks learns why it cannot be had.
    }
  }
  if (found && found->entry.kind == Kind::outside)
    log_(warning(printable(gate_.absolute(path)) + ": leads out of the files directory, to " +
                 printable(found->entry.target) +
                 "; it is not offered (start meshseed with --follow DIR for where it leads)")
             .of("not-offered", path));
  leave_out(path, was_there ? !found : gate_.is_special(path));
  if (!found) {
    emit({TreeChange::Kind::gone, path, {}});
    return std::nullopt;
  }
  const auto kind = found->entry.kind;
  emit({TreeChange::Kind::put, path, std::move(*found)});
  return kind;
}

/// close(2) is reported before the kernel counts the writer out, so the examination that follows may find it there
/// still.
void Watcher::look_again() {
  const auto now = std::chrono::steady_clock::now();
  std::vector<std::pair<std::string, Again>> due;
  for (const auto& [path, again] : again_)
    if (now >= again.at) due.emplace_back(path, again);
  std::vector<std::string> settled;
  for (const auto& [path, at] : temporary_)
    if (now >= at) settled.push_back(path);
  for (const auto& path : settled) {
    writing_.erase(path);
    if (examine(path) == Kind::directory) scan(path, static_cast<int>(std::ranges::count(path, '/')) + 1);
  }
  for (const auto& [path, again] : due) {
    again_.erase(path);
    if (is_below_temporary(path)) continue;
    if (examine(path)) writing_.erase(path);
    const auto still = again_.find(path);
    if (still == again_.end()) continue;
    // Who writes for longer closes it later, which is an event of its own.
    if (again.wait > last_again)
      again_.erase(still);
    else
      still->second = {now + again.wait, again.wait * 2};
  }
}

void Watcher::read_events() {
  alignas(inotify_event) std::array<char, 64 * 1024> buffer;
  for (;;) {
    const auto n = ::read(inotify_.get(), buffer.data(), buffer.size());
    if (n <= 0) return;
    for (ssize_t at = 0; at < n;) {
      inotify_event event{};
      std::memcpy(&event, buffer.data() + at, sizeof event);
      const char* name_at = buffer.data() + at + sizeof event;
      at += static_cast<ssize_t>(sizeof event + event.len);
      if ((event.mask & IN_Q_OVERFLOW) != 0) {
        rescan_now_ = true;
        continue;
      }
      const auto dir = dir_of_.find(event.wd);
      if (dir == dir_of_.end()) continue;
      if ((event.mask & IN_IGNORED) != 0) {
        watch_of_.erase(dir->second);
        dir_of_.erase(dir);
        continue;
      }
      if (event.len == 0) continue;  // the directory itself; its parent reports it by name
      const std::string name(name_at);
      const auto path = dir->second.empty() ? name : dir->second + '/' + name;
      if (is_ignored(name) || is_below_temporary(path)) continue;
      if (!is_mesh_path(path)) {
        if (path != reserved_part && (event.mask & (IN_CREATE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE)) != 0)
          leave_out(path, (event.mask & (IN_CREATE | IN_MOVED_TO)) != 0);
        continue;
      }
      if ((event.mask & (IN_CREATE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE)) != 0) touched_.insert(dir->second);
      if ((event.mask & (IN_MOVED_FROM | IN_DELETE)) != 0) {
        writing_.erase(path);
        // It may be there again: an exchange of two names reports the coming before the going.
        if ((event.mask & IN_ISDIR) != 0) {
          forget_watches(path);
          emit({TreeChange::Kind::gone, path, {}});
        }
        if (examine(path) == Kind::directory) scan(path, static_cast<int>(std::ranges::count(path, '/')) + 1);
      } else if ((event.mask & IN_MODIFY) != 0) {
        // Reported as gone once; further writes change nothing until it is closed. (A bare change of mtime is a
        // modification too, of a directory even, and no close follows it.)
        if (!writing_.contains(path) && !examine(path)) writing_.insert(path);
      } else {
        if ((event.mask & (IN_CLOSE_WRITE | IN_MOVED_TO)) != 0) writing_.erase(path);
        if ((event.mask & IN_CREATE) != 0 && is_own(path)) continue;
        const auto kind = writing_.contains(path) ? std::nullopt : examine(path);
        if (kind == Kind::directory && (event.mask & (IN_CREATE | IN_MOVED_TO)) != 0)
          scan(path, static_cast<int>(std::ranges::count(path, '/')) + 1);
      }
    }
  }
}

}  // namespace mesh
