// The mesh as a file system (fuse(4), libfuse3's low-level interface): files/ is the catalog, read-only; cluster/,
// node/ and transfers say how the mesh is; config/tracker names this node's trackers (docs/decisions/0031); vdi/ and
// volume/ are this machine's disks over images of the mesh (0032).
//
// The kernel's requests come on libfuse's threads. What can be answered without the node (a file that is here, by its
// descriptor; attributes) is answered there; everything else on the loop, which has a thread of its own. Each request
// is answered once: by what was asked for, or with EIO when its time is up, or with EINTR a moment after its process
// was interrupted. None waits for a thread.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "core/log.h"
#include "mount/node_client.h"

namespace mesh {

class FileSystem {
 public:
  struct Options {
    std::string mount_options;  ///< as for -o of mount(8), for libfuse
    std::string prefetch = "none";
    std::chrono::seconds timeout{120};
    std::vector<std::string> meshvol{"meshvol"};  ///< the program for volumes, and its flags
    std::chrono::milliseconds grace{200};  ///< what comes within this time after an interruption is an answer still
  };
  /// Mounts it on `directory`. Throws Error.
  FileSystem(Options options, const std::string& directory);
  ~FileSystem();
  FileSystem(const FileSystem&) = delete;
  FileSystem& operator=(const FileSystem&) = delete;

  /// The process goes on in the background; who started it is told that it is mounted. Before there are threads.
  static void go_to_background();
  /// Serves until it is unmounted, or SIGTERM, SIGINT or SIGHUP; then it is unmounted. To be called once.
  /// False where it could not go on.
  bool serve(NodeClient::Connect connect, Log log);

 private:
  struct Shared;
  std::unique_ptr<Shared> shared_;
};

}  // namespace mesh
