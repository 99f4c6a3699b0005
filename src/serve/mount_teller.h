// What mounts on this machine ask of their node: what is in the mesh's tree, and the bytes of its files
// (docs/decisions/0031). What is here is handed over as an open file, the rest is read for them. On the local socket
// alone, and the node's loop; blocking work goes to the pool.
//
// Bounds: `most_mounts` mounts, of each `most_mount_opens` files open at once, of each of these `most_reads` reads at
// once; and `most_bytes` that are being read for all of them. What a mount has open is closed with its connection.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "get/getter.h"
#include "transfer/version_reader.h"

namespace mesh {

class MountTeller {
 public:
  struct Options {
    std::string node;                                                   ///< its name
    std::function<ClusterTold()> cluster;                               ///< how the mesh looks from here
    std::function<void(const std::vector<std::string>&)> set_trackers;  ///< these from now on
  };
  MountTeller(ReadFrom from, Getter& getter, Options options);
  ~MountTeller();

  void serve(Handlers& handlers);
  /// The connection of a local socket at the path "/descriptors/" and a session: returns when it is over.
  static constexpr std::string_view descriptors = "/descriptors/";
  Task<void> take(std::string session, ChannelPtr channel);
  /// A command's connection is over: it may have been a mount's.
  void is_over(const ChannelPtr& channel);
  /// Once a second: what nobody reads at the moment is let go of.
  void tend();

 private:
  struct OpenFile;
  using OpenFilePtr = std::shared_ptr<OpenFile>;
  struct Mount;
  using MountPtr = std::shared_ptr<Mount>;
  [[nodiscard]] MountPtr of(const ChannelPtr& channel) const;
  static void close(Mount& mount, std::int64_t handle);
  Task<EntryTold> entry(std::string path);
  Task<std::optional<FileEntry>> list_one(std::string path);
  Task<std::optional<FileEntry>> list_one(List question, std::string path);
  Task<OpenTold> open(ChannelPtr channel, OpenAsk asked);
  Task<OpenFilePtr> choose(const OpenAsk& asked, std::chrono::seconds patience, Prefetch prefetch, OpenTold& out);
  Task<ReadTold> read(ChannelPtr channel, ReadAsk asked);
  Task<void> read_into(OpenFilePtr file, std::function<bool()> is_stopped, std::int64_t offset, ReadTold& out);
  Task<bool> open_own(MountPtr mount, std::int64_t handle, FileEntry entry, OpenTold& out);
  [[nodiscard]] const Inventory::Item* own(const FileEntry& entry) const;

  ReadFrom from_;
  Getter& getter_;
  Options options_;
  std::map<const Channel*, MountPtr> mounts_;
  std::int64_t bytes_ = 0;  ///< that are being read
  Event read_;
};

}  // namespace mesh
