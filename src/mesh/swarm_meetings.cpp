#include "mesh/swarm_meetings.h"

#include <optional>

#include "wire/flow.h"

namespace mesh {
namespace {

using std::chrono::seconds;

constexpr auto join_limit = seconds(3);
constexpr std::size_t most_joined = 10'000;

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
    if (const auto it = joined_.find(ready.id); it != joined_.end()) it->second.at[keeper.instance] = link.number;
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
    joined.ready = ready;
  }
  const auto heard = std::make_shared<std::vector<Introduced>>();
  auto ask = [](SwarmMeetings* self, Member keeper, JoinSwarm what,
                std::shared_ptr<std::vector<Introduced>> all) -> Task<void> {
    std::optional<Introduced> one = co_await self->tell(std::move(keeper), std::move(what));
    if (one) all->push_back(std::move(*one));
  };
  Together asked(io_);
  for (auto& keeper : facts_.keepers(key_of(ready))) asked.add(ask(this, std::move(keeper), ready, heard));
  co_await asked.all();
  co_return std::move(*heard);
}

template <class Request>
Task<typename Request::Reply> SwarmMeetings::ask_first(std::uint64_t key, Request question) {
  std::string trouble = "no other node is known";
  for (const auto& keeper : facts_.keepers(key)) {
    try {
      const KeeperLinks::Link link = co_await links_.to(keeper);
      co_return co_await link.channel->request(question, join_limit);
    } catch (const Error& error) {
      if (error.status() != Status::unreachable) throw;
      trouble = error.what();
    }
  }
  throw Error(Status::unreachable, trouble);
}

Task<Introduced> SwarmMeetings::share(JoinSwarm ready) {
  const auto key = key_of(ready);
  co_return co_await ask_first(key, std::move(ready));
}

Task<OriginAssignment> SwarmMeetings::turn(OriginReport said) {
  const auto key = ring_key(said.url);
  co_return co_await ask_first(key, std::move(said));
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
    if (joined.busy) continue;
    bool all = true;
    for (const auto& keeper : facts_.keepers(key_of(joined.ready))) {
      const auto at = joined.at.find(keeper.instance);
      all = all && at != joined.at.end() && links_.number_of(keeper.instance) == at->second;
    }
    if (all) continue;
    joined.busy = true;
    spawn(io_, tell_new(id));
  }
}

Task<void> SwarmMeetings::tell_new(ContentId id) {
  const auto alive = std::weak_ptr<bool>(alive_);
  const auto it = joined_.find(id);
  if (it == joined_.end()) co_return;
  const JoinSwarm ready = it->second.ready;
  for (const auto& keeper : facts_.keepers(key_of(ready))) {
    const auto found = joined_.find(id);
    if (found == joined_.end()) co_return;
    const auto at = found->second.at.find(keeper.instance);
    if (at != found->second.at.end() && links_.number_of(keeper.instance) == at->second) continue;
    const std::optional<Introduced> heard = co_await tell(keeper, ready);
    if (alive.expired()) co_return;
    if (heard && joined_.contains(id)) facts_.introduced(id, *heard);
  }
  if (const auto found = joined_.find(id); found != joined_.end()) found->second.busy = false;
}

}  // namespace mesh
