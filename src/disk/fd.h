// An owned file descriptor, and what identifies a file's content on this machine.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <utility>

namespace mesh {

/// Closes on destruction. Movable; any thread.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// What a directory is, whatever its path.
struct DirectoryId {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  bool operator==(const DirectoryId&) const = default;
};

[[nodiscard]] inline DirectoryId directory_id(const struct stat& s) { return {s.st_dev, s.st_ino}; }

[[nodiscard]] inline bool is_same_file(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}
/// Whether `name` in the open directory is the very file that is open as `fd`.
[[nodiscard]] inline bool is_still_at(int directory, const char* name, int fd) {
  struct stat there {};
  struct stat here {};
  return ::fstatat(directory, name, &there, AT_SYMLINK_NOFOLLOW) == 0 && ::fstat(fd, &here) == 0 &&
         is_same_file(there, here);
}

/// Two stamps that are equal belong to one content, as far as a file system can tell without reading it.
struct FileStamp {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::int64_t size = 0;
  std::int64_t mtime = 0;  ///< nanoseconds since the epoch
  std::int64_t ctime = 0;
  bool operator==(const FileStamp&) const = default;
};

/// Whether only what is said of the file may have changed (its mode, its names), and not what is in it.
[[nodiscard]] inline bool is_same_but_ctime(const FileStamp& a, const FileStamp& b) {
  return a.device == b.device && a.inode == b.inode && a.size == b.size && a.mtime == b.mtime;
}

[[nodiscard]] inline std::int64_t nanoseconds(const timespec& t) {
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

[[nodiscard]] inline FileStamp stamp_of(const struct stat& s) {
  return {s.st_dev, s.st_ino, s.st_size, nanoseconds(s.st_mtim), nanoseconds(s.st_ctim)};
}

}  // namespace mesh
