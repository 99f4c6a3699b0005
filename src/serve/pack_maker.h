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

  /// Answers make-pack on channels with these handlers.
  void serve(Handlers& handlers);
  /// The pack, seeded. Throws Error.
  Task<Pack> make(MakePack asked);

 private:
  struct Made {
    ContentId id;
    std::vector<std::uint32_t> left_out;
  };
  using Key = std::pair<PackId, std::vector<std::uint32_t>>;
  Task<Pack> make_now(PackId id, MakePack asked);
  [[nodiscard]] std::int64_t loaded_bytes();

  Workers& workers_;
  MeshKeysPtr keys_;
  Library& library_;
  Session& session_;
  Room& room_;
  std::map<PackId, Made> made_;  ///< of which the torrent may be loaded still
  SingleFlight<Key, Pack> making_;
};

}  // namespace mesh
