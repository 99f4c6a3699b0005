// To be preloaded: a disk that loses power. What was written to files below MESH_POWER_DIR and not synced since is
// undone, as a whole or in part, and the process is killed: after MESH_POWER_AFTER writes, or as soon as the file
// MESH_POWER_FILE exists. Names are kept, however young: the order that is hardest on whoever renames before it syncs.
// MESH_POWER_SEED chooses what is kept of the rest.
//
// Not seen: what is written through mappings (SQLite's index of its journal, which a recovery makes anew).
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

template <class Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

struct Undo {
  std::uint64_t number;  ///< they are in this order
  off_t at;
  std::string before;  ///< shorter than what was written where the file ended
  std::size_t size;    ///< of what was written
  off_t file_size;
};

struct File {
  int fd;  ///< of the shim's own: the inode stays, and is not taken for another
  std::vector<Undo> undo;
  /// What is numbered so, or less, waits for a commit of the journal alone; since when that is so.
  std::uint64_t written_back = 0;
  std::uint64_t written_back_at = 0;
};

class Disk {
 public:
  static Disk& get() {
    static Disk* disk = new Disk;  // outlives every thread
    return *disk;
  }

  /// Before `size` bytes are written at `at`. The lock is held until they are.
  std::unique_lock<std::mutex> before_write(int fd, off_t at, std::size_t size) {
    std::unique_lock lock(mutex_);
    File* file = find(fd);
    if (file == nullptr) return lock;
    if (after_ > 0 && --after_ == 0) lose_power();
    struct stat s {};
    ::fstat(fd, &s);
    if (at < 0) at = (::fcntl(fd, F_GETFL) & O_APPEND) != 0 ? s.st_size : ::lseek(fd, 0, SEEK_CUR);
    Undo undo{++number_, at, std::string(size, '\0'), size, s.st_size};
    static const auto read = next<ssize_t (*)(int, void*, std::size_t, off_t)>("pread64");
    const ssize_t n = read(file->fd, undo.before.data(), size, at);
    undo.before.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    file->undo.push_back(std::move(undo));
    return lock;
  }
  /// Before a sync: what comes later is not part of it.
  std::uint64_t now() {
    const std::lock_guard lock(mutex_);
    return number_;
  }
  void written_back(int fd, std::uint64_t begun) {
    const std::lock_guard lock(mutex_);
    if (File* file = find(fd)) file->written_back = begun, file->written_back_at = ++number_;
  }
  /// One journal: what was written back before is committed by any file's fsync.
  void synced(int fd, std::uint64_t begun) {
    const std::lock_guard lock(mutex_);
    const File* own = find(fd);
    if (own == nullptr) return;
    for (auto& [inode, file] : files_) {
      if (&file == own)
        forget(file, begun);
      else if (file.written_back_at <= begun)
        forget(file, file.written_back);
    }
  }
  void all_synced(std::uint64_t begun) {
    const std::lock_guard lock(mutex_);
    for (auto& [inode, file] : files_) forget(file, begun);
  }

 private:
  Disk() {
    if (const char* text = std::getenv("MESH_POWER_AFTER")) after_ = std::atol(text);
    if (const char* text = std::getenv("MESH_POWER_DIR")) directory_ = text;
    if (const char* text = std::getenv("MESH_POWER_SEED")) random_.seed(std::strtoul(text, nullptr, 10));
    if (const char* text = std::getenv("MESH_POWER_FILE"))
      std::thread([this, trigger = std::string(text)] {
        while (::access(trigger.c_str(), F_OK) != 0) ::usleep(500);
        const std::lock_guard lock(mutex_);
        lose_power();
      }).detach();
  }

  static void forget(File& file, std::uint64_t last) {
    std::erase_if(file.undo, [last](const Undo& undo) { return undo.number <= last; });
  }

  File* find(int fd) {
    struct stat s {};
    if (directory_.empty() || ::fstat(fd, &s) != 0 || !S_ISREG(s.st_mode)) return nullptr;
    const auto key = std::make_pair(s.st_dev, s.st_ino);
    if (const auto it = files_.find(key); it != files_.end()) return &it->second;
    const std::string link = "/proc/self/fd/" + std::to_string(fd);
    char name[4096];
    const ssize_t n = ::readlink(link.c_str(), name, sizeof name);
    if (n <= 0 || std::string_view(name, static_cast<std::size_t>(n)).substr(0, directory_.size()) != directory_)
      return nullptr;
    const int own = ::open(link.c_str(), O_RDWR | O_CLOEXEC);
    if (own < 0) return nullptr;
    return &files_.emplace(key, File{own, {}}).first->second;
  }

  [[noreturn]] void lose_power() {
    static const auto write = next<ssize_t (*)(int, const void*, std::size_t, off_t)>("pwrite64");
    static const auto truncate = next<int (*)(int, off_t)>("ftruncate64");
    for (auto& [inode, file] : files_) {
      // All of it is lost; or some blocks had been written back by themselves; or the size is there, and zeros.
      const auto how = random_() % 3;
      for (auto it = file.undo.rbegin(); it != file.undo.rend(); ++it) {
        if (how == 1 && random_() % 3 != 0) continue;
        if (how == 0) {
          if (truncate(file.fd, it->file_size) != 0) std::abort();
        } else {
          it->before.resize(it->size, '\0');
        }
        if (write(file.fd, it->before.data(), it->before.size(), it->at) < 0) std::abort();
      }
    }
    ::kill(::getpid(), SIGKILL);
    for (;;) ::pause();
  }

  std::mutex mutex_;
  std::string directory_;
  long after_ = 0;
  std::uint64_t number_ = 0;
  std::mt19937 random_;
  std::map<std::pair<dev_t, ino_t>, File> files_;
};

std::size_t total(const iovec* parts, int count) {
  std::size_t sum = 0;
  for (int i = 0; i < count; ++i) sum += parts[i].iov_len;
  return sum;
}

}  // namespace

#define NEXT(type, name) static const auto real = next<type>(name)

extern "C" {
ssize_t write(int fd, const void* bytes, std::size_t size) {
  NEXT(ssize_t(*)(int, const void*, std::size_t), "write");
  const auto lock = Disk::get().before_write(fd, -1, size);
  return real(fd, bytes, size);
}
ssize_t pwrite(int fd, const void* bytes, std::size_t size, off_t at) {
  NEXT(ssize_t(*)(int, const void*, std::size_t, off_t), "pwrite");
  const auto lock = Disk::get().before_write(fd, at, size);
  return real(fd, bytes, size, at);
}
ssize_t pwrite64(int fd, const void* bytes, std::size_t size, off_t at) { return pwrite(fd, bytes, size, at); }
ssize_t writev(int fd, const iovec* parts, int count) {
  NEXT(ssize_t(*)(int, const iovec*, int), "writev");
  const auto lock = Disk::get().before_write(fd, -1, total(parts, count));
  return real(fd, parts, count);
}
ssize_t pwritev(int fd, const iovec* parts, int count, off_t at) {
  NEXT(ssize_t(*)(int, const iovec*, int, off_t), "pwritev");
  const auto lock = Disk::get().before_write(fd, at, total(parts, count));
  return real(fd, parts, count, at);
}
ssize_t pwritev64(int fd, const iovec* parts, int count, off_t at) { return pwritev(fd, parts, count, at); }
int ftruncate(int fd, off_t size) {
  NEXT(int (*)(int, off_t), "ftruncate");
  struct stat s {};
  // What is cut off may be back.
  const auto lost = ::fstat(fd, &s) == 0 && s.st_size > size ? static_cast<std::size_t>(s.st_size - size) : 0;
  const auto lock = Disk::get().before_write(fd, size, lost);
  return real(fd, size);
}
int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }
int fsync(int fd) {
  NEXT(int (*)(int), "fsync");
  const auto begun = Disk::get().now();
  const int result = real(fd);
  if (result == 0) Disk::get().synced(fd, begun);
  return result;
}
int fdatasync(int fd) {
  NEXT(int (*)(int), "fdatasync");
  const auto begun = Disk::get().now();
  const int result = real(fd);
  if (result == 0) Disk::get().synced(fd, begun);
  return result;
}
int syncfs(int fd) {
  NEXT(int (*)(int), "syncfs");
  const auto begun = Disk::get().now();
  const int result = real(fd);
  if (result == 0) Disk::get().all_synced(begun);
  return result;
}
int sync_file_range(int fd, off_t at, off_t size, unsigned flags) {
  NEXT(int (*)(int, off_t, off_t, unsigned), "sync_file_range");
  const auto begun = Disk::get().now();
  const int result = real(fd, at, size, flags);
  if (result == 0 && (flags & SYNC_FILE_RANGE_WAIT_AFTER) != 0) Disk::get().written_back(fd, begun);
  return result;
}
}
