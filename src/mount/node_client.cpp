#include "mount/node_client.h"

#include <algorithm>
#include <utility>

#include "wire/descriptors.h"
#include "wire/link.h"

namespace mesh {

using std::chrono::milliseconds;
using std::chrono::seconds;

NodeClient::NodeClient(asio::io_context& io, Connect connect, Log log)
    : io_(io), connect_(std::move(connect)), log_(std::move(log)) {}

NodeClient::~NodeClient() { close(); }

void NodeClient::close() {
  *alive_ = false;
  if (channel_) channel_->close();
  if (descriptors_) descriptors_->close();
}

Task<ChannelPtr> NodeClient::connected(Clock::time_point until) {
  const auto alive = alive_;
  for (auto pause = least_pause; !channel_ || !channel_->is_open(); pause = std::min(pause * 2, most_pause)) {
    if (!*alive) throw Error(Status::interrupted, "unmounted");
    const std::function<Task<bool>()> work = [this] { return connect(); };
    const bool is_connected = co_await connecting_.run(0, work);
    if (is_connected) break;
    if (Clock::now() >= until) throw Error(Status::unreachable, trouble_);
    co_await sleep_for(
        std::min(pause, std::max(std::chrono::ceil<milliseconds>(until - Clock::now()), milliseconds(1))));
  }
  co_return channel_;
}

/// One try.
Task<bool> NodeClient::connect() {
  const auto alive = alive_;
  channel_.reset();
  descriptors_.reset();
  arrived_.clear();
  std::string trouble;
  try {
    const std::string local = "/local";
    ChannelPtr channel = co_await connect_(local);
    if (!channel) throw Error(Status::unreachable, "no node runs here; it is waited for");
    run_to_ask(channel);
    const MountAsk hello;
    const MountTold told = co_await channel->request(hello, seconds(10));
    const std::string second = "/descriptors/" + told.session;
    ChannelPtr descriptors = co_await connect_(second);
    // Both are there once the node says so.
    for (bool is_ready = false; !is_ready && descriptors;) {
      const MountTold now = co_await channel->request(hello, seconds(10));
      is_ready = now.is_ready;
      if (!is_ready) co_await sleep_for(milliseconds(5));
    }
    if (!*alive) co_return false;
    channel_ = std::move(channel);
    descriptors_ = std::move(descriptors);
    ++connection_;
  } catch (const Error& error) {
    trouble = error.what();
  }
  if (trouble != trouble_) {
    if (!trouble.empty())
      log_(warning(trouble).of("node-lost"));
    else
      log_(LogLine("the node answers again").of("node-found"));
  }
  trouble_ = trouble;
  co_return trouble.empty();
}

Fd NodeClient::take_descriptor(std::int64_t number, std::int64_t on) {
  if (on != connection_ || !descriptors_ || !descriptors_->is_open()) return {};
  if (!receive_descriptors(descriptors_->link().next_layer().native_handle(), arrived_)) descriptors_->close();
  const auto it = arrived_.find(number);
  if (it == arrived_.end()) return {};
  auto out = std::move(it->second);
  arrived_.erase(it);
  return out;
}

}  // namespace mesh
