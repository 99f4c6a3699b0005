#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <vector>

#include "mount/file_system_shared.h"

namespace mesh {

using namespace tree;

namespace {

constexpr auto most_wait = std::chrono::hours(24);

}  // namespace

fuse_entry_param FileSystem::Shared::param_of(const VolumeFiles::File& file) {
  fuse_entry_param out{};
  out.ino = file.number;
  out.attr = VolumeFiles::stat_of(file);
  return out;  // another one may have the name in a moment
}

void FileSystem::Shared::order(fuse_req_t request, fuse_ino_t number, std::string text) {
  const auto* who = fuse_req_ctx(request);
  const auto size = text.size();
  // Whoever is interrupted finds in vdi/status how it went.
  const auto pending = wait_for(request, Clock::now() + most_wait, number == vdi_mount ? "vdi/mount" : "vdi/unmount");
  const auto done = [this, pending, size](int error) {
    if (pending->take())
      error != 0 ? fuse_reply_err(pending->request(), error) : fuse_reply_write(pending->request(), size);
    remove(pending);
  };
  number == vdi_mount ? volumes->mount(std::move(text), who->uid, who->gid, done)
                      : volumes->unmount(std::move(text), done);
}

void FileSystem::Shared::open_volume(fuse_req_t request, fuse_ino_t number, const fuse_file_info& given) {
  const auto file = volumes->find(number);
  if (!file || !volumes->open(file)) return static_cast<void>(fuse_reply_err(request, ESTALE));
  auto opened = given;
  opened.fh = open_volumes.add(file);
  if (fuse_reply_open(request, &opened) == 0) return;
  open_volumes.remove(opened.fh);
  volumes->close(file);
}

/// Has `work` answer on a thread that may wait. `has_effect`: once it has begun, it is brought to its end.
void FileSystem::Shared::with_volume(fuse_req_t request, const fuse_file_info& info, bool has_effect, VolumeWork work) {
  const auto& file = Handles<VolumeFiles::File>::at(info.fh);
  const auto pending = wait_for(request, Clock::now() + most_wait, "volume/" + file->name);
  const auto on_thread = [this, pending, file, has_effect, work = std::move(work)](int fd) {
    try {
      if (has_effect ? pending->hold() : !pending->is_answered()) work(*pending, *file, fd);
    } catch (const std::exception&) {
      pending->fail(EIO);
    }
    remove(pending);
  };
  if (volumes->with_bytes(file, on_thread)) return;
  pending->fail(ENOTCONN);
  remove(pending);
}

void FileSystem::Shared::read_volume(fuse_req_t request, std::size_t size, off_t offset, const fuse_file_info& info) {
  with_volume(request, info, false, [size, offset](Pending& to, VolumeFiles::File& file, int fd) {
    thread_local std::vector<char> buffer;
    if (buffer.size() < size) buffer.resize(size);
    // The kernel takes less than was asked for as the end of the file, and the rest as zeros.
    const auto wanted =
        static_cast<std::size_t>(std::clamp<std::int64_t>(file.size - offset, 0, static_cast<std::int64_t>(size)));
    std::size_t got = 0;
    while (got < wanted) {
      const auto n = ::pread(fd, buffer.data() + got, wanted - got, offset + static_cast<off_t>(got));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return to.fail(n < 0 ? errno : EIO);
      got += static_cast<std::size_t>(n);
    }
    if (to.take()) fuse_reply_buf(to.request(), buffer.data(), got);
  });
}

void FileSystem::Shared::write_volume(fuse_req_t request, std::string bytes, off_t offset, const fuse_file_info& info) {
  with_volume(request, info, true, [bytes = std::move(bytes), offset](Pending& to, VolumeFiles::File& file, int fd) {
    // As a device, which ends where it ends.
    if (offset >= file.size) return to.fail(ENOSPC);
    const auto size = std::min(bytes.size(), static_cast<std::size_t>(file.size - offset));
    std::size_t done = 0;
    while (done < size) {
      const auto n = ::pwrite(fd, bytes.data() + done, size - done, offset + static_cast<off_t>(done));
      if (n < 0 && errno == EINTR) continue;
      // All of it or an error: a kernel that writes back pages looks at nothing else.
      if (n <= 0) return to.fail(n < 0 ? errno : EIO);
      done += static_cast<std::size_t>(n);
    }
    file.changed = ::time(nullptr);
    if (to.take()) fuse_reply_write(to.request(), done);
  });
}

void FileSystem::Shared::op_fsync(fuse_req_t request, fuse_ino_t number, int is_data, fuse_file_info* info) {
  if (!is_volume(number)) return static_cast<void>(fuse_reply_err(request, 0));
  of(request).with_volume(request, *info, false, [is_data](Pending& to, VolumeFiles::File&, int fd) {
    const int failed = is_data != 0 ? ::fdatasync(fd) : ::fsync(fd);
    to.fail(failed != 0 ? errno : 0);
  });
}

void FileSystem::Shared::op_fallocate(fuse_req_t request, fuse_ino_t number, int mode, off_t offset, off_t length,
                                      fuse_file_info* info) {
  if (!is_volume(number)) return static_cast<void>(fuse_reply_err(request, EROFS));
  of(request).with_volume(request, *info, true, [mode, offset, length](Pending& to, VolumeFiles::File& file, int fd) {
    // Where no more is asked for, what lies behind the end is nothing.
    const bool is_hole = (mode & FALLOC_FL_PUNCH_HOLE) != 0;
    if (!is_hole && length > file.size - offset) return to.fail(ENOSPC);
    const auto within = std::min<off_t>(length, file.size - offset);
    file.changed = ::time(nullptr);
    to.fail(within > 0 && ::fallocate(fd, mode, offset, within) != 0 ? errno : 0);
  });
}

void FileSystem::Shared::op_lseek(fuse_req_t request, fuse_ino_t number, off_t offset, int whence,
                                  fuse_file_info* info) {
  if (!is_volume(number)) {
    // What is of the mesh has no holes that anybody knows of. (The kernel would take ENOSYS for all files.)
    const auto found = is_mesh_file(number) ? of(request).find(number) : std::nullopt;
    const auto size = found ? found->entry.size : 0;
    if (offset < 0 || offset >= size) return static_cast<void>(fuse_reply_err(request, ENXIO));
    return static_cast<void>(fuse_reply_lseek(request, whence == SEEK_HOLE ? size : offset));
  }
  of(request).with_volume(request, *info, false, [offset, whence](Pending& to, VolumeFiles::File&, int fd) {
    const auto at = ::lseek(fd, offset, whence);
    if (at < 0) return to.fail(errno);
    if (to.take()) fuse_reply_lseek(to.request(), at);
  });
}

}  // namespace mesh
