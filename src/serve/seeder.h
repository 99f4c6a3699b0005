// What this node does for others: says what it has, hashes it when asked, seeds it, and hands out small files.
// Everything a request names goes through the path gate. All on the node's loop; blocking work goes to the pool.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "library/library.h"
#include "library/maker.h"
#include "swarm/session.h"
#include "wire/channel.h"
#include "wire/pacer.h"
#include "wire/workers.h"

namespace mesh {

class Seeder {
 public:
  /// `upload`: the limit of what goes out on the node channel.
  Seeder(Workers& workers, MeshKeysPtr keys, Library& library, Session& session, Pacer upload)
      : workers_(workers), keys_(std::move(keys)), library_(library), session_(session), small_up_(std::move(upload)) {}

  /// Told of each torrent for other clients that is asked for, loaded by then.
  std::function<void(const SwarmTorrent&)> on_standard;

  /// Answers make, load, probe and fetch on channels with these handlers.
  void serve(Handlers& handlers);

  /// The file with its content id; hashed now where it must be. Throws Error when it is not what was asked for.
  Task<FileEntry> make(FileEntry asked, bool standard);
  /// Bytes that this node holds, hashed where they must be, and open to be served. `hashes`: of a torrent that is not
  /// the mesh's. Throws Error.
  struct Held {
    FileEntry entry;
    HashedFile file;
    StoragePtr storage;
  };
  Task<Held> open_for_seeding(ContentId id, std::int64_t size, std::vector<lt::sha1_hash> hashes = {});
  /// The torrent for other clients of bytes that this node holds; made, where it must be. Throws Error.
  Task<StandardTorrent> standard(ContentId id, std::int64_t size);
  /// Loads a torrent of bytes that this node holds.
  Task<Torrent> load(Seed asked);
  /// Hashes a file again whose metadata have changed: soon, at idle priority.
  void prove(const FileEntry& entry);
  /// Hashes what nobody asked for, one file at a time at idle priority, until the node stops.
  Task<void> hash_eagerly();

 private:
  Task<void> prove_all();
  Task<FileEntry> make_now(FileEntry asked, bool standard, bool idle);
  Task<Torrent> load_standard(Seed asked);
  /// Blocks.
  [[nodiscard]] std::optional<StandardTorrent> kept_standard(const ContentId& id, std::int64_t size) const;
  Task<Probed> probe(ProbePath asked);
  Task<Fetched> fetch(ChannelPtr channel, Fetch asked);

  Workers& workers_;
  MeshKeysPtr keys_;
  Library& library_;
  Session& session_;
  Pacer small_up_;
  SingleFlight<std::string, FileEntry> making_;
  std::map<std::string, FileEntry> touched_;  ///< to be hashed again
  std::map<std::string, int> tries_;
  bool proving_ = false;
};

}  // namespace mesh
