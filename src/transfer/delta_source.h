// What of a download is here already, in other files: those that its order names as seeds, which are older versions of
// it mostly (docs/decisions/0025). On the node's loop.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/log.h"
#include "library/library.h"
#include "library/maker.h"
#include "mesh/node_channels.h"
#include "mesh/tracker_links.h"
#include "transfer/delta_search.h"
#include "transfer/order.h"
#include "wire/workers.h"

namespace mesh {

class DeltaSource {
 public:
  /// Below this a plain get is as fast.
  static constexpr std::int64_t least_bytes = std::int64_t{2} << 20;
  /// Seeds that are looked at.
  static constexpr std::size_t most_seeds = 4;

  /// `self`: this node as others reach it, but for its addresses; may be empty.
  DeltaSource(Workers& workers, Library& library, TrackerLinks& links, NodeChannels& channels, Log log,
              std::function<NodeRef()> self)
      : workers_(workers),
        library_(library),
        links_(links),
        channels_(channels),
        log_(std::move(log)),
        self_(std::move(self)) {}

  /// Whether somebody asks now what the blocks of this content are: what is not known of them may soon be.
  [[nodiscard]] bool is_asking(const ContentId& id, std::int64_t size) const { return asking_.contains({id, size}); }
  /// Which seeds to look at for `wanted`, the likeliest first: `named` (core/seeds.h), its own path, its siblings.
  [[nodiscard]] std::vector<std::string> choose(const FileEntry& wanted, const std::vector<std::string>& named) const;
  /// Puts what is found into `found`, and returns how many bytes that is. `file` has its roots; `check` is called now
  /// and then, and what it throws ends the search and goes through. Whatever else goes wrong is logged, and the rest is
  /// for others to bring.
  Task<std::int64_t> search(FileOrder order, const HashedFile& file, FoundBlocks& found, DeltaSearch::Options options);

 private:
  [[nodiscard]] std::vector<DeltaSeed> open(const FileOrder& order) const;

  Workers& workers_;
  Library& library_;
  TrackerLinks& links_;
  NodeChannels& channels_;
  Log log_;
  std::function<NodeRef()> self_;
  std::multiset<std::pair<ContentId, std::int64_t>> asking_;
  /// Names whose siblings had nothing in common (without_numbers), and when that was seen: pictures of a camera, say.
  std::map<std::string, std::chrono::steady_clock::time_point> fruitless_;
};

/// Into a storage that is to be downloaded.
class FoundInStorage final : public FoundBlocks {
 public:
  explicit FoundInStorage(Storage& storage) : storage_(storage) {}
  [[nodiscard]] bool has_piece(int piece) const override { return storage_.has_piece(piece); }
  [[nodiscard]] bool has_block(int piece, int block) const override { return storage_.has_block(piece, block); }
  [[nodiscard]] std::int64_t missing_bytes() const override { return storage_.missing(); }
  bool share(int piece, int seed, std::int64_t offset, std::span<char> out) override;
  void put_piece(int piece, std::span<const char> bytes, std::span<const Sha256> leaves, bool is_shared) override;
  void put_block(int piece, int block, std::span<const char> bytes, bool is_shared) override;

 private:
  Storage& storage_;
};

}  // namespace mesh
