// Finds a content's blocks in other files: older versions of it, mostly (docs/decisions/0025).
//
// At the same offset first. A piece whose root the seed's bytes make is there, and nothing need be asked; of others the
// leaves say which blocks are. Where much is missing then, the sketch says at which shifts to look. A sample comes
// before each of both, so that files that have nothing in common cost little: what is found must come faster than the
// links would bring it, or be a good part of all. Later, too: a search that finds less than the links bring ends. Every
// block is compared with a leaf, or with all others of its piece with the piece's root, before it is taken; so seeds,
// and what nodes tell, may be wrong or change meanwhile.
//
// On the node's loop; reading and hashing go to the pool. Holds 64 MiB of pieces at most (more where two pieces are),
// and 16 bytes for each chunk of the content and of one seed at a time: of 2^20 chunks up to 8 TiB, so 32 MiB.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/merkle.h"
#include "core/sketch.h"
#include "disk/fd.h"
#include "disk/storage.h"
#include "library/maker.h"
#include "transfer/block_info.h"
#include "wire/workers.h"

namespace mesh {

/// A file that may have some of the bytes; open for reading.
struct DeltaSeed {
  std::string name;  ///< for people
  Fd file;
  std::int64_t size = 0;
};

/// Where blocks go that are found. Any thread.
class FoundBlocks {
 public:
  virtual ~FoundBlocks() = default;
  [[nodiscard]] virtual bool has_piece(int piece) const = 0;
  [[nodiscard]] virtual bool has_block(int piece, int block) const = 0;
  [[nodiscard]] virtual std::int64_t missing_bytes() const = 0;
  /// Lets a piece be where `seed` has it, from `offset` on, whatever that is, and reads into `out` what it is then:
  /// the seed need not be read, and nothing be written. False where that is not to be had.
  virtual bool share(int piece, int seed, std::int64_t offset, std::span<char> out) = 0;
  /// Throws Error where it cannot be taken: the search is over then. `leaves` are of `bytes`, and make the root.
  /// `is_shared`: they came by `share`.
  virtual void put_piece(int piece, std::span<const char> bytes, std::span<const Sha256> leaves, bool is_shared) = 0;
  virtual void put_block(int piece, int block, std::span<const char> bytes, bool is_shared) = 0;
};

class DeltaSearch {
 public:
  struct Options {
    double link_rate = 12.5e6;  ///< bytes per second at which the rest is likely to come
    /// For so long it may find nothing, and a twentieth of the time longer that the rest is likely to take, and half of
    /// the time that what a sample promises would take.
    std::chrono::milliseconds patience{2000};
    /// Called now and then, on the loop; what it throws ends the search.
    std::function<void()> check = [] {};
    /// Work on the pool ends soon when it is set. May be null.
    const std::atomic<bool>* stop = nullptr;
  };
  /// `file` has its roots. All must outlive this.
  DeltaSearch(Workers& workers, const HashedFile& file, BlockInfo& info, FoundBlocks& found, Options options);

  /// Throws what `check` throws, and Error where what is found cannot be taken, or it takes too long for what it finds.
  Task<void> run(std::vector<DeltaSeed> seeds);
  /// For whoever tells what blocks are: throws where nobody waits for that any more.
  void check() const;
  /// Bytes that were found.
  [[nodiscard]] std::int64_t found_bytes() const { return found_bytes_; }
  /// Whether it went by a sketch that somebody has told.
  [[nodiscard]] bool used_sketch() const { return used_sketch_; }

 private:
  /// Guesses for one piece: by block, the first to be tried first.
  struct Guessed {
    int piece = 0;
    std::vector<BlockGuess> guesses;
  };
  struct Looked;
  Task<void> at_same_offset(const DeltaSeed& seed);
  Task<void> at_shifts(const std::vector<DeltaSeed>& seeds);
  Task<std::vector<std::size_t>> related(const std::vector<DeltaSeed>& seeds);
  Task<void> make_index(const DeltaSeed& seed, ChunkIndex& index);
  Task<void> at_shifts_of(const DeltaSeed& seed, const ChunkIndex& index,
                          const std::vector<std::vector<Chunk>>& sketch);
  void guess_in_segment(int segment, const std::vector<Chunk>& chunks, const ChunkIndex& index, std::int64_t seed_size,
                        std::deque<Guessed>& out) const;
  /// `next` gives what is to be looked at next, some pieces at a time; nothing where that is all.
  using Next = std::function<std::vector<Guessed>()>;
  Task<void> look_at_all(const DeltaSeed& seed, Next next);
  Task<void> look(const DeltaSeed& seed, std::vector<Guessed> batch);
  void read_first(const DeltaSeed& seed, Looked& looked);
  [[nodiscard]] bool share(const DeltaSeed& seed, Looked& looked);
  void compare(const DeltaSeed& seed, Looked& looked, const std::vector<Sha256>& leaves);
  [[nodiscard]] Guessed guess_same_offset(const DeltaSeed& seed, int piece) const;
  [[nodiscard]] std::vector<int> missing_pieces() const;
  [[nodiscard]] std::int64_t length_of(int piece, int block) const;
  [[nodiscard]] int blocks_in(int piece) const;
  [[nodiscard]] bool is_worth_it(double share);
  [[nodiscard]] std::vector<std::vector<Chunk>> cut(const DeltaSeed& seed, const std::vector<int>& segments);
  [[nodiscard]] bool is_stopped() const { return workers_.stopping() || (options_.stop != nullptr && *options_.stop); }

  Workers& workers_;
  const HashedFile& file_;
  const PieceLayout& layout_;
  ChunkPlan plan_;
  BlockInfo& info_;
  FoundBlocks& found_;
  Options options_;
  std::atomic<bool> can_share_ = true;     ///< until the file system has refused
  std::atomic<bool> is_sampling_ = false;  ///< then nothing is shared: what is wrong would lie there
  std::atomic<std::int64_t> found_bytes_ = 0;
  std::atomic<std::int64_t> examined_bytes_ = 0;  ///< read and hashed, or cut
  std::chrono::duration<double> examined_for_{};
  bool used_sketch_ = false;
  double promised_bytes_ = 0;  ///< by the last sample
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
};

}  // namespace mesh
