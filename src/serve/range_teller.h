// Sends other nodes ranges of contents (wire/messages/ranges.h): of what this node offers, and of what its readers have
// here and has been verified. Who reads a content and asks here is told who else does, so that they ask each other.
// A candidate that nobody has hashed is read as it was listed. On the node's loop; blocking work goes to the pools.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "library/library.h"
#include "serve/seeder.h"
#include "transfer/read_cache.h"
#include "transfer/read_profiles.h"
#include "wire/channel.h"
#include "wire/pacer.h"
#include "wire/workers.h"

namespace mesh {

class RangeTeller {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds reader_kept{30};  ///< for so long one is said to read that asks no more

  /// `upload`: the limit of what goes out on node channels.
  RangeTeller(Workers& workers, Library& library, Seeder& seeder, ReadCache& cache, ReadProfiles& profiles,
              Pacer upload)
      : workers_(workers),
        library_(library),
        seeder_(seeder),
        cache_(cache),
        profiles_(profiles),
        upload_(std::move(upload)),
        less_under_way_(workers.loop()) {}

  void serve(Handlers& handlers);
  /// Files are gone, or may be others: none stays open for who may ask again.
  void forget() { open_.clear(); }
  /// Bytes that went to readers.
  [[nodiscard]] std::int64_t sent() const { return sent_; }
  /// To be called every few seconds.
  void tend();

 private:
  struct Reader {
    NodeRef node;
    Clock::time_point asked;
  };
  struct Readers {
    std::map<std::string, Reader> all;  ///< by instance
    std::int64_t stamp = 0;
    Clock::time_point asked;
  };
  struct Opened {
    StoragePtr storage;
    HashedFile file;
    Clock::time_point used;
  };
  using OpenedPtr = std::shared_ptr<Opened>;
  Task<RangeTold> range(ChannelPtr channel, RangeAsk asked);
  Task<std::shared_ptr<void>> take_room(ChannelPtr channel, std::int64_t bytes);
  Task<RangeTold> candidate(RangeAsk asked, std::int64_t most);
  Task<RangeTold> of_readers(ChannelPtr channel, CachedContentPtr content, RangeAsk asked, std::int64_t most);
  Task<ProfileTold> profile(ProfileAsk asked);
  Task<OpenedPtr> open(ContentId id, std::int64_t size);
  void note_reader(const Channel& channel, const RangeAsk& asked, RangeTold& out);

  Workers& workers_;
  Library& library_;
  Seeder& seeder_;
  ReadCache& cache_;
  ReadProfiles& profiles_;
  Pacer upload_;
  std::map<ContentId, OpenedPtr> open_;
  std::map<ContentId, Readers> readers_;
  std::int64_t last_stamp_ = 0;
  std::int64_t sent_ = 0;
  std::int64_t under_way_ = 0;                      ///< bytes of answers
  std::map<const Channel*, std::int64_t> of_each_;  ///< the same, of each channel
  Event less_under_way_;
};

}  // namespace mesh
