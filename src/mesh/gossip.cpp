#include "mesh/gossip.h"

#include <algorithm>

#include "core/address.h"
#include "core/mesh_path.h"
#include "wire/endpoint.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr auto connect_limit = seconds(2);
constexpr auto greet_limit = seconds(3);
constexpr auto greet_every = milliseconds(15'000);
constexpr auto greet_alone_every = milliseconds(2'000);  // while nobody is known, and at the start
constexpr int first_rounds = 3;
constexpr std::size_t most_told = 500;
constexpr int try_missed_every = 4;  // rounds
constexpr auto ended_early = seconds(2);
constexpr auto little_time = seconds(1);
/// So many nodes' words make a view. Each tells its whole inventory.
constexpr std::size_t most_asked = 256;
constexpr auto look_for_members_every = seconds(2);
constexpr auto unused_after = seconds(60);
constexpr auto unneeded_after = seconds(3);  // once a tracker is back
constexpr auto try_again_after = seconds(2);
constexpr std::size_t most_found = 100;
constexpr std::size_t most_twins = 4;  // addresses that are tried in a round
constexpr std::size_t most_seen = 10'000;
constexpr auto twin_lasts = seconds(60);

std::int64_t seconds_of_day() {
  return std::chrono::duration_cast<seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

struct Gossip::PeerLink {
  Member member;
  ChannelPtr view;  ///< for which it is
  ChannelPtr channel;
  bool over = false;      ///< it ended, or could not be reached
  bool answered = false;  ///< a channel to it was there
};

Gossip::Gossip(Workers& workers, Options options, Facts facts, TrackerLinks& links, const Handlers& tracker_handlers,
               Handlers& handlers)
    : workers_(workers),
      options_(std::move(options)),
      facts_(std::move(facts)),
      links_(links),
      tracker_handlers_(tracker_handlers),
      instance_(facts_.identity()->instance()),
      members_(instance_),
      opened_(workers.loop()) {
  const auto own = facts_.hello().addresses;
  own_addresses_.insert(own.begin(), own.end());
  try {
    // The time of day at which it was written, and whom this node knew.
    const auto text = facts_.recall();
    if (const auto space = text.find(' '); space != std::string::npos) {
      const auto passed = std::max<std::int64_t>(0, seconds_of_day() - std::stoll(text.substr(0, space)));
      for (auto member : from_bencode<Greeted>(std::string_view(text).substr(space + 1)).known) {
        member.age += passed + 1;
        static_cast<void>(members_.hear(member, Clock::now()));
      }
    }
  } catch (const std::exception&) {
    facts_.log("the list of nodes that was remembered cannot be read; it is made anew");
  }
  handlers.on<Greet>([this](ChannelPtr channel, Greet said) -> Task<Greeted> {
    if (!is_proven(said.self.instance, said.public_key, Greet::name, channel->binding(), said.proof))
      throw Error(Status::refused, "a greeting must be proven by who it is from");
    Greeted heard;
    heard.self = said.self;
    heard.known = std::move(said.known);
    hear(heard, channel->remote());
    Greeted out;
    out.self = self();
    out.public_key = facts_.identity()->public_key();
    out.proof = facts_.identity()->prove(Greeted::name, channel->binding());
    out.rival = facts_.rivals->claim_to(said.run);
    out.twins = twins_of(said, channel->remote());
    facts_.rivals->hear(said.self.instance, said.rival);
    out.known = members_.tell(most_told, channel->remote().is_loopback(), Clock::now());
    co_return out;
  });
  if (options_.discover) {
    const auto found = [this](const asio::ip::address& address, std::uint16_t port) {
      if (found_.size() < most_found && may_ask(address.to_string(), port))
        found_.insert(to_text(address.to_string(), port));
    };
    discover_ = std::make_unique<Discover>(workers_.loop(), options_.access.keys, facts_.hello().channel_port, found);
  }
  spawn(workers_.loop(), gossip());
}

Gossip::~Gossip() { alive_.reset(); }

Member Gossip::self() const {
  const Hello hello = facts_.hello();
  Member out;
  out.instance = hello.instance;
  out.node = hello.node;
  if (hello.advertised) out.addresses = hello.addresses;
  out.peer_port = hello.peer_port;
  out.channel_port = hello.channel_port;
  return out;
}

bool Gossip::may_ask(const std::string& address, std::uint16_t port) const {
  const auto parsed = parse_address(address);
  if (!parsed || (options_.access.is_for_own_user() && !parsed->is_loopback())) return false;
  return port != facts_.hello().channel_port || !(parsed->is_loopback() || own_addresses_.contains(address));
}

void Gossip::hear(const Greeted& said, const asio::ip::address& from) {
  const auto now = Clock::now();
  Member other = said.self;
  other.age = 0;
  if (other.addresses.empty()) other.addresses = {from.to_string()};
  bool news = members_.hear(other, now);
  for (std::size_t i = 0; i < std::min(said.known.size(), most_told); ++i) {
    Member member = said.known[i];
    member.age = std::clamp<std::int64_t>(member.age, 0, INT32_MAX) + 1;  // only itself speaks for it at once
    news = members_.hear(member, now) || news;
  }
  unsaved_ = unsaved_ || news;
}

/// Where copies of the one that greets were seen: nobody else tells them of each other where there is no tracker.
std::vector<Member> Gossip::twins_of(const Greet& said, const asio::ip::address& from) {
  const auto now = Clock::now();
  auto member = said.self;
  if (member.addresses.empty()) member.addresses = {from.to_string()};
  if (!is_sensible(member) || !is_run(said.run)) return {};
  if (seen_.size() >= most_seen && !seen_.contains(said.self.instance)) seen_.erase(seen_.begin());
  auto& seen = seen_[said.self.instance];
  if (!seen.run.empty() && seen.run != said.run) {
    seen.twin = seen.member;
    seen.twin_seen = now;
  }
  seen.run = said.run;
  seen.member = std::move(member);
  // One that was here before a restart is gone.
  if (!seen.twin || now - seen.twin_seen > twin_lasts) return {};
  return {*seen.twin};
}

void Gossip::welcomed(const Welcome& welcome) {
  for (std::size_t i = 0; i < std::min(welcome.members.size(), most_told); ++i) {
    Member member = welcome.members[i];
    member.age = 1;
    unsaved_ = members_.hear(member, Clock::now()) || unsaved_;
  }
}

Task<void> Gossip::save() {
  Greeted kept;
  kept.known = members_.tell(10'000, true, Clock::now());
  unsaved_ = false;
  const auto put = [this, text = std::to_string(seconds_of_day()) + " " + to_bencode(kept)] { facts_.remember(text); };
  co_await run_on(workers_.brief(), put);
}

/// Greets the node at `address`, which should be the one of instance `expected`; false when it does not answer.
Task<bool> Gossip::greet(std::string address, std::string expected) {
  ChannelPtr channel;
  bool answered = false;
  try {
    channel = co_await connect_channel(address, "/node", connect_limit, options_.access);
    run_to_ask(channel);
    Greet said;
    said.self = self();
    said.public_key = facts_.identity()->public_key();
    said.proof = facts_.identity()->prove(Greet::name, channel->binding());
    said.run = facts_.rivals->run();
    said.rival = facts_.rivals->claim_to(facts_.rivals->later());
    said.known = members_.tell(most_told, channel->remote().is_loopback(), Clock::now());
    const Greeted heard = co_await channel->request(said, greet_limit);
    if (!is_proven(heard.self.instance, heard.public_key, Greeted::name, channel->binding(), heard.proof))
      throw Error(Status::refused, "a greeting must be proven by who it is from");
    hear(heard, channel->remote());
    for (const auto& twin : heard.twins)
      for (const auto& at : twin.addresses)
        if (twins_.size() < most_twins && may_ask(at, twin.channel_port)) twins_.insert(to_text(at, twin.channel_port));
    if (heard.self.instance == instance_ && heard.rival.run != facts_.rivals->run()) {
      facts_.rivals->hear(heard.self.instance, heard.rival);
      // It is the later one, and hears so the next time.
      if (facts_.rivals->later() == heard.rival.run) twins_.insert(address);
    }
    answered = expected.empty() || heard.self.instance == expected;
  } catch (const Error&) {
  } catch (const CodecError&) {
  }
  if (channel) channel->close();
  co_return answered;
}

/// Greets the peers that were named and not met yet, and somebody at random; now and then somebody who did not answer
/// last time, so that two halves of a mesh that could not reach each other find together again.
Task<void> Gossip::round(std::set<std::string>& unmet, int number) {
  const auto alive = std::weak_ptr<bool>(alive_);
  for (const auto& peer : std::set<std::string>(unmet)) {
    const auto at = parse_host_port(peer, default_peer_port);
    const std::string channel_at = to_text(at.host, static_cast<std::uint16_t>(at.port + 1));
    const bool met = co_await greet(channel_at, {});
    if (alive.expired()) co_return;
    if (met) unmet.erase(peer);
  }
  for (const auto& channel_at : std::exchange(found_, {})) {
    static_cast<void>(co_await greet(channel_at, {}));
    if (alive.expired()) co_return;
  }
  for (const auto& channel_at : std::exchange(twins_, {})) {
    static_cast<void>(co_await greet(channel_at, {}));
    if (alive.expired()) co_return;
  }
  auto chosen = members_.choose(1, random_);
  if (discover_ && (chosen.empty() || number <= first_rounds)) discover_->ask();
  if (chosen.empty() || number % try_missed_every == 0)
    for (auto& member : members_.choose(1, random_, MemberList::Which::missed)) chosen.push_back(std::move(member));
  for (const auto& member : chosen) {
    bool met = false;
    for (const auto& address : member.addresses) {
      if (!may_ask(address, member.channel_port)) continue;
      const std::string channel_at = to_text(address, member.channel_port);
      met = co_await greet(channel_at, member.instance);
      if (alive.expired()) co_return;
      if (met) break;
    }
    if (!met) members_.missed(member.instance);
  }
  members_.expire(Clock::now());
  if (unsaved_) co_await save();
}

/// Whom one node knows gets around among n nodes in some log n rounds.
Task<void> Gossip::gossip() {
  const auto alive = std::weak_ptr<bool>(alive_);
  std::set<std::string> unmet(options_.peers.begin(), options_.peers.end());
  co_await workers_.rest(milliseconds(std::uniform_int_distribution<int>(100, 1000)(random_)));
  if (alive.expired()) co_return;
  for (int number = 1; !alive.expired() && !closed_ && !workers_.stopping(); ++number) {
    try {
      co_await round(unmet, number);
    } catch (const std::exception& error) {
      if (alive.expired()) co_return;
      facts_.log(std::string("other nodes cannot be greeted or remembered: ") + error.what());
    }
    if (alive.expired()) co_return;
    // Nobody is left who is likely to answer: those that were named once are tried again.
    const bool alone = members_.choose(1, random_).empty();
    if (alone) unmet.insert(options_.peers.begin(), options_.peers.end());
    const bool settled = unmet.empty() && !alone && number > first_rounds;
    const auto wait = static_cast<int>((settled ? greet_every : greet_alone_every).count());
    for (int waited = std::uniform_int_distribution<int>(0, wait / 2)(random_); waited < wait; waited += 500) {
      co_await workers_.rest(milliseconds(500));
      if (alive.expired() || workers_.stopping()) co_return;
    }
  }
}

Task<ChannelPtr> Gossip::connect_any(Member member, std::string path) {
  for (const auto& address : member.addresses) {
    if (!may_ask(address, member.channel_port)) continue;
    ChannelPtr channel;
    try {
      channel = co_await connect_channel(to_text(address, member.channel_port), path, connect_limit, options_.access);
    } catch (const Error&) {
      // The next one may lead there.
    }
    if (channel) co_return channel;
  }
  co_return nullptr;
}

void Gossip::connect(const Member& member) {
  const auto same = [&](const PeerLinkPtr& other) { return other->member.instance == member.instance; };
  if (std::ranges::any_of(peer_links_, same)) return;
  const auto link = std::make_shared<PeerLink>();
  link->member = member;
  link->view = channel_;
  peer_links_.push_back(link);
  spawn(workers_.loop(), keep(link));
}

Task<void> Gossip::keep(PeerLinkPtr link) {
  const auto alive = std::weak_ptr<bool>(alive_);
  const std::string path = "/view/" + instance_ + "/" + link->member.instance;
  const ChannelPtr channel = co_await connect_any(link->member, path);
  if (alive.expired()) co_return;
  if (channel && link->view == channel_ && channel_->is_open()) {
    link->channel = channel;
    link->answered = true;
    opened_.notify();
    members_.reached(link->member.instance);
    const auto begun = Clock::now();
    co_await embedded_tracker_(channel);
    if (alive.expired()) co_return;
    // Somebody else is there by now, or it speaks another version.
    if (Clock::now() - begun < ended_early && link->view->is_open()) members_.missed(link->member.instance);
  } else if (channel) {
    channel->close();
  } else {
    members_.missed(link->member.instance);
  }
  link->over = true;
  opened_.notify();
}

Task<ChannelPtr> Gossip::open(milliseconds limit) {
  const auto alive = std::weak_ptr<bool>(alive_);
  used_ = Clock::now();
  if (!opening_ && channel_ && channel_->is_open() && answering() > 0) co_return channel_;
  if (closed_ || !options_.embedded_tracker || !facts_.scan_complete()) co_return nullptr;
  if (!opening_) {
    if (members_.size() == 0 || Clock::now() - failed_ < try_again_after) co_return nullptr;
    opening_ = true;
    spawn(workers_.loop(), make());
  }
  // Who has little time asks again later.
  if (limit < little_time) co_return nullptr;
  while (opening_ && !closed_) {
    co_await opened_.wait_for(milliseconds(100));
    if (alive.expired()) co_return nullptr;
  }
  co_return channel_ && channel_->is_open() ? channel_ : nullptr;
}

/// Opens the view: this node registers with the embedded tracker, and the others are asked to.
Task<void> Gossip::make() {
  const auto alive = std::weak_ptr<bool>(alive_);
  bool any = false;
  try {
    if (!embedded_tracker_) embedded_tracker_ = options_.embedded_tracker(workers_.loop(), options_.access);
    if (channel_) channel_->close();
    hang_up();
    const auto ends = co_await make_channel_pair(options_.name, "the mesh");
    if (alive.expired()) co_return;
    channel_ = ends.near;
    auto serve = [](std::function<Task<void>(ChannelPtr)> tracker, ChannelPtr end) -> Task<void> {
      co_await tracker(end);
      end->close();
    };
    spawn(workers_.loop(), serve(embedded_tracker_, ends.far));
    auto run = [](ChannelPtr running, const Handlers& handlers) -> Task<void> { co_await running->run(handlers); };
    spawn(workers_.loop(), run(channel_, tracker_handlers_));
    links_.adopt(channel_);

    for (const auto& member : members_.choose(most_asked, random_)) connect(member);
    const auto likely = peer_links_;
    for (const auto& member : members_.choose(most_asked - peer_links_.size(), random_, MemberList::Which::missed))
      connect(member);
    // Those that did not answer last time are not waited for, unless there is nobody else.
    const auto& awaited = likely.empty() ? peer_links_ : likely;
    const auto deadline = Clock::now() + connect_limit + milliseconds(500);
    const auto settled = [&] {
      return links_.is_told(channel_) &&
             std::ranges::all_of(awaited, [](const auto& link) { return link->answered || link->over; });
    };
    while (!settled() && Clock::now() < deadline && !closed_) {
      co_await opened_.wait_for(milliseconds(20));
      if (alive.expired()) co_return;
    }
    any = links_.is_told(channel_) && answering() > 0;
  } catch (const std::exception& error) {
    if (alive.expired()) co_return;
    facts_.log(std::string("the other nodes cannot be asked: ") + error.what());
  }
  opening_ = false;
  if (any && !closed_) {
    facts_.log("no tracker answers; " + describe(channel_));
    spawn(workers_.loop(), tend());
  } else {
    failed_ = Clock::now();
    if (channel_) channel_->close();
    hang_up();
  }
  opened_.notify();
}

/// While the view is open: who was heard of since is asked, too. It ends when nobody has asked anything for a while,
/// soon after a tracker is back.
Task<void> Gossip::tend() {
  const auto alive = std::weak_ptr<bool>(alive_);
  const auto view = channel_;
  while (view->is_open() && !closed_) {
    if (view->is_waiting()) used_ = Clock::now();
    const auto unused = Clock::now() - used_;
    if (unused > unused_after || (links_.any() && unused > unneeded_after)) break;
    co_await sleep_for(look_for_members_every);
    if (alive.expired()) co_return;
    if (view != channel_) break;
    std::erase_if(peer_links_, [](const auto& link) { return link->over; });
    if (peer_links_.size() < most_asked)
      for (const auto& member : members_.choose(most_asked - peer_links_.size(), random_)) connect(member);
  }
  view->close();
  if (view == channel_) hang_up();
}

std::size_t Gossip::answering() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(peer_links_, [](const auto& link) { return link->answered && !link->over; }));
}

void Gossip::hang_up() {
  for (const auto& link : peer_links_)
    if (link->channel) link->channel->close();
  peer_links_.clear();
}

bool Gossip::is_asked(const std::string& path) const {
  constexpr std::string_view prefix = "/view/";
  return path.starts_with(prefix) && path.ends_with("/" + instance_) &&
         path.size() == prefix.size() + 2 * instance_.size() + 1 &&
         path.substr(prefix.size(), instance_.size()) != instance_;
}

void Gossip::identity_changed() {
  instance_ = facts_.identity()->instance();
  members_.set_self(instance_);
  if (channel_) channel_->close();
  hang_up();
}

std::string Gossip::describe(const ChannelPtr& channel) const {
  if (!channel || channel != channel_) return {};
  const auto known = members_.size();
  const auto answers = static_cast<std::size_t>(answering());
  if (known == 0) return "this is the word of this node alone";
  const auto others = known == 1 ? std::string(" other one") : " " + std::to_string(known) + " others";
  return "this is the word of this node and of " +
         (answers >= known ? (known == 1 ? "the" : "all") + others : std::to_string(answers) + " of the" + others) +
         " that it knows";
}

Task<void> Gossip::close() {
  closed_ = true;
  discover_.reset();
  if (channel_) channel_->close();
  hang_up();
  opened_.notify();
  try {
    co_await save();
  } catch (const std::exception& error) {
    facts_.log(std::string("other nodes cannot be remembered: ") + error.what());
  }
}

}  // namespace mesh
