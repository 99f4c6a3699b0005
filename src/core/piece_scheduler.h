// Which pieces of a torrent to ask for now, and how urgently: what is wanted here (demand) times whom one may ask
// (sharing). Pure; one thread at a time. Priorities are libtorrent's: 0 is not asked for, 4 is what
// a piece has of which nothing is said, 7 is the most urgent.
//
// Demand is the whole file, or what cursors are about to read, or both: then what is read next comes first.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <utility>
#include <vector>

namespace mesh {

class PieceScheduler {
 public:
  using Changes = std::vector<std::pair<int, std::uint8_t>>;
  /// Whom one may ask for a piece.
  enum class Sharing {
    /// Whoever has it: sources say which pieces there are to ask for (core/super_seed_policy.h).
    offered,
    /// For a file that arrives from its origin while others get it: a piece can be asked for once its root is known.
    /// The node that fetched it is to send it once, so it goes to one other getter first, which hands it on; where
    /// about all getters fetch, each sends what it fetched to all. Which one goes by rendezvous hashing over the
    /// swarm's
    /// getters, so a join or a leave moves 1/n.
    first_hop,
  };
  struct Options {
    int pieces = 0;
    Sharing sharing = Sharing::offered;
    /// All pieces are wanted; otherwise only those that lie in the window ahead of the slowest cursor, and none where
    /// nobody reads.
    bool whole = true;
    /// Without `whole`: how many pieces the window has, at least one.
    int window = 1;
    /// Pieces behind the window may be dropped, so that it keeps to the slowest cursor itself. Otherwise it begins at
    /// the first piece that is missing there.
    bool drops = false;
  };
  using CursorId = std::uint64_t;

  explicit PieceScheduler(const Options& options);

  // Demand.

  /// Somebody reads in order, `piece` next.
  CursorId add_cursor(int piece);
  void remove_cursor(CursorId cursor) { cursors_.erase(cursor); }
  /// It reads `piece` now, and does not wait.
  void move_cursor(CursorId cursor, int piece);
  /// It waits for its piece.
  void wait_at_cursor(CursorId cursor);
  /// The piece of the slowest cursor; none: -1.
  [[nodiscard]] int slowest_cursor() const;
  [[nodiscard]] bool has_cursors() const { return !cursors_.empty(); }
  /// How many pieces the window has; 0: all are wanted.
  [[nodiscard]] int window() const { return options_.whole ? 0 : options_.window; }
  /// Where it begins, before anything has arrived.
  [[nodiscard]] int window_begin() const { return window() == 0 ? 0 : std::max(0, slowest_cursor()); }
  /// Whether something is wanted that is missing: that nothing comes is somebody's fault.
  [[nodiscard]] bool is_hungry() const;
  /// Pieces are wanted in an order, and each is worth telling of.
  [[nodiscard]] bool is_ordered() const { return options_.sharing != Sharing::offered || has_cursors(); }
  /// Whether `update` may have something to say: all pieces alike, the rarest first, take no scheduling.
  [[nodiscard]] bool is_at_work() const { return is_ordered() || !options_.whole || !fronts_.empty(); }

  // Sharing.

  [[nodiscard]] bool takes_offers() const { return options_.sharing == Sharing::offered; }
  /// `self` and `getters` are ids that the tracker gave; fewer than two getters share nothing.
  void set_getters(std::uint64_t self, const std::vector<std::uint64_t>& getters);
  /// Of `first_hop`: the root of `piece` is known, and getter `by` has it from the origin.
  void set_known(int piece, std::uint64_t by);

  /// The pieces whose priority changes, given what is here and how many connected peers have each piece. To be called
  /// about ten times a second.
  [[nodiscard]] Changes update(const std::vector<bool>& have, std::span<const int> availability);

 private:
  struct Cursor {
    int piece = 0;
    bool is_waiting = false;
  };
  struct Piece {
    bool mine = true;             ///< this getter is the one to ask first
    bool known = false;           ///< its root is
    bool open = false;            ///< it may be asked for, and was
    std::uint64_t by = 0;         ///< the getter that has it from the origin
    int waited = 0;               ///< updates since it could have been asked for
    std::uint8_t priority = 255;  ///< none: the first update sets it
  };
  void look_at_cursors(const std::vector<bool>& have);
  void assign(Piece& piece, std::size_t index) const;
  [[nodiscard]] bool is_wanted(int index) const;
  [[nodiscard]] std::uint8_t by_nearness(int index) const;
  [[nodiscard]] bool may_be_asked_for(Piece& piece, int holders) const;

  Options options_;
  std::vector<Piece> pieces_;
  std::map<CursorId, Cursor> cursors_;
  CursorId last_cursor_ = 0;
  std::set<int> fronts_;  ///< the pieces that cursors need next
  int position_ = 0;      ///< where the window begins
  std::uint64_t self_ = 0;
  std::vector<std::uint64_t> getters_;
  std::set<std::uint64_t> fetchers_;  ///< getters that have pieces from the origin
};

}  // namespace mesh
