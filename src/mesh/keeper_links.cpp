#include "mesh/keeper_links.h"

#include <algorithm>

namespace mesh {
namespace {

using std::chrono::seconds;

constexpr auto hello_limit = seconds(5);
constexpr auto unused_after = seconds(30);

}  // namespace

KeeperLinks::KeeperLinks(asio::io_context& io, Facts facts, const Handlers& handlers)
    : io_(io), facts_(std::move(facts)), handlers_(handlers) {}

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
  const auto own = facts_.hello();
  ChannelPtr channel;
  if (member.instance == own.instance)
    channel = co_await facts_.connect_within();
  else
    channel = co_await facts_.connect(member, "/keeper/" + own.instance + "/" + member.instance);
  if (alive.expired() || closed_) {
    if (channel) channel->close();
    throw Error(Status::unreachable, "the node ends");
  }
  if (!channel) {
    facts_.missed(member.instance);
    throw Error(Status::unreachable, member.node + ": cannot be reached");
  }
  channel->set_where(member.node);
  auto run = [](ChannelPtr running, const Handlers& handlers) -> Task<void> { co_await running->run(handlers); };
  spawn(io_, run(channel, handlers_));
  Hello hello = facts_.hello();
  hello.proof = facts_.prove(*channel);
  std::optional<Error> trouble;
  Welcome welcome;
  try {
    welcome = co_await channel->request(hello, hello_limit);
  } catch (const Error& error) {
    trouble = error;
  }
  if (alive.expired()) throw Error(Status::unreachable, "the node ends");
  if (!trouble && (welcome.taken || welcome.here_already)) {
    if (welcome.taken) facts_.taken(hello.instance, welcome);
    trouble = Error(Status::unreachable, member.node + ": another node has this one's identity");
  }
  if (trouble) {
    channel->close();
    if (trouble->status() == Status::unreachable) facts_.missed(member.instance);
    throw Error(Status::unreachable, trouble->what());
  }
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
  if (channel->is_open()) resting_[instance] = it->second.link.number;
  links_.erase(it);
  auto leave = [](ChannelPtr going) -> Task<void> {
    try {
      const IndexRest last;
      static_cast<void>(co_await going->request(last, hello_limit));
    } catch (const std::exception&) {
      // It is gone.
    }
    going->close();
  };
  spawn(io_, leave(channel));
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

void KeeperLinks::close() {
  closed_ = true;
  alive_.reset();
  for (const auto& [instance, open] : links_) open.link.channel->close();
  links_.clear();
}

}  // namespace mesh
