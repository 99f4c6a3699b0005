// A node's state directory, and what only one node has at a time in it.
//
// It is opened once, by a path that nobody else can lead astray (disk/trusted_dir.h), and everything in it is reached
// through that descriptor: `handle()` is /proc/self/fd/N, which the kernel takes for the open directory itself,
// whatever has become of its path. Cleaners of /tmp take directories away: `look_after` finds that out, opens it again
// under the same checks, and makes anew what a running node needs by name. The handle stays the same then.
//
// For one thread, but `handle()` and `fd()`, which any thread may use; calls block, briefly.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "core/digest.h"
#include "core/error.h"
#include "disk/fd.h"
#include "disk/trusted_dir.h"

namespace mesh {

/// Thrown by look_after where this node has lost its place to another one.
class NodeRunsHere : public Error {
 public:
  using Error::Error;
};

class StateDir {
 public:
  /// Opens it, and makes it where it is missing. Throws Error: usage where somebody else could change what the path
  /// leads to; failed with the system's reason.
  StateDir(const std::filesystem::path& path, const Trust& trust);

  /// Takes what only one node has at a time; false where another one has it. Throws Error(failed).
  [[nodiscard]] bool lock();

  /// Says in the lock where the node listens, for commands that do not find it there; and that it lives, from time to
  /// time. Without effect where that cannot be written.
  void say_where(const std::string& socket) const;
  void say_alive() const;

  /// The node's secret of this name, made at first use: 32 random bytes. Throws Error(failed).
  [[nodiscard]] Digest<32> secret(const char* name, const std::function<Digest<32>()>& make) const;
  /// It is this one from now on, whatever it was; the old one until it is. Throws Error(failed).
  void set_secret(const char* name, const Digest<32>& value) const;

  /// As users know it, for messages.
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] const std::filesystem::path& handle() const { return handle_; }
  [[nodiscard]] DirectoryId id() const { return id_; }

  /// Whether it is where it was, with its lock and the directory of partial downloads; what was taken away is made
  /// anew. Returns what that was, in words; empty when all is well. Throws Error where it cannot be mended, `another
  /// node` included.
  [[nodiscard]] std::string look_after();

 private:
  [[nodiscard]] Fd open() const;
  void make_parts() const;
  [[nodiscard]] std::string write_secret(const char* name, const Digest<32>& value) const;

  std::filesystem::path path_;
  Trust trust_;
  Fd fd_;
  DirectoryId id_;
  std::filesystem::path handle_;
  Fd lock_;
};

/// Removes what an interrupted download or placement has left among the partials: files whose names are of the kind
/// that a node gives, unless `keep` says that there is a record of one. Nothing else, and no link is followed.
void sweep_parts(const StateDir& state, const std::function<bool(std::string_view content_id_hex)>& keep);

}  // namespace mesh
