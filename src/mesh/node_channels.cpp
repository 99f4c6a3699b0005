#include "mesh/node_channels.h"

#include <algorithm>

#include "wire/endpoint.h"
#include "wire/mesh_key.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr auto call_limit = seconds(3);
constexpr auto unused_limit = milliseconds(60'000);
constexpr std::size_t most_channels = 10;  // to nodes of which nothing is being asked

}  // namespace

void NodeChannels::close() {
  closed_ = true;
  for (const auto& [where, channel] : channels_) channel->close();
  channels_.clear();
  for (const auto& [node, channel] : callers_) channel->close();
  callers_.clear();
}

bool NodeChannels::called(const std::string& token, const ChannelPtr& channel) {
  const auto it = calls_.find(token);
  if (it == calls_.end() || it->second) return false;
  it->second = channel;
  return true;
}

/// Asks the tracker to have the node call here. Null where it does not.
Task<ChannelPtr> NodeChannels::be_called(NodeRef node) {
  const auto token = random_secret().hex();
  calls_[token] = nullptr;
  const std::shared_ptr<void> forgotten(nullptr, [this, token](void*) { calls_.erase(token); });
  try {
    const auto tracker = co_await links_.first(milliseconds(100));
    CallBack question;
    question.node = node.instance;
    question.token = token;
    static_cast<void>(co_await tracker->request(question, seconds(3)));
    for (const auto until = std::chrono::steady_clock::now() + call_limit;
         !calls_[token] && std::chrono::steady_clock::now() < until;)
      co_await sleep_for(milliseconds(20));
  } catch (const Error&) {
    // Nobody can ask it.
  }
  const ChannelPtr out = calls_[token];
  if (out) out->set_where(node.name);
  co_return out;
}

Task<ChannelPtr> NodeChannels::connect(std::string where, std::string name) {
  const auto channel = co_await connect_channel(where, "/node", seconds(3), access_);
  if (closed_) {
    channel->close();
    throw Error(Status::unreachable, "the node ends");
  }
  channel->set_where(name);
  spawn(workers_.loop(), channel->run(handlers_));
  spawn(workers_.loop(), hang_up_unused(channel));
  channels_[where] = channel;
  co_return channel;
}

Task<ChannelPtr> NodeChannels::to(NodeRef node) {
  if (closed_) throw Error(Status::unreachable, "the node ends");
  if (node.addresses.empty()) throw Error(Status::unreachable, node.name + ": has no address");
  std::string trouble;
  const auto is_closed = [](const auto& pair) { return !pair.second->is_open(); };
  std::erase_if(callers_, is_closed);
  std::erase_if(channels_, is_closed);
  if (const auto it = callers_.find(node.instance); it != callers_.end()) co_return it->second;
  for (const auto& address : node.addresses) {
    const auto where = to_text(address, node.channel_port);
    if (const auto it = channels_.find(where); it != channels_.end()) co_return it->second;
    // Those that nobody waits for make room.
    for (auto it = channels_.begin(); it != channels_.end() && channels_.size() >= most_channels;) {
      const bool is_idle = !it->second->is_waiting() && !users_.contains(it->second);
      if (is_idle) it->second->close();
      it = is_idle ? channels_.erase(it) : std::next(it);
    }
    try {
      std::function<Task<ChannelPtr>()> work = [this, where, name = node.name] { return connect(where, name); };
      co_return co_await connecting_.run(where, std::move(work));
    } catch (const Error& error) {
      trouble = error.what();
    }
  }
  std::function<Task<ChannelPtr>()> call = [this, node] { return be_called(node); };
  const ChannelPtr caller = co_await being_called_.run(node.instance, std::move(call));
  if (!caller)
    throw Error(Status::unreachable, node.name + ": cannot be reached at " + trouble + ", nor does it reach this node");
  if (const auto [at, fresh] = callers_.insert_or_assign(node.instance, caller); fresh)
    spawn(workers_.loop(), hang_up_unused(caller));
  co_return caller;
}

std::shared_ptr<void> NodeChannels::use(const ChannelPtr& channel) {
  ++users_[channel];
  return {nullptr, [this, channel](void*) {
            if (const auto it = users_.find(channel); it != users_.end() && --it->second == 0) users_.erase(it);
          }};
}

Task<void> NodeChannels::hang_up_unused(ChannelPtr channel) {
  auto used = std::chrono::steady_clock::now();
  while (channel->is_open() && !workers_.stopping()) {
    co_await workers_.rest(unused_limit / 12);
    if (channel->is_waiting()) used = std::chrono::steady_clock::now();
    if (std::chrono::steady_clock::now() - used >= unused_limit) channel->close();
  }
}

}  // namespace mesh
