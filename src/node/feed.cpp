#include "node/feed.h"

#include "core/format.h"
#include "wire/endpoint.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr auto refresh_every = milliseconds(250);
constexpr auto refresh_gate_every = milliseconds(100);
constexpr auto stalled_after = seconds(3);
constexpr auto version_gone_after = seconds(6);
constexpr auto unreachable_after = seconds(30);
constexpr auto hopeless_after = seconds(180);

}  // namespace

Feed::Feed(Session& session, TrackerLinks& links, FileEntry wanted, SwarmTorrentPtr swarm, TransferInfo& info)
    : session_(session), links_(links), wanted_(std::move(wanted)), swarm_(std::move(swarm)), info_(info) {}

Ready ready_of(const SwarmTorrent& swarm) {
  Ready out;
  out.id = swarm.torrent.id;
  out.infohash = swarm.torrent.infohash;
  out.shares = swarm.gate && !swarm.gate->takes_offers();
  out.foreign = swarm.foreign.is_set();
  out.size = swarm.storage->layout().size;
  return out;
}

Task<void> join_swarm(Session& session, TrackerLinks& links, SwarmTorrentPtr swarm) {
  const Ready ready = ready_of(*swarm);
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
    if (swarm_->got - swarm_->got_wrong > got_) {
      got_ = swarm_->got - swarm_->got_wrong;
      progressed_ = now;
      info_.detail.clear();
    }
  }
  if (now - progressed_ < stalled_after || now - asked_ < stalled_after) co_return;
  // Peers may have gone, and others come: ask again. The answer may also be that nobody has it any more.
  asked_ = now;
  std::optional<Error> why;
  try {
    const auto tracker = co_await links_.first(milliseconds(100));
    Join again;
    again.file = wanted_;
    const Torrent answer = co_await tracker->request(again, seconds(15));
    if (answer.holders == 0) why = Error(Status::failed, "no node holds all of it");
    co_await join();
  } catch (const Error& error) {
    why = error;
  }
  const auto still = Clock::now() - progressed_;
  info_.detail = why ? std::string("stalled: ") + why->what() : "stalled: no peer sends";
  const auto name = printable(wanted_.path);
  if (why && why->status() != Status::unreachable && still > version_gone_after) {
    version_gone_ = true;
    throw Error(Status::failed,
                name + ": its last holder went away or changed it before a whole copy was out: " + why->what());
  }
  // A bad cable or a bad disk may be good again; a new swarm has banned nobody.
  if (swarm_->peers == 0 && !swarm_->banned.empty() && still > version_gone_after) {
    version_gone_ = true;
    std::string who;
    for (const auto& peer : swarm_->banned) who += (who.empty() ? "" : ", ") + to_text(peer);
    throw Error(Status::failed, name + ": whoever has it sent wrong bytes: " + who);
  }
  if (patient) co_return;
  if (swarm_->peers == 0 && still > unreachable_after)
    throw Error(Status::unreachable, name + (why ? std::string(": no peer is left, and ") + why->what()
                                                 : ": no node that has it can be reached on its peer port"));
  if (still > hopeless_after)
    throw Error(Status::failed,
                name + ": no peer has sent anything for " + human_seconds(seconds(hopeless_after).count()));
}

void Feed::finish() {
  session_.refresh(*swarm_);
  info_.done = info_.total;
  info_.sent = swarm_->sent;
  for (const auto& [peer, bytes] : swarm_->received)
    (swarm_->sources.contains(peer) ? info_.from_sources : info_.from_getters) += bytes;
}

}  // namespace mesh
