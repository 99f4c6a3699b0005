#include "mount/file_system.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "core/format.h"
#include "core/mesh_path.h"
#include "mount/directory_pages.h"
#include "mount/inodes.h"
#include "mount/mount_point.h"
#include "mount/pages.h"
#include "mount/pending.h"

namespace mesh {
namespace {

using Clock = NodeClient::Clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// The mount's own inodes.
enum Own : fuse_ino_t {
  root = FUSE_ROOT_ID,
  files,
  cluster,
  cluster_info_text,
  cluster_info_as_json,
  cluster_nodes_text,
  cluster_nodes_as_json,
  node,
  transfers_text,
  transfers_as_json,
  config,
  config_tracker,
};
constexpr std::uint64_t first_of_nodes = std::uint64_t{1} << 10;
constexpr std::uint64_t first_of_files = std::uint64_t{1} << 40;

struct OwnEntry {
  fuse_ino_t number;
  fuse_ino_t parent;
  const char* name;
  mode_t mode;
};
constexpr std::array own_entries{
    OwnEntry{root, root, "", S_IFDIR | 0755},
    OwnEntry{files, root, "files", S_IFDIR | 0755},
    OwnEntry{cluster, root, "cluster", S_IFDIR | 0755},
    OwnEntry{cluster_info_text, cluster, "info", S_IFREG | 0444},
    OwnEntry{cluster_info_as_json, cluster, "info.json", S_IFREG | 0444},
    OwnEntry{cluster_nodes_text, cluster, "nodes", S_IFREG | 0444},
    OwnEntry{cluster_nodes_as_json, cluster, "nodes.json", S_IFREG | 0444},
    OwnEntry{node, root, "node", S_IFDIR | 0755},
    OwnEntry{transfers_text, root, "transfers", S_IFREG | 0444},
    OwnEntry{transfers_as_json, root, "transfers.json", S_IFREG | 0444},
    OwnEntry{config, root, "config", S_IFDIR | 0755},
    OwnEntry{config_tracker, config, "tracker", S_IFREG | 0600},
};
const OwnEntry* own_entry(fuse_ino_t number) {
  return number >= root && number <= config_tracker ? &own_entries[number - root] : nullptr;
}
constexpr const char* node_info_name = "info";
constexpr const char* node_json_name = "info.json";

constexpr std::size_t longest_name = 255;
constexpr std::int64_t always_now = 0;  ///< the mtime of what is made when it is read
constexpr double short_while = 1;       // seconds that the kernel believes a name
constexpr double listed_while = 10;     // of a listing: until who lists has looked at what is listed
constexpr double long_while = 3600;     // what a version is does not change
constexpr auto status_kept = milliseconds(2000);
constexpr auto status_limit = milliseconds(20'000);
constexpr auto upgrade_every = seconds(5);
constexpr auto look_every = milliseconds(50);
constexpr auto chosen_for = seconds(3);
constexpr std::size_t most_chosen = 1000;
constexpr auto fails_again = seconds(2);

int errno_of(const Error& error) {
  switch (error.status()) {
    case Status::not_found:
      return ENOENT;
    case Status::refused:
      return EACCES;
    case Status::usage:
      return EINVAL;
    default:
      return EIO;
  }
}

/// What libfuse had to say last: it is part of this program's own line.
std::string& said() {
  static std::string last;
  return last;
}
void keep_what_is_said(fuse_log_level /*level*/, const char* format, va_list arguments) {
  static std::mutex mutex;
  char text[512];
  std::vsnprintf(text, sizeof text, format, arguments);
  std::string_view line(text);
  if (line.starts_with("fuse: ")) line.remove_prefix(6);
  while (line.ends_with("\n")) line.remove_suffix(1);
  const std::lock_guard lock(mutex);
  said() = line;
}

/// What fusermount3 says, which has this process's stderr: it is part of this program's own line, too. While it lives.
class StderrKept {
 public:
  StderrKept() : file_(::memfd_create("stderr", MFD_CLOEXEC)), before_(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)) {
    if (file_ && before_) ::dup2(file_.get(), STDERR_FILENO);
  }
  ~StderrKept() {
    if (before_) ::dup2(before_.get(), STDERR_FILENO);
  }
  StderrKept(const StderrKept&) = delete;
  StderrKept& operator=(const StderrKept&) = delete;
  [[nodiscard]] std::string last_line() const {
    char text[512];
    const auto n = file_ ? ::pread(file_.get(), text, sizeof text, 0) : -1;
    std::string_view all(text, static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    while (all.ends_with("\n")) all.remove_suffix(1);
    return std::string(all.substr(all.rfind('\n') + 1));
  }

 private:
  Fd file_;
  Fd before_;
};

/// What the kernel can be shown: no link out of the mount, no name that it does not take.
bool is_shown(const FileEntry& entry) {
  if (last_part(entry.path).size() > longest_name) return false;
  if (entry.kind == Kind::outside) return false;
  return entry.kind != Kind::link || !link_destination(entry.path, entry.target).empty();
}

/// A file that is here.
struct LocalFile {
  Fd fd;
  FileStamp stamp;
};

struct OpenFile {
  OpenFile(fuse_ino_t of, std::string its_path) : number(of), path(std::move(its_path)) {}
  const fuse_ino_t number;
  const std::string path;
  /// Where it is read without the node; neither: it is read through it.
  struct Source {
    std::shared_ptr<const LocalFile> local{};
    std::shared_ptr<const std::string> text{};  ///< all of it
    bool is_proven = false;                     ///< the text is what its content id says
  };
  // On the loop:
  FileEntry entry;
  std::int64_t handle = 0;
  std::int64_t connection = 0;  ///< that the handle belongs to
  SingleFlight<int, bool> opening;
  Clock::time_point upgraded{};
  bool is_closed = false;
  bool no_descriptor = false;  ///< it is of no use: a disk that cannot be read, or no room for one more
  /// Reads that wait, and those whose time was up a moment ago: the kernel asks once more for what its read-ahead did
  /// not get, and that need not take as long again.
  struct Read {
    PendingPtr pending;
    off_t offset = 0;
    std::size_t size = 0;
  };
  std::vector<Read> reads;

  [[nodiscard]] Source source() {
    const std::lock_guard lock(mutex_);
    return source_;
  }
  void set_source(Source source) {
    const std::lock_guard lock(mutex_);
    source_ = std::move(source);
  }

 private:
  std::mutex mutex_;
  Source source_;
};
using OpenFilePtr = std::shared_ptr<OpenFile>;

struct OpenDirectory {
  explicit OpenDirectory(fuse_ino_t of) : number(of) {}
  const fuse_ino_t number;
  std::mutex mutex;
  DirectoryPages pages;
};
using OpenDirectoryPtr = std::shared_ptr<OpenDirectory>;

template <class T>
std::uint64_t to_handle(std::shared_ptr<T> object) {
  return reinterpret_cast<std::uint64_t>(new std::shared_ptr<T>(std::move(object)));
}
template <class T>
std::shared_ptr<T>& from_handle(std::uint64_t handle) {
  return *reinterpret_cast<std::shared_ptr<T>*>(handle);
}

/// The bytes, if the file is still what it was when they had been read; else nothing, and whether they cannot be read.
std::optional<std::string_view> read_local(const LocalFile& file, std::vector<char>& buffer, std::size_t size,
                                           off_t offset, bool* is_bad = nullptr) {
  if (buffer.size() < size) buffer.resize(size);
  std::size_t got = 0;
  while (got < size) {
    const auto n = ::pread(file.fd.get(), buffer.data() + got, size - got, offset + static_cast<off_t>(got));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && is_bad != nullptr) *is_bad = true;
    if (n < 0) return std::nullopt;  // others may have it
    if (n == 0) break;
    got += static_cast<std::size_t>(n);
  }
  struct stat now {};
  if (::fstat(file.fd.get(), &now) != 0 || stamp_of(now) != file.stamp) return std::nullopt;
  return std::string_view(buffer.data(), got);
}

std::string_view part_of(const std::string& text, std::size_t size, off_t offset) {
  return std::string_view(text).substr(std::min(static_cast<std::size_t>(offset), text.size()), size);
}

}  // namespace

struct FileSystem::Shared : PendingRequests {
  explicit Shared(Options given) : options(std::move(given)), loop(1) {}
  ~Shared() {
    if (session == nullptr) return;
    if (is_mounted) fuse_session_unmount(session);
    fuse_remove_signal_handlers(session);
    fuse_session_destroy(session);
  }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  Options options;
  fuse_session* session = nullptr;
  bool is_mounted = false;
  asio::io_context loop;
  std::unique_ptr<NodeClient> client;
  Log log;
  std::mutex mutex;  ///< of the inodes
  Inodes file_inodes{first_of_files};
  Inodes node_inodes{first_of_nodes};
  bool is_watching = false;  ///< on the loop
  struct KnownStatus {
    std::optional<StatusReply> reply;
    Clock::time_point when{};
  } status;
  SingleFlight<int, bool> asking_status;
  /// Versions that were chosen of paths when they were opened, and are others than were listed.
  std::map<std::string, std::pair<FileEntry, Clock::time_point>> chosen;

  static Shared& of(fuse_req_t request) {
    return *static_cast<Shared*>(static_cast<PendingRequests*>(fuse_req_userdata(request)));
  }
  [[nodiscard]] static bool is_mesh_file(fuse_ino_t number) { return number >= first_of_files; }
  [[nodiscard]] static bool is_of_node(fuse_ino_t number) {
    return number >= first_of_nodes && number < first_of_files;
  }
  /// Of what is in the tree's two growing parts.
  [[nodiscard]] std::optional<Inodes::Inode> find(fuse_ino_t number) {
    const std::lock_guard lock(mutex);
    const auto* found = (is_mesh_file(number) ? file_inodes : node_inodes).find(number);
    return found == nullptr ? std::nullopt : std::optional(*found);
  }
  /// Of a directory of the mesh its path; nothing where it is none.
  [[nodiscard]] std::optional<std::string> mesh_path(fuse_ino_t number) {
    if (number == files) return std::string();
    if (!is_mesh_file(number)) return std::nullopt;
    const auto found = find(number);
    return found ? std::optional(found->entry.path) : std::nullopt;
  }
  [[nodiscard]] static struct stat stat_of(std::uint64_t stat_number, const FileEntry& entry) {
    struct stat out {};
    out.st_ino = stat_number;
    const mode_t type = entry.kind == Kind::directory ? S_IFDIR : entry.kind == Kind::link ? S_IFLNK : S_IFREG;
    out.st_mode = type | (entry.kind == Kind::link ? 0777U : entry.mode & 0777U);
    out.st_nlink = 1;
    out.st_uid = ::geteuid();
    out.st_gid = ::getegid();
    out.st_blksize = 1 << 20;
    if (entry.kind == Kind::file) out.st_size = entry.size;
    if (entry.kind == Kind::link) out.st_size = std::ssize(entry.target);
    out.st_blocks = (out.st_size + 511) / 512;
    const auto second = std::int64_t{1'000'000'000};
    auto at = entry.mtime / second;
    if (entry.mtime == always_now) at = ::time(nullptr);
    auto rest = entry.mtime % second;
    if (rest < 0) --at, rest += second;
    out.st_mtim.tv_sec = at;
    out.st_mtim.tv_nsec = rest;
    out.st_atim = out.st_ctim = out.st_mtim;
    return out;
  }
  [[nodiscard]] static struct stat stat_of(const OwnEntry& entry) {
    struct stat out {};
    out.st_ino = entry.number;
    out.st_mode = entry.mode;
    out.st_nlink = 1;
    out.st_uid = ::geteuid();
    out.st_gid = ::getegid();
    out.st_mtim.tv_sec = out.st_atim.tv_sec = out.st_ctim.tv_sec = ::time(nullptr);
    return out;
  }
  [[nodiscard]] fuse_entry_param param_of(const OwnEntry& entry) const {
    fuse_entry_param out{};
    out.ino = entry.number;
    out.attr = stat_of(entry);
    out.attr_timeout = out.entry_timeout = short_while;
    return out;
  }
  /// The kernel is told of it by who calls this.
  [[nodiscard]] fuse_entry_param look_up(Inodes& inodes, const FileEntry& entry, double name_while) {
    fuse_entry_param out{};
    const std::lock_guard lock(mutex);
    out.ino = inodes.look_up(entry);
    out.attr = stat_of(inodes.find(out.ino)->stat_number, entry);
    out.attr_timeout = entry.kind == Kind::file && is_mesh_file(out.ino) ? long_while : name_while;
    out.entry_timeout = name_while;
    return out;
  }
  void forget(fuse_ino_t number, std::uint64_t lookups) {
    if (number < first_of_nodes) return;
    const std::lock_guard lock(mutex);
    (is_mesh_file(number) ? file_inodes : node_inodes).forget(number, lookups);
  }
  void reply_entry(const PendingPtr& to, Inodes& inodes, const FileEntry& entry) {
    if (!to->take()) return;
    const auto param = look_up(inodes, entry, short_while);
    if (fuse_reply_entry(to->request(), &param) != 0) forget(param.ino, 1);  // nobody has heard of it
  }

  /// Has `work` answer the request on the loop. What it throws is an answer, too: `path` names it in the log.
  using Work = std::function<Task<void>(PendingPtr)>;
  void answer_later(fuse_req_t request, std::string path, Work work) {
    auto pending = add(request, Clock::now() + options.timeout, std::move(path));
    post_to(loop, [this, pending, work = std::move(work)]() mutable {
      spawn(loop, run(pending, std::move(work)));
      if (!std::exchange(is_watching, true)) spawn(loop, watch());
    });
  }
  Task<void> run(PendingPtr pending, Work work) {
    int error = 0;
    std::string why;
    try {
      co_await work(pending);
    } catch (const Error& failed) {
      error = errno_of(failed);
      why = failed.what();
    } catch (const std::exception& failed) {
      error = EIO;
      why = failed.what();
    }
    if (error != 0 && pending->take()) {
      if (Clock::now() + look_every >= pending->until()) pending->note_timed_out();
      fuse_reply_err(pending->request(), error);
      if (error == EIO) say_failed(pending->about(), why);
    }
    remove(pending);
  }
  void say_failed(const std::string& path, const std::string& why) const {
    log(failure(about(path, why)).of("mount-failed", path));
  }
  /// While anything waits.
  Task<void> watch() {
    for (std::size_t left = 1; left > 0;) {
      const auto looked = look(Clock::now(), options.grace);
      for (const auto& path : looked.timed_out) say_failed(path, "did not come in time");
      left = looked.left;
      if (left > 0) co_await sleep_for(look_every);
    }
    is_watching = false;
  }

  Task<std::shared_ptr<const StatusReply>> mesh_status(Clock::time_point until) {
    if (!status.reply || Clock::now() - status.when > status_kept) {
      const std::function<Task<bool>()> ask = [this, until]() -> Task<bool> {
        StatusAsk question;
        question.mesh = true;
        StatusReply reply = co_await client->ask(question, until, status_limit);
        status.reply = std::move(reply);
        status.when = Clock::now();
        co_return true;
      };
      // Who asks beside somebody else may have more time than that one.
      bool is_there = false;
      while (!is_there) {
        std::optional<Error> trouble;
        try {
          is_there = co_await asking_status.run(0, ask);
        } catch (const Error& error) {
          trouble = error;
        }
        if (trouble && (Clock::now() >= until || trouble->status() != Status::unreachable)) throw Error(*trouble);
      }
    }
    co_return std::make_shared<const StatusReply>(*status.reply);
  }
  /// Null: there is none of that name.
  [[nodiscard]] static const NodeStatus* find(const StatusReply& reply, std::string_view name) {
    const auto it = std::ranges::find(reply.nodes, name, &NodeStatus::node);
    return it == reply.nodes.end() ? nullptr : &*it;
  }
  [[nodiscard]] static FileEntry node_entry(std::string path, bool is_directory) {
    FileEntry out;
    out.path = std::move(path);
    out.kind = is_directory ? Kind::directory : Kind::file;
    out.mode = is_directory ? 0755 : 0444;
    out.mtime = always_now;
    return out;
  }
  Task<std::string> page_of(fuse_ino_t number, Clock::time_point until);
  Task<void> look_up_file(PendingPtr to, std::string path);
  Task<void> look_up_node(PendingPtr to, std::string parent, std::string name);

  Task<void> open_file(PendingPtr to, FileEntry entry, fuse_ino_t number, fuse_file_info info);
  Task<bool> open_at_node(OpenFilePtr file, bool is_again, Clock::time_point until);
  Task<void> read_file(PendingPtr to, OpenFilePtr file, std::size_t size, off_t offset);
  Task<void> upgrade(OpenFilePtr file);
  static bool has_failed(OpenFile& file, off_t offset, std::size_t size);
  void take_opened(OpenFile& file, OpenTold told, std::int64_t handle, std::int64_t connection);
  void close_at_node(std::int64_t handle, std::int64_t connection);
  void close_file(OpenFile& file);
  void keep_nothing(fuse_ino_t number);

  Task<void> read_directory(PendingPtr to, OpenDirectoryPtr directory, std::size_t size, off_t offset, bool is_plus);
  Task<DirectoryPages::PagePtr> page_of(OpenDirectoryPtr directory, std::size_t number, Clock::time_point until);
  bool fill(const PendingPtr& to, fuse_ino_t number, const DirectoryPages::Page& page, std::size_t place,
            std::size_t size, bool is_plus);

  static void op_init(void* data, fuse_conn_info* connection);
  static void op_lookup(fuse_req_t request, fuse_ino_t parent, const char* name);
  static void op_forget(fuse_req_t request, fuse_ino_t number, std::uint64_t lookups);
  static void op_forget_multi(fuse_req_t request, std::size_t count, fuse_forget_data* forgets);
  static void op_getattr(fuse_req_t request, fuse_ino_t number, fuse_file_info* info);
  static void op_setattr(fuse_req_t request, fuse_ino_t number, struct stat* attr, int to_set, fuse_file_info* info);
  static void op_readlink(fuse_req_t request, fuse_ino_t number);
  static void op_open(fuse_req_t request, fuse_ino_t number, fuse_file_info* info);
  static void op_read(fuse_req_t request, fuse_ino_t number, std::size_t size, off_t offset, fuse_file_info* info);
  static void op_write(fuse_req_t request, fuse_ino_t number, const char* data, std::size_t size, off_t offset,
                       fuse_file_info* info);
  static void op_release(fuse_req_t request, fuse_ino_t number, fuse_file_info* info);
  static void op_opendir(fuse_req_t request, fuse_ino_t number, fuse_file_info* info);
  static void op_readdir(fuse_req_t request, fuse_ino_t number, std::size_t size, off_t offset, fuse_file_info* info);
  static void op_readdirplus(fuse_req_t request, fuse_ino_t number, std::size_t size, off_t offset,
                             fuse_file_info* info);
  static void op_releasedir(fuse_req_t request, fuse_ino_t number, fuse_file_info* info);
  static void op_statfs(fuse_req_t request, fuse_ino_t number);
  static void list(fuse_req_t request, std::size_t size, off_t offset, fuse_file_info* info, bool is_plus);
  static fuse_lowlevel_ops operations();
};

// Names

Task<void> FileSystem::Shared::look_up_file(PendingPtr to, std::string path) {
  // Which it is was decided for who opened it a moment ago.
  if (const auto it = chosen.find(path); it != chosen.end()) {
    const auto [entry, when] = it->second;
    if (Clock::now() - when < chosen_for) {
      reply_entry(to, file_inodes, entry);
      co_return;
    }
    chosen.erase(it);
  }
  EntryAsk question;
  question.path = std::move(path);
  const EntryTold told = co_await client->ask(question, to->until());
  if (told.entry.empty() || told.entry.front().path != question.path || !is_shown(told.entry.front()))
    to->fail(ENOENT);
  else
    reply_entry(to, file_inodes, told.entry.front());
}

/// `parent`: of node/ empty, of a node's directory its name.
Task<void> FileSystem::Shared::look_up_node(PendingPtr to, std::string parent, std::string name) {
  const auto known = co_await mesh_status(to->until());
  const bool is_there = parent.empty()
                            ? find(*known, name) != nullptr
                            : find(*known, parent) != nullptr && (name == node_info_name || name == node_json_name);
  if (!is_there)
    to->fail(ENOENT);
  else
    reply_entry(to, node_inodes, node_entry(parent.empty() ? name : parent + "/" + name, parent.empty()));
}

void FileSystem::Shared::op_lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
  auto& self = of(request);
  if (const auto* own = own_entry(parent); own != nullptr && parent != files && parent != node) {
    for (const auto& entry : own_entries)
      if (entry.parent == parent && entry.number != root && std::strcmp(entry.name, name) == 0) {
        const auto param = self.param_of(entry);
        fuse_reply_entry(request, &param);
        return;
      }
    fuse_reply_err(request, ENOENT);
    return;
  }
  if (parent == node || is_of_node(parent)) {
    const auto directory = parent == node ? std::optional<Inodes::Inode>() : self.find(parent);
    auto above = directory ? directory->entry.path : std::string();
    if (parent != node && !directory) return static_cast<void>(fuse_reply_err(request, ESTALE));
    self.answer_later(request, "node/" + std::string(name), [&self, above, name = std::string(name)](PendingPtr to) {
      return self.look_up_node(std::move(to), above, name);
    });
    return;
  }
  const auto directory = self.mesh_path(parent);
  if (!directory) return static_cast<void>(fuse_reply_err(request, ESTALE));
  auto path = directory->empty() ? std::string(name) : *directory + "/" + name;
  if (!is_mesh_path(path)) return static_cast<void>(fuse_reply_err(request, ENOENT));
  self.answer_later(request, path, [&self, path](PendingPtr to) { return self.look_up_file(std::move(to), path); });
}

void FileSystem::Shared::op_forget(fuse_req_t request, fuse_ino_t number, std::uint64_t lookups) {
  of(request).forget(number, lookups);
  fuse_reply_none(request);
}

void FileSystem::Shared::op_forget_multi(fuse_req_t request, std::size_t count, fuse_forget_data* forgets) {
  for (std::size_t i = 0; i < count; ++i) of(request).forget(forgets[i].ino, forgets[i].nlookup);
  fuse_reply_none(request);
}

void FileSystem::Shared::op_getattr(fuse_req_t request, fuse_ino_t number, fuse_file_info* /*info*/) {
  auto& self = of(request);
  if (const auto* own = own_entry(number)) {
    const auto attr = stat_of(*own);
    fuse_reply_attr(request, &attr, short_while);
    return;
  }
  const auto found = self.find(number);
  if (!found) return static_cast<void>(fuse_reply_err(request, ESTALE));
  const auto attr = stat_of(found->stat_number, found->entry);
  fuse_reply_attr(request, &attr, found->entry.kind == Kind::file && is_mesh_file(number) ? long_while : short_while);
}

/// To write to config/tracker may begin with making it empty; nothing else changes.
void FileSystem::Shared::op_setattr(fuse_req_t request, fuse_ino_t number, struct stat* /*attr*/, int to_set,
                                    fuse_file_info* info) {
  constexpr int harmless = FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_CTIME |
                           FUSE_SET_ATTR_MTIME_NOW | FUSE_SET_ATTR_ATIME_NOW;
  if (number != config_tracker || (to_set & ~harmless) != 0) return static_cast<void>(fuse_reply_err(request, EROFS));
  op_getattr(request, number, info);
}

void FileSystem::Shared::op_readlink(fuse_req_t request, fuse_ino_t number) {
  const auto found = is_mesh_file(number) ? of(request).find(number) : std::nullopt;
  if (!found || found->entry.kind != Kind::link)
    fuse_reply_err(request, EINVAL);
  else
    fuse_reply_readlink(request, found->entry.target.c_str());
}

// Files

Task<std::string> FileSystem::Shared::page_of(fuse_ino_t number, Clock::time_point until) {
  if (is_of_node(number)) {
    const auto found = find(number);
    if (!found) throw Error(Status::not_found, "no such node");
    const auto known = co_await mesh_status(until);
    const auto* status_of = find(*known, parent_path(found->entry.path));
    if (status_of == nullptr) throw Error(Status::not_found, "no such node");
    co_return last_part(found->entry.path) == node_json_name ? node_info_json(*status_of) : node_info(*status_of);
  }
  if (number == transfers_text || number == transfers_as_json) {
    const StatusAsk question;
    const StatusReply here = co_await client->ask(question, until);
    co_return number == transfers_text ? transfers(here) : transfers_json(here);
  }
  if (number == cluster_nodes_text || number == cluster_nodes_as_json) {
    const auto known = co_await mesh_status(until);
    co_return number == cluster_nodes_text ? cluster_nodes(*known) : cluster_nodes_json(*known);
  }
  const ClusterAsk question;
  const ClusterTold told = co_await client->ask(question, until);
  if (number == config_tracker) co_return trackers(told);
  const auto known = co_await mesh_status(until);
  co_return number == cluster_info_text ? cluster_info(told, *known) : cluster_info_json(told, *known);
}

void FileSystem::Shared::op_open(fuse_req_t request, fuse_ino_t number, fuse_file_info* info) {
  auto& self = of(request);
  const bool is_read = (info->flags & (O_ACCMODE | O_TRUNC)) == O_RDONLY;
  if (!is_read && number != config_tracker) return static_cast<void>(fuse_reply_err(request, EROFS));
  if ((info->flags & O_APPEND) != 0 && !is_read) return static_cast<void>(fuse_reply_err(request, EINVAL));
  if (!is_mesh_file(number)) {
    const auto* own = own_entry(number);
    auto file = std::make_shared<OpenFile>(number, own != nullptr ? own->name : "node");
    const auto given = *info;
    auto work = [&self, file, given](PendingPtr to) -> Task<void> {
      auto opened = given;
      opened.direct_io = 1;
      // Who writes alone needs no node for that yet.
      const bool is_for_writing = (given.flags & O_ACCMODE) == O_WRONLY;
      std::string text;
      if (!is_for_writing) text = co_await self.page_of(file->number, to->until());
      file->set_source({{}, std::make_shared<const std::string>(std::move(text))});
      if (!to->take()) co_return;
      opened.fh = to_handle(file);
      if (fuse_reply_open(to->request(), &opened) != 0) delete &from_handle<OpenFile>(opened.fh);
    };
    self.answer_later(request, file->path, std::move(work));
    return;
  }
  const auto found = self.find(number);
  if (!found) return static_cast<void>(fuse_reply_err(request, ESTALE));
  self.answer_later(request, found->entry.path, [&self, entry = found->entry, number, given = *info](PendingPtr to) {
    return self.open_file(std::move(to), entry, number, given);
  });
}

void FileSystem::Shared::take_opened(OpenFile& file, OpenTold told, std::int64_t handle, std::int64_t connection) {
  const auto id = file.entry.id;
  file.entry = told.entry;
  if (!file.entry.id.is_set()) file.entry.id = id;
  file.handle = handle;
  file.connection = connection;
  OpenFile::Source source;
  if (told.is_all) source.text = std::make_shared<const std::string>(std::move(told.data));
  source.is_proven = told.entry.id.is_set();
  file.set_source(source);
  if (!told.has_descriptor) return;
  auto local = std::make_shared<LocalFile>();
  local->fd = client->take_descriptor(handle, connection);
  struct stat now {};
  if (!local->fd || ::fstat(local->fd.get(), &now) != 0) {
    file.no_descriptor = true;
    file.connection = 0;  // it is asked for again
    return;
  }
  local->stamp = stamp_of(now);
  // As it was when it was found to be that version.
  source.local = std::move(local);
  if (source.local->stamp.size == told.entry.size && source.local->stamp.ctime == told.ctime)
    file.set_source(std::move(source));
  else
    file.connection = 0;
}

/// Throws Error. False: the connection was lost, or what is here has changed just now.
Task<bool> FileSystem::Shared::open_at_node(OpenFilePtr file, bool is_again, Clock::time_point until) {
  OpenAsk question;
  question.entry = file->entry;
  question.is_again = is_again;
  question.no_descriptor = file->no_descriptor;
  question.prefetch = options.prefetch;
  question.patience = static_cast<int>(options.timeout.count());
  question.handle = client->new_handle();
  const auto handle = question.handle;
  std::optional<OpenTold> told;
  std::optional<Error> trouble;
  try {
    told = co_await client->ask(question, until);
  } catch (const Error& error) {
    trouble = error;
  }
  const auto connection = client->connection();
  if (told && !told->is_open) {
    if (chosen.size() >= most_chosen) chosen.clear();
    if (told->entry.path == file->path && is_shown(told->entry)) chosen[file->path] = {told->entry, Clock::now()};
    trouble = Error(Status::not_found, printable(file->path) + ": is another version by now");
  }
  if (trouble) {
    close_at_node(handle, connection);  // the node may be about to open it
    throw Error(*trouble);
  }
  close_at_node(file->handle, file->connection);
  take_opened(*file, std::move(*told), handle, connection);
  if (!file->source().local) client->drop(handle);
  if (file->is_closed) close_at_node(handle, connection);
  co_return file->connection != 0;
}

Task<void> FileSystem::Shared::open_file(PendingPtr to, FileEntry entry, fuse_ino_t number, fuse_file_info info) {
  auto file = std::make_shared<OpenFile>(number, entry.path);
  file->entry = entry;
  if (entry.kind != Kind::file) throw Error(Status::usage, printable(entry.path) + ": is no file");
  std::optional<Error> trouble;
  try {
    bool is_open = false;
    while (!is_open && !to->is_answered()) is_open = co_await open_at_node(file, false, to->until());
  } catch (const Error& error) {
    trouble = error;
  }
  // The path is looked up again then: by what it stands for by now, or by that it is gone (open(2), ESTALE within).
  if (trouble && trouble->status() == Status::not_found) {
    to->fail(ESTALE);
    co_return;
  }
  if (trouble) throw Error(*trouble);
  if (!to->take()) {
    close_file(*file);
    co_return;
  }
  // Pages of it that the kernel has from before are right where they were read of the same: of a content, as the node
  // proved it, or of a file that is here and is as it was then.
  const auto source = file->source();
  const bool is_sure = source.local || source.is_proven;
  auto of = is_sure && file->entry.id.is_set() ? file->entry.id.hex() : std::string();
  if (source.local) of += " " + std::to_string(source.local->stamp.ctime);
  {
    const std::lock_guard lock(mutex);
    file_inodes.learn(number, file->entry.id);
    info.keep_cache = file_inodes.keep(number, of) ? 1 : 0;
  }
  info.fh = to_handle(file);
  if (fuse_reply_open(to->request(), &info) == 0) co_return;
  delete &from_handle<OpenFile>(info.fh);
  close_file(*file);
  keep_nothing(number);
}

void FileSystem::Shared::close_at_node(std::int64_t handle, std::int64_t connection) {
  if (handle == 0) return;
  CloseNote note;
  note.handle = handle;
  client->note(note, connection);
  client->drop(handle);
}

void FileSystem::Shared::close_file(OpenFile& file) {
  file.is_closed = true;
  close_at_node(file.handle, file.connection);
}

void FileSystem::Shared::keep_nothing(fuse_ino_t number) {
  const std::lock_guard lock(mutex);
  file_inodes.keep_nothing(number);
}

void FileSystem::Shared::op_read(fuse_req_t request, fuse_ino_t number, std::size_t size, off_t offset,
                                 fuse_file_info* info) {
  auto& self = of(request);
  const auto& file = from_handle<OpenFile>(info->fh);
  const auto source = file->source();
  if (source.text) {
    if (!source.is_proven && is_mesh_file(number)) self.keep_nothing(number);
    const auto bytes = part_of(*source.text, size, offset);
    fuse_reply_buf(request, bytes.data(), bytes.size());
    return;
  }
  if (source.local) {
    thread_local std::vector<char> buffer;
    if (const auto bytes = read_local(*source.local, buffer, size, offset)) {
      fuse_reply_buf(request, bytes->data(), bytes->size());
      return;
    }
  }
  self.answer_later(request, file->path, [&self, file, size, offset](PendingPtr to) {
    return self.read_file(std::move(to), file, size, offset);
  });
}

/// Whether the time of a read of some of this was up a moment ago.
bool FileSystem::Shared::has_failed(OpenFile& file, off_t offset, std::size_t size) {
  std::erase_if(file.reads, [](const OpenFile::Read& read) {
    return read.pending->is_answered() &&
           (!read.pending->is_timed_out() || Clock::now() - read.pending->until() > fails_again);
  });
  return std::ranges::any_of(file.reads, [&](const OpenFile::Read& read) {
    return read.pending->is_timed_out() && offset < read.offset + static_cast<off_t>(read.size) &&
           read.offset < offset + static_cast<off_t>(size);
  });
}

Task<void> FileSystem::Shared::read_file(PendingPtr to, OpenFilePtr file, std::size_t size, off_t offset) {
  const auto left = file->entry.size - offset;
  if (left <= 0) {
    if (to->take()) fuse_reply_buf(to->request(), nullptr, 0);
    co_return;
  }
  size = std::min(size, static_cast<std::size_t>(left));
  if (has_failed(*file, offset, size)) throw Error(Status::unreachable, "did not come in time, a moment ago");
  file->reads.push_back({to, offset, size});
  std::string bytes;
  bool is_proven = true;
  auto pause = milliseconds(10);
  while (bytes.size() < size && !to->is_answered()) {
    const auto source = file->source();
    if (source.text) {
      is_proven = source.is_proven;
      bytes = part_of(*source.text, size, offset);
      break;
    }
    if (source.local) {
      // It has changed, or is here since a moment ago.
      std::vector<char> buffer;
      const auto all = read_local(*source.local, buffer, size, offset, &file->no_descriptor);
      if (all && all->size() == size) {
        bytes = *all;
        is_proven = true;
        break;
      }
      file->set_source({});
      file->connection = 0;
    }
    if (file->connection == 0 || !client->is_connected(file->connection)) {
      const std::function<Task<bool>()> open = [this, file, until = to->until()] {
        return open_at_node(file, true, until);
      };
      std::optional<Error> trouble;
      try {
        static_cast<void>(co_await file->opening.run(0, open));
      } catch (const Error& error) {
        trouble = error;
      }
      // Whoever has it may be coming back; and who opened it for this one may have had less time.
      const bool may_come = trouble && (trouble->status() == Status::not_found ||
                                        (trouble->status() == Status::unreachable && Clock::now() < to->until()));
      if (trouble && !may_come) throw Error(*trouble);
      if (trouble) co_await sleep_for(milliseconds(300));
      continue;
    }
    ReadAsk question;
    question.handle = file->handle;
    question.offset = offset + std::ssize(bytes);
    question.length = static_cast<std::int64_t>(size - bytes.size());
    std::optional<ReadTold> told;
    std::optional<Error> trouble;
    try {
      told = co_await client->ask_on(question, to->until(), file->connection);
    } catch (const Error& error) {
      trouble = error;
    }
    const bool is_final = trouble && trouble->status() != Status::unreachable &&
                          trouble->status() != Status::not_found && trouble->status() != Status::interrupted;
    if (is_final) throw Error(*trouble);
    if (!told) {
      // The node is gone, or has closed it, or nobody it knows brings this: it is opened anew, by whoever has it now.
      if (file->handle == question.handle) {
        close_at_node(file->handle, file->connection);
        file->connection = 0;
      }
      co_await sleep_for(pause);
      pause = std::min(pause * 2, milliseconds(1000));
      continue;
    }
    if (told->data.empty() || std::ssize(told->data) > question.length)
      throw Error(Status::failed, printable(file->path) + ": the node sent no sensible answer");
    if (told->id.is_set() && file->entry.id.is_set() && told->id != file->entry.id)
      throw Error(Status::failed, printable(file->path) + ": the node sent another version");
    bytes += told->data;
    if (told->id.is_set()) file->entry.id = told->id;
    is_proven = is_proven && told->is_proven;
    {
      const std::lock_guard lock(mutex);
      file_inodes.learn(file->number, told->id);
    }
    if (told->is_here && !file->no_descriptor && Clock::now() - file->upgraded > upgrade_every) {
      file->upgraded = Clock::now();
      spawn(loop, upgrade(file));
    }
  }
  if (!is_proven) keep_nothing(file->number);
  if (to->take()) fuse_reply_buf(to->request(), bytes.data(), bytes.size());
}

/// It is here by now: from its descriptor it is read without the node.
Task<void> FileSystem::Shared::upgrade(OpenFilePtr file) {
  try {
    const std::function<Task<bool>()> open = [this, file] {
      return open_at_node(file, true, Clock::now() + seconds(10));
    };
    static_cast<void>(co_await file->opening.run(0, open));
  } catch (const std::exception&) {
    // It is read as before.
  }
}

/// What is written to config/tracker are this node's trackers from then on.
void FileSystem::Shared::op_write(fuse_req_t request, fuse_ino_t number, const char* data, std::size_t size,
                                  off_t offset, fuse_file_info* /*info*/) {
  constexpr std::size_t most = 64 * 1024;
  auto& self = of(request);
  if (number != config_tracker) return static_cast<void>(fuse_reply_err(request, EROFS));
  if (offset != 0 || size > most) return static_cast<void>(fuse_reply_err(request, EINVAL));
  auto work = [&self, text = std::string(data, size)](PendingPtr to) -> Task<void> {
    SetTrackers order;
    std::optional<Error> trouble;
    try {
      order.trackers = read_trackers(text);
      static_cast<void>(co_await self.client->ask(order, to->until()));
    } catch (const Error& error) {
      trouble = error;
    }
    if (trouble) self.log(warning("config/tracker: " + std::string(trouble->what())).of("trackers-refused"));
    if (trouble) throw Error(*trouble);
    if (to->take()) fuse_reply_write(to->request(), text.size());
  };
  self.answer_later(request, "config/tracker", std::move(work));
}

void FileSystem::Shared::op_release(fuse_req_t request, fuse_ino_t /*number*/, fuse_file_info* info) {
  auto& self = of(request);
  auto* handle = &from_handle<OpenFile>(info->fh);
  post_to(self.loop, [&self, file = *handle] {
    if (is_mesh_file(file->number)) self.close_file(*file);
  });
  delete handle;
  fuse_reply_err(request, 0);
}

// Directories

void FileSystem::Shared::op_opendir(fuse_req_t request, fuse_ino_t number, fuse_file_info* info) {
  info->fh = to_handle(std::make_shared<OpenDirectory>(number));
  if (fuse_reply_open(request, info) != 0) delete &from_handle<OpenDirectory>(info->fh);
}

void FileSystem::Shared::op_releasedir(fuse_req_t request, fuse_ino_t /*number*/, fuse_file_info* info) {
  delete &from_handle<OpenDirectory>(info->fh);
  fuse_reply_err(request, 0);
}

Task<DirectoryPages::PagePtr> FileSystem::Shared::page_of(OpenDirectoryPtr directory, std::size_t number,
                                                          Clock::time_point until) {
  std::optional<std::string> after;
  {
    const std::lock_guard lock(directory->mutex);
    if (auto page = directory->pages.find(number)) co_return page;
    after = directory->pages.after(number);
  }
  auto page = std::make_shared<DirectoryPages::Page>();
  page->number = number;
  std::string next;
  if (after && directory->number == node) {
    const auto known = co_await mesh_status(until);
    for (const auto& one : known->nodes)
      if (is_mesh_path(one.node) && one.node.find('/') == std::string::npos && one.node.size() <= longest_name)
        page->entries.push_back(node_entry(one.node, true));
  } else if (after && is_of_node(directory->number)) {
    const auto found = find(directory->number);
    if (!found) throw Error(Status::not_found, "no such node");
    for (const auto* name : {node_info_name, node_json_name})
      page->entries.push_back(node_entry(found->entry.path + "/" + name, false));
  } else if (after) {
    const auto path = mesh_path(directory->number);
    if (!path) throw Error(Status::not_found, "is there no more");
    List question;
    question.pattern = *path;
    question.after = *after;
    question.local_if_alone = true;
    Listed listed = co_await client->ask(question, until);
    for (auto& item : listed.items)
      if (is_shown(item.entry) && parent_path(item.entry.path) == *path && is_mesh_path(item.entry.path))
        page->entries.push_back(std::move(item.entry));
    next = std::move(listed.next);
    if (next <= *after) next.clear();  // else it would go on for ever
    page->is_last = next.empty();
  }
  const std::lock_guard lock(directory->mutex);
  directory->pages.put(page, std::move(next));
  co_return page;
}

/// As much of the page as there is room for is the answer. False, and nothing is answered, where nothing is left of it
/// and another page comes after it.
bool FileSystem::Shared::fill(const PendingPtr& to, fuse_ino_t number, const DirectoryPages::Page& page,
                              std::size_t place, std::size_t size, bool is_plus) {
  const auto dots = page.number == 0 ? DirectoryPages::dots : 0;
  const auto all = page.entries.size() + dots;
  if (place >= all && !page.is_last) return false;
  if (!to->take()) return true;
  std::string out;
  std::vector<fuse_ino_t> told;
  auto& inodes = number == node || is_of_node(number) ? node_inodes : file_inodes;
  for (; place < all; ++place) {
    const bool is_dot = place < dots;
    const auto* entry = is_dot ? nullptr : &page.entries[place - dots];
    const std::string name(is_dot ? (place == 0 ? "." : "..") : last_part(entry->path));
    const auto next = place + 1 < all || page.is_last ? DirectoryPages::Position{page.number, place + 1}
                                                      : DirectoryPages::Position{page.number + 1, 0};
    const auto needed = is_plus ? fuse_add_direntry_plus(to->request(), nullptr, 0, name.c_str(), nullptr, 0)
                                : fuse_add_direntry(to->request(), nullptr, 0, name.c_str(), nullptr, 0);
    if (out.size() + needed > size) break;
    const auto at = out.size();
    out.resize(at + needed);
    fuse_entry_param param{};
    if (is_dot) {
      param.attr.st_mode = S_IFDIR;
      param.attr.st_ino = root;
    } else if (is_plus) {
      param = look_up(inodes, *entry, listed_while);
      told.push_back(param.ino);
    } else {
      param.attr = stat_of(stat_number(*entry), *entry);
    }
    const auto offset = DirectoryPages::offset(next);
    if (is_plus)
      fuse_add_direntry_plus(to->request(), out.data() + at, needed, name.c_str(), &param, offset);
    else
      fuse_add_direntry(to->request(), out.data() + at, needed, name.c_str(), &param.attr, offset);
  }
  if (fuse_reply_buf(to->request(), out.data(), out.size()) != 0)
    for (const auto one : told) forget(one, 1);
  return true;
}

Task<void> FileSystem::Shared::read_directory(PendingPtr to, OpenDirectoryPtr directory, std::size_t size, off_t offset,
                                              bool is_plus) {
  auto at = DirectoryPages::position(offset);
  while (!to->is_answered()) {
    const auto page = co_await page_of(directory, at.page, to->until());
    if (fill(to, directory->number, *page, at.place, size, is_plus)) co_return;
    at = {at.page + 1, 0};
  }
}

void FileSystem::Shared::list(fuse_req_t request, std::size_t size, off_t offset, fuse_file_info* info, bool is_plus) {
  auto& self = of(request);
  const auto& directory = from_handle<OpenDirectory>(info->fh);
  const auto number = directory->number;
  if (own_entry(number) != nullptr && number != files && number != node) {
    std::string out;
    std::size_t place = 0;
    const auto add = [&](const char* name, const OwnEntry& entry) {
      if (static_cast<off_t>(place++) < offset) return true;
      const auto param = self.param_of(entry);
      const auto room = size - out.size();
      const auto next = static_cast<off_t>(place);
      std::string one(512, '\0');
      const auto needed = is_plus ? fuse_add_direntry_plus(request, one.data(), one.size(), name, &param, next)
                                  : fuse_add_direntry(request, one.data(), one.size(), name, &param.attr, next);
      if (needed > room) return false;
      out.append(one, 0, needed);
      return true;
    };
    bool goes_on = add(".", *own_entry(number)) && add("..", *own_entry(root));
    for (const auto& entry : own_entries)
      if (goes_on && entry.parent == number && entry.number != root) goes_on = add(entry.name, entry);
    fuse_reply_buf(request, out.data(), out.size());
    return;
  }
  const auto at = DirectoryPages::position(offset);
  DirectoryPages::PagePtr page;
  {
    const std::lock_guard lock(directory->mutex);
    if (offset == 0) directory->pages.begin_anew();
    page = directory->pages.find(at.page);
  }
  if (page) {
    // Most answers are of a page that is here.
    const auto now = std::make_shared<Pending>(request, Clock::now(), std::string());
    if (self.fill(now, number, *page, at.place, size, is_plus)) return;
  }
  auto path = self.mesh_path(number).value_or("node");
  self.answer_later(request, std::move(path), [&self, directory, size, offset, is_plus](PendingPtr to) {
    return self.read_directory(std::move(to), directory, size, offset, is_plus);
  });
}

void FileSystem::Shared::op_readdir(fuse_req_t request, fuse_ino_t /*number*/, std::size_t size, off_t offset,
                                    fuse_file_info* info) {
  list(request, size, offset, info, false);
}
void FileSystem::Shared::op_readdirplus(fuse_req_t request, fuse_ino_t /*number*/, std::size_t size, off_t offset,
                                        fuse_file_info* info) {
  list(request, size, offset, info, true);
}

// The mount

void FileSystem::Shared::op_statfs(fuse_req_t request, fuse_ino_t /*number*/) {
  struct statvfs out {};
  out.f_bsize = out.f_frsize = 4096;
  out.f_namemax = longest_name;
  fuse_reply_statfs(request, &out);
}

void FileSystem::Shared::op_init(void* /*data*/, fuse_conn_info* connection) {
  // Copies beat splices, and all attributes come with the names (docs/decisions/0031). Pages belong to a version.
  connection->want &= ~static_cast<unsigned>(FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_SPLICE_READ |
                                             FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_AUTO_INVAL_DATA);
  connection->want |= connection->capable & (FUSE_CAP_READDIRPLUS | FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS |
                                             FUSE_CAP_EXPLICIT_INVAL_DATA);
  connection->max_readahead = grain_bytes;  // further ahead the node reads, which knows who reads on
  // What waits for a mesh that is gone must not hold up what is here.
  connection->max_background = 1024;
  connection->congestion_threshold = 768;
}

fuse_lowlevel_ops FileSystem::Shared::operations() {
  const auto read_only = [](fuse_req_t request) { fuse_reply_err(request, EROFS); };
  static const auto deny = read_only;
  fuse_lowlevel_ops out{};
  out.init = op_init;
  out.lookup = op_lookup;
  out.forget = op_forget;
  out.forget_multi = op_forget_multi;
  out.getattr = op_getattr;
  out.setattr = op_setattr;
  out.readlink = op_readlink;
  out.open = op_open;
  out.read = op_read;
  out.write = op_write;
  out.release = op_release;
  out.opendir = op_opendir;
  out.readdir = op_readdir;
  out.readdirplus = op_readdirplus;
  out.releasedir = op_releasedir;
  out.statfs = op_statfs;
  out.fsync = [](fuse_req_t request, fuse_ino_t, int, fuse_file_info*) { fuse_reply_err(request, 0); };
  out.mknod = [](fuse_req_t request, fuse_ino_t, const char*, mode_t, dev_t) { deny(request); };
  out.mkdir = [](fuse_req_t request, fuse_ino_t, const char*, mode_t) { deny(request); };
  out.unlink = [](fuse_req_t request, fuse_ino_t, const char*) { deny(request); };
  out.rmdir = [](fuse_req_t request, fuse_ino_t, const char*) { deny(request); };
  out.symlink = [](fuse_req_t request, const char*, fuse_ino_t, const char*) { deny(request); };
  out.rename = [](fuse_req_t request, fuse_ino_t, const char*, fuse_ino_t, const char*, unsigned) { deny(request); };
  out.link = [](fuse_req_t request, fuse_ino_t, fuse_ino_t, const char*) { deny(request); };
  out.create = [](fuse_req_t request, fuse_ino_t, const char*, mode_t, fuse_file_info*) { deny(request); };
  return out;
}

FileSystem::FileSystem(Options options, const std::string& directory)
    : shared_(std::make_unique<Shared>(std::move(options))) {
  auto& shared = *shared_;
  fuse_set_log_func(&keep_what_is_said);
  std::vector<std::string> words{"meshmount", "-o", shared.options.mount_options};
  std::vector<char*> pointers;
  for (auto& word : words) pointers.push_back(word.data());
  fuse_args args = FUSE_ARGS_INIT(static_cast<int>(pointers.size()), pointers.data());
  const auto operations = Shared::operations();
  shared.session = fuse_session_new(&args, &operations, sizeof operations, static_cast<PendingRequests*>(&shared));
  fuse_opt_free_args(&args);
  if (shared.session == nullptr)
    throw Error(Status::usage, "-o " + printable(shared.options.mount_options) + ": is refused");
  // Who is ended from here on unmounts first.
  fuse_set_signal_handlers(shared.session);
  const StderrKept kept;
  if (fuse_session_mount(shared.session, directory.c_str()) != 0) {
    const auto by_helper = kept.last_line();
    const auto& why = by_helper.empty() ? said() : by_helper;
    throw Error(Status::failed, about(directory, "cannot be mounted on" + (why.empty() ? "" : ": " + why)));
  }
  shared.is_mounted = true;
}

FileSystem::~FileSystem() = default;

void FileSystem::go_to_background() {
  if (fuse_daemonize(0) != 0) throw Error(Status::failed, "cannot go to the background");
}

bool FileSystem::serve(NodeClient::Connect connect, Log log) {
  auto& shared = *shared_;
  shared.log = std::move(log);
  shared.client = std::make_unique<NodeClient>(shared.loop, std::move(connect), shared.log);
  // Signals are for this thread.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  auto guard = asio::make_work_guard(shared.loop);
  std::thread loop([&shared] { shared.loop.run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  auto* how = fuse_loop_cfg_create();
  fuse_loop_cfg_set_clone_fd(how, 1);
  fuse_loop_cfg_set_max_threads(how, 16);
  const int ended = fuse_session_loop_mt(shared.session, how);
  fuse_loop_cfg_destroy(how);
  // All that waits is answered while the mount is there to hear it.
  post_to(shared.loop, [&shared] {
    shared.fail_all(ENOTCONN);
    shared.client->close();
    shared.loop.stop();
  });
  loop.join();
  // Positive: by a signal.
  if (ended < 0) shared.log(failure("ends: " + std::generic_category().message(-ended)).of("mount-ended"));
  return ended >= 0;
}

}  // namespace mesh
