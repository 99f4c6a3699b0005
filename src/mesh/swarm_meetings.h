// Where no tracker is, those that have a swarm's torrent loaded meet at the keepers of the swarm's infohash or content,
// and those that share a URL's pieces at the first keeper of the URL, which plans who fetches what.
//
// Keepers that come or go are told anew of what is loaded here. All on the node's loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/keeper_ring.h"
#include "core/member.h"
#include "mesh/keeper_links.h"
#include "wire/messages.h"

namespace mesh {

class SwarmMeetings {
 public:
  struct Facts {
    std::function<std::vector<Member>(std::uint64_t key)> keepers;
    std::function<std::uint64_t()> changes;  ///< another number: they may be others
    /// Who else is in a swarm, when that becomes known later.
    std::function<void(const ContentId& id, const Introduced&)> introduced;
  };
  SwarmMeetings(asio::io_context& io, Facts facts, KeeperLinks& links);
  ~SwarmMeetings() { alive_.reset(); }
  SwarmMeetings(const SwarmMeetings&) = delete;
  SwarmMeetings& operator=(const SwarmMeetings&) = delete;

  /// This node has the torrent loaded: whom the keepers name. Empty where none answers.
  Task<std::vector<Introduced>> join(JoinSwarm ready);
  /// The same of one that shares a URL's pieces, and its turns. Throw Error(unreachable) where no keeper answers.
  Task<Introduced> share(JoinSwarm ready);
  Task<OriginAssignment> turn(OriginReport said);
  /// All bytes are here now.
  void completed(const ContentId& id);
  /// The torrent is loaded no more.
  void leave(const ContentId& id);
  [[nodiscard]] bool is_keeper(const std::string& instance) const;
  /// Tells keepers that are new. To be called now and then.
  void tend();

 private:
  struct Joined {
    JoinSwarm ready;
    std::map<std::string, std::uint64_t> at;  ///< keepers that know, and on which link
    bool busy = false;
    std::uint64_t keepers_of = 0;  ///< `changes`, as it was when these were named
    std::vector<Member> keepers{};
  };
  /// One keeper's answer, and which it was.
  template <class Reply>
  struct Answer {
    Reply reply;
    std::string keeper;
    std::uint64_t link = 0;
  };
  const std::vector<Member>& keepers_of(Joined& joined);
  [[nodiscard]] bool is_told(const Joined& joined, const std::string& keeper) const;

  [[nodiscard]] static std::uint64_t key_of(const JoinSwarm& ready);
  Task<std::optional<Introduced>> tell(Member keeper, JoinSwarm ready);
  Task<void> tell_new(ContentId id);
  template <class Request>
  Task<Answer<typename Request::Reply>> ask_first(std::uint64_t key, Request question);

  asio::io_context& io_;
  Facts facts_;
  KeeperLinks& links_;
  std::map<ContentId, Joined> joined_;
  std::size_t telling_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace mesh
