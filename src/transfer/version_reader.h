// Any range of one version of a file, whether it is here, on its way, or neither: from the files directory, from a
// download or a stream that is under way, or from what readers have here and the nodes that hold the rest
// (docs/decisions/0026). A version that nobody has hashed is read from its one holder, and what was read is proven when
// it has been. On the node's loop; blocking work goes to the pool.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/read_streams.h"
#include "mesh/node_channels.h"
#include "mesh/tracker_links.h"
#include "swarm/session.h"
#include "transfer/prefetcher.h"
#include "transfer/read_cache.h"
#include "transfer/read_profiles.h"
#include "transfer/reader.h"

namespace mesh {

/// What readers read by, the same for all of a node.
struct ReadFrom {
  Workers& workers;
  Library& library;
  Session& session;
  TrackerLinks& links;
  NodeChannels& channels;
  ReadCache& cache;
  ReadProfiles& profiles;
  Prefetcher& prefetcher;
};

class VersionReader final : public Reader {
 public:
  struct Options {
    std::chrono::milliseconds patience{20'000};  ///< with one read
    std::function<bool()> is_stopped = [] { return false; };
    Prefetch prefetch = Prefetch::none;
    /// Of several that read one open file side by side: what they read, together. Null: this one reads by itself.
    std::shared_ptr<ReadStreams> streams;
  };
  /// `holders`: nodes that have it; of a candidate the one that is to be asked, and its key at the trackers.
  VersionReader(ReadFrom from, FileEntry wanted, std::vector<NodeRef> holders, Options options);
  ~VersionReader() override;
  VersionReader(const VersionReader&) = delete;
  VersionReader& operator=(const VersionReader&) = delete;

  [[nodiscard]] std::int64_t size() const override { return wanted_.size; }
  /// Any offset, in any order. Throws Error by the time that the patience ends.
  Task<std::size_t> read(std::int64_t offset, std::span<char> out) override;
  [[nodiscard]] const FileEntry& wanted() const { return wanted_; }
  /// Nobody reads for a while: what it holds for that is let go of.
  void rest();
  /// All up to that byte is going to be read. `may_go_on`: and perhaps what follows; else nothing beyond is fetched.
  void set_end(std::int64_t end, bool may_go_on) {
    sure_ = end;
    end_ = may_go_on ? INT64_MAX : end;
  }

 private:
  using Clock = std::chrono::steady_clock;
  struct Candidate;

  Task<std::size_t> read_local(std::int64_t offset, std::span<char> out);
  Task<std::size_t> read_torrent(std::int64_t offset, std::span<char> out, Clock::time_point until);
  Task<std::size_t> read_content(std::int64_t offset, std::span<char> out, Clock::time_point until);
  Task<std::size_t> read_candidate(std::int64_t offset, std::span<char> out, Clock::time_point until);
  /// Up to where what follows a read should be on its way.
  std::int64_t read_ahead(std::int64_t offset, std::int64_t length, std::int64_t most);
  void take_id();
  void check_stopped() const;

  ReadFrom from_;
  FileEntry wanted_;
  std::vector<NodeRef> holders_;
  Options options_;
  ReadAhead ahead_;
  std::int64_t sure_ = 0;
  std::int64_t end_ = INT64_MAX;
  std::optional<LocalReader> local_;
  bool is_local_bad_ = false;
  /// Where a get or a stream that is under way is to bring first.
  struct Cursor {
    SwarmTorrentPtr torrent;
    std::shared_ptr<PieceScheduler> scheduler;  ///< the torrent may have let go of it
    PieceScheduler::CursorId id = 0;
  };
  void move_cursor(const SwarmTorrentPtr& torrent, int piece);
  void drop_cursor();
  Cursor cursor_;
  CachedContentPtr content_;
  std::shared_ptr<void> used_;
  std::shared_ptr<void> prefetched_;  ///< it is open here, as the prefetcher knows it, between reads as well
  CachedContentPtr prefetching_;
  std::shared_ptr<Candidate> candidate_;  ///< null: its id is known
};

}  // namespace mesh
