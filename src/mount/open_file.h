// What a mount has open: files, each with where it is read, and directories.
#pragma once

#include <fuse_lowlevel.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/entry.h"
#include "disk/fd.h"
#include "mount/directory_pages.h"
#include "mount/node_client.h"
#include "mount/pending.h"

namespace mesh {

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
  NodeClient::Clock::time_point upgraded{};
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

/// What the kernel has handles of. What it has not let go of when the mount ends goes with this. Any thread.
template <class T>
class Handles {
 public:
  [[nodiscard]] std::uint64_t add(std::shared_ptr<T> object) {
    auto owned = std::make_unique<std::shared_ptr<T>>(std::move(object));
    const auto handle = reinterpret_cast<std::uint64_t>(owned.get());
    const std::lock_guard lock(mutex_);
    objects_.emplace(handle, std::move(owned));
    return handle;
  }
  /// While the kernel has it.
  [[nodiscard]] static std::shared_ptr<T>& at(std::uint64_t handle) {
    return *reinterpret_cast<std::shared_ptr<T>*>(handle);
  }
  void remove(std::uint64_t handle) {
    const std::lock_guard lock(mutex_);
    objects_.erase(handle);
  }

 private:
  std::mutex mutex_;
  std::unordered_map<std::uint64_t, std::unique_ptr<std::shared_ptr<T>>> objects_;
};

/// The bytes, if the file is still what it was when they had been read; else nothing, and whether they cannot be read.
[[nodiscard]] inline std::optional<std::string_view> read_local(const LocalFile& file, std::vector<char>& buffer,
                                                                std::size_t size, off_t offset,
                                                                bool* is_bad = nullptr) {
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

[[nodiscard]] inline std::string_view part_of(const std::string& text, std::size_t size, off_t offset) {
  return std::string_view(text).substr(std::min(static_cast<std::size_t>(offset), text.size()), size);
}

}  // namespace mesh
