// What is read first of contents (core/read_profile.h): written down while something here reads them, kept in the state
// database, told to nodes that hold them, and asked of those when a content is opened (docs/decisions/0029).
//
// An opening begins with the first read after a minute without any, and is written down for two minutes. On the node's
// loop; blocking work goes to the pool.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/read_profile.h"
#include "library/library.h"
#include "mesh/node_channels.h"
#include "mesh/tracker_links.h"
#include "wire/workers.h"

namespace mesh {

class ReadProfiles {
 public:
  using Clock = std::chrono::steady_clock;
  struct Options {
    std::chrono::milliseconds length{120'000};  ///< of an opening
    std::chrono::milliseconds apart{60'000};    ///< without a read, and the next one is another opening
    std::chrono::milliseconds pause{5'000};     ///< without a read, and what there is so far is kept
    bool tells = true;                          ///< to other nodes
  };
  ReadProfiles(Workers& workers, Options options, Library& library, TrackerLinks& links, NodeChannels& channels)
      : workers_(workers), options_(options), library_(library), links_(links), channels_(channels) {}

  /// Somebody here has read these bytes.
  void note(const FileEntry& file, std::int64_t offset, std::int64_t length);
  /// The profile of a content: as kept here, or as one of these nodes tells. Empty where there is none.
  Task<std::vector<ProfileRun>> learn(FileEntry file, std::vector<NodeRef> holders);
  /// As kept here.
  Task<std::string> find(ContentId id, std::int64_t size);
  /// Of another node, of a content that this one holds.
  Task<void> hear(ContentId id, std::int64_t size, std::string told);
  /// To be called every second or so.
  void tend();
  /// Keeps what is being written down.
  Task<void> close();

 private:
  struct Opening {
    FileEntry file;
    ProfileRecorder recorder;
    Clock::time_point begun;
    Clock::time_point read;
    std::size_t kept = 0;  ///< runs that were there when it was kept last
  };
  [[nodiscard]] bool is_over(const Opening& opening, Clock::time_point now) const {
    return now - opening.begun >= options_.length || opening.recorder.is_full();
  }
  Task<void> put(ContentId id, std::int64_t size, std::string told, bool is_own);
  static Task<void> keep_and_tell(ReadProfiles* self, FileEntry file, std::string told);
  Task<void> tell(FileEntry file, std::string told);

  Workers& workers_;
  Options options_;
  Library& library_;
  TrackerLinks& links_;
  NodeChannels& channels_;
  std::map<ContentId, Opening> openings_;
};

}  // namespace mesh
