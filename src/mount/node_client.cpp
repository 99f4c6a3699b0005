#include "mount/node_client.h"

#include <utility>

#include "wire/descriptors.h"
#include "wire/link.h"

namespace mesh {

using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr auto hello_limit = seconds(10);

}  // namespace

NodeClient::NodeClient(Connect connect, Log log) : connect_(std::move(connect)), log_(std::move(log)) {}

NodeClient::~NodeClient() { close(); }

void NodeClient::close() {
  is_closed_ = true;
  if (channel_) channel_->close();
  if (descriptors_) descriptors_->close();
}

Task<ChannelPtr> NodeClient::connected(Clock::time_point until) {
  for (auto pause = least_pause; !is_connected(connection_); pause = std::min(pause * 2, most_pause)) {
    if (is_closed_) throw Error(Status::failed, "unmounted");
    const std::function<Task<bool>()> work = [this] { return connect(); };
    const bool is_there = co_await connecting_.run(0, work);
    if (is_there) break;
    if (Clock::now() >= until) throw Error(Status::unreachable, trouble_);
    co_await sleep_for(std::min(pause, left(until)));
  }
  co_return channel_;
}

/// One try.
Task<bool> NodeClient::connect() {
  channel_.reset();
  if (descriptors_) descriptors_->close();
  descriptors_.reset();
  arrived_.clear();
  ChannelPtr channel;
  ChannelPtr descriptors;
  std::string trouble;
  try {
    co_await connect_both(channel, descriptors);
  } catch (const Error& error) {
    trouble = error.what();
  }
  if (!trouble.empty() || is_closed_) {
    if (channel) channel->close();
    if (descriptors) descriptors->close();
  } else {
    channel_ = std::move(channel);
    descriptors_ = std::move(descriptors);
    ++connection_;
  }
  if (trouble != trouble_ && !trouble.empty()) log_(warning(trouble).of("node-lost"));
  if (trouble.empty() && !trouble_.empty()) log_(LogLine("the node answers again").of("node-found"));
  trouble_ = trouble;
  co_return trouble.empty() && !is_closed_;
}

Task<void> NodeClient::connect_both(ChannelPtr& channel, ChannelPtr& descriptors) {
  const std::string local = "/local";
  channel = co_await connect_(local);
  if (!channel) throw Error(Status::unreachable, "no node runs here; it is waited for");
  run_to_ask(channel);
  const MountAsk hello;
  const MountTold told = co_await channel->request(hello, hello_limit);
  const std::string second = "/descriptors/" + told.session;
  descriptors = co_await connect_(second);
  if (!descriptors) throw Error(Status::unreachable, "the node is just going");
  // Both are there once the node says so.
  for (const auto until = Clock::now() + hello_limit;;) {
    const MountTold now = co_await channel->request(hello, hello_limit);
    if (now.is_ready) break;
    if (Clock::now() > until) throw Error(Status::unreachable, "the node takes no second connection");
    co_await sleep_for(milliseconds(5));
  }
}

std::int64_t NodeClient::new_handle() {
  awaited_.insert(++last_handle_);
  return last_handle_;
}

void NodeClient::receive() {
  if (!descriptors_ || !descriptors_->is_open()) return;
  if (!receive_descriptors(descriptors_->link().next_layer().native_handle(), arrived_)) {
    // Without it half of a mount is missing: both are made anew.
    log_(warning("no more open files come from the node; it is connected to anew").of("descriptors-lost"));
    descriptors_->close();
    if (channel_) channel_->close();
  }
  std::erase_if(arrived_, [&](const auto& pair) { return !awaited_.contains(pair.first); });
}

Fd NodeClient::take_descriptor(std::int64_t handle, std::int64_t connection) {
  if (connection != connection_) return {};
  receive();
  awaited_.erase(handle);
  const auto it = arrived_.find(handle);
  if (it == arrived_.end()) return {};
  auto out = std::move(it->second);
  arrived_.erase(it);
  return out;
}

void NodeClient::drop(std::int64_t handle) {
  awaited_.erase(handle);
  arrived_.erase(handle);
}

}  // namespace mesh
