#include "mesh/keeper_links.h"

#include <algorithm>

#include "wire/identity.h"

namespace mesh {
namespace {

using std::chrono::seconds;

constexpr auto hello_limit = seconds(5);
constexpr auto unused_after = seconds(30);

}  // namespace

KeeperLinks::KeeperLinks(asio::io_context& io, Facts facts, const Handlers& handlers)
    : io_(io), facts_(std::move(facts)), handlers_(handlers), opened_(io) {}

KeeperLinks::~KeeperLinks() { close(); }

Task<KeeperLinks::Link> KeeperLinks::to(Member member) {
  if (closed_) throw Error(Status::unreachable, "the node ends");
  if (const auto it = links_.find(member.instance); it != links_.end() && it->second.link.channel->is_open()) {
    it->second.used = Clock::now();
    co_return it->second.link;
  }
  const auto instance = member.instance;
  std::function<Task<Link>()> work = [this, member]() -> Task<Link> { return open(member); };
  co_return co_await opening_.run(instance, std::move(work));
}

Task<KeeperLinks::Link> KeeperLinks::open(Member member) {
  const auto alive = std::weak_ptr<bool>(alive_);
  while (opening_count_ >= most_opening) {
    co_await opened_.wait();
    if (alive.expired()) throw Error(Status::unreachable, "the node ends");
  }
  ++opening_count_;
  const std::shared_ptr<void> counted(nullptr, [this, alive](void*) {
    if (alive.expired()) return;
    --opening_count_;
    opened_.notify();
  });
  const auto own = facts_.hello().instance;
  ChannelPtr channel;
  if (member.instance == own)
    channel = co_await facts_.connect_within();
  else
    channel = co_await facts_.connect(member, "/keeper/" + own + "/" + member.instance);
  if (alive.expired()) {
    if (channel) channel->close();
    throw Error(Status::unreachable, "the node ends");
  }
  if (!channel) {
    facts_.missed(member.instance);
    throw Error(Status::unreachable, member.node + ": cannot be reached");
  }
  passing_.insert(channel);
  std::optional<Error> trouble;
  Link link;
  try {
    link = co_await greet(member, channel);
  } catch (const Error& error) {
    trouble = error;
  } catch (const std::exception& error) {
    trouble = Error(Status::failed, error.what());
  }
  if (alive.expired()) throw Error(Status::unreachable, "the node ends");
  passing_.erase(channel);
  if (!trouble) co_return link;
  channel->close();
  if (own == facts_.hello().instance) facts_.missed(member.instance);
  throw Error(Status::unreachable, trouble->what());
}

/// Says hello, and hears whether it is the node that it was taken for.
Task<KeeperLinks::Link> KeeperLinks::greet(Member member, ChannelPtr channel) {
  const auto alive = std::weak_ptr<bool>(alive_);
  channel->set_where(member.node);
  auto run = [](ChannelPtr running, const Handlers& handlers) -> Task<void> { co_await running->run(handlers); };
  spawn(io_, run(channel, handlers_));
  Hello hello = facts_.hello();
  const auto own = hello.instance;
  hello.proof = facts_.prove(*channel);
  const Welcome welcome = co_await channel->request(hello, hello_limit);
  if (alive.expired()) throw Error(Status::unreachable, "the node ends");
  if (welcome.taken) facts_.taken(own, welcome);
  if (welcome.taken || welcome.here_already)
    throw Error(Status::unreachable, member.node + ": another node has this one's identity");
  if (own != facts_.hello().instance) throw Error(Status::unreachable, "this node is another one by now");
  const bool is_itself = member.instance == own || is_proven(member.instance, welcome.public_key, Welcome::name,
                                                             channel->binding(), welcome.proof);
  if (!is_itself) throw Error(Status::unreachable, member.node + ": somebody else is there");
  make_room();
  resting_.erase(member.instance);
  auto& place = links_[member.instance];
  if (place.link.channel) place.link.channel->close();
  place.link = {channel, next_number_++};
  place.used = Clock::now();
  co_return place.link;
}

std::uint64_t KeeperLinks::number_of(const std::string& instance) const {
  const auto it = links_.find(instance);
  return it != links_.end() && it->second.link.channel->is_open() ? it->second.link.number : 0;
}

bool KeeperLinks::is_resting(const std::string& instance, std::uint64_t number) const {
  const auto it = resting_.find(instance);
  return it != resting_.end() && it->second == number;
}

void KeeperLinks::rest(const std::string& instance) {
  const auto it = links_.find(instance);
  if (it == links_.end()) return;
  const auto channel = it->second.link.channel;
  const auto number = it->second.link.number;
  if (channel->is_open()) resting_[instance] = number;
  links_.erase(it);
  passing_.insert(channel);
  auto leave = [](KeeperLinks* self, std::string whom, std::uint64_t which, ChannelPtr going,
                  std::weak_ptr<bool> alive) -> Task<void> {
    bool is_heard = false;
    try {
      const IndexRest last;
      static_cast<void>(co_await going->request(last, hello_limit));
      is_heard = true;
    } catch (const std::exception&) {
      // It is gone.
    }
    going->close();
    if (alive.expired()) co_return;
    self->passing_.erase(going);
    // One that was not told that this node hangs up takes it for lost.
    if (!is_heard && self->is_resting(whom, which)) self->resting_.erase(whom);
  };
  spawn(io_, leave(this, instance, number, channel, alive_));
}

void KeeperLinks::make_room() {
  std::erase_if(links_, [](const auto& pair) { return !pair.second.link.channel->is_open(); });
  std::vector<std::pair<Clock::time_point, std::string>> idle;
  for (const auto& [instance, open] : links_)
    if (!open.link.channel->is_waiting()) idle.emplace_back(open.used, instance);
  std::ranges::sort(idle);
  for (const auto& [used, instance] : idle) {
    if (links_.size() < most_open) return;
    rest(instance);
  }
}

void KeeperLinks::tend() {
  make_room();
  const auto now = Clock::now();
  std::vector<std::string> unused;
  for (const auto& [instance, open] : links_)
    if (now - open.used > unused_after && !open.link.channel->is_waiting() && !facts_.is_needed(instance))
      unused.push_back(instance);
  for (const auto& instance : unused) rest(instance);
}

void KeeperLinks::drop_all() {
  for (const auto& [instance, open] : links_) open.link.channel->close();
  for (const auto& channel : passing_) channel->close();
  links_.clear();
  resting_.clear();
}

void KeeperLinks::close() {
  closed_ = true;
  alive_.reset();
  drop_all();
  opened_.notify();
}

}  // namespace mesh
