// Packs of small files that others want (core/pack.h): made of this node's files on demand, served as a seed while
// somebody takes them. A pack is a file without a name, so that what is served is what was hashed, whatever becomes of
// the files; it is gone when the torrent is unloaded. On the node's loop; blocking work goes to the pools.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "library/library.h"
#include "swarm/session.h"
#include "transfer/room.h"
#include "wire/channel.h"
#include "wire/workers.h"

namespace mesh {

class PackMaker {
 public:
  PackMaker(Workers& workers, MeshKeysPtr keys, Library& library, Session& session, Room& room)
      : workers_(workers), keys_(std::move(keys)), library_(library), session_(session), room_(room) {}

  /// Answers make-pack on channels with these handlers, which are to be trackers'.
  void serve(Handlers& handlers);
  /// The pack, seeded. Throws Error.
  Task<Pack> make(MakePack asked);

 private:
  struct Made {
    ContentId id;
    std::vector<std::uint32_t> left_out;
  };
  using Key = std::pair<PackId, std::vector<std::uint32_t>>;  ///< and what it was to be made without
  Task<Pack> make_now(PackId id, MakePack asked);

  Workers& workers_;
  MeshKeysPtr keys_;
  Library& library_;
  Session& session_;
  Room& room_;
  std::map<Key, Made> made_;  ///< of which the torrent may be loaded still
  std::int64_t making_bytes_ = 0;
  std::size_t making_count_ = 0;
  SingleFlight<Key, Pack> making_;
};

}  // namespace mesh
