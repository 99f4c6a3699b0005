#include "node/feed.h"

#include "core/format.h"
#include "wire/endpoint.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr auto refresh_every = milliseconds(250);
constexpr auto refresh_gate_every = milliseconds(100);

}  // namespace

Feed::Feed(Session& session, TrackerLinks& links, const StallTimes& times, FileEntry wanted, SwarmTorrentPtr swarm,
           TransferInfo& info)
    : session_(session),
      links_(links),
      wanted_(std::move(wanted)),
      swarm_(std::move(swarm)),
      info_(info),
      stall_(times, Clock::now()) {}

JoinSwarm ready_of(const SwarmTorrent& swarm) {
  JoinSwarm out;
  out.id = swarm.torrent.id;
  out.infohash = swarm.torrent.infohash;
  out.shares = swarm.gate && !swarm.gate->takes_offers();
  out.foreign = swarm.foreign.is_set();
  out.size = swarm.storage->layout().size;
  return out;
}

Task<void> join_swarm(Session& session, TrackerLinks& links, SwarmTorrentPtr swarm) {
  const JoinSwarm ready = ready_of(*swarm);
  ChannelPtr tracker;
  const Introduced introduced = co_await links.ask(ready, tracker_limit, seconds(10), &tracker);
  session.introduce(swarm, introduced);
  links.tell_ready(ready, tracker);
}

Task<void> Feed::join() { return join_swarm(session_, links_, swarm_); }

std::int64_t Feed::missing() const { return swarm_->storage->missing(); }

Task<void> Feed::tend(bool patient) {
  const auto now = Clock::now();
  if (now - refreshed_ >= (swarm_->gate ? refresh_gate_every : refresh_every)) {
    refreshed_ = now;
    session_.refresh(*swarm_);
    session_.update_gate(*swarm_);
    info_.done = wanted_.size - missing();
    info_.down_rate = swarm_->down_rate;
    info_.up_rate = swarm_->up_rate;
    info_.sent = swarm_->sent;
    info_.peers = swarm_->peers;
    info_.eta = info_.down_rate > 0 ? (info_.total - info_.done) / info_.down_rate : -1;
    // Wrong bytes are no progress.
    if (stall_.received(swarm_->got - swarm_->got_wrong, now)) info_.detail.clear();
  }
  if (!stall_.asks(now)) co_return;
  // Peers may have gone, and others come: ask again. The answer may also be that nobody has it any more.
  std::optional<Error> why;
  try {
    const auto tracker = co_await links_.first(milliseconds(100));
    PrepareSwarm again;
    again.file = wanted_;
    const Torrent answer = co_await tracker->request(again, seconds(15));
    if (answer.holders == 0) why = Error(Status::failed, "no node holds all of it");
    co_await join();
  } catch (const Error& error) {
    why = error;
  }
  info_.detail = why ? std::string("stalled: ") + why->what() : "stalled: no peer sends";
  StallPolicy::Situation found;
  found.is_refused = why && why->status() != Status::unreachable;
  found.has_peers = swarm_->peers > 0;
  found.has_banned = !swarm_->banned.empty();
  found.is_patient = patient;
  const auto verdict = stall_.judge(found, Clock::now());
  if (verdict == StallPolicy::Verdict::go_on) co_return;
  version_gone_ = verdict == StallPolicy::Verdict::version_gone || verdict == StallPolicy::Verdict::wrong_bytes;
  throw hopeless(verdict, why);
}

Error Feed::hopeless(StallPolicy::Verdict verdict, const std::optional<Error>& why) const {
  const auto name = printable(wanted_.path);
  switch (verdict) {
    case StallPolicy::Verdict::version_gone:
      return {Status::failed,
              name + ": its last holder went away or changed it before a whole copy was out: " + why->what()};
    case StallPolicy::Verdict::wrong_bytes: {
      std::string who;
      for (const auto& peer : swarm_->banned) who += (who.empty() ? "" : ", ") + to_text(peer);
      return {Status::failed, name + ": whoever has it sent wrong bytes: " + who};
    }
    case StallPolicy::Verdict::unreachable:
      return {Status::unreachable, name + (why ? std::string(": no peer is left, and ") + why->what()
                                               : ": no node that has it can be reached on its peer port")};
    default:
      return {Status::failed, name + ": no peer has sent anything for " +
                                  human_seconds(std::chrono::duration_cast<seconds>(stall_.times().hopeless).count())};
  }
}

void Feed::finish() {
  session_.refresh(*swarm_);
  info_.done = info_.total;
  info_.sent = swarm_->sent;
  for (const auto& [peer, bytes] : swarm_->received)
    (swarm_->sources.contains(peer) ? info_.from_sources : info_.from_getters) += bytes;
}

}  // namespace mesh
