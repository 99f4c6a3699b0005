#include "transfer/swarm_source.h"

#include <memory>
#include <utility>

#include "core/format.h"
#include "wire/endpoint.h"
#include "wire/while_checking.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr auto first_tracker_limit = milliseconds(100);
constexpr auto ask_again_limit = seconds(15);

}  // namespace

Task<Torrent> prepare_swarm(Workers& workers, TrackerLinks& links, FileEntry wanted, std::vector<std::uint32_t> holders,
                            std::function<void()> check) {
  auto ask = [](TrackerLinks* to, PrepareSwarm asked) -> Task<Torrent> {
    const auto path = asked.file.path;
    std::optional<Error> trouble;
    try {
      co_return co_await to->ask(asked, tracker_limit, question_limit);
    } catch (const Error& error) {
      trouble = Error(error.status(), about(path, error.what()));
    } catch (const std::exception& error) {
      trouble = Error(Status::failed, about(path, error.what()));
    }
    throw Error(*trouble);
  };
  PrepareSwarm asked;
  asked.file = wanted;
  asked.holder = holders.empty() ? 0 : holders.front();
  auto answer = ask(&links, asked);
  co_return co_await while_checking(workers.loop(), std::move(answer), std::move(check));
}

VerifiedTorrent verified(const Torrent& told, const FileEntry& wanted, const MeshKeysPtr& keys) {
  auto known = verify_torrent(told.id, wanted.size, told.roots, told.infohash, keys);
  if (!known)
    throw Error(Status::failed, printable(wanted.path) + ": the torrent that the tracker handed on is not sound");
  return std::move(*known);
}

Task<bool> SwarmSource::tend() {
  const auto torrent = transfer_.torrent();
  const auto now = StallPolicy::Clock::now();
  // Wrong bytes are no progress.
  if (stall_.received(torrent->got - torrent->got_wrong, now)) transfer_.show_detail({});
  if (!stall_.asks(now)) co_return false;
  // Peers may have gone, and others come: ask again. The answer may also be that nobody has it any more.
  std::optional<Error> why;
  try {
    const auto tracker = co_await links_.first(first_tracker_limit);
    PrepareSwarm again;
    again.file = transfer_.wanted();
    const Torrent answer = co_await tracker->request(again, ask_again_limit);
    if (answer.holders == 0) why = Error(Status::failed, "no node holds all of it");
    co_await transfer_.enter_swarm(torrent->peers == 0);
  } catch (const Error& error) {
    why = error;
  }
  transfer_.show_detail(why ? std::string("stalled: ") + why->what() : "stalled: no peer sends");
  StallPolicy::Situation found;
  found.is_refused = why && why->status() != Status::unreachable;
  found.has_peers = torrent->peers > 0;
  found.has_banned = !torrent->banned.empty();
  found.is_patient = transfer_.is_patient();
  const auto verdict = stall_.judge(found, StallPolicy::Clock::now());
  if (verdict == StallPolicy::Verdict::go_on) co_return false;
  version_gone_ = verdict == StallPolicy::Verdict::version_gone || verdict == StallPolicy::Verdict::wrong_bytes;
  throw hopeless(verdict, why);
}

Error SwarmSource::hopeless(StallPolicy::Verdict verdict, const std::optional<Error>& why) const {
  const auto name = printable(transfer_.wanted().path);
  switch (verdict) {
    case StallPolicy::Verdict::version_gone:
      return {Status::failed,
              name + ": its last holder went away or changed it before a whole copy was out: " + why->what()};
    case StallPolicy::Verdict::wrong_bytes: {
      std::string who;
      for (const auto& peer : transfer_.torrent()->banned) who += (who.empty() ? "" : ", ") + to_text(peer);
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

}  // namespace mesh
