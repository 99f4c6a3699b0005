#include "core/member_list.h"

#include <algorithm>
#include <utility>

#include "core/address.h"
#include "core/format.h"

namespace mesh {
namespace {

using std::chrono::seconds;

constexpr auto forget_after = std::chrono::hours(24);
/// Ages are told in whole seconds.
constexpr auto miss_margin = seconds(2);
constexpr std::int64_t longest_keeping = 10LL * 365 * 24 * 3600;
constexpr std::size_t most_members = 20'000;
constexpr std::size_t most_addresses = 32;
constexpr std::size_t most_name = 255;
constexpr std::size_t most_address = 64;
/// What a member said here itself stands for so long, whatever others say, unless it cannot be reached there.
constexpr auto own_word_for = std::chrono::minutes(10);

bool is_loopback(const std::string& text) {
  const auto address = parse_address(text);
  return address && address->is_loopback();
}

}  // namespace

bool is_sensible(const Member& member) {
  return member.instance.size() == 32 && !member.node.empty() && member.node.size() <= most_name &&
         printable(member.node) == member.node && !member.addresses.empty() &&
         member.addresses.size() <= most_addresses && member.channel_port != 0 &&
         std::ranges::none_of(member.addresses, [](const std::string& text) {
           if (text.size() > most_address) return true;
           const auto address = parse_address(text);
           return !address || !is_of_a_host(*address);
         });
}

void MemberList::set_self(const std::string& self) {
  self_ = self;
  known_.erase(self);
  ++changes_;
}

bool MemberList::hear(const Member& member, Time now) {
  if (member.instance == self_ || !is_sensible(member)) return false;
  const auto age = std::clamp<std::int64_t>(member.age, 0, std::chrono::seconds(forget_after).count());
  const auto heard = now - seconds(age);
  if (now - heard >= forget_after) return false;
  const bool itself = member.age <= 0;
  const auto it = known_.find(member.instance);
  if (it == known_.end()) {
    if (known_.size() >= most_members) {
      if (!itself) return false;
      known_.erase(std::ranges::min_element(known_, {}, [](const auto& pair) { return pair.second.heard; }));
    }
    auto& fresh = known_[member.instance];
    fresh.member = member;
    fresh.heard = heard;
    if (itself) fresh.said = now;
    if (member.keeps >= 0) fresh.keeps_since = now - seconds(std::min(member.keeps, longest_keeping));
    ++changes_;
    note(fresh, What::joined, now);
    return true;
  }
  auto& known = it->second;
  if (heard <= known.heard) return false;
  const bool moved = known.member.addresses != member.addresses || known.member.channel_port != member.channel_port;
  if (!itself && moved && !known.missed && known.said && now - *known.said < own_word_for) return false;
  // A rumour does not undo the failure to reach it, unless it is said to be elsewhere, or to have spoken since.
  if (itself || moved || heard > known.missed_at + miss_margin) set_missed(known, false, now);
  if (itself) known.said = now;
  // That a keeper is none any more is for itself to say, while it is heard of.
  const bool says = member.keeps != Member::keeps_unsaid &&
                    (itself || member.keeps >= 0 || !known.said || now - *known.said >= own_word_for);
  if (says) {
    if (known.keeps_since.has_value() != (member.keeps >= 0)) ++changes_;
    known.keeps_since.reset();
    if (member.keeps >= 0) known.keeps_since = now - seconds(std::min(member.keeps, longest_keeping));
  }
  if (moved) ++changes_;
  known.member = member;
  known.heard = heard;
  return moved;
}

void MemberList::set_missed(Known& known, bool missed, Time now) {
  if (std::exchange(known.missed, missed) == missed) return;
  ++changes_;
  note(known, missed ? What::gone : What::back, now);
}

void MemberList::note(const Known& known, What what, Time now) {
  recent_.push_front({now, known.member.node, what});
  if (recent_.size() > most_recent) recent_.pop_back();
}

void MemberList::missed(const std::string& instance, Time now) {
  const auto it = known_.find(instance);
  if (it == known_.end()) return;
  set_missed(it->second, true, now);
  it->second.missed_at = now;
}

void MemberList::reached(const std::string& instance, Time now) {
  if (const auto it = known_.find(instance); it != known_.end()) set_missed(it->second, false, now);
}

std::string MemberList::name_at(const std::string& address, std::uint16_t port) const {
  std::string by_port;
  std::string by_address;
  int of_port = 0;
  int of_address = 0;
  for (const auto& [instance, known] : known_) {
    const auto& member = known.member;
    if (std::ranges::find(member.addresses, address) == member.addresses.end()) continue;
    ++of_address;
    by_address = member.node;
    if (member.peer_port != port) continue;
    ++of_port;
    by_port = member.node;
  }
  return of_port == 1 ? by_port : of_port == 0 && of_address == 1 ? by_address : std::string();
}

bool MemberList::is_missed(const std::string& instance) const {
  const auto it = known_.find(instance);
  return it != known_.end() && it->second.missed;
}

Member MemberList::as_of(const Known& known, Time now) {
  Member out = known.member;
  out.age = std::chrono::ceil<seconds>(now - known.heard).count();
  out.keeps = known.keeps_since ? std::chrono::floor<seconds>(now - *known.keeps_since).count() : -1;
  return out;
}

std::optional<Member> MemberList::find(const std::string& instance, Time now) const {
  const auto it = known_.find(instance);
  return it == known_.end() ? std::nullopt : std::optional(as_of(it->second, now));
}

std::size_t MemberList::keeper_count() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(known_, [](const auto& pair) { return pair.second.keeps_since && !pair.second.missed; }));
}

std::vector<Member> MemberList::keepers(Time now) const {
  const bool any = keeper_count() > 0;
  std::vector<Member> out;
  for (const auto& [instance, known] : known_)
    if (!known.missed && (known.keeps_since || !any)) out.push_back(as_of(known, now));
  return out;
}

std::vector<Member> MemberList::tell(std::size_t most, bool to_loopback, Time now, std::mt19937& random) const {
  std::vector<const Known*> some;
  for (const auto& [instance, known] : known_)
    if (!known.missed) some.push_back(&known);
  std::ranges::shuffle(some, random);
  std::vector<Member> out;
  for (const auto* known : some) {
    Member member = as_of(*known, now);
    if (!to_loopback) std::erase_if(member.addresses, is_loopback);
    if (member.addresses.empty()) continue;
    out.push_back(std::move(member));
    if (out.size() >= most) break;
  }
  return out;
}

std::vector<Member> MemberList::choose(std::size_t most, std::mt19937& random, Which which) const {
  std::vector<Member> out;
  for (const auto& [instance, known] : known_)
    if (known.missed == (which == Which::missed)) out.push_back(known.member);
  std::ranges::shuffle(out, random);
  if (out.size() > most) out.resize(most);
  return out;
}

void MemberList::expire(Time now) {
  if (std::erase_if(known_, [&](const auto& pair) { return now - pair.second.heard >= forget_after; }) > 0) ++changes_;
}

}  // namespace mesh
