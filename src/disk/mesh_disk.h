// The swarm's disk: libtorrent's disk_interface over Storage.
//
// libtorrent calls from its network thread and gets every handler back on that thread. A read that the page cache can
// answer is answered at once; other reads, and all writes and hashes, go to a small pool. Writes and hashes of one
// storage run in order, one at a time, several blocks in one go. Where more than 32 MiB wait to be written, peers are
// held back until 16 MiB do.
#pragma once

#include <libtorrent/disk_interface.hpp>
#include <libtorrent/io_context.hpp>
#include <libtorrent/session_params.hpp>
#include <memory>

#include "disk/storage.h"

namespace mesh {

/// Hands storages to the disk: libtorrent names a torrent by its infohash alone. Thread-safe.
class StorageRegistry {
 public:
  void put(const lt::sha1_hash& infohash, StoragePtr storage);
  [[nodiscard]] StoragePtr find(const lt::sha1_hash& infohash) const;
  void remove(const lt::sha1_hash& infohash);

 private:
  mutable std::mutex mutex_;
  std::map<lt::sha1_hash, StoragePtr> storages_;
};

/// For lt::session_params::disk_io_constructor. Every torrent must be in the registry before it is added. `moved`
/// counts the bytes of blocks that libtorrent gave and took; its network thread's, and outlives the session.
[[nodiscard]] lt::disk_io_constructor_type mesh_disk_constructor(std::shared_ptr<StorageRegistry> registry,
                                                                 std::int64_t& moved);

}  // namespace mesh
