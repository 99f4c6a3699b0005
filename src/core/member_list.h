// The nodes of the mesh that this node knows of, and when each was last heard of. Pure; any one thread.
//
// Nodes tell each other whom they know, at random (epidemic anti-entropy: Demers et al., PODC 1987), and remember it
// over restarts, so that any of them finds the others when no tracker answers. A member's word about itself beats what
// others say of it, the later word the earlier.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "core/member.h"

namespace mesh {

/// Whether it can be what a node says of itself: addresses, ports and a name, all of a length that may be kept.
[[nodiscard]] bool is_sensible(const Member& member);

class MemberList {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// `self`: this node's instance, which is never in the list.
  explicit MemberList(std::string self) : self_(std::move(self)) {}
  void set_self(const std::string& self);

  /// What somebody says of a member: the member itself where `age` is 0. What makes no sense is passed over. True when
  /// it is news: a member that was not known, or is reached elsewhere now.
  bool hear(const Member& member, Time now);
  /// It did not answer where it was said to be, or did.
  void missed(const std::string& instance, Time now);
  void reached(const std::string& instance, Time now);
  /// At most `most` members to tell another node of, at random: were it those that were heard of last, everybody would
  /// tell of the same, and the others would not get around. `to_loopback`: the other is on this machine, and may be
  /// told addresses that are of use only here.
  [[nodiscard]] std::vector<Member> tell(std::size_t most, bool to_loopback, Time now, std::mt19937& random) const;
  enum class Which { likely, missed };
  /// At most `most` members to ask, at random: of those that are likely to answer, or of those that did not last time.
  [[nodiscard]] std::vector<Member> choose(std::size_t most, std::mt19937& random, Which which = Which::likely) const;
  /// Those that keep the path index, as far as is known, and are likely to answer; where nobody says that it does, all
  /// that are likely to answer.
  [[nodiscard]] std::vector<Member> keepers(Time now) const;
  [[nodiscard]] std::size_t keeper_count() const;
  /// Of this instance; nothing where it is not known.
  [[nodiscard]] std::optional<Member> find(const std::string& instance, Time now) const;
  /// The name of the one that is there, where one alone is: by address and peer port; or, where none has that port, by
  /// address, as who connects comes from any. Empty where that says nothing.
  [[nodiscard]] std::string name_at(const std::string& address, std::uint16_t port) const;
  [[nodiscard]] bool is_missed(const std::string& instance) const;
  /// Another number than before: `keepers` may be others.
  [[nodiscard]] std::uint64_t changes() const { return changes_; }
  /// Forgets members that nobody has heard of for a day.
  void expire(Time now);
  [[nodiscard]] std::size_t size() const { return known_.size(); }
  /// Who came and went, as seen from here: the last of it, the latest first.
  enum class What { joined, gone, back };
  struct Change {
    Time when{};
    std::string node;
    What what = What::joined;
  };
  static constexpr std::size_t most_recent = 20;
  [[nodiscard]] const std::deque<Change>& recent() const { return recent_; }

 private:
  struct Known {
    Member member;
    Time heard{};
    std::optional<Time> said{};  ///< when it spoke for itself, to this node
    bool missed = false;         ///< since then
    Time missed_at{};
    std::optional<Time> keeps_since{};
  };
  [[nodiscard]] static Member as_of(const Known& known, Time now);
  void set_missed(Known& known, bool missed, Time now);
  void note(const Known& known, What what, Time now);
  std::string self_;
  std::map<std::string, Known> known_;  ///< by instance
  std::uint64_t changes_ = 0;
  std::deque<Change> recent_;
};

}  // namespace mesh
