// Guest torrents: a file for BitTorrent clients from outside the mesh, for a time, from this node alone.
//
// A guest torrent is the file's, with its name and a random salt in the info dictionary, so that its infohash says
// nothing of the mesh's own swarms and cannot be guessed: who has the .torrent may have the file. It is private (BEP
// 27), and announces (BEP 3) to this node's channel port, which names this node as its one peer. All on the node's
// loop.
#pragma once

#include <chrono>
#include <map>
#include <string>

#include "node/node_parts.h"
#include "node/offer.h"
#include "wire/server.h"

namespace mesh {

class Guests {
 public:
  Guests(NodeParts& parts, Offer& offer) : parts_(parts), offer_(offer) {}

  /// A torrent of the file at `path`, which must be here, good for so long. Throws Error. They end with the node.
  Task<TorrentFile> issue(std::string path, std::chrono::seconds time, Hello self);
  Task<HttpReply> serve_http(std::string target, asio::ip::address local);
  /// Ends those whose time is up; called now and then.
  void expire();

 private:
  struct Guest {
    ContentId id;  ///< its own, no content's
    std::string path;
    std::chrono::steady_clock::time_point until;
  };
  NodeParts& parts_;
  Offer& offer_;
  std::map<InfoHash, Guest> guests_;
};

}  // namespace mesh
