// Guest torrents: a file for BitTorrent clients from outside the mesh, for a time, from this node alone.
//
// A guest torrent is the file's, with its name and a random salt in the info dictionary, so that its infohash says
// nothing of the mesh's own swarms and cannot be guessed: who has the .torrent may have the file. It is private (BEP
// 27), and announces (BEP 3) to this node's channel port, which names this node as its one peer.
//
// Guests have a libtorrent session of their own, with a port, a number of connections and a thread of its own, while
// there are guest torrents: whatever is done at that port, members have their peers. All on the node's loop.
#pragma once

#include <chrono>
#include <map>
#include <string>

#include "serve/seeder.h"
#include "wire/server.h"

namespace mesh {

class Guests {
 public:
  struct Options {
    Access access;                          ///< the node's
    std::int64_t max_up = 0;                ///< bytes per second; 0: as fast as it goes
    std::vector<lt::tcp::endpoint> listen;  ///< the addresses of the node's own swarm, at which a port is taken
  };
  Guests(Workers& workers, Options options, Log log, const Library& library, Seeder& seeder)
      : workers_(workers), options_(std::move(options)), log_(std::move(log)), library_(library), seeder_(seeder) {}

  /// A torrent of the file at `path`, which must be here, good for so long, that names this node by `addresses`. Throws
  /// Error. They end with the node.
  Task<TorrentFile> issue(std::string path, std::chrono::seconds time, std::vector<std::string> addresses,
                          std::uint16_t channel_port);
  /// Whether the request is an announce for a torrent of a guest of this node's.
  [[nodiscard]] bool is_for(std::string_view target) const;
  Task<HttpReply> serve_http(std::string target, asio::ip::address local);
  /// Ends those whose time is up, or whose file has changed, and watches their port; called every second.
  void tend();
  /// What they have loaded.
  [[nodiscard]] std::vector<SwarmTorrentPtr> torrents() const {
    return swarm_ ? swarm_->all() : std::vector<SwarmTorrentPtr>();
  }
  void refresh(SwarmTorrent& torrent) { swarm_->refresh(torrent); }

 private:
  struct Guest {
    ContentId id;  ///< its own, no content's
    std::string path;
    std::chrono::steady_clock::time_point until;
    bool loaded = false;
  };
  Workers& workers_;
  Options options_;
  Log log_;
  const Library& library_;
  Seeder& seeder_;
  std::unique_ptr<Session> swarm_;  ///< while there are guest torrents
  std::map<InfoHash, Guest> guests_;
};

}  // namespace mesh
