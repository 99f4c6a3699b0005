#include "swarm_sim.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <deque>
#include <memory>
#include <queue>
#include <random>

#include "core/super_seed_policy.h"
#include "peer_handout.h"

namespace mesh::test {
namespace {

using Bits = std::vector<std::uint64_t>;

bool test(const Bits& bits, int i) { return (bits[static_cast<std::size_t>(i) / 64] >> (i % 64) & 1) != 0; }
void set(Bits& bits, int i) { bits[static_cast<std::size_t>(i) / 64] |= std::uint64_t{1} << (i % 64); }

struct Event {
  double at = 0;
  std::uint64_t order = 0;
  enum class Kind { arrival, delivery, known, turn } kind = Kind::arrival;
  int from = 0, to = 0, piece = 0;
  double rate = 0;
  bool operator>(const Event& other) const { return at != other.at ? at > other.at : order > other.order; }
};

struct Peer {
  SimNode link;
  Bits known;   ///< what others know that it has
  Bits wanted;  ///< what it has or is getting
  int have = 0;
  std::vector<int> neighbours;
  std::vector<std::uint16_t> availability;
  std::deque<int> offered;  ///< by the source
  double up_used = 0, down_used = 0;
  bool here = false;
  double done = -1;
};

class Sim {
 public:
  Sim(const std::vector<SimNode>& nodes, const SimOptions& options)
      : options_(options),
        random_(options.seed),
        words_((static_cast<std::size_t>(options.pieces) + 63) / 64),
        // A unit of time stands for ten seconds, a piece for 64 KiB: the book's own times are in proportion to those.
        book_(options.pieces, 64 * 1024, options.seed) {
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      Peer peer;
      peer.link = nodes[i];
      peer.known.resize(words_);
      peer.wanted.resize(words_);
      peer.availability.resize(static_cast<std::size_t>(options.pieces));
      peers_.push_back(std::move(peer));
      if (i > 0) push({nodes[i].arrives, 0, Event::Kind::arrival, 0, static_cast<int>(i), 0, 0});
    }
    peers_[0].here = true;
    for (int p = 0; p < options.pieces; ++p) set(peers_[0].known, p);
    for (double at = 0; at < 1; at += 0.01) push({at, 0, Event::Kind::turn, 0, 0, 0, 0});
  }

  SimResult run() {
    double turn = 1;
    while (!events_.empty() && done_ + 1 < static_cast<int>(peers_.size()) && now_ < 1000) {
      const Event event = events_.top();
      events_.pop();
      now_ = event.at;
      switch (event.kind) {
        case Event::Kind::arrival:
          arrive(event.to);
          break;
        case Event::Kind::delivery:
          deliver(event);
          break;
        case Event::Kind::known:
          tell(event.from, event.piece);
          break;
        case Event::Kind::turn:
          offers();
          break;
      }
      if (now_ > turn - 0.01) {
        push({turn, 0, Event::Kind::turn, 0, 0, 0, 0});
        turn += 0.01;
      }
    }
    SimResult out;
    for (std::size_t i = 1; i < peers_.size(); ++i)
      out.took.push_back(peers_[i].done < 0 ? -1 : peers_[i].done - peers_[i].link.arrives);
    out.source_sent = static_cast<double>(sent_) / options_.pieces;
    return out;
  }

 private:
  [[nodiscard]] SuperSeedPolicy::Time clock() const {
    return SuperSeedPolicy::Time(
        std::chrono::duration_cast<SuperSeedPolicy::Time::duration>(std::chrono::duration<double>(now_ * 10)));
  }
  void push(Event event) {
    event.order = order_++;
    events_.push(event);
  }
  Peer& at(int i) { return peers_[static_cast<std::size_t>(i)]; }

  void arrive(int me) {
    auto& peer = at(me);
    peer.here = true;
    std::vector<HandoutMember> members;
    for (int i = 1; i < static_cast<int>(peers_.size()); ++i)
      if (i != me && at(i).here) members.push_back({static_cast<NodeKey>(i), false});
    for (const auto key : hand_out(members, HandoutLimits{}, handout_random_)) {
      const int other = static_cast<int>(key);
      peer.neighbours.push_back(other);
      at(other).neighbours.push_back(me);
      for (int p = 0; p < options_.pieces; ++p)
        if (test(at(other).known, p)) ++peer.availability[static_cast<std::size_t>(p)];
    }
    book_.join(static_cast<SuperSeedPolicy::Getter>(me), std::vector<bool>(static_cast<std::size_t>(options_.pieces)),
               clock());
    offers();
    receive(me);
  }

  void offers() {
    for (const auto& offer : book_.next(clock())) at(static_cast<int>(offer.to)).offered.push_back(offer.piece);
    serve_source();
  }

  /// The source serves whom it has sent the least lately.
  void serve_source() {
    for (std::size_t step = 1; step < peers_.size() && has_room(at(0).up_used, at(0).link.up); ++step) {
      turn_ = turn_ + 1 < static_cast<int>(peers_.size()) ? turn_ + 1 : 1;
      auto& peer = at(turn_);
      while (!peer.offered.empty() && test(peer.wanted, peer.offered.front())) peer.offered.pop_front();
      if (peer.offered.empty() || !peer.here || !has_room(peer.down_used, peer.link.down)) continue;
      const int piece = peer.offered.front();
      peer.offered.pop_front();
      ++sent_;
      start(0, turn_, piece);
    }
  }

  static bool has_room(double used, double all) { return used < all * 0.999; }

  void start(int from, int to, int piece) {
    auto& s = at(from);
    auto& r = at(to);
    const double rate = std::min(s.link.up, r.link.down) / options_.transfers;
    s.up_used += rate;
    r.down_used += rate;
    set(r.wanted, piece);
    push({now_ + 1 / rate / options_.pieces, 0, Event::Kind::delivery, from, to, piece, rate});
  }

  void deliver(const Event& event) {
    auto& s = at(event.from);
    auto& r = at(event.to);
    s.up_used = std::max(0.0, s.up_used - event.rate);
    r.down_used = std::max(0.0, r.down_used - event.rate);
    if (event.from == 0) book_.sent(static_cast<SuperSeedPolicy::Getter>(event.to), 64 * 1024, clock());
    if (++r.have == options_.pieces) {
      r.done = now_;
      ++done_;
    }
    push({now_ + options_.latency, 0, Event::Kind::known, event.to, 0, event.piece, 0});
    if (event.from == 0)
      serve_source();
    else
      send(event.from);
    receive(event.to);
  }

  void tell(int me, int piece) {
    auto& peer = at(me);
    set(peer.known, piece);
    for (const int other : peer.neighbours) ++at(other).availability[static_cast<std::size_t>(piece)];
    book_.has(static_cast<SuperSeedPolicy::Getter>(me), piece, clock());
    offers();
    if (peer.done >= 0 && peer.link.leaves_when_done && peer.here) {
      peer.here = false;
      book_.leave(static_cast<SuperSeedPolicy::Getter>(me));
      return;
    }
    send(me);
  }

  /// Gives to neighbours while the uplink has room.
  void send(int me) {
    auto& peer = at(me);
    if (!peer.here || !has_room(peer.up_used, peer.link.up) || peer.neighbours.empty()) return;
    const auto first = random_() % peer.neighbours.size();
    for (std::size_t i = 0; i < peer.neighbours.size() && has_room(peer.up_used, peer.link.up); ++i)
      give(me, peer.neighbours[(first + i) % peer.neighbours.size()]);
  }
  void receive(int me) {
    auto& peer = at(me);
    serve_source();
    if (peer.neighbours.empty()) return;
    const auto first = random_() % peer.neighbours.size();
    for (std::size_t i = 0; i < peer.neighbours.size() && has_room(peer.down_used, peer.link.down); ++i)
      give(peer.neighbours[(first + i) % peer.neighbours.size()], me);
  }
  /// One piece, the rarest of those that the getter knows of.
  void give(int from, int to) {
    auto& s = at(from);
    auto& r = at(to);
    if (!s.here || !r.here || !has_room(s.up_used, s.link.up) || !has_room(r.down_used, r.link.down)) return;
    int best = -1;
    for (std::size_t w = 0; w < words_; ++w)
      for (auto bits = s.known[w] & ~r.wanted[w]; bits != 0; bits &= bits - 1) {
        const int piece = static_cast<int>(w * 64) + std::countr_zero(bits);
        if (best < 0 ||
            r.availability[static_cast<std::size_t>(piece)] < r.availability[static_cast<std::size_t>(best)])
          best = piece;
      }
    if (best >= 0) start(from, to, best);
  }

  SimOptions options_;
  std::minstd_rand random_;
  std::mt19937 handout_random_{1};
  std::size_t words_;
  SuperSeedPolicy book_;
  std::vector<Peer> peers_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::uint64_t order_ = 0;
  double now_ = 0;
  int done_ = 0;
  int turn_ = 0;
  std::int64_t sent_ = 0;
};

}  // namespace

SimResult simulate(const std::vector<SimNode>& nodes, const SimOptions& options) { return Sim(nodes, options).run(); }

}  // namespace mesh::test
