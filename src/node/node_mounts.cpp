// What a node tells those who mount the mesh on its machine.
#include "core/format.h"
#include "mesh/gossip.h"
#include "mesh/tracker_links.h"
#include "node/node.h"
#include "serve/mount_teller.h"

namespace mesh {
namespace {

const char* to_text(MemberList::What what) {
  switch (what) {
    case MemberList::What::joined:
      return "joined";
    case MemberList::What::gone:
      return "gone";
    case MemberList::What::back:
      return "back";
  }
  return "unknown";
}

constexpr std::size_t most_trackers = 64;

}  // namespace

ReadFrom Node::read_from() {
  return {*workers_, *library_, *session_, *links_, *node_channels_, *read_cache_, *profiles_, *prefetcher_};
}

std::unique_ptr<MountTeller> Node::make_mount_teller() {
  MountTeller::Options options;
  options.node = options_.name;
  options.cluster = [this] { return cluster(); };
  options.set_trackers = [this](const std::vector<std::string>& trackers) { set_trackers(trackers); };
  return std::make_unique<MountTeller>(read_from(), *getter_, std::move(options));
}

ClusterTold Node::cluster() const {
  ClusterTold out;
  out.node = options_.name;
  for (const auto& tracker : links_->states()) {
    out.trackers.push_back(tracker.tracker);
    out.troubles.push_back(tracker.trouble);
  }
  const auto since = std::chrono::system_clock::now() - std::chrono::steady_clock::now().time_since_epoch();
  for (const auto& change : gossip_->members().recent()) {
    const auto when = since + change.when.time_since_epoch();
    out.changes.push_back({std::chrono::floor<std::chrono::milliseconds>(when.time_since_epoch()).count(), change.node,
                           to_text(change.what)});
  }
  return out;
}

void Node::set_trackers(const std::vector<std::string>& trackers) {
  if (trackers.empty() || trackers.size() > most_trackers)
    throw Error(Status::usage, "between one tracker and " + std::to_string(most_trackers) + " are to be named");
  std::string names;
  for (const auto& tracker : trackers) {
    if (!may_be_tracker(options_, tracker))
      throw Error(Status::usage, printable(tracker) + ": is not on loopback, where a node without a key stays");
    names += " " + printable(tracker);
  }
  links_->replace(trackers);
  options_.trackers = links_->names();
  log_(LogLine("from now on, and until this node ends, its trackers are:" + names).of("trackers-set"));
}

}  // namespace mesh
