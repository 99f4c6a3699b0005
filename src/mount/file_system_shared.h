// The inside of a FileSystem, in the files of this folder that begin so: what is said of names, of open files, of
// directories, and the mount itself.
#pragma once

#include <sys/stat.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <ctime>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "mount/directory_pages.h"
#include "mount/file_system.h"
#include "mount/inodes.h"
#include "mount/open_file.h"
#include "mount/pending.h"
#include "mount/tree.h"
#include "mount/volume_files.h"
#include "wire/flow.h"
#include "wire/messages.h"

namespace mesh {

struct FileSystem::Shared : PendingRequests {
  Shared(Options given, std::string at) : options(std::move(given)), mounted_on(std::move(at)), loop(1) {}
  ~Shared() {
    if (session == nullptr) return;
    if (is_mounted) fuse_session_unmount(session);
    fuse_remove_signal_handlers(session);
    fuse_session_destroy(session);
  }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  Options options;
  std::string mounted_on;
  fuse_session* session = nullptr;
  bool is_mounted = false;
  asio::io_context loop;
  std::unique_ptr<NodeClient> client;
  Log log;
  std::mutex mutex;  ///< of the inodes
  Inodes file_inodes{tree::first_of_files};
  Inodes version_inodes{tree::first_of_versions};
  Inodes node_inodes{tree::first_of_nodes};
  Handles<OpenFile> open_files;
  Handles<VolumeFiles::File> open_volumes;
  std::unique_ptr<VolumeFiles> volumes;  ///< while it is served: it has threads
  Handles<OpenDirectory> open_directories;
  bool is_watching = false;  ///< on the loop
  struct KnownStatus {
    std::optional<StatusReply> reply;
    NodeClient::Clock::time_point when{};
  } status;
  SingleFlight<int, bool> asking_status;
  /// Versions that were chosen of paths when they were opened, and are others than were listed.
  std::map<std::string, std::pair<FileEntry, Clock::time_point>> chosen;

  static Shared& of(fuse_req_t request) {
    return *static_cast<Shared*>(static_cast<PendingRequests*>(fuse_req_userdata(request)));
  }
  [[nodiscard]] static bool is_mesh_file(fuse_ino_t number) {
    return number >= tree::first_of_files && number < tree::first_of_volumes;
  }
  [[nodiscard]] static bool is_version(fuse_ino_t number) {
    return number >= tree::first_of_versions && number < tree::first_of_volumes;
  }
  [[nodiscard]] static bool is_volume(fuse_ino_t number) { return number >= tree::first_of_volumes; }
  /// That knows the number; one of the mesh's, or of a node.
  [[nodiscard]] Inodes& inodes_of(fuse_ino_t number) {
    return is_version(number) ? version_inodes : is_mesh_file(number) ? file_inodes : node_inodes;
  }
  [[nodiscard]] static bool is_of_node(fuse_ino_t number) {
    return number >= tree::first_of_nodes && number < tree::first_of_files;
  }
  /// Of what is in the tree's two growing parts.
  [[nodiscard]] std::optional<Inodes::Inode> find(fuse_ino_t number);
  /// Of a directory of the mesh its path; nothing where it is none.
  [[nodiscard]] std::optional<std::string> mesh_path(fuse_ino_t number);
  [[nodiscard]] static struct stat stat_of(std::uint64_t stat_number, const FileEntry& entry);
  [[nodiscard]] static struct stat stat_of(const tree::OwnEntry& entry);
  [[nodiscard]] static fuse_entry_param param_of(const tree::OwnEntry& entry);
  /// The kernel is told of it by who calls this.
  [[nodiscard]] fuse_entry_param look_up(Inodes& inodes, const FileEntry& entry, double name_while);
  [[nodiscard]] int serve_until_ended() const;
  void forget(fuse_ino_t number, std::uint64_t lookups);
  void reply_entry(const PendingPtr& to, Inodes& inodes, const FileEntry& entry);

  /// Has `work` answer the request on the loop. What it throws is an answer, too: `path` names it in the log.
  using Work = std::function<Task<void>(PendingPtr)>;
  /// For what is done elsewhere: it is answered in time, or when its process is interrupted, whatever becomes of that.
  [[nodiscard]] PendingPtr wait_for(fuse_req_t request, Clock::time_point until, std::string about);
  void answer_later(fuse_req_t request, std::string path, Work work);
  Task<void> run(PendingPtr pending, Work work);
  void say_failed(const std::string& path, const std::string& why) const;
  /// While anything waits.
  Task<void> watch();

  Task<std::shared_ptr<const StatusReply>> mesh_status(Clock::time_point until);
  /// Null: there is none of that name.
  [[nodiscard]] static const NodeStatus* find(const StatusReply& reply, std::string_view name);
  [[nodiscard]] static FileEntry node_entry(std::string path, bool is_directory);
  Task<std::string> page_of(fuse_ino_t number, Clock::time_point until);
  Task<void> look_up_file(PendingPtr to, std::string path);
  Task<void> look_up_node(PendingPtr to, std::string parent, std::string name);

  Task<void> open_file(PendingPtr to, FileEntry entry, fuse_ino_t number, fuse_file_info info);
  Task<bool> open_at_node(OpenFilePtr file, bool is_again, Clock::time_point until);
  Task<void> read_file(PendingPtr to, OpenFilePtr file, std::size_t size, off_t offset);
  Task<void> upgrade(OpenFilePtr file);
  static bool has_failed(OpenFile& file, off_t offset, std::size_t size);
  void take_opened(OpenFile& file, OpenTold told, std::int64_t handle, std::int64_t connection);
  void close_at_node(std::int64_t handle, std::int64_t connection);
  void close_file(OpenFile& file);
  void keep_nothing(fuse_ino_t number);

  Task<void> read_directory(PendingPtr to, OpenDirectoryPtr directory, std::size_t size, off_t offset, bool is_plus);
  Task<DirectoryPages::PagePtr> page_of(OpenDirectoryPtr directory, std::size_t number, Clock::time_point until);
  bool fill(const PendingPtr& to, fuse_ino_t number, const DirectoryPages::Page& page, std::size_t place,
            std::size_t size, bool is_plus);

  [[nodiscard]] static fuse_entry_param param_of(const VolumeFiles::File& file);
  void order(fuse_req_t request, fuse_ino_t number, std::string text);
  void open_volume(fuse_req_t request, fuse_ino_t number, const fuse_file_info& given);
  using VolumeWork = std::function<void(Pending&, VolumeFiles::File&, int fd)>;
  void with_volume(fuse_req_t request, const fuse_file_info& info, bool has_effect, VolumeWork work);
  void read_volume(fuse_req_t request, std::size_t size, off_t offset, const fuse_file_info& info);
  void write_volume(fuse_req_t request, std::string bytes, off_t offset, const fuse_file_info& info);
  static void op_fsync(fuse_req_t request, fuse_ino_t number, int is_data, fuse_file_info* info);
  static void op_fallocate(fuse_req_t request, fuse_ino_t number, int mode, off_t offset, off_t length,
                           fuse_file_info* info);
  static void op_lseek(fuse_req_t request, fuse_ino_t number, off_t offset, int whence, fuse_file_info* info);

  static void op_init(void* data, fuse_conn_info* connection);
  static void op_lookup(fuse_req_t request, fuse_ino_t parent, const char* name);
  static void op_forget(fuse_req_t request, fuse_ino_t number, std::uint64_t lookups);
  static void op_forget_multi(fuse_req_t request, std::size_t count, fuse_forget_data* forgets);
  static void op_getattr(fuse_req_t request, fuse_ino_t number, fuse_file_info* info);
  static void op_setattr(fuse_req_t request, fuse_ino_t number, struct stat* attr, int to_set, fuse_file_info* info);
  static void op_readlink(fuse_req_t request, fuse_ino_t number);
  static void op_open(fuse_req_t request, fuse_ino_t number, fuse_file_info* info);
  static void op_read(fuse_req_t request, fuse_ino_t number, std::size_t size, off_t offset, fuse_file_info* info);
  static void op_write(fuse_req_t request, fuse_ino_t number, const char* data, std::size_t size, off_t offset,
                       fuse_file_info* info);
  static void op_release(fuse_req_t request, fuse_ino_t number, fuse_file_info* info);
  static void op_opendir(fuse_req_t request, fuse_ino_t number, fuse_file_info* info);
  static void op_readdir(fuse_req_t request, fuse_ino_t number, std::size_t size, off_t offset, fuse_file_info* info);
  static void op_readdirplus(fuse_req_t request, fuse_ino_t number, std::size_t size, off_t offset,
                             fuse_file_info* info);
  static void op_releasedir(fuse_req_t request, fuse_ino_t number, fuse_file_info* info);
  static void op_statfs(fuse_req_t request, fuse_ino_t number);
  static void list(fuse_req_t request, std::size_t size, off_t offset, fuse_file_info* info, bool is_plus);
  static fuse_lowlevel_ops operations();
};

}  // namespace mesh
