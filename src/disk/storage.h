// One torrent's bytes on disk: a stretch of one open file, either served read-only or being downloaded.
//
// What is served is open read-only, so nothing that libtorrent decides can write to it; each read checks that the file
// is still the one that was hashed. What is downloaded is hashed once, on its way to the disk, by SHA-256: a piece is
// right when its merkle root is, and libtorrent is told what it expects of it. Blocks of zeros are not written, pieces
// of zeros are known by their root and never asked for.
// Thread-safe; reads and writes block.
#pragma once

#include <sys/uio.h>
#include <atomic>
#include <boost/asio/buffer.hpp>
#include <cstdint>
#include <functional>
#include <libtorrent/sha1_hash.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>

#include <system_error>
#include <vector>

#include "core/merkle.h"
#include "disk/fd.h"

namespace mesh {

struct PieceLayout {
  std::int64_t size = 0;
  std::int64_t piece_length = 0;
  std::vector<lt::sha1_hash> hashes;  ///< what libtorrent is told where a piece is right
  std::vector<Sha256> roots;          ///< of the pieces, and they make the content id; empty in a provisional torrent

  [[nodiscard]] int count() const { return static_cast<int>(hashes.size()); }
  [[nodiscard]] std::int64_t length_of(int piece) const { return std::min(piece_length, size - piece * piece_length); }
};

class Storage {
 public:
  /// What a file that is served must still be, and who hears that it is not: on any thread.
  struct Watch {
    FileStamp stamp;  ///< when it was hashed
    /// Once, with the reason, when a read fails or the file has changed.
    std::function<void(std::string)> on_fault;
    /// Its ctime alone is another one: it is served on, and should be hashed again, as times can be set back.
    std::function<void()> on_touched;
  };
  /// To be served: `file` is open for reading.
  Storage(PieceLayout layout, Fd file, Watch watch);
  /// To be downloaded: `file` is open for reading and writing and has its full size. `have` (a byte a piece) and
  /// `roots` are what an earlier download had verified and synced; empty where there was none.
  Storage(PieceLayout layout, Fd file, std::string_view have, std::string_view roots);

  /// The same for a file that nobody knows yet, as it arrives from a URL: what a piece must be is said by `expect`.
  /// What `roots` says is expected from the start.
  [[nodiscard]] static std::shared_ptr<Storage> provisional(PieceLayout layout, Fd file, std::string_view have,
                                                            std::string_view roots);
  /// The SHA-256 merkle root of a provisional piece.
  void expect(int piece, const Sha256& root);
  /// The SHA-256 root of a verified piece.
  [[nodiscard]] std::optional<Sha256> root(int piece) const;

  [[nodiscard]] const PieceLayout& layout() const { return layout_; }
  /// The download is complete: from now on it is served from `file`, read-only; what could write to it is closed. Once
  /// it is in place and will not be touched again, a second call with its watch has reads check for changes.
  void freeze(Fd file, std::optional<Watch> watch);

  /// Only what the page cache holds: false, without blocking, when the disk would be needed.
  [[nodiscard]] bool read_cached(int piece, int start, std::span<char> out) const;
  std::error_code read(int piece, int start, std::span<char> out);
  /// From `offset` of the whole on, whatever pieces it lies in.
  std::error_code read(std::int64_t offset, std::span<char> out);

  /// As many blocks as are best written and hashed at once: they are still in the cache when they are hashed, there are
  /// lanes for sixteen, and a write of a MiB may take six times as long as four of these (docs/decisions/0015).
  static constexpr std::size_t best_at_once = 16;
  /// Blocks of one piece that follow one another from `start` on. For one writer of a piece at a time.
  std::error_code write(int piece, int start, std::span<const std::span<const char>> blocks);
  std::error_code write(int piece, int start, std::span<const char> block) { return write(piece, start, {&block, 1}); }
  /// For a piece whose blocks are all written: when it is what it should be, the hash that libtorrent expects, and the
  /// piece counts as verified; another one when it is not.
  std::error_code hash(int piece, lt::sha1_hash& out);
  /// The piece failed: what is known of it is forgotten, and its zeros will be written.
  void clear(int piece);

  // Bytes that were here already, of another version (docs/decisions/0025), for a download that libtorrent has not been
  // given yet.

  /// Has the piece lie where `from` has it, from `offset` on, and takes no more room for it (FICLONERANGE); false where
  /// the file system has no such thing, or not for these offsets. Its bytes may be anything: what they are is to be
  /// read from here, as `from` may be written to.
  bool share_piece(int piece, int from, std::int64_t offset);
  /// A whole piece. Verified when it has been written; an error, and nothing is written, where `leaves`, which are of
  /// `bytes`, do not make its root.
  /// `is_shared`: `bytes` were read from here, and are not written.
  std::error_code reuse_piece(int piece, std::span<const char> bytes, std::span<const Sha256> leaves, bool is_shared);
  /// A block, whose hash is its leaf among those that make the piece's root. With the last that was missing the piece
  /// is verified.
  std::error_code reuse_block(int piece, int block, std::span<const char> bytes, bool is_shared);
  [[nodiscard]] bool has_piece(int piece) const;
  [[nodiscard]] bool has_block(int piece, int block) const;
  /// How many bytes of this piece are here from `start` on without a gap: `most` at most.
  [[nodiscard]] std::int64_t bytes_here(int piece, std::int64_t start, std::int64_t most) const;
  /// Of each piece that is here in part, and was not verified: which blocks are.
  [[nodiscard]] std::map<int, std::vector<bool>> unfinished() const;
  /// The same blocks, as the record of an earlier run has them and somebody has read them again since.
  void set_unfinished(std::map<int, std::vector<bool>> blocks);

  /// Says that the whole will be synced at the end.
  void will_be_synced() { to_be_synced_ = true; }
  /// Of what will be synced: the disk begins with a verified piece, so that there is little left to wait for. May wait
  /// for the disk itself, where that has enough to do already.
  void begin_writeback(int piece) const;
  /// Says that verified pieces will be dropped, for a spool that may not grow.
  void bound() { bounded_ = true; }
  [[nodiscard]] bool is_bounded() const { return bounded_; }
  /// Gives up a verified piece's bytes on the disk: from now on it cannot be read.
  void drop(int piece);
  [[nodiscard]] bool is_dropped(int piece) const;

  /// Once this has returned, nothing more is written: the file may be another download's. Waits for a write under way.
  void retire();

  /// A read has failed, or the file has changed: nothing more is served.
  [[nodiscard]] bool is_faulted() const;

  /// Bytes of the pieces that are not verified, but for blocks of them that are known to be here.
  [[nodiscard]] std::int64_t missing() const;
  /// Every piece is verified.
  [[nodiscard]] bool is_complete() const;
  /// The pieces that are verified, for libtorrent and for the resume state; a byte a piece.
  [[nodiscard]] std::string verified() const;
  /// Verified pieces and their SHA-256 roots, and blocks as `unfinished` says them, after syncing the data that they
  /// speak of.
  struct Snapshot {
    std::string have;
    std::string roots;
    std::map<int, std::vector<bool>> unfinished;
    std::error_code error;
  };
  [[nodiscard]] Snapshot sync();
  /// What the pieces must be: 32 bytes each, none of a file of one piece.
  [[nodiscard]] std::string wanted_roots() const;
  /// The roots of all pieces, once every piece is verified.
  [[nodiscard]] std::vector<Sha256> roots() const;
  /// The content id, once every piece is verified.
  [[nodiscard]] std::optional<ContentId> content_id() const;

 private:
  struct Hashing {
    std::int64_t next = 0;
    std::vector<Sha256> leaves;
    std::set<int> unwritten;  ///< where the blocks begin that could not be written
    std::error_code why;
    bool cleared = false;
  };
  static void feed(Hashing& state, std::span<const std::string_view> blocks);
  [[nodiscard]] Sha256 root_of(std::span<const Sha256> leaves) const;
  [[nodiscard]] std::size_t blocks_in(int piece) const;
  [[nodiscard]] std::int64_t length_of_block(int piece, std::size_t block) const;
  [[nodiscard]] bool may_leave_holes(int piece) const;
  void count_missing();
  [[nodiscard]] std::int64_t reused_bytes(int piece, const std::vector<bool>& blocks) const;
  void forget_reused(int piece);
  void set_verified(int piece, const Sha256& root);

  /// The open file and how it is used; replaced as a whole, so that a read under way keeps the file that it began with.
  struct Source {
    Fd file;
    bool writable = false;
    std::optional<Watch> watch{};
    mutable std::atomic<std::int64_t> ctime = watch ? watch->stamp.ctime : 0;  ///< the last that was seen
  };
  using SourcePtr = std::shared_ptr<const Source>;
  [[nodiscard]] SourcePtr source() const;
  [[nodiscard]] static bool is_unchanged(const Source& source);
  static std::error_code read_all(const Source& source, std::int64_t at, std::span<char> out);
  std::error_code write_all(const Source& source, std::int64_t at, std::vector<iovec>& parts);
  std::error_code write_blocks(const Source& to, std::int64_t at, bool may_leave_holes,
                               std::span<const std::span<const char>> blocks);
  void fault(const Source& source, const std::string& why);

  PieceLayout layout_;
  std::atomic<bool> bounded_ = false;
  std::atomic<bool> to_be_synced_ = false;
  std::mutex writing_;        ///< the kernel lets one at a time write to a file, and has the others spin (ext4, XFS)
  bool retired_ = false;      ///< guarded by it
  mutable std::mutex mutex_;  ///< guards what follows; never held across I/O
  SourcePtr source_;
  bool faulted_ = false;
  std::map<int, Hashing> hashing_;
  std::map<int, std::vector<bool>> reused_;  ///< blocks of pieces that are not verified
  std::int64_t missing_ = 0;
  std::string verified_;
  std::vector<Sha256> expected_;  ///< roots; those of a provisional torrent may be unset
  std::string dropped_;           ///< a byte a piece; empty while none is
  std::vector<Sha256> roots_;
};

using StoragePtr = std::shared_ptr<Storage>;

}  // namespace mesh
