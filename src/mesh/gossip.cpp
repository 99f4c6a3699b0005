#include "mesh/gossip.h"

#include <algorithm>

#include "core/address.h"
#include "core/keeper_ring.h"
#include "core/mesh_path.h"
#include "wire/endpoint.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr auto connect_limit = seconds(2);
constexpr auto connect_all_limit = milliseconds(3000);  // of a node with several addresses
constexpr auto greet_limit = seconds(3);
constexpr auto greet_every = milliseconds(15'000);
constexpr auto greet_alone_every = milliseconds(2'000);  // while nobody is known, and at the start
constexpr int first_rounds = 3;
constexpr int few_quiet_rounds = 2;
constexpr auto catch_up_for = std::chrono::minutes(5);
constexpr std::size_t most_told = 500;
constexpr int try_missed_every = 4;  // rounds
constexpr std::size_t few_keepers = keepers_of_each;
constexpr std::size_t most_found = 100;
constexpr std::size_t most_twins = 4;  // addresses that are tried in a round
constexpr std::size_t most_seen = 10'000;
constexpr auto twin_lasts = seconds(60);

std::int64_t seconds_of_day() {
  return std::chrono::duration_cast<seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

Gossip::Gossip(Workers& workers, Options options, Facts facts, Handlers& handlers)
    : workers_(workers),
      options_(std::move(options)),
      facts_(std::move(facts)),
      instance_(facts_.identity()->instance()),
      members_(instance_) {
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
    facts_.log(warning("the list of nodes that was remembered cannot be read; it is made anew"));
  }
  handlers.on<Greet>([this](ChannelPtr channel, Greet said) -> Task<Greeted> {
    if (!is_proven(said.self.instance, said.public_key, Greet::name, channel->binding(), said.proof))
      throw Error(Status::refused, "a greeting must be proven by who it is from");
    Greeted heard;
    heard.self = said.self;
    heard.known = std::move(said.known);
    heard.count = said.count;
    hear(heard, channel->remote());
    is_reached_ = true;
    decide();
    Greeted out;
    out.self = self();
    out.public_key = facts_.identity()->public_key();
    out.proof = facts_.identity()->prove(Greeted::name, channel->binding());
    out.rival = facts_.rivals->claim_to(said.run);
    out.twins = twins_of(said, channel->remote());
    facts_.rivals->hear(said.self.instance, said.rival);
    out.count = static_cast<std::int64_t>(members_.size());
    out.known = members_.tell(most_told, channel->remote().is_loopback(), Clock::now(), random_);
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
  if (keeps_since_) out.keeps = std::chrono::duration_cast<seconds>(Clock::now() - *keeps_since_).count();
  return out;
}

/// Whether this node keeps the path index from now on: one that others have reached, and that is likely to stay. Where
/// hardly anybody does, it is needed at once.
void Gossip::decide() {
  if (!options_.may_keep || keeps_since_ || !is_reached_) return;
  if (Clock::now() - begun_ < options_.keeps_after && members_.keeper_count() >= few_keepers) return;
  keeps_since_ = Clock::now();
  ++own_changes_;
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
  // (Nobody is kept at it for good by one who says that there are ever more.)
  const bool is_behind =
      Clock::now() - begun_ < catch_up_for && said.count > static_cast<std::int64_t>(members_.size());
  if (news || is_behind) quiet_rounds_ = 0;
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
  kept.known = members_.tell(10'000, true, Clock::now(), random_);
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
    said.count = static_cast<std::int64_t>(members_.size());
    said.known = members_.tell(most_told, channel->remote().is_loopback(), Clock::now(), random_);
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
    if (!met) members_.missed(member.instance, Clock::now());
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
      facts_.log(warning(std::string("other nodes cannot be greeted or remembered: ") + error.what()));
    }
    if (alive.expired()) co_return;
    decide();
    // Nobody is left who is likely to answer: those that were named once are tried again.
    const bool alone = members_.choose(1, random_).empty();
    if (alone) unmet.insert(options_.peers.begin(), options_.peers.end());
    // While there is news, or others know more, it goes round at once.
    const bool settled = unmet.empty() && !alone && number > first_rounds && ++quiet_rounds_ > few_quiet_rounds;
    const auto wait = static_cast<int>((settled ? greet_every : greet_alone_every).count());
    for (int waited = std::uniform_int_distribution<int>(0, wait / 2)(random_); waited < wait; waited += 500) {
      co_await workers_.rest(milliseconds(500));
      if (alive.expired() || workers_.stopping()) co_return;
    }
  }
}

Task<ChannelPtr> Gossip::connect(Member member, std::string path) {
  const auto deadline = Clock::now() + connect_all_limit;
  for (const auto& address : member.addresses) {
    if (!may_ask(address, member.channel_port)) continue;
    const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
    if (left <= milliseconds(0)) break;
    ChannelPtr channel;
    try {
      channel = co_await connect_channel(to_text(address, member.channel_port), path,
                                         std::min<milliseconds>(left, connect_limit), options_.access);
    } catch (const Error&) {
      // The next one may lead there.
    }
    if (channel) co_return channel;
  }
  co_return nullptr;
}

void Gossip::identity_changed() {
  instance_ = facts_.identity()->instance();
  members_.set_self(instance_);
  ++own_changes_;
}

Task<void> Gossip::close() {
  closed_ = true;
  discover_.reset();
  try {
    co_await save();
  } catch (const std::exception& error) {
    facts_.log(warning(std::string("other nodes cannot be remembered: ") + error.what()));
  }
}

}  // namespace mesh
