// One content that is read before it is here: the blocks of it that were wanted so far, in the part that a get of it
// would go on from, and the reads that wait for more (docs/decisions/0026).
//
// Readers of the same grain share one request. Whole grains come, are verified on the way, and written to the part
// while nobody else brings the content; where somebody does, or there is no room for it, they are kept in memory for a
// moment and that is all. On the node's loop; blocking work goes to the pool.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>

#include "core/log.h"
#include "transfer/parts.h"
#include "transfer/range_fetcher.h"
#include "transfer/room.h"

namespace mesh {

class CachedContent : public std::enable_shared_from_this<CachedContent> {
 public:
  using Clock = std::chrono::steady_clock;
  /// Whether so many bytes more may be written, and that they were; to a part that is for readers alone, or not.
  struct Store {
    std::function<bool(std::int64_t bytes, bool is_for_readers)> has_room;
    std::function<void(std::int64_t bytes)> wrote;
  };
  CachedContent(Workers& workers, Parts& parts, Room& room, Store store, RangeFetcherPtr fetcher, FileEntry wanted);

  /// Before anything else, once. `first`: what will be read first. Throws Error.
  Task<void> open(std::int64_t first, Clock::time_point until);

  /// Bytes from `offset` on that are here by then: at least one, and at most as many as `out` holds; 0 at the end.
  /// Throws Error: by `until`, at the latest, where nobody brings them; interrupted, where `is_stopped` says so.
  /// `holders_only`: it is read for another reader, who asks this node.
  Task<std::size_t> read(std::int64_t offset, std::span<char> out, Clock::time_point until,
                         std::function<bool()> is_stopped, bool holders_only = false);
  /// Whether all of this is here.
  [[nodiscard]] bool has(std::int64_t offset, std::int64_t length) const;
  /// What is not here of it is to come.
  void want(std::int64_t from, std::int64_t to, bool holders_only = false);
  /// The same, of what nobody waits for yet.
  void want_ahead(std::int64_t from, std::int64_t to) { bring_missing(from, to, false, true); }
  [[nodiscard]] std::int64_t bytes_coming() const { return std::ssize(coming_) * grain_bytes; }
  /// Until something has arrived, or has not, or that time is over.
  Task<void> wait_for_news(std::chrono::milliseconds time) { co_await changed_.wait_for(time); }
  /// When a reader here last had to wait.
  [[nodiscard]] Clock::time_point last_missed() const { return last_missed_; }
  /// What comes is written to the part.
  [[nodiscard]] bool is_stored() const { return storage() != nullptr && store_.has_room(0, is_for_readers_); }

  [[nodiscard]] const FileEntry& wanted() const { return wanted_; }
  [[nodiscard]] const HashedFile& file() const { return fetcher_->file(); }
  [[nodiscard]] RangeFetcher& fetcher() { return *fetcher_; }
  /// It has a part that is for readers alone.
  [[nodiscard]] bool is_for_readers() const { return storage_ && !lets_go_ && is_for_readers_; }
  /// How many bytes ahead of a reader are not in vain.
  [[nodiscard]] std::int64_t most_ahead() const;

  /// Somebody reads it while what is returned lives.
  [[nodiscard]] std::shared_ptr<void> use();
  [[nodiscard]] int users() const { return users_; }
  [[nodiscard]] Clock::time_point last_used() const { return last_used_; }
  /// Another reader was answered.
  void touch() { last_used_ = Clock::now(); }

  /// Writes down what has arrived since the last time.
  Task<void> save();
  /// All that has arrived is written down.
  [[nodiscard]] bool is_saved() const { return !is_dirty_ && !is_saving_; }
  /// Writes nothing more: what is in the part is written down, and is somebody else's. Returns when that is so. What is
  /// read from now on stays in memory.
  Task<void> let_go();

 private:
  [[nodiscard]] bool has_block(std::int64_t offset) const;
  [[nodiscard]] bool is_unread(std::int64_t offset) const;
  void bring_missing(std::int64_t from, std::int64_t to, bool holders_only, bool is_ahead);
  Task<std::size_t> read_here(std::int64_t offset, std::span<char> out);
  static Task<void> bring(std::shared_ptr<CachedContent> self, std::int64_t offset, std::int64_t length,
                          bool holders_only, std::shared_ptr<bool> is_urgent);
  static Task<void> look_again(std::shared_ptr<CachedContent> self, StoragePtr storage, std::int64_t offset,
                               std::shared_ptr<void> busy);
  /// The part is in use while what is returned lives.
  [[nodiscard]] std::shared_ptr<void> use_part();
  [[nodiscard]] StoragePtr storage() const { return lets_go_ ? nullptr : storage_; }
  Task<void> put(std::int64_t offset, std::string bytes);
  void keep_in_memory(std::int64_t offset, std::string_view bytes);
  [[nodiscard]] std::int64_t size() const { return wanted_.size; }

  Workers& workers_;
  Parts& parts_;
  Room& room_;
  Store store_;
  RangeFetcherPtr fetcher_;
  const FileEntry wanted_;
  Room::Claim claim_;
  StoragePtr storage_;                          ///< null: all stays in memory
  std::map<int, std::vector<bool>> unread_;     ///< blocks that an earlier run has left, and nobody has read again
  std::set<std::int64_t> unknown_;              ///< grains of these whose leaves nobody could say
  std::map<std::int64_t, std::string> memory_;  ///< grains that are not on the disk, by their number
  std::deque<std::int64_t> in_memory_;          ///< the same, the oldest first
  std::map<std::int64_t, std::shared_ptr<bool>> coming_;  ///< grains, by their number; whether somebody waits for it
  std::map<std::int64_t, Error> failed_;                  ///< of those that did not come
  Event changed_;
  int part_users_ = 0;
  bool is_saving_ = false;
  bool is_dirty_ = false;
  bool lets_go_ = false;
  bool is_for_readers_ = false;
  int users_ = 0;
  Clock::time_point last_used_ = Clock::now();
  Clock::time_point last_missed_{};
};
using CachedContentPtr = std::shared_ptr<CachedContent>;

}  // namespace mesh
