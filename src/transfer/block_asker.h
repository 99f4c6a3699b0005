// Asks nodes that have a content what its blocks are, and remembers it, so that this node passes it on. On the node's
// loop; what is to be checked goes to the pool.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/log.h"
#include "library/library.h"
#include "library/maker.h"
#include "mesh/node_channels.h"
#include "mesh/tracker_links.h"
#include "transfer/block_info.h"
#include "wire/workers.h"

namespace mesh {

class BlockAsker final : public BlockInfo {
 public:
  /// `wanted` has its id; `file` has its roots. All must outlive this.
  BlockAsker(Workers& workers, Library& library, TrackerLinks& links, NodeChannels& channels, Log log,
             const FileEntry& wanted, const HashedFile& file)
      : workers_(workers),
        library_(library),
        links_(links),
        channels_(channels),
        log_(std::move(log)),
        wanted_(wanted),
        file_(file) {}

  Task<std::vector<std::vector<Sha256>>> leaves(std::vector<int> pieces) override;
  Task<std::vector<std::vector<Chunk>>> chunks(std::vector<int> segments) override;

  /// Bytes that came for it.
  [[nodiscard]] std::int64_t received() const { return received_; }

 private:
  Task<void> find_nodes();
  template <class Question, class Take>
  Task<void> ask(std::vector<int> numbers, Take take);

  Workers& workers_;
  Library& library_;
  TrackerLinks& links_;
  NodeChannels& channels_;
  Log log_;
  const FileEntry& wanted_;
  const HashedFile& file_;
  bool is_located_ = false;
  std::vector<NodeRef> nodes_;  ///< to be asked, the last first
  std::int64_t received_ = 0;
};

}  // namespace mesh
