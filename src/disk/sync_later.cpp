#include "disk/sync_later.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include <cerrno>
#include <system_error>

#include "core/error.h"

namespace mesh {
namespace {

constexpr std::size_t most_open = 200;
constexpr long xfs_magic = 0x58465342;

[[noreturn]] void fail(int error) {
  throw Error(Status::failed, "cannot be synced: " + std::generic_category().message(error));
}

}  // namespace

bool has_one_journal(int fd) {
  struct statfs fs {};
  return ::fstatfs(fd, &fs) == 0 && (fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == xfs_magic);
}

void SyncLater::add(Fd file) {
  if (!file) {
    unseen_ = true;
    return;
  }
  ::sync_file_range(file.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
  files_.push_back(std::move(file));
  if (files_.size() > most_open) wait_for_oldest();
}

void SyncLater::wait_for_oldest() {
  // A failed writeback is reported once, here.
  if (::sync_file_range(files_.front().get(), 0, 0, SYNC_FILE_RANGE_WAIT_AFTER) != 0 && errno != ESPIPE &&
      errno != EINVAL && errno != ENOSYS)
    fail(errno);
  files_.pop_front();
}

void SyncLater::finish(int directory) {
  if (files_.empty() || unseen_ || !has_one_journal(directory)) {
    if (::syncfs(directory) != 0) fail(errno);
    files_.clear();
    return;
  }
  const Fd last = std::move(files_.back());
  files_.pop_back();
  while (!files_.empty()) wait_for_oldest();
  // Puts this one into the transaction that is open now, which ends all that came before.
  struct stat s {};
  if (::fstat(last.get(), &s) == 0) {
    const timespec times[2] = {{0, UTIME_OMIT}, s.st_mtim};
    ::futimens(last.get(), times);
  }
  if (::fsync(last.get()) != 0) fail(errno);
}

}  // namespace mesh
