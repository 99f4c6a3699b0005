// Which pieces a file is cut into, and which of them a getter wants first. Pure; any thread.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <utility>
#include <vector>

namespace mesh {

/// Files up to this size travel whole on the node channel; larger ones as torrents.
inline constexpr std::int64_t small_file_bytes = 64 * 1024;

/// The piece length of a torrent of `size` bytes, a function of the size alone: a power of two from 64 KiB to 16 MiB,
/// such that the file has at most 1,024 pieces where that is possible; beyond 2 TiB as much more as leaves it 128 Ki
/// pieces, whose roots fit one message. Of a `size` that no torrent has: as of the largest.
[[nodiscard]] std::int64_t piece_length_for(std::int64_t size);
[[nodiscard]] int piece_count_for(std::int64_t size);
/// No torrent is larger: libtorrent takes no file of 2^44 - 2^14 bytes, just under 16 TiB.
inline constexpr std::int64_t most_torrent_bytes = (std::int64_t{1} << 44) - 32 * 1024;

/// Says which pieces of a torrent to ask for. Priorities are libtorrent's.
class PieceGate {
 public:
  using Changes = std::vector<std::pair<int, std::uint8_t>>;

  virtual ~PieceGate() = default;
  /// Whether sources choose which pieces there are to ask for (core/super_seed_policy.h), or the getters share them
  /// out.
  [[nodiscard]] virtual bool takes_offers() const { return false; }
  /// `self` and `getters` are ids that the tracker gave; a gate over fewer than two getters shares nothing.
  virtual void set_getters(std::uint64_t self, const std::vector<std::uint64_t>& getters) = 0;
  /// The pieces whose priority changes, given what this getter has, how many connected peers have each piece (counting
  /// `sources` peers that have all of them).
  [[nodiscard]] virtual Changes update(const std::vector<bool>& have, std::span<const int> availability,
                                       int sources) = 0;
};

/// For a file that is read in order as fast as it arrives: of what sources offer and others have, what is to be read
/// next first. Nothing is held back, as a source offers in order, too.
class OrderedGate final : public PieceGate {
 public:
  explicit OrderedGate(int pieces);
  [[nodiscard]] bool takes_offers() const override { return true; }
  void set_getters(std::uint64_t, const std::vector<std::uint64_t>&) override {}
  [[nodiscard]] Changes update(const std::vector<bool>& have, std::span<const int> availability, int sources) override;

 private:
  std::vector<std::uint8_t> priority_;
};

/// Stripes: each getter wants a share of the pieces of its own from the source first, and leaves the others alone until
/// a getter has them. Shares come from rendezvous hashing over the swarm's getters, so a join or a leave moves 1/n.
///
/// For a reader that takes the pieces in order: a window ahead of it, the nearest first. Within the window the stripes
/// hold, so that readers that start together share one copy; a reader that has to wait reaches over them, further each
/// time.
class StreamGate final : public PieceGate {
 public:
  /// `window`: how many pieces ahead of the reader may be asked for, at least one.
  StreamGate(int pieces, int window);
  void set_getters(std::uint64_t self, const std::vector<std::uint64_t>& getters) override;
  /// The reader's next piece, and whether it has been waiting for it for longer than a moment.
  void set_reader(int position, bool starving);
  [[nodiscard]] Changes update(const std::vector<bool>& have, std::span<const int> availability, int sources) override;

 private:
  int window_;
  int position_ = 0;
  int reach_ = 1;  ///< how many pieces ahead are asked for whoever's they are
  std::size_t getters_ = 0;
  std::vector<bool> mine_;
  std::vector<std::uint8_t> priority_;
};

/// For a file that arrives from its origin while others get it: a piece can be asked for once its hash is known. The
/// node that fetched it is to send it once, so it goes to one other getter first, which hands it on; where about all
/// getters fetch, each sends what it fetched to all.
class UrlGate final : public PieceGate {
 public:
  explicit UrlGate(int pieces);
  void set_getters(std::uint64_t self, const std::vector<std::uint64_t>& getters) override;
  /// The hash of `piece` is known, and getter `by` has it from the origin.
  void set_known(int piece, std::uint64_t by);
  [[nodiscard]] Changes update(const std::vector<bool>& have, std::span<const int> availability, int sources) override;

 private:
  struct Known {
    bool known = false;
    std::uint64_t by = 0;
    bool mine = false;  ///< this getter is the one to ask first
    int waited = 0;     ///< updates since it could have been asked for
    std::uint8_t priority = 255;
  };
  void assign(Known& piece, std::size_t index) const;
  std::vector<Known> pieces_;
  std::set<std::uint64_t> fetchers_;
  std::uint64_t self_ = 0;
  std::vector<std::uint64_t> getters_;
};

/// So many getters of a URL fetch from its origin at once, at most.
inline constexpr int most_url_fetchers = 8;

}  // namespace mesh
