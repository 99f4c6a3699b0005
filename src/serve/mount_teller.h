// What mounts on this machine ask of their node: what is in the mesh's tree, and the bytes of its files
// (docs/decisions/0031). What is here is handed over as an open file, the rest is read for them. On the local socket
// alone, and the node's loop; blocking work goes to the pool.
//
// Bounds, of one mount: `most_mount_opens` files open at once, of each of them `most_reads` reads at once, and a read's
// bytes. What a mount has open is closed with its connection.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

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

 private:
  struct OpenFile;
  struct Mount;
  using MountPtr = std::shared_ptr<Mount>;
  [[nodiscard]] MountPtr of(const ChannelPtr& channel) const;
  void forget_closed();
  Task<EntryTold> entry(std::string path);
  Task<OpenTold> open(ChannelPtr channel, OpenAsk asked);
  Task<ReadTold> read(ChannelPtr channel, ReadAsk asked);
  Task<bool> open_own(MountPtr mount, const FileEntry& entry, OpenTold& out);
  [[nodiscard]] const Inventory::Item* own(const FileEntry& entry) const;

  ReadFrom from_;
  Getter& getter_;
  Options options_;
  std::map<const Channel*, MountPtr> mounts_;
};

}  // namespace mesh
