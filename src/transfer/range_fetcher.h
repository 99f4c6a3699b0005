// Ranges of one content from the nodes that have them, proven by leaves (docs/decisions/0026): the demand reads of who
// reads it before it is here.
//
// Of nodes that read the same content each brings its share, by rendezvous over (content, grain), and the others ask it
// rather than a holder; so a holder sends each grain about once however many read. Holders tell who reads. A node that
// says nothing for a second is not waited for: another is asked beside it. On the node's loop; what is to be checked
// goes to the pool.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/keeper_ring.h"
#include "core/log.h"
#include "core/rate_window.h"
#include "library/library.h"
#include "library/maker.h"
#include "mesh/node_channels.h"
#include "mesh/tracker_links.h"
#include "wire/turn.h"
#include "wire/workers.h"

namespace mesh {

class RangeFetcher : public std::enable_shared_from_this<RangeFetcher> {
 public:
  using Clock = std::chrono::steady_clock;
  using Leaves = std::shared_ptr<const std::vector<Sha256>>;

  /// `wanted` has its id; `self`: this node as others reach it, may be empty.
  RangeFetcher(Workers& workers, Library& library, TrackerLinks& links, NodeChannels& channels, Log log,
               FileEntry wanted, std::function<NodeRef()> self);

  /// Nodes that have it, as who resolved its path was told.
  void add_holders(const std::vector<NodeRef>& nodes);

  /// What its pieces must be: remembered here, or told by a holder; with the grain at `first`, which will be wanted.
  /// Throws Error. To be called before `fetch`, once.
  Task<void> learn(std::int64_t first, Clock::time_point until);
  [[nodiscard]] const HashedFile& file() const { return file_; }

  /// Bytes from `offset` on, whole blocks of them, verified: `length` of them, or fewer. `length` is at most
  /// most_range_bytes. `holders_only`: who reads it, too, is not asked. `is_urgent`: somebody waits for it; what nobody
  /// does comes after as much as a link brings in some seconds. Throws Error where nobody has brought them by `until`.
  /// `is_urgent` may become true meanwhile; `hurry` says that one has.
  Task<std::string> fetch(std::int64_t offset, std::int64_t length, Clock::time_point until, bool holders_only,
                          std::shared_ptr<const bool> is_urgent);
  void hurry() { less_under_way_.notify(); }
  /// The leaves of one piece, remembered or told. Throws Error.
  Task<Leaves> leaves(int piece, Clock::time_point until);

  /// Up to where, from `offset` on, one node is asked: at most `length` bytes.
  [[nodiscard]] std::int64_t share(std::int64_t offset, std::int64_t length);
  /// What is on the link in a round trip and a half, of the answers so far.
  [[nodiscard]] std::int64_t in_flight_bytes() const;

 private:
  struct Fetch;
  struct Node {
    NodeRef node;
    bool is_holder = false;
  };
  struct Record {
    Clock::time_point heard{};      ///< an answer, whatever it was
    Clock::time_point bad_until{};  ///< it is asked only if there is nobody else
    int failures = 0;
    Clock::time_point retry{};  ///< and not at all
    bool is_wrong = false;      ///< it has sent other bytes
  };
  static Task<void> ask_one(std::shared_ptr<RangeFetcher> self, std::shared_ptr<Fetch> fetch, Node node);
  static Task<void> take(std::shared_ptr<RangeFetcher> self, std::shared_ptr<Fetch> fetch, RangeTold told);
  static Task<void> locate(std::shared_ptr<RangeFetcher> self);
  Task<void> run(std::shared_ptr<Fetch> fetch, Clock::time_point until);
  Task<void> know_leaves(const std::vector<int>& pieces);
  [[nodiscard]] std::chrono::milliseconds silence_limit() const;
  [[nodiscard]] std::optional<Node> choose(const Fetch& fetch);
  [[nodiscard]] std::string own_instance() const;
  [[nodiscard]] std::optional<NodeRef> reader_of(std::int64_t offset, const std::string& own);
  void hear_readers(const std::string& holder, const RangeTold& told, const asio::ip::address& at);
  void shun(const std::string& key, bool is_holder);
  /// Of a node in `records_`: what somebody says of himself is not said of somebody else.
  [[nodiscard]] static std::string key_of(const Node& node);
  [[nodiscard]] std::int64_t most_under_way() const;
  void put_leaves(int piece, std::vector<Sha256> leaves);

  Workers& workers_;
  Library& library_;
  TrackerLinks& links_;
  NodeChannels& channels_;
  Log log_;
  const FileEntry wanted_;
  std::function<NodeRef()> self_;
  HashedFile file_;
  bool has_roots_ = false;
  std::map<std::string, NodeRef> holders_;  ///< by instance
  Clock::time_point located_{};
  bool is_locating_ = false;
  std::map<std::string, std::pair<std::int64_t, std::vector<NodeRef>>> told_readers_;  ///< by holder, with its stamp
  std::map<std::string, NodeRef> readers_;
  std::unique_ptr<KeeperRing> ring_;  ///< of the readers and this node; null: nobody else reads
  std::string ring_self_;
  Clock::time_point readers_again_{};  ///< too many of them have failed: not before
  int reader_failures_ = 0;            ///< in a row
  std::map<std::string, Record> records_;
  std::map<int, Leaves> leaves_;  ///< some of those that are known
  std::deque<int> leaves_in_turn_;
  std::size_t leaf_count_ = 0;
  std::string first_;  ///< bytes that came with the roots, verified
  std::int64_t first_offset_ = -1;
  std::int64_t received_ = 0;
  std::int64_t under_way_ = 0;  ///< bytes that are asked for
  Event less_under_way_;
  RateWindow rate_;
  std::chrono::duration<double> round_trip_{0};
};
using RangeFetcherPtr = std::shared_ptr<RangeFetcher>;

}  // namespace mesh
