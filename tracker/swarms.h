// Which node has which torrent loaded, and who is told of whom: getters are introduced to sources and to each other.
//
// All on the tracker's loop.
#pragma once

#include <chrono>
#include <map>
#include <random>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "announced.h"
#include "lookup.h"
#include "members.h"
#include "wire/beyond.h"
#include "wire/flow.h"

namespace mesh {

class Swarms {
 public:
  using Clock = std::chrono::steady_clock;
  /// A swarm that the mesh's nodes are in. Exists while any of them has the torrent loaded.
  struct Swarm {
    InfoHash infohash;
    std::int64_t size = 0;
    std::string roots;      ///< as in Torrent
    bool is_told = false;   ///< a node has told `roots`, which of one piece are empty
    ContentId standard_of;  ///< set, where that is known: what it is to other clients
    std::string info;       ///< of a standard one
    bool is_standard = false;
    std::set<NodeKey> ready;
    std::set<NodeKey>
        makers;  ///< of `ready`: those that have all of it as they say, as no catalog knows: of a pack, or at a keeper
    std::set<NodeKey> sharing;  ///< those of `ready` that share a URL's pieces
    bool members_due = false;
    Clock::time_point recruited{};  ///< when more holders were asked to seed a standard one
    std::set<NodeKey> asked;        ///< to do that
  };
  using Entry = std::pair<const ContentId, Swarm>;

  /// `announced`: clients from outside the mesh. All must outlive this.
  /// `beyond`: of a view; may be null.
  Swarms(asio::io_context& io, Members& members, const Lookup& lookup, AnnouncedPeers& announced,
         const Beyond* beyond = nullptr)
      : io_(io), members_(members), lookup_(lookup), announced_(announced), beyond_(beyond) {}

  /// The torrent of a file, once at least one node that is not the asker seeds it. Throws Error.
  Task<Torrent> join(ChannelPtr channel, PrepareSwarm question);
  /// A node has a torrent loaded: whom to connect to.
  Task<Introduced> introduce(ChannelPtr channel, JoinSwarm question);
  /// A node has made a pack, which no catalog knows, and seeds it: others are sent there, and it to them. Throws Error.
  void seeds_pack(NodeKey node, const Torrent& torrent);
  /// Whether a node that has made this pack still seeds it.
  [[nodiscard]] bool has_maker(const ContentId& id) const;
  [[nodiscard]] bool is_maker(const ContentId& id, NodeKey node) const;
  void leave(NodeKey node, const ContentId& id);
  void leave_all(NodeKey node);
  /// The getters of `id`, where there are any, hear soon who shares its pieces now.
  void tell_members_soon(const ContentId& id);

  /// Has a node load its torrent of this content for other clients. `info`: of the torrent, where it is known already.
  Task<Torrent> load_standard(NodeKey node, ContentId id, std::int64_t size, std::string info);
  /// Asks the nodes for a torrent of which no swarm is loaded; false where nobody has it.
  Task<bool> find_torrent(InfoHash infohash);
  /// Other clients want it: more of its holders seed it, and connect to those who have announced themselves. None is
  /// asked twice.
  void recruit_seeders(const ContentId& own);
  /// Other clients arrive in bunches; one note for a bunch.
  void meet_soon(NodeKey node, const ContentId& id, std::string peer);

  [[nodiscard]] bool contains(const InfoHash& infohash) const { return by_infohash_.contains(infohash); }
  /// Null where there is none.
  [[nodiscard]] const Entry* find(const InfoHash& infohash) const;
  /// Whether `node`, which is ready in this swarm, has all of it.
  [[nodiscard]] bool has_all(const ContentId& id, const Swarm& swarm, NodeKey node) const {
    return swarm.is_standard || swarm.makers.contains(node) || lookup_.is_holder(id, swarm.size, node);
  }
  [[nodiscard]] std::size_t size() const { return swarms_.size(); }

 private:
  void seeds(NodeKey node, const Torrent& torrent);
  void seeds_standard(NodeKey node, const Torrent& torrent);
  Task<Torrent> ask_to_load(NodeKey node, Seed request, std::chrono::seconds limit);
  Task<Torrent> load(NodeKey node, ContentId id, std::int64_t size);
  Task<void> add_seeder(NodeKey node, ContentId own);
  void meet_getters(NodeKey node, const ContentId& id);
  Task<Torrent> seeded(ContentId id, std::int64_t size, NodeKey asker);
  [[nodiscard]] std::vector<NodeKey> sources(const ContentId& id, std::int64_t size, NodeKey asker) const;
  [[nodiscard]] std::vector<std::uint64_t> sharing(const ContentId& id, const Swarm& swarm) const;
  void enter(NodeKey node, Swarm& swarm);

  asio::io_context& io_;
  Members& members_;
  const Lookup& lookup_;
  AnnouncedPeers& announced_;
  const Beyond* beyond_;
  std::mt19937 random_{std::random_device{}()};
  std::unordered_map<ContentId, Swarm> swarms_;
  std::unordered_map<InfoHash, ContentId> by_infohash_;
  std::map<NodeKey, std::size_t> memberships_;                               ///< how many swarms each node is in
  std::map<std::pair<NodeKey, ContentId>, std::vector<std::string>> meets_;  ///< to be told in a moment
  SingleFlight<std::pair<NodeKey, ContentId>, Torrent> loads_;
  SingleFlight<std::pair<NodeKey, std::string>, FileEntry> makes_;
};

}  // namespace mesh
