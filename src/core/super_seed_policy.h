// Which pieces a source offers to which getter. Pure; any one thread.
//
// While one copy is not yet out, every byte that a source sends twice delays everyone. So a source does not say at once
// that it has everything: it offers each getter a few pieces at a time, and each piece to one getter first, which hands
// it on. Who has the least to hand on is offered more, so that everyone's uplink is used alike, and nobody waits for a
// getter that is slow or stuck. It is super seeding (BEP 16) with windows as wide as the links need. When one copy is
// out, the source is a peer like any other, and offers what is rarest.
//
// Getters are believed: one that claims pieces that it lacks makes the source send copies of its own to others (it
// costs time, and no getter a piece), one that takes its offers and does not move is passed over after seconds.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

namespace mesh {

class SuperSeedPolicy {
 public:
  using Getter = std::uint64_t;
  using Time = std::chrono::steady_clock::time_point;
  struct Offer {
    Getter to = 0;
    int piece = 0;
  };
  /// How a getter takes pieces.
  struct Reading {
    bool in_order = false;  ///< as far as that goes
    int from = 0;           ///< the first piece that it wants
    int window = 0;         ///< it wants so many from the first that it lacks on, and no others yet; 0: all
  };

  /// `seed`: of the order among equals, so that two sources choose differently.
  SuperSeedPolicy(int pieces, std::int64_t piece_length, std::uint32_t seed);

  /// A getter that has these pieces wants the others.
  void join(Getter getter, const std::vector<bool>& have, Time now, Reading reading);
  void join(Getter getter, const std::vector<bool>& have, Time now) { join(getter, have, now, Reading()); }
  void leave(Getter getter);
  /// `getter` says that it has `piece`, from wherever. Pieces that do not exist and getters that did not join are
  /// passed over.
  void has(Getter getter, int piece, Time now);
  /// `getter` says that it has lost `piece` again: it has read it, where it reads through a window.
  void lost(Getter getter, int piece);
  /// So many bytes of pieces went out to `getter`. True when it was thought to be stuck, so that there may be something
  /// to offer.
  bool sent(Getter getter, std::int64_t bytes, Time now);
  /// What is to be offered now. Each is taken as offered. To be called after every change, and now and then besides.
  [[nodiscard]] std::vector<Offer> next(Time now);

  /// Pieces that nobody was offered yet.
  [[nodiscard]] int unoffered() const { return unoffered_; }

 private:
  enum class State : std::uint8_t { missing, offered, had, unwanted };
  using Key = std::tuple<std::int64_t, int, Getter>;  ///< what it has to hand on, what it lacks
  struct Known {
    std::vector<State> state;  ///< of each piece
    int offered = 0;           ///< pieces that are on their way
    int missing = 0;           ///< pieces that it neither has nor was offered
    int window = 0;            ///< pieces that may be on their way
    std::int64_t to_send = 0;  ///< copies that others lack of what it was offered first, and has
    std::int64_t bytes = 0;    ///< sent since `since`
    double rate = 0;           ///< bytes per second when it was last measured
    Time since{};
    Time moved{};      ///< when something of what it was offered was sent last
    Time completed{};  ///< when it had a piece that it was offered last, or was offered the first
    Time stuck_since{};
    Reading reading;
    std::size_t front = 0;  ///< the first piece that it lacks
    int idle = 0;           ///< how often it was thought to be stuck since it was sent anything last
    std::size_t late = 0;   ///< the last piece that it was offered for being late
    bool stuck = false;     ///< its link does not move: it is offered nothing more until it does, or for a while
    bool slow = false;      ///< it takes far longer than its share of the link would: the others do not wait for it
    std::optional<Key> key;
  };
  using Getters = std::map<Getter, Known>;

  void recount();
  void place(Getters::value_type& getter);
  void withdraw(Known& known);
  void offer(Getters::value_type& getter, std::vector<Offer>& out, Time now);
  void reassess(Time now);
  [[nodiscard]] std::size_t reach(Known& known) const;
  [[nodiscard]] bool wants_more(Known& known) const;
  [[nodiscard]] int choose(Known& known, Time now);

  std::int64_t piece_length_;
  int fewest_;                   ///< pieces of the narrowest window
  int fewest_together_;          ///< the same for all together
  int most_at_first_;            ///< for all together, before it is known what they take
  std::vector<int> out_;         ///< getters that have each piece, or are offered it
  std::vector<int> held_;        ///< getters that have each piece
  std::vector<Getter> first_;    ///< who was offered each piece first
  std::vector<Time> out_since_;  ///< when each piece was offered last, or came to be there
  int unoffered_ = 0;
  int offered_ = 0;  ///< to getters that are not slow
  bool recounted_ = true;
  bool in_order_ = false;  ///< a getter wants that
  int window_ = 0;         ///< pieces that may be on their way to all together while one copy is not yet out
  Time assessed_{};
  Getters getters_;
  std::set<Key> ready_;  ///< getters that may be offered more, the one with the least to hand on first
  std::minstd_rand random_;
};

}  // namespace mesh
