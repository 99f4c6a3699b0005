// Who fetches what of a URL that several nodes get at once, so that its origin sends each byte once to the whole mesh.
//
// A plan lives while somebody gets the URL. It holds no truth: what was fetched is said again by its members after the
// tracker was restarted. Pure: the caller gives the time; not thread-safe.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "core/version.h"
#include "wire/messages.h"

namespace mesh {

class UrlPlan {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  /// `epoch`: never the same for two plans.
  explicit UrlPlan(std::int64_t epoch) : epoch_(epoch) {}

  /// One turn of a member, or of one that becomes it. Throws Error(failed) for a turn that makes no sense.
  OriginAssignment turn(NodeKey node, const OriginReport& said, TimePoint now);
  void leave(NodeKey node);
  /// Nobody is left who still gets it.
  [[nodiscard]] bool is_over() const;
  [[nodiscard]] std::size_t piece_count() const { return pieces_.size(); }

 private:
  struct Member {
    TimePoint seen;
    std::string have;
    bool able = true;    ///< to fetch from the origin
    bool whole = false;  ///< has all of it in place
  };
  struct Piece {
    ContentId root;        ///< once somebody has fetched it
    NodeKey by = 0;        ///< who has
    bool fetched = false;  ///< and somebody still has it
    NodeKey owner = 0;     ///< who is to fetch it
    TimePoint since;       ///< owned, or the owner's last progress
  };

  void expire(TimePoint now);
  void take_facts(NodeKey node, const UrlFacts& said, TimePoint now);
  void take_pieces(NodeKey node, const OriginReport& said, TimePoint now);
  void assign(NodeKey node, OriginAssignment& orders, TimePoint now);
  void release(NodeKey node);
  void begin_anew();
  [[nodiscard]] int able_members() const;

  std::int64_t epoch_;
  UrlFacts facts_;
  int changes_ = 0;  ///< how often the origin turned out to have something else
  /// What it had before. One that comes back to an earlier answer is several servers whose validators differ: from then
  /// on no validator counts, and one node reads the whole file.
  std::vector<UrlFacts> earlier_;
  bool plain_ = false;
  std::map<NodeKey, Member> members_;
  NodeKey first_ = 0;  ///< who asks the origin what it has
  std::vector<Piece> pieces_;
  std::vector<int> news_;   ///< pieces in the order in which they became known
  TimePoint hold_until_{};  ///< nothing is dealt out before
  bool broken_ = false;     ///< there is no good way on
  std::string error_;
  Status status_ = Status::ok;
};

}  // namespace mesh
