#include "mesh/path_index.h"

#include <algorithm>

#include "core/address.h"
#include "wire/announce.h"
#include "wire/endpoint.h"
#include "wire/flow.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr auto little_time = seconds(1);
constexpr auto unused_after = seconds(60);
constexpr auto unneeded_after = seconds(3);  // once a tracker is back
constexpr auto try_again_after = seconds(2);
constexpr auto reach_limit = milliseconds(2'500);
constexpr auto announce_limit = seconds(5);
constexpr auto told_limit = seconds(2);
constexpr auto tend_every = seconds(2);
constexpr std::size_t most_tried = 16;  // nodes, until one answers
constexpr std::size_t most_told = 6;    // keepers of a directory, where some of them are new

constexpr std::string_view visit_prefix = "/visit/";
constexpr std::string_view keeper_prefix = "/keeper/";

}  // namespace

PathIndex::PathIndex(Workers& workers, Options options, Facts facts, Gossip& gossip, TrackerLinks& links,
                     const Handlers& tracker_handlers, const Handlers& handlers)
    : workers_(workers),
      options_(std::move(options)),
      facts_(std::move(facts)),
      gossip_(gossip),
      tracker_links_(links),
      tracker_handlers_(tracker_handlers),
      keeper_links_(
          workers.loop(),
          {.hello = facts_.hello,
           .prove = facts_.prove,
           .connect = [this](Member member, std::string path) { return gossip_.connect(member, path); },
           .connect_within = [this]() -> Task<ChannelPtr> {
             const auto ends = co_await make_channel_pair(options_.name, "the index");
             auto serve = [](std::function<Task<void>(ChannelPtr)> tracker, ChannelPtr end) -> Task<void> {
               co_await tracker(end);
               end->close();
             };
             spawn(workers_.loop(), serve(keeper_.serve, ends.far));
             co_return ends.near;
           },
           .missed = [this](const std::string& node) { gossip_.members().missed(node, Clock::now()); },
           .taken = facts_.taken,
           .is_needed =
               [this](const std::string& node) { return teller_.is_keeper(node) || meetings_.is_keeper(node); }},
          handlers),
      teller_(workers.loop(),
              {.page = facts_.page,
               .list = facts_.list,
               .find = facts_.find,
               .keepers = [this](std::uint64_t key) { return keepers_to_tell(key); },
               .changes = [this] { return gossip_.changes(); },
               .may_rest = [this](const std::string& node) { return !meetings_.is_keeper(node); },
               .log = facts_.log},
              keeper_links_),
      meetings_(workers.loop(),
                {.keepers = [this](std::uint64_t key) { return keepers(key, keepers_of_each); },
                 .changes = [this] { return gossip_.changes(); },
                 .introduced = facts_.introduced},
                keeper_links_),
      walk_(workers.loop(),
            {.keepers = [this](std::uint64_t key, std::size_t count) { return keepers(key, count); },
             .some = [this](std::size_t most) { return gossip_.members().choose(most, random_); },
             .reference = [this](const Member& member) { return reference(member); },
             .find = [this](const std::string& instance) -> std::optional<Member> {
               if (gossip_.members().is_missed(instance)) return std::nullopt;
               return gossip_.members().find(instance, Clock::now());
             },
             .may_ask =
                 [this](const Member& member) {
                   return is_sensible(member) && std::ranges::any_of(member.addresses, [&](const auto& address) {
                            return gossip_.may_ask(address, member.channel_port);
                          });
                 },
             .known = [this] { return gossip_.members().size(); },
             .has_trackers = [&links] { return !links.names().empty(); }},
            keeper_links_),
      opened_(workers.loop()) {
  EmbeddedRole role;
  role.keepers = [this](const std::string& directory) { return keepers(ring_key(directory), keepers_of_each); };
  role.prove = facts_.prove_itself;
  keeper_ = options_.embedded_tracker(workers.loop(), options_.access, std::move(role));
  spawn(workers.loop(), tend());
}

PathIndex::~PathIndex() { close(); }

void PathIndex::close() {
  closed_ = true;
  alive_.reset();
  if (channel_) channel_->close();
  teller_.close();
  keeper_links_.close();
  opened_.notify();
}

/// Which nodes there are in the ring, this one among them where it keeps anything.
void PathIndex::look_at_ring() {
  if (gossip_.changes() == ring_of_) return;
  ring_of_ = gossip_.changes();
  std::vector<std::string> nodes;
  for (const auto& member : gossip_.members().keepers(Clock::now())) nodes.push_back(member.instance);
  const auto self = gossip_.self();
  const bool nobody_keeps = gossip_.members().keeper_count() == 0;
  if (self.keeps >= 0 || nobody_keeps) nodes.push_back(self.instance);
  ring_ = KeeperRing(std::move(nodes));
}

std::vector<Member> PathIndex::keepers(std::uint64_t key, std::size_t count) {
  look_at_ring();
  std::vector<Member> out;
  const auto self = gossip_.self();
  for (const auto& instance : ring_.keepers(key, count)) {
    if (instance == self.instance)
      out.push_back(self);
    else if (auto member = gossip_.members().find(instance, Clock::now()))
      out.push_back(std::move(*member));
  }
  return out;
}

/// Others may not know yet of a keeper that is new, and ask those that it comes before.
std::vector<Member> PathIndex::keepers_to_tell(std::uint64_t key) {
  auto all = keepers(key, most_told);
  const auto is_proven = [](const Member& member) { return member.keeps >= proven_after; };
  if (std::ranges::none_of(all, is_proven)) {
    if (all.size() > keepers_of_each) all.resize(keepers_of_each);
    return all;
  }
  std::size_t proven = 0;
  std::vector<Member> out;
  for (auto& member : all) {
    if (out.size() >= keepers_of_each && proven >= keepers_of_each) break;
    const bool counts = is_proven(member);
    if (out.size() >= keepers_of_each && !counts) continue;
    if (counts) ++proven;
    out.push_back(std::move(member));
  }
  return out;
}

NodeRef PathIndex::reference(const Member& member) const {
  return {0, member.node, member.addresses, member.peer_port, member.channel_port, member.instance};
}

Beyond PathIndex::beyond() {
  Beyond out;
  out.cover = [this](CoverAsk asked) { return walk_.cover(std::move(asked)); };
  out.everybody = [this] {
    std::vector<NodeRef> all;
    for (const auto which : {MemberList::Which::likely, MemberList::Which::missed})
      for (const auto& member : gossip_.members().choose(SIZE_MAX, random_, which)) all.push_back(reference(member));
    // Of two with one name, the same one has it each time.
    std::ranges::sort(all, {}, &NodeRef::instance);
    return all;
  };
  out.visit = [this](NodeRef node) -> Task<ChannelPtr> {
    Member member;
    member.instance = node.instance;
    member.node = node.name;
    member.addresses = node.addresses;
    member.channel_port = node.channel_port;
    const auto own = gossip_.self().instance;
    const std::string path = std::string(visit_prefix) + own + "/" + node.instance;
    const ChannelPtr channel = co_await gossip_.connect(member, path);
    if (!channel) throw Error(Status::unreachable, "cannot be reached");
    co_return channel;
  };
  out.join = [this](JoinSwarm ready) { return meetings_.join(ready); };
  out.share = [this](JoinSwarm ready) { return meetings_.share(ready); };
  out.turn = [this](OriginReport said) -> Task<OriginAssignment> {
    // The others look for it under its path from then on.
    if (said.whole)
      for (const auto until = Clock::now() + told_limit; !teller_.is_told() && Clock::now() < until;)
        co_await sleep_for(milliseconds(10));
    co_return co_await meetings_.turn(std::move(said));
  };
  return out;
}

PathIndex::Wanted PathIndex::wanted(const std::string& path) const {
  const auto own = gossip_.self().instance;
  const auto is_for = [&](std::string_view prefix) {
    return path.starts_with(prefix) && path.ends_with("/" + own) && path.size() == prefix.size() + 2 * own.size() + 1 &&
           path.substr(prefix.size(), own.size()) != own;
  };
  if (is_for(visit_prefix)) return Wanted::registration;
  return is_for(keeper_prefix) ? Wanted::index : Wanted::nothing;
}

std::vector<std::string> PathIndex::announce_addresses(const InfoHash& infohash) {
  std::vector<std::string> out;
  for (auto& member : keepers(ring_key(infohash), keepers_of_each)) {
    if (member.addresses.empty()) member.addresses = facts_.hello().addresses;  // this node itself
    if (options_.access.is_for_own_user()) member.addresses = {"127.0.0.1"};
    for (const auto& address : member.addresses) {
      const auto parsed = parse_address(address);
      if (!parsed || (parsed->is_loopback() && !options_.access.is_for_own_user())) continue;
      out.push_back(to_text(address, member.channel_port));
      break;
    }
  }
  return out;
}

Task<std::string> PathIndex::announce(std::string query, InfoHash infohash, asio::ip::address remote) {
  const auto own = gossip_.self().instance;
  const auto all = keepers(ring_key(infohash), keepers_of_each);
  const bool may_ask = remote.is_loopback() || announces_.take(counted_as(remote), Clock::now());
  if (!may_ask) co_return failure_reply("too many announces from this address");
  const bool is_own = std::ranges::any_of(all, [&](const Member& member) { return member.instance == own; });
  if (is_own || all.empty()) co_return co_await keeper_.announce(std::move(query), remote);
  AnnounceAsk ask;
  ask.query = std::move(query);
  ask.address = remote.to_string();
  for (const auto& keeper : all) {
    try {
      const KeeperLinks::Link link = co_await keeper_links_.to(keeper);
      Announced answer = co_await link.channel->request(ask, announce_limit);
      co_return std::move(answer.body);
    } catch (const Error&) {
      // The next one knows it, too.
    }
  }
  co_return failure_reply("no node that keeps this swarm answers; try again later");
}

void PathIndex::scan_completed() {
  auto begin = [](PathIndex* self, std::weak_ptr<bool> alive) -> Task<void> {
    co_await self->workers_.rest(self->options_.tells_after);
    if (!alive.expired() && !self->workers_.stopping()) self->teller_.begin();
  };
  spawn(workers_.loop(), begin(this, alive_));
}

void PathIndex::changed(const InventoryDelta& delta) {
  teller_.changed(delta);
  for (const auto& entry : delta.put)
    if (entry.id.is_set()) meetings_.completed(entry.id);
}

void PathIndex::seeds(JoinSwarm ready) {
  auto join = [](PathIndex* self, JoinSwarm what, std::weak_ptr<bool> alive) -> Task<void> {
    const std::vector<Introduced> heard = co_await self->meetings_.join(what);
    if (alive.expired()) co_return;
    for (const auto& one : heard) self->facts_.introduced(what.id, one);
  };
  spawn(workers_.loop(), join(this, ready, alive_));
}

void PathIndex::identity_changed() {
  if (channel_) channel_->close();
  keeper_links_.drop_all();
}

Task<void> PathIndex::tend() {
  const auto alive = std::weak_ptr<bool>(alive_);
  for (;;) {
    co_await workers_.rest(tend_every);
    if (alive.expired() || workers_.stopping()) co_return;
    keeper_links_.tend();
    meetings_.tend();
  }
}

Task<ChannelPtr> PathIndex::open(milliseconds limit) {
  const auto alive = std::weak_ptr<bool>(alive_);
  used_ = Clock::now();
  if (!opening_ && channel_ && channel_->is_open()) co_return channel_;
  if (closed_ || !facts_.scan_complete()) co_return nullptr;
  if (!opening_) {
    if (gossip_.members().size() == 0 || Clock::now() - failed_ < try_again_after) co_return nullptr;
    opening_ = true;
    spawn(workers_.loop(), make());
  }
  // Who has little time asks again later.
  if (limit < little_time) co_return nullptr;
  for (const auto until = Clock::now() + limit; opening_ && !closed_ && Clock::now() < until;) {
    co_await opened_.wait_for(milliseconds(100));
    if (alive.expired()) co_return nullptr;
  }
  co_return !opening_ && channel_ && channel_->is_open() ? channel_ : nullptr;
}

/// Whether any other node answers.
Task<bool> PathIndex::reach_any() {
  auto some = gossip_.members().choose(most_tried, random_);
  if (some.empty()) some = gossip_.members().choose(most_tried, random_, MemberList::Which::missed);
  const auto reached = std::make_shared<bool>(false);
  Together asked(workers_.loop());
  auto reach = [](PathIndex* self, Member member, std::shared_ptr<bool> any, std::weak_ptr<bool> alive) -> Task<void> {
    co_await self->keeper_links_.to(member);
    if (alive.expired()) co_return;
    *any = true;
    self->gossip_.members().reached(member.instance, Clock::now());
    self->opened_.notify();
  };
  const auto alive = std::weak_ptr<bool>(alive_);
  const auto deadline = Clock::now() + reach_limit;
  for (auto& member : some) asked.add(reach(this, std::move(member), reached, alive_));
  while (!alive.expired() && !*reached && asked.waiting() > 0 && Clock::now() < deadline)
    co_await opened_.wait_for(milliseconds(10));
  co_return *reached;
}

/// Opens the view: this node registers with it, and it is told by keepers what others have.
Task<void> PathIndex::make() {
  const auto alive = std::weak_ptr<bool>(alive_);
  bool any = false;
  try {
    if (!view_.serve) {
      EmbeddedRole role;
      role.beyond = beyond();
      view_ = options_.embedded_tracker(workers_.loop(), options_.access, std::move(role));
    }
    if (channel_) channel_->close();
    const auto ends = co_await make_channel_pair(options_.name, "the mesh");
    if (alive.expired()) co_return;
    channel_ = ends.near;
    auto serve = [](std::function<Task<void>(ChannelPtr)> tracker, ChannelPtr end) -> Task<void> {
      co_await tracker(end);
      end->close();
    };
    spawn(workers_.loop(), serve(view_.serve, ends.far));
    auto run = [](ChannelPtr running, const Handlers& handlers) -> Task<void> { co_await running->run(handlers); };
    spawn(workers_.loop(), run(channel_, tracker_handlers_));
    tracker_links_.adopt(channel_, true);
    any = co_await reach_any();
    if (alive.expired()) co_return;
    const auto deadline = Clock::now() + reach_limit;
    while (any && !tracker_links_.is_told(channel_) && Clock::now() < deadline && !closed_) {
      co_await opened_.wait_for(milliseconds(10));
      if (alive.expired()) co_return;
    }
    any = any && tracker_links_.is_told(channel_);
  } catch (const std::exception& error) {
    if (alive.expired()) co_return;
    facts_.log(warning(std::string("the other nodes cannot be asked: ") + error.what()));
    any = false;
  }
  opening_ = false;
  if (any && !closed_) {
    if (!tracker_links_.names().empty())
      facts_.log(warning("no tracker answers; the path index is asked instead (other nodes known: " +
                         std::to_string(gossip_.members().size()) + ")")
                     .of("no-tracker"));
    spawn(workers_.loop(), tend_view());
  } else {
    failed_ = Clock::now();
    if (channel_) channel_->close();
  }
  opened_.notify();
}

/// It ends when nobody has asked anything for a while, soon after a tracker is back.
Task<void> PathIndex::tend_view() {
  const auto alive = std::weak_ptr<bool>(alive_);
  const auto view = channel_;
  while (view->is_open() && !closed_) {
    if (view->is_waiting()) used_ = Clock::now();
    const auto unused = Clock::now() - used_;
    if (unused > unused_after || (tracker_links_.any() && unused > unneeded_after)) break;
    co_await sleep_for(tend_every);
    if (alive.expired()) co_return;
    if (view != channel_) break;
  }
  view->close();
}

}  // namespace mesh
