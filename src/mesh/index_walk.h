// Asks the keepers what the mesh has under a path, a glob or a directory, level by level (docs/decisions/0024).
//
// One keeper's word serves where it has kept for long and knows something of the directory; otherwise all of a
// directory's keepers are asked, and what they say is put together. All on the node's loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/keeper_ring.h"
#include "core/member.h"
#include "mesh/keeper_links.h"
#include "wire/beyond.h"
#include "wire/messages.h"

namespace mesh {

class IndexWalk {
 public:
  struct Facts {
    /// At most so many keepers of a key, the first one first.
    std::function<std::vector<Member>(std::uint64_t key, std::size_t count)> keepers;
    /// At most so many of the other nodes, at random.
    std::function<std::vector<Member>(std::size_t most)> some;
    std::function<NodeRef(const Member&)> reference;
    /// What this node itself knows of one, if that has not failed to answer: better than what others say of it.
    std::function<std::optional<Member>(const std::string& instance)> find;
    std::function<bool(const Member&)> may_ask;  ///< of one that a keeper names
    std::function<std::size_t()> known;          ///< other nodes
    std::function<bool()> has_trackers;          ///< that might have answered; may be unset
  };
  IndexWalk(asio::io_context& io, Facts facts, KeeperLinks& links) : io_(io), facts_(std::move(facts)), links_(links) {}

  /// Throws Error(unreachable) where no keeper answers.
  Task<Covered> cover(CoverAsk asked);

 private:
  struct Question;
  struct Round;
  using Questions = std::vector<std::shared_ptr<Question>>;

  Task<void> walk(CoverAsk asked, std::shared_ptr<Round> round);
  /// Returns the directories that were found.
  Task<void> ask(Questions questions, std::shared_ptr<Round> round);
  Task<void> ask_one(Member keeper, Questions questions, std::shared_ptr<Round> round);
  void take(const Indexed& heard, const Questions& asked, Round& round);

  asio::io_context& io_;
  Facts facts_;
  KeeperLinks& links_;
};

}  // namespace mesh
