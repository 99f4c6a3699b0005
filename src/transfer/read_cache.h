// What readers have here of contents that this node does not hold: open ones, whose blocks other readers are told, and
// what earlier ones have left in parts, up to a bound (docs/decisions/0026).
//
// A part that somebody reads is never dropped, nor anything of it; others go as a whole, the one that was read longest
// ago first. On the node's loop; blocking work goes to the pool.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/log.h"
#include "transfer/cached_content.h"

namespace mesh {

class ReadCache {
 public:
  using Clock = std::chrono::steady_clock;
  struct Options {
    std::int64_t most_bytes = -1;  ///< of parts that are for readers alone; below 0: a tenth of the file system
    std::function<NodeRef()> self;
    std::chrono::seconds idle{60};  ///< a content that nobody reads is open for so long
  };
  ReadCache(Workers& workers, Options options, Log log, Library& library, TrackerLinks& links, NodeChannels& channels,
            Parts& parts, Room& room);

  /// A content that somebody here is about to read, from `first` on. `holders`: as known from its path. Throws Error.
  Task<CachedContentPtr> open(FileEntry wanted, std::vector<NodeRef> holders, std::int64_t first,
                              Clock::time_point until);
  /// Somebody here is just opening it.
  [[nodiscard]] bool is_opening(const ContentId& id, std::int64_t size) const {
    return opening_.is_running(std::pair(id, size));
  }
  /// One that is open; null where none is.
  [[nodiscard]] CachedContentPtr find(const ContentId& id, std::int64_t size) const;

  [[nodiscard]] Task<CacheUsage> usage();
  /// As the first of these, about.
  [[nodiscard]] std::int64_t bytes() const { return bytes_; }
  /// Drops what nobody reads at the moment.
  Task<void> drop();
  /// What is under way is written down.
  Task<void> close();

 private:
  struct Known {
    ContentId id;
    std::int64_t bytes = 0;
  };
  [[nodiscard]] bool has_room(std::int64_t bytes, bool is_for_readers);
  Task<CachedContentPtr> make(FileEntry wanted, std::vector<NodeRef> holders, std::int64_t first,
                              Clock::time_point until);
  Task<void> tend();
  Task<std::vector<Known>> look();
  Task<void> shrink(std::int64_t most);
  bool take_out(const CachedContentPtr& content);
  Task<void> note_use(const CachedContent& content, bool is_new);

  Workers& workers_;
  Options options_;
  Log log_;
  Library& library_;
  TrackerLinks& links_;
  NodeChannels& channels_;
  Parts& parts_;
  Room& room_;
  std::map<ContentId, CachedContentPtr> contents_;
  SingleFlight<std::pair<ContentId, std::int64_t>, CachedContentPtr> opening_;
  std::int64_t bytes_ = 0;  ///< on the disk, about
  std::size_t count_ = 0;   ///< of parts
  std::int64_t most_ = 0;
  std::int64_t free_ = 0;
  Clock::time_point free_since_{};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace mesh
