#include "mount/file_system.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <thread>
#include <vector>

#include "core/format.h"
#include "mount/file_system_shared.h"
#include "wire/messages/ranges.h"

namespace mesh {

using namespace tree;
using std::chrono::milliseconds;

namespace {

constexpr auto status_kept = milliseconds(2000);
constexpr auto status_limit = milliseconds(20'000);
constexpr auto look_every = milliseconds(50);

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

/// Nothing is changed in a mount.
void deny(fuse_req_t request) { fuse_reply_err(request, EROFS); }

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

}  // namespace

PendingPtr FileSystem::Shared::wait_for(fuse_req_t request, Clock::time_point until, std::string about) {
  auto pending = add(request, until, std::move(about));
  post_to(loop, [this] {
    if (!std::exchange(is_watching, true)) spawn(loop, watch());
  });
  return pending;
}

void FileSystem::Shared::answer_later(fuse_req_t request, std::string path, Work work) {
  const auto pending = wait_for(request, Clock::now() + options.timeout, std::move(path));
  post_to(loop, [this, pending, work = std::move(work)]() mutable { spawn(loop, run(pending, std::move(work))); });
}

Task<void> FileSystem::Shared::run(PendingPtr pending, Work work) {
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
    if (error == EIO && !why.empty()) say_failed(pending->about(), why);
  }
  remove(pending);
}

void FileSystem::Shared::say_failed(const std::string& path, const std::string& why) const {
  log(failure(about(path, why)).of("mount-failed", path));
}

Task<void> FileSystem::Shared::watch() {
  for (std::size_t left = 1; left > 0;) {
    const auto looked = look(Clock::now(), options.grace);
    for (const auto& path : looked.timed_out) say_failed(path, "did not come in time");
    left = looked.left;
    if (left > 0) co_await sleep_for(look_every);
  }
  is_watching = false;
}

Task<std::shared_ptr<const StatusReply>> FileSystem::Shared::mesh_status(Clock::time_point until) {
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

void FileSystem::Shared::op_statfs(fuse_req_t request, fuse_ino_t /*number*/) {
  struct statvfs out {};
  out.f_bsize = out.f_frsize = 4096;
  out.f_namemax = longest_name;
  fuse_reply_statfs(request, &out);
}

void FileSystem::Shared::op_init(void* /*data*/, fuse_conn_info* connection) {
  // Copies beat splices, and all attributes come with the names (docs/decisions/0031). Pages belong to a version.
  connection->want &= ~static_cast<unsigned>(FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_SPLICE_READ |
                                             FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_AUTO_INVAL_DATA |
                                             // A volume is never made empty, nor do its pages go.
                                             FUSE_CAP_ATOMIC_O_TRUNC |
                                             // The kernel has a bounded number of requests that nobody waits for: were
                                             // all of them a volume's, what it lies on could not be read ahead.
                                             FUSE_CAP_ASYNC_DIO);
  connection->want |= connection->capable & (FUSE_CAP_READDIRPLUS | FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS |
                                             FUSE_CAP_EXPLICIT_INVAL_DATA);
  connection->max_readahead = grain_bytes;  // further ahead the node reads, which knows who reads on
  // What waits for a mesh that is gone must not hold up what is here.
  connection->max_background = 1024;
  connection->congestion_threshold = 768;
}

fuse_lowlevel_ops FileSystem::Shared::operations() {
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
  out.fsync = op_fsync;
  out.fallocate = op_fallocate;
  out.lseek = op_lseek;
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
    : shared_(std::make_unique<Shared>(std::move(options), directory)) {
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

int FileSystem::Shared::serve_until_ended() const {
  auto* how = fuse_loop_cfg_create();
  fuse_loop_cfg_set_clone_fd(how, 1);
  fuse_loop_cfg_set_max_threads(how, 16);
  const int ended = fuse_session_loop_mt(session, how);
  fuse_loop_cfg_destroy(how);
  return ended;
}

bool FileSystem::serve(NodeClient::Connect connect, Log log) {
  auto& shared = *shared_;
  shared.log = std::move(log);
  shared.client = std::make_unique<NodeClient>(std::move(connect), shared.log);
  // Signals are for this thread.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  shared.volumes = std::make_unique<VolumeFiles>(VolumeFiles::Options{shared.mounted_on, shared.options.meshvol});
  auto guard = asio::make_work_guard(shared.loop);
  std::thread loop([&shared] { shared.loop.run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  const int ended = shared.serve_until_ended();
  std::vector<std::string> left;
  if (ended > 0) {
    // By a signal. Whoever shows a volume may have to read in this mount to bring it to its end; another signal does
    // not hurry that.
    for (const int number : {SIGTERM, SIGINT, SIGHUP}) std::signal(number, SIG_IGN);
    struct sigaction wake {};
    wake.sa_handler = [](int) {};
    ::sigaction(SIGUSR1, &wake, nullptr);
    fuse_session_reset(shared.session);
    std::atomic<bool> has_ended = false;
    std::thread goes_on([&shared, &has_ended] {
      static_cast<void>(shared.serve_until_ended());
      has_ended = true;
    });
    left = shared.volumes->stop();
    fuse_session_exit(shared.session);
    // It looks up, unless it was just about to wait.
    while (!has_ended) {
      ::pthread_kill(goes_on.native_handle(), SIGUSR1);
      std::this_thread::sleep_for(milliseconds(20));
    }
    goes_on.join();
  }
  // Nobody serves it any more: whoever waits for it is told so, those included that are waited for here.
  if (ended < 0) fuse_session_unmount(shared.session);
  // All that waits is answered while the mount is there to hear it.
  post_to(shared.loop, [&shared] {
    shared.fail_all(ENOTCONN);
    shared.client->close();
    shared.loop.stop();
  });
  loop.join();
  for (auto& line : shared.volumes->stop()) left.push_back(std::move(line));
  for (const auto& line : left) shared.log(warning(line).of("volume-left"));
  // Positive: by a signal.
  if (ended < 0) shared.log(failure("ends: " + std::generic_category().message(-ended)).of("mount-ended"));
  return ended >= 0 && left.empty();
}

}  // namespace mesh
