#include "core/member_list.h"

#include <algorithm>

#include "core/address.h"
#include "core/format.h"

namespace mesh {
namespace {

using std::chrono::seconds;

constexpr auto forget_after = std::chrono::hours(24);
constexpr std::size_t most_members = 10'000;
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
    known_[member.instance] = {member, heard, itself ? std::optional(now) : std::nullopt, false};
    return true;
  }
  auto& known = it->second;
  if (heard <= known.heard) return false;
  const bool moved = known.member.addresses != member.addresses || known.member.channel_port != member.channel_port;
  if (!itself && moved && !known.missed && known.said && now - *known.said < own_word_for) return false;
  // A rumour does not undo the failure to reach it, unless it is said to be elsewhere.
  if (itself || moved) known.missed = false;
  if (itself) known.said = now;
  known.member = member;
  known.heard = heard;
  return moved;
}

void MemberList::missed(const std::string& instance) {
  if (const auto it = known_.find(instance); it != known_.end()) it->second.missed = true;
}

void MemberList::reached(const std::string& instance) {
  if (const auto it = known_.find(instance); it != known_.end()) it->second.missed = false;
}

std::vector<Member> MemberList::tell(std::size_t most, bool to_loopback, Time now) const {
  std::vector<Member> out;
  for (const auto& [instance, known] : known_) {
    if (known.missed) continue;
    Member member = known.member;
    if (!to_loopback) std::erase_if(member.addresses, is_loopback);
    if (member.addresses.empty()) continue;
    member.age = std::chrono::ceil<seconds>(now - known.heard).count();
    out.push_back(std::move(member));
  }
  std::ranges::stable_sort(out, {}, &Member::age);
  if (out.size() > most) out.resize(most);
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
  std::erase_if(known_, [&](const auto& pair) { return now - pair.second.heard >= forget_after; });
}

}  // namespace mesh
