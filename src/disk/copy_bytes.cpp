#include "disk/copy_bytes.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <vector>

#include "core/error.h"

namespace mesh {
namespace {

constexpr off_t most_at_once = off_t{64} << 20;  // between two looks whether it is still wanted
constexpr std::size_t buffer_bytes = std::size_t{1} << 20;

Error system_error(int error) {
  return {Status::failed, "cannot be copied: " + std::generic_category().message(error),
          std::error_code(error, std::generic_category())};
}

/// By way of this program: between file systems of which the kernel copies nothing to the other (copy_file_range(2)).
void copy_by_hand(int from, int to, off_t at, off_t end, const std::function<bool()>& is_stopped) {
  std::vector<char> buffer(buffer_bytes);
  while (at < end) {
    if (is_stopped()) throw Error(Status::interrupted, "stopped");
    const auto wanted = std::min<off_t>(end - at, static_cast<off_t>(buffer.size()));
    const auto n = ::pread(from, buffer.data(), static_cast<std::size_t>(wanted), at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) throw system_error(n < 0 ? errno : EIO);
    for (ssize_t done = 0; done < n;) {
      const auto written = ::pwrite(to, buffer.data() + done, static_cast<std::size_t>(n - done), at + done);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) throw system_error(errno);
      done += written;
    }
    at += n;
  }
}

void copy_range(int from, int to, off_t at, off_t end, const std::function<bool()>& is_stopped) {
  for (off_t in = at, out = at; in < end;) {
    if (is_stopped()) throw Error(Status::interrupted, "stopped");
    const auto length = std::min<off_t>(end - in, most_at_once);
    const auto n = ::copy_file_range(from, &in, to, &out, static_cast<std::size_t>(length), 0);
    if (n > 0 || (n < 0 && errno == EINTR)) continue;
    const int error = n < 0 ? errno : EXDEV;  // some file systems copy nothing, and say so
    if (error == EXDEV || error == EINVAL || error == ENOSYS || error == EOPNOTSUPP || error == EPERM)
      return copy_by_hand(from, to, in, end, is_stopped);
    throw system_error(error);
  }
}

}  // namespace

void copy_bytes(int from, int to, std::int64_t size, const std::function<bool()>& is_stopped) {
  if (::ioctl(to, FICLONE, from) != 0) {
    if (::ftruncate(to, size) != 0) throw system_error(errno);
    for (off_t at = 0; at < size;) {
      off_t data = ::lseek(from, at, SEEK_DATA);
      if (data < 0 && errno == ENXIO) break;  // the rest is a hole
      off_t end = data < 0 ? -1 : ::lseek(from, data, SEEK_HOLE);
      if (end < 0) data = at, end = size;
      copy_range(from, to, data, std::min<off_t>(end, size), is_stopped);
      at = end;
    }
  }
  if (::ftruncate(to, size) != 0) throw system_error(errno);
}

}  // namespace mesh
