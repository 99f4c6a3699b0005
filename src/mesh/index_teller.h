// Tells the keepers of this node's directories what it has in them, and what changes (docs/decisions/0024).
//
// A directory has a count here that grows with each change; a keeper has what was told up to some count. Where a
// channel was lost, or much time has passed, the counts are compared, and only what differs is told again. All on the
// node's loop.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/keeper_ring.h"
#include "core/log.h"
#include "core/member.h"
#include "mesh/keeper_links.h"
#include "wire/messages.h"

namespace mesh {

class IndexTeller {
 public:
  using Clock = std::chrono::steady_clock;
  struct Facts {
    /// Of this node's inventory: up to `limit` entries behind `after`; those directly in a directory; one path.
    std::function<std::vector<FileEntry>(std::string_view after, std::size_t limit)> page;
    std::function<std::vector<FileEntry>(std::string_view directory, std::string_view after, std::size_t limit)> list;
    std::function<std::optional<FileEntry>(std::string_view path)> find;
    /// The keepers of a directory, this node among them where it is one.
    std::function<std::vector<Member>(std::uint64_t key)> keepers;
    std::function<std::uint64_t()> changes;  ///< another number: they may be others
    /// Whether a channel to it is of no other use.
    std::function<bool(const std::string& instance)> may_rest;
    Log log;
  };
  IndexTeller(asio::io_context& io, Facts facts, KeeperLinks& links);
  ~IndexTeller();
  IndexTeller(const IndexTeller&) = delete;
  IndexTeller& operator=(const IndexTeller&) = delete;

  /// The first scan is over: what is there is told from now on.
  void begin();
  /// To be told of every change from then on.
  void changed(const InventoryDelta& delta);
  [[nodiscard]] bool is_keeper(const std::string& instance) const { return keepers_.contains(instance); }
  /// Everything that was there has been told, as far as that could be done, or nothing is told by this node yet.
  [[nodiscard]] bool is_told() const;
  void close();

 private:
  struct Directory {
    std::int64_t stamp = 0;  ///< never the same for two states of a directory
  };
  struct Keeper {
    Member member;
    std::set<std::string> assigned;
    std::map<std::string, std::int64_t> told;              ///< which it has, and of what count
    std::map<std::string, std::set<std::string>> changes;  ///< paths in what it has been told of, since then
    std::uint64_t link = 0;                                ///< on which it was told last
    bool hangs_up = false;                                 ///< it has too many channels
    std::int64_t kept = 0;                                 ///< for how long it said that it keeps, at that time
    Clock::time_point compared{};
    std::uint64_t clean = 0;    ///< of `version_`: it had been told everything then
    Clock::time_point again{};  ///< it could not be told: not before
    bool busy = false;
    bool is_lost = false;  ///< the link was, and none was had since
  };
  using KeeperPtr = std::shared_ptr<Keeper>;

  Task<void> run();
  Task<void> assign();
  [[nodiscard]] bool is_due(const std::string& instance, Keeper& keeper, Clock::time_point now) const;
  [[nodiscard]] bool lacks_something(const Keeper& keeper) const;
  void look_for_losses();
  void note(Keeper& keeper, const IndexTold& heard);
  [[nodiscard]] bool is_gone(const std::string& directory);
  Task<void> tell(KeeperPtr keeper);
  Task<void> tell_all(KeeperPtr keeper);
  Task<void> compare(KeeperPtr keeper, ChannelPtr channel);
  Task<void> send(KeeperPtr keeper, ChannelPtr channel, IndexTell said);
  Task<void> tell_whole(KeeperPtr keeper, ChannelPtr channel, std::string directory);
  void wake();

  asio::io_context& io_;
  Facts facts_;
  KeeperLinks& links_;
  std::map<std::string, Directory> directories_;
  std::map<std::string, KeeperPtr> keepers_;  ///< by instance
  std::set<std::string> unassigned_;          ///< directories that are new
  std::uint64_t assigned_for_ = 0;            ///< of `changes`
  std::int64_t last_stamp_ = 0;
  std::uint64_t version_ = 1;              ///< another one after each change of what is to be told to whom
  std::vector<Clock::time_point> losses_;  ///< of links, lately
  std::size_t telling_ = 0;
  bool begun_ = false;
  bool is_assigned_ = false;  ///< what was there at the beginning is
  bool closed_ = false;
  bool said_full_ = false;
  Event wake_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace mesh
