// To be preloaded: a disk that reads wrongly. MESH_FAULT_FILE: the last part of the name of the file that is touched;
// MESH_FAULT: "flip" (every read returns a byte that is not there) or "eio" (every read fails). MESH_FAULT_WHILE: only
// as long as this file exists. MESH_FAULT_CLOCK: what time it is, in seconds since the epoch, for time(2) alone.
#include <dlfcn.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace {

bool is_touched(int fd) {
  const char* wanted = std::getenv("MESH_FAULT_FILE");
  if (wanted == nullptr) return false;
  const char* marker = std::getenv("MESH_FAULT_WHILE");
  if (marker != nullptr && ::access(marker, F_OK) != 0) return false;
  char link[64];
  char name[4096];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t n = ::readlink(link, name, sizeof name - 1);
  if (n <= 0) return false;
  name[n] = '\0';
  const char* slash = std::strrchr(name, '/');
  return slash != nullptr && std::strcmp(slash + 1, wanted) == 0;
}

bool fails() {
  const char* how = std::getenv("MESH_FAULT");
  return how != nullptr && std::strcmp(how, "eio") == 0;
}

/// Every 50,000th byte of the file is another one.
void spoil(char* bytes, std::size_t size, off_t at) {
  for (std::size_t i = 0; i < size; ++i)
    if ((static_cast<std::size_t>(at) + i) % 50'000 == 0) bytes[i] = static_cast<char>(bytes[i] ^ 1);
}

template <class Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

ssize_t read_at(const char* name, int fd, void* bytes, std::size_t size, off_t at) {
  static const auto real = next<ssize_t (*)(int, void*, std::size_t, off_t)>(name);
  const bool touched = is_touched(fd);
  if (touched && fails()) {
    errno = EIO;
    return -1;
  }
  const auto n = real(fd, bytes, size, at);
  if (n > 0 && touched) spoil(static_cast<char*>(bytes), static_cast<std::size_t>(n), at);
  return n;
}

ssize_t read_many(const char* name, int fd, const iovec* parts, int count, off_t at, int flags) {
  static const auto real = next<ssize_t (*)(int, const iovec*, int, off_t, int)>(name);
  const bool touched = is_touched(fd);
  if (touched && fails()) {
    errno = EIO;
    return -1;
  }
  const auto n = real(fd, parts, count, at, flags);
  auto left = n > 0 && touched ? static_cast<std::size_t>(n) : 0;
  for (int i = 0; i < count && left > 0; ++i) {
    const auto part = parts[i].iov_len < left ? parts[i].iov_len : left;
    spoil(static_cast<char*>(parts[i].iov_base), part, at);
    at += static_cast<off_t>(part);
    left -= part;
  }
  return n;
}

}  // namespace

extern "C" {
time_t time(time_t* out) {
  static const auto real = next<time_t (*)(time_t*)>("time");
  const char* wanted = std::getenv("MESH_FAULT_CLOCK");
  const time_t now = wanted != nullptr ? std::atoll(wanted) : real(nullptr);
  if (out != nullptr) *out = now;
  return now;
}
ssize_t pread(int fd, void* bytes, std::size_t size, off_t at) { return read_at("pread", fd, bytes, size, at); }
ssize_t pread64(int fd, void* bytes, std::size_t size, off_t at) { return read_at("pread64", fd, bytes, size, at); }
ssize_t preadv2(int fd, const iovec* parts, int count, off_t at, int flags) {
  return read_many("preadv2", fd, parts, count, at, flags);
}
ssize_t preadv64v2(int fd, const iovec* parts, int count, off_t at, int flags) {
  return read_many("preadv64v2", fd, parts, count, at, flags);
}
}
