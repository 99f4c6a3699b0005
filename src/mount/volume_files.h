// Volumes over images of the mesh, as files of the mount: what is written to vdi/mount and vdi/unmount, and what is
// under volume/. `meshvol` makes, shows and hides them, in a process of its own each time; here they are read and
// written. Nothing of it reaches the mesh.
//
// A read may wait for the mesh, by way of this very mount. So neither the kernel's threads nor the loop's ever wait for
// one: all bytes go by threads that are for nothing else. Any thread.
#pragma once

#include <fuse_lowlevel.h>
#include <sys/stat.h>

#include <atomic>
#include <boost/asio/thread_pool.hpp>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "disk/fd.h"
#include "mount/tree.h"

namespace mesh {

namespace asio = boost::asio;

class VolumeFiles {
 public:
  struct Options {
    std::string mount;               ///< this one's directory
    std::vector<std::string> words;  ///< `meshvol`, and its flags
  };
  explicit VolumeFiles(Options options) : options_(std::move(options)), orders_(2), bytes_(32) {}
  /// What is shown is hidden, as soon as the mount is gone.
  ~VolumeFiles();
  VolumeFiles(const VolumeFiles&) = delete;
  VolumeFiles& operator=(const VolumeFiles&) = delete;

  using Work = std::function<void(int fd)>;
  struct File {
    fuse_ino_t number = 0;
    std::string name;
    uid_t user = 0;
    gid_t group = 0;
    std::int64_t size = 0;
    std::atomic<std::int64_t> changed = 0;  ///< seconds since the epoch
    // Guarded by VolumeFiles.
    std::shared_ptr<const Fd> fd{};  ///< null: what shows it is gone
    std::size_t opens = 0;
    std::size_t under_way = 0;  ///< of `with_bytes`
    std::size_t running = 0;    ///< of these, on threads
    std::deque<Work> waiting{};
  };
  using FilePtr = std::shared_ptr<File>;

  [[nodiscard]] FilePtr find(std::string_view name) const;
  [[nodiscard]] FilePtr find(fuse_ino_t number) const;
  [[nodiscard]] std::vector<FilePtr> all() const;
  [[nodiscard]] static struct stat stat_of(const File& file);
  /// False: it is being hidden.
  [[nodiscard]] bool open(const FilePtr& file);
  void close(const FilePtr& file);

  /// An order, as it is written: "PATH [NAME]", "NAME". `done` is told how it went, 0 or an errno, on some thread.
  using Done = std::function<void(int error)>;
  void mount(std::string text, uid_t user, gid_t group, Done done);
  void unmount(std::string text, Done done);
  /// `done` has the text, on some thread.
  void list(std::function<void(std::string text)> done);
  /// How the last orders went, a line each.
  [[nodiscard]] std::string status() const;

  /// On a thread that may wait; of one volume a few at a time, so that one that does not answer holds up no other.
  /// False: it is shown no more. What `work` throws is lost.
  [[nodiscard]] bool with_bytes(const FilePtr& file, Work work);
  /// Waits for what is under way, and ends; what is asked for from then on is not done. Returns what could not be
  /// brought to its end, a line each.
  std::vector<std::string> stop();

 private:
  std::string run(std::vector<std::string> words) const;
  void show(const std::string& path, const std::string& name, uid_t user, gid_t group);
  void hide(const std::string& name);
  void work_on(const FilePtr& file, const Work& work, const std::shared_ptr<const Fd>& fd);
  /// It is open here again.
  [[nodiscard]] static bool open_device(File& file, const std::string& device);
  void order(const std::string& text, Done done, std::function<void(const std::vector<std::string>&)> work);
  void note(const std::string& line);

  const Options options_;
  mutable std::mutex mutex_;
  std::condition_variable quieter_;  ///< fewer are open, or under way
  std::map<std::string, FilePtr, std::less<>> files_;
  std::deque<std::string> notes_;
  std::set<std::string> under_way_;
  fuse_ino_t last_number_ = tree::first_of_volumes;  ///< never the same twice
  bool is_stopped_ = false;
  asio::thread_pool orders_;
  asio::thread_pool bytes_;
};

}  // namespace mesh
