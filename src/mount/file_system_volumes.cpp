#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
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

/// Has `work` answer on a thread that may wait.
void FileSystem::Shared::with_volume(fuse_req_t request, const fuse_file_info& info, VolumeWork work) {
  const auto& file = Handles<VolumeFiles::File>::at(info.fh);
  const auto pending = wait_for(request, Clock::now() + most_wait, "volume/" + file->name);
  volumes->with_bytes([this, pending, file, work = std::move(work)] {
    work(*pending, *file);
    remove(pending);
  });
}

void FileSystem::Shared::read_volume(fuse_req_t request, std::size_t size, off_t offset, const fuse_file_info& info) {
  with_volume(request, info, [size, offset](Pending& to, const VolumeFiles::File& file) {
    thread_local std::vector<char> buffer;
    if (buffer.size() < size) buffer.resize(size);
    std::size_t got = 0;
    while (got < size) {
      const auto n = ::pread(file.fd.get(), buffer.data() + got, size - got, offset + static_cast<off_t>(got));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && got == 0) return to.fail(errno);
      if (n <= 0) break;
      got += static_cast<std::size_t>(n);
    }
    if (to.take()) fuse_reply_buf(to.request(), buffer.data(), got);
  });
}

void FileSystem::Shared::write_volume(fuse_req_t request, std::string bytes, off_t offset, const fuse_file_info& info) {
  with_volume(request, info, [bytes = std::move(bytes), offset](Pending& to, const VolumeFiles::File& file) {
    // As a device, which ends where it ends.
    if (offset >= file.size) return to.fail(ENOSPC);
    const auto size = std::min(bytes.size(), static_cast<std::size_t>(file.size - offset));
    std::size_t done = 0;
    while (done < size) {
      const auto n = ::pwrite(file.fd.get(), bytes.data() + done, size - done, offset + static_cast<off_t>(done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && done == 0) return to.fail(errno);
      if (n <= 0) break;
      done += static_cast<std::size_t>(n);
    }
    if (to.take()) fuse_reply_write(to.request(), done);
  });
}

void FileSystem::Shared::op_fsync(fuse_req_t request, fuse_ino_t number, int is_data, fuse_file_info* info) {
  if (!is_volume(number)) return static_cast<void>(fuse_reply_err(request, 0));
  of(request).with_volume(request, *info, [is_data](Pending& to, const VolumeFiles::File& file) {
    const int failed = is_data != 0 ? ::fdatasync(file.fd.get()) : ::fsync(file.fd.get());
    to.fail(failed != 0 ? errno : 0);
  });
}

void FileSystem::Shared::op_fallocate(fuse_req_t request, fuse_ino_t number, int mode, off_t offset, off_t length,
                                      fuse_file_info* info) {
  if (!is_volume(number)) return static_cast<void>(fuse_reply_err(request, EROFS));
  of(request).with_volume(request, *info, [mode, offset, length](Pending& to, const VolumeFiles::File& file) {
    if (length > file.size - offset) return to.fail(ENOSPC);
    to.fail(::fallocate(file.fd.get(), mode, offset, length) != 0 ? errno : 0);
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
  of(request).with_volume(request, *info, [offset, whence](Pending& to, const VolumeFiles::File& file) {
    const auto at = ::lseek(file.fd.get(), offset, whence);
    if (at < 0) return to.fail(errno);
    if (to.take()) fuse_reply_lseek(to.request(), at);
  });
}

}  // namespace mesh
