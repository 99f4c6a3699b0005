#include "node/mesh_view.h"

#include <algorithm>
#include <boost/asio/local/connect_pair.hpp>
#include <boost/asio/local/stream_protocol.hpp>

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
constexpr auto greet_alone_every = milliseconds(2'000);  // while nobody is known
constexpr std::size_t most_told = 500;
/// So many nodes' words make a view. Each tells its whole inventory.
constexpr std::size_t most_asked = 256;
constexpr auto look_for_members_every = seconds(2);
constexpr auto unused_after = seconds(60);
constexpr auto try_again_after = seconds(2);
constexpr std::uint16_t default_peer_port = 6881;
constexpr const char* note_key = "members";

}  // namespace

struct MeshView::Dial {
  Member member;
  ChannelPtr channel;
  bool over = false;      ///< it ended, or could not be reached
  bool answered = false;  ///< a channel to it was there
};

MeshView::MeshView(NodeParts& parts, std::function<Hello()> hello, Handlers& handlers)
    : parts_(parts),
      hello_(std::move(hello)),
      instance_(parts.db.find_note("instance")),
      members_(instance_),
      opened_(parts.io.get_executor()) {
  const auto own = hello_().addresses;
  own_addresses_.insert(own.begin(), own.end());
  try {
    const auto text = parts_.db.find_note(note_key);
    if (!text.empty())
      for (const auto& member : from_bencode<Greeted>(text).known)
        static_cast<void>(members_.hear(member, Clock::now()));
  } catch (const CodecError&) {
    parts_.log("the list of nodes that was remembered cannot be read; it is made anew");
  }
  handlers.on<Greet>([this](ChannelPtr channel, Greet said) -> Task<Greeted> {
    Greeted heard;
    heard.self = said.self;
    heard.known = std::move(said.known);
    hear(heard, channel->remote());
    Greeted out;
    out.self = self();
    out.known = members_.tell(most_told, channel->remote().is_loopback(), Clock::now());
    co_return out;
  });
  asio::co_spawn(parts_.io, gossip(), asio::detached);
}

MeshView::~MeshView() { alive_.reset(); }

Member MeshView::self() const {
  const Hello hello = hello_();
  Member out;
  out.instance = hello.instance;
  out.node = hello.node;
  if (hello.advertised) out.addresses = hello.addresses;
  out.peer_port = hello.peer_port;
  out.channel_port = hello.channel_port;
  return out;
}

bool MeshView::is_self(const std::string& address, std::uint16_t port) const {
  boost::system::error_code ec;
  const auto parsed = asio::ip::make_address(address, ec);
  return !ec && port == hello_().channel_port && (parsed.is_loopback() || own_addresses_.contains(address));
}

void MeshView::hear(const Greeted& said, const asio::ip::address& from) {
  const auto now = Clock::now();
  Member other = said.self;
  other.age = 0;
  if (other.addresses.empty()) other.addresses = {from.to_string()};
  bool news = members_.hear(other, now);
  for (auto member : said.known) {
    member.age = std::max<std::int64_t>(member.age, 1);  // only itself speaks for it without a delay
    news = members_.hear(member, now) || news;
  }
  unsaved_ = unsaved_ || news;
}

void MeshView::welcomed(const Welcome& welcome) {
  for (const auto& member : welcome.members) unsaved_ = members_.hear(member, Clock::now()) || unsaved_;
}

Task<void> MeshView::save() {
  Greeted kept;
  kept.known = members_.tell(10'000, true, Clock::now());
  unsaved_ = false;
  const auto put = [this, text = to_bencode(kept)] { parts_.db.put_note(note_key, text); };
  co_await run_on(parts_.pool, put);
}

/// Greets the node at `address`, which should be the one of instance `expected`; false when it does not answer.
Task<bool> MeshView::greet(std::string address, std::string expected) {
  ChannelPtr channel;
  bool answered = false;
  try {
    channel = co_await connect_channel(address, "/node", connect_limit);
    auto run = [](ChannelPtr running) -> Task<void> {
      const auto nothing = std::make_shared<Handlers>();
      co_await running->run(*nothing);
    };
    asio::co_spawn(parts_.io, run(channel), asio::detached);
    Greet said;
    said.self = self();
    said.known = members_.tell(most_told, channel->remote().is_loopback(), Clock::now());
    const Greeted heard = co_await channel->request(said, greet_limit);
    hear(heard, channel->remote());
    answered = expected.empty() || heard.self.instance == expected;
  } catch (const Error&) {
  } catch (const CodecError&) {
  }
  if (channel) channel->close();
  co_return answered;
}

/// Whom one node knows gets around among n nodes in some log n rounds.
Task<void> MeshView::gossip() {
  const auto alive = std::weak_ptr<bool>(alive_);
  std::set<std::string> unmet(parts_.options.peers.begin(), parts_.options.peers.end());
  co_await sleep_for(milliseconds(std::uniform_int_distribution<int>(100, 1000)(random_)));
  while (!alive.expired() && !closed_ && !parts_.stopping) {
    for (const auto& peer : std::set<std::string>(unmet)) {
      const auto at = parse_host_port(peer, default_peer_port);
      const auto channel_at = to_text(at.host, static_cast<std::uint16_t>(at.port + 1));
      const bool met = co_await greet(channel_at, {});
      if (alive.expired()) co_return;
      if (met) unmet.erase(peer);
    }
    const auto chosen = members_.choose(1, random_);
    for (const auto& member : chosen) {
      bool met = false;
      for (const auto& address : member.addresses) {
        if (is_self(address, member.channel_port)) continue;
        met = co_await greet(to_text(address, member.channel_port), member.instance);
        if (alive.expired()) co_return;
        if (met) break;
      }
      if (!met) members_.missed(member.instance);
    }
    // Nobody is left who could be asked: those that were named once are tried again.
    if (members_.size() == 0) unmet.insert(parts_.options.peers.begin(), parts_.options.peers.end());
    members_.expire(Clock::now());
    if (unsaved_) co_await save();
    if (alive.expired()) co_return;
    const auto base = unmet.empty() && members_.size() > 0 ? greet_every : greet_alone_every;
    const auto wait = static_cast<int>(base.count());
    for (int waited = std::uniform_int_distribution<int>(0, wait / 2)(random_); waited < wait; waited += 500) {
      co_await sleep_for(milliseconds(500));
      if (alive.expired() || parts_.stopping) co_return;
    }
  }
}

Task<ChannelPtr> MeshView::connect_any(Member member, std::string path) {
  for (const auto& address : member.addresses) {
    if (is_self(address, member.channel_port)) continue;
    ChannelPtr channel;
    try {
      channel = co_await connect_channel(to_text(address, member.channel_port), path, connect_limit);
    } catch (const Error&) {
      // The next one may lead there.
    }
    if (channel) co_return channel;
  }
  co_return nullptr;
}

void MeshView::dial(const Member& member) {
  const auto same = [&](const DialPtr& other) { return other->member.instance == member.instance; };
  if (std::ranges::any_of(dials_, same)) return;
  const auto dial = std::make_shared<Dial>();
  dial->member = member;
  dials_.push_back(dial);
  asio::co_spawn(parts_.io, keep(dial), asio::detached);
}

Task<void> MeshView::keep(DialPtr dial) {
  const auto alive = std::weak_ptr<bool>(alive_);
  dial->channel = co_await connect_any(dial->member, "/view/" + instance_);
  if (alive.expired()) co_return;
  if (dial->channel && channel_ && channel_->is_open()) {
    dial->answered = true;
    opened_.notify();
    co_await hub_(dial->channel);
    if (alive.expired()) co_return;
  } else if (dial->channel) {
    dial->channel->close();
  } else {
    members_.missed(dial->member.instance);
  }
  dial->over = true;
  opened_.notify();
}

Task<ChannelPtr> MeshView::open() {
  const auto alive = std::weak_ptr<bool>(alive_);
  while (opening_) {
    co_await opened_.wait_for(milliseconds(100));
    if (alive.expired()) co_return nullptr;
  }
  used_ = Clock::now();
  if (channel_ && channel_->is_open()) co_return channel_;
  if (closed_ || !parts_.options.hub || members_.size() == 0 || Clock::now() - failed_ < try_again_after)
    co_return nullptr;
  opening_ = true;
  if (!hub_) hub_ = parts_.options.hub(parts_.io);

  asio::local::stream_protocol::socket near(parts_.io);
  asio::local::stream_protocol::socket far(parts_.io);
  asio::local::connect_pair(near, far);
  channel_ = std::make_shared<Channel>(Channel::Socket(std::move(near)), "the mesh", asio::ip::address{});
  auto hub_end = std::make_shared<Channel>(Channel::Socket(std::move(far)), parts_.options.name, asio::ip::address{});
  auto serve = [](std::function<Task<void>(ChannelPtr)> hub, ChannelPtr end) -> Task<void> {
    boost::system::error_code ec;
    co_await end->stream().async_accept(asio::redirect_error(asio::use_awaitable, ec));
    if (!ec) co_await hub(end);
    end->close();
  };
  asio::co_spawn(parts_.io, serve(hub_, hub_end), asio::detached);
  boost::system::error_code ec;
  co_await channel_->stream().async_handshake("localhost", "/control", asio::redirect_error(asio::use_awaitable, ec));
  if (alive.expired()) co_return nullptr;
  auto run = [](ChannelPtr running, const Handlers& handlers) -> Task<void> { co_await running->run(handlers); };
  asio::co_spawn(parts_.io, run(channel_, *parts_.tracker_handlers), asio::detached);
  parts_.links->adopt(channel_);

  for (const auto& member : members_.choose(most_asked, random_)) dial(member);
  const auto deadline = Clock::now() + connect_limit + milliseconds(500);
  const auto settled = [&] {
    return parts_.links->is_told(channel_) &&
           std::ranges::all_of(dials_, [](const auto& dial) { return dial->answered || dial->over; });
  };
  while (!settled() && Clock::now() < deadline) {
    co_await opened_.wait_for(milliseconds(20));
    if (alive.expired()) co_return nullptr;
  }
  opening_ = false;
  const bool any = std::ranges::any_of(dials_, [](const auto& dial) { return dial->answered && !dial->over; });
  if (!any || !parts_.links->is_told(channel_)) {
    failed_ = Clock::now();
    channel_->close();
    for (const auto& dial : dials_)
      if (dial->channel) dial->channel->close();
    dials_.clear();
    opened_.notify();
    co_return nullptr;
  }
  parts_.log("no tracker answers; " + describe(channel_));
  opened_.notify();
  asio::co_spawn(parts_.io, tend(), asio::detached);
  co_return channel_;
}

/// While the view is open: who was heard of since is asked, too.
Task<void> MeshView::tend() {
  const auto alive = std::weak_ptr<bool>(alive_);
  const auto view = channel_;
  while (view->is_open() && !closed_ && Clock::now() - used_ < unused_after) {
    co_await sleep_for(look_for_members_every);
    if (alive.expired()) co_return;
    std::erase_if(dials_, [](const auto& dial) { return dial->over; });
    if (dials_.size() < most_asked)
      for (const auto& member : members_.choose(most_asked - dials_.size(), random_)) dial(member);
  }
  view->close();
  for (const auto& dial : dials_)
    if (dial->channel) dial->channel->close();
  dials_.clear();
}

std::string MeshView::describe(const ChannelPtr& channel) const {
  if (!channel || channel != channel_) return {};
  const auto answer = std::ranges::count_if(dials_, [](const auto& dial) { return dial->answered && !dial->over; });
  return "this is the word of this node and of " + std::to_string(answer) + " of the " +
         std::to_string(members_.size()) + " others that it knows";
}

void MeshView::close() {
  closed_ = true;
  if (channel_) channel_->close();
  for (const auto& dial : dials_)
    if (dial->channel) dial->channel->close();
}

}  // namespace mesh
