#include "mesh/swarm_meetings.h"

#include <algorithm>
#include <optional>

#include "wire/flow.h"

namespace mesh {
namespace {

using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr auto join_limit = seconds(3);
constexpr auto others_limit = std::chrono::milliseconds(300);  // once one has answered
constexpr std::size_t most_joined = 10'000;
constexpr std::size_t most_telling = 4;

}  // namespace

SwarmMeetings::SwarmMeetings(asio::io_context& io, Facts facts, KeeperLinks& links)
    : io_(io), facts_(std::move(facts)), links_(links) {}

/// Other clients know a swarm by its infohash alone.
std::uint64_t SwarmMeetings::key_of(const JoinSwarm& ready) {
  if (ready.meeting.is_set()) return ring_key(ready.meeting);
  return ready.standard ? ring_key(ready.infohash) : ring_key(ready.id);
}

Task<std::optional<Introduced>> SwarmMeetings::tell(Member keeper, JoinSwarm ready) {
  const auto alive = std::weak_ptr<bool>(alive_);
  std::optional<Introduced> out;
  try {
    const KeeperLinks::Link link = co_await links_.to(keeper);
    out = co_await link.channel->request(ready, join_limit);
    if (alive.expired()) co_return std::nullopt;
    if (const auto it = joined_.find(ready.id); it != joined_.end() && it->second.ready.whole == ready.whole)
      it->second.at[keeper.instance] = link.number;
  } catch (const Error&) {
    // The others will do.
  }
  co_return out;
}

Task<std::vector<Introduced>> SwarmMeetings::join(JoinSwarm ready) {
  const auto alive = std::weak_ptr<bool>(alive_);
  if (joined_.size() < most_joined || joined_.contains(ready.id)) {
    auto& joined = joined_[ready.id];
    ready.whole = ready.whole || joined.ready.whole;
    if (ready.whole && !joined.ready.whole) joined.at.clear();
    joined.ready = ready;
  }
  const auto heard = std::make_shared<std::vector<Introduced>>();
  auto ask = [](SwarmMeetings* self, Member keeper, JoinSwarm what,
                std::shared_ptr<std::vector<Introduced>> all) -> Task<void> {
    std::optional<Introduced> one = co_await self->tell(std::move(keeper), what);
    if (one) all->push_back(std::move(*one));
  };
  Together asked(io_);
  for (auto& keeper : facts_.keepers(key_of(ready))) asked.add(ask(this, std::move(keeper), ready, heard));
  // One that is silent is not waited for once another has answered.
  std::optional<Clock::time_point> since;
  while (asked.waiting() > 0) {
    co_await sleep_for(std::chrono::milliseconds(2));
    if (alive.expired()) co_return std::vector<Introduced>();
    if (!heard->empty() && !since) since = Clock::now();
    if (since && Clock::now() - *since > others_limit) break;
  }
  co_return *heard;
}

const std::vector<Member>& SwarmMeetings::keepers_of(Joined& joined) {
  if (joined.keepers.empty() || joined.keepers_of != facts_.changes()) {
    joined.keepers = facts_.keepers(key_of(joined.ready));
    joined.keepers_of = facts_.changes();
  }
  return joined.keepers;
}

bool SwarmMeetings::is_told(const Joined& joined, const std::string& keeper) const {
  const auto at = joined.at.find(keeper);
  if (at == joined.at.end()) return false;
  const auto link = links_.number_of(keeper);
  return link == at->second || (link == 0 && links_.is_resting(keeper, at->second));
}

template <class Request>
Task<SwarmMeetings::Answer<typename Request::Reply>> SwarmMeetings::ask_first(std::uint64_t key, Request question) {
  std::string trouble = "no other node is known";
  for (const auto& keeper : facts_.keepers(key)) {
    try {
      const KeeperLinks::Link link = co_await links_.to(keeper);
      Answer<typename Request::Reply> out;
      out.reply = co_await link.channel->request(question, join_limit);
      out.keeper = keeper.instance;
      out.link = link.number;
      co_return out;
    } catch (const Error& error) {
      if (error.status() != Status::unreachable) throw;
      trouble = error.what();
    }
  }
  throw Error(Status::unreachable, trouble);
}

Task<Introduced> SwarmMeetings::share(JoinSwarm ready) {
  const auto alive = std::weak_ptr<bool>(alive_);
  const auto key = key_of(ready);
  if (joined_.size() < most_joined || joined_.contains(ready.id)) {
    auto& joined = joined_[ready.id];
    joined.ready = ready;
    joined.at.clear();
  }
  auto heard = co_await ask_first(key, ready);
  if (alive.expired()) co_return std::move(heard.reply);
  if (const auto it = joined_.find(ready.id); it != joined_.end()) {
    it->second.at[heard.keeper] = heard.link;
  } else {
    // It was let go of meanwhile.
    Unloaded note;
    note.id = ready.id;
    links_.note(heard.keeper, note);
  }
  co_return std::move(heard.reply);
}

Task<OriginAssignment> SwarmMeetings::turn(OriginReport said) {
  const auto alive = std::weak_ptr<bool>(alive_);
  const auto key = ring_key(said.url);
  const auto url = said.url;
  auto heard = co_await ask_first(key, std::move(said));
  if (alive.expired()) co_return std::move(heard.reply);
  // Another one plans it now, or the same one has forgotten: it is to know whose pieces there are.
  std::vector<JoinSwarm> again;
  for (const auto& [id, joined] : joined_) {
    if (joined.ready.meeting != url || !joined.ready.shares) continue;
    const auto at = joined.at.find(heard.keeper);
    if (at == joined.at.end() || at->second != heard.link) again.push_back(joined.ready);
  }
  for (const auto& ready : again) {
    if (!joined_.contains(ready.id)) continue;
    const Introduced others = co_await share(ready);
    if (alive.expired()) break;
    if (joined_.contains(ready.id)) facts_.introduced(ready.id, others);
  }
  co_return std::move(heard.reply);
}

void SwarmMeetings::completed(const ContentId& id) {
  const auto it = joined_.find(id);
  if (it == joined_.end() || it->second.ready.whole) return;
  it->second.ready.whole = true;
  it->second.at.clear();
  tend();
}

void SwarmMeetings::leave(const ContentId& id) {
  const auto it = joined_.find(id);
  if (it == joined_.end()) return;
  Unloaded note;
  note.id = id;
  for (const auto& [keeper, link] : it->second.at) links_.note(keeper, note);
  joined_.erase(it);
}

bool SwarmMeetings::is_keeper(const std::string& instance) const {
  for (const auto& [id, joined] : joined_)
    if (joined.at.contains(instance)) return true;
  return false;
}

void SwarmMeetings::tend() {
  for (auto& [id, joined] : joined_) {
    if (telling_ >= most_telling) return;
    if (joined.busy || joined.ready.shares) continue;
    const auto& keepers = keepers_of(joined);
    const auto told = [&](const Member& keeper) { return is_told(joined, keeper.instance); };
    if (std::ranges::all_of(keepers, told)) continue;
    joined.busy = true;
    ++telling_;
    spawn(io_, tell_new(id));
  }
}

Task<void> SwarmMeetings::tell_new(ContentId id) {
  const auto alive = std::weak_ptr<bool>(alive_);
  std::vector<Member> keepers;
  if (const auto it = joined_.find(id); it != joined_.end()) keepers = keepers_of(it->second);
  for (const auto& keeper : keepers) {
    const auto found = joined_.find(id);
    if (found == joined_.end()) break;
    if (is_told(found->second, keeper.instance)) continue;
    const JoinSwarm ready = found->second.ready;
    const std::optional<Introduced> heard = co_await tell(keeper, ready);
    if (alive.expired()) co_return;
    if (heard && joined_.contains(id)) facts_.introduced(id, *heard);
  }
  --telling_;
  if (const auto found = joined_.find(id); found != joined_.end()) found->second.busy = false;
}

}  // namespace mesh
