#include "mesh/check_up.h"

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <utility>

#include "version.h"
#include "wire/deadline.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::size_t most_asked = 256;
constexpr std::size_t most_at_once = 32;
constexpr int most_dialing = 8;
constexpr auto dial_limit = seconds(3);
constexpr auto answer_limit = seconds(10);
constexpr std::size_t most_version = 64;
constexpr std::int64_t most_clock = std::int64_t{1} << 50;
/// Of all of it: those that say nothing by then do not answer.
constexpr auto look_limit = seconds(25);
constexpr std::size_t most_missed = 16;

std::int64_t now() {
  return std::chrono::duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// Whether anybody listens there.
Task<bool> is_reached(asio::ip::address address, std::uint16_t port) {
  if (port == 0) co_return false;
  asio::ip::tcp::socket socket(co_await asio::this_coro::executor);
  Deadline deadline(socket, dial_limit);
  boost::system::error_code ec;
  co_await socket.async_connect({address, port}, asio::redirect_error(asio::use_awaitable, ec));
  co_return !ec && deadline.met();
}

}  // namespace

void CheckUp::serve(Handlers& handlers) {
  handlers.on<CheckUpAsk>([this](ChannelPtr channel, CheckUpAsk asked) { return answer(std::move(channel), asked); });
}

Task<CheckUpTold> CheckUp::answer(ChannelPtr channel, CheckUpAsk asked) {
  CheckUpTold out;
  if (dialing_ < most_dialing && !channel->remote().is_unspecified()) {
    ++dialing_;
    const std::shared_ptr<void> counted(nullptr, [this](void*) { --dialing_; });
    out.has_dialed = true;
    out.reaches_channel = co_await is_reached(channel->remote(), asked.channel_port);
    out.reaches_peers = co_await is_reached(channel->remote(), asked.peer_port);
  }
  out.version = MESH_VERSION;
  out.clock = now();
  co_return out;
}

Task<void> CheckUp::ask(Member member, std::shared_ptr<MeshChecked> out) {
  NodeChecked found;
  found.node = member.node;
  try {
    NodeRef node;
    node.name = member.node;
    node.instance = member.instance;
    node.addresses = member.addresses;
    node.peer_port = member.peer_port;
    node.channel_port = member.channel_port;
    const auto channel = co_await channels_.to(std::move(node));
    const auto used = channels_.use(channel);
    CheckUpAsk question;
    question.peer_port = out->peer_port;
    question.channel_port = out->channel_port;
    const auto asked = std::chrono::steady_clock::now();
    found.told = co_await channel->request(question, answer_limit);
    // Its clock is looked at last there, so that the way back alone lies between.
    const auto took = std::chrono::steady_clock::now() - asked;
    const auto back = found.told.has_dialed ? milliseconds(0) : std::chrono::duration_cast<milliseconds>(took) / 2;
    found.told.clock = std::clamp<std::int64_t>(found.told.clock, 0, most_clock);
    found.clock_off = found.told.clock + back.count() - now();
    if (found.told.version.size() > most_version) found.told.version.resize(most_version);
  } catch (const Error& error) {
    found.is_old = std::string_view(error.what()).find("does not serve") != std::string_view::npos;
    found.trouble = error.what();
  } catch (const std::exception& error) {
    found.trouble = error.what();
  }
  out->nodes.push_back(std::move(found));
}

Task<MeshChecked> CheckUp::look() {
  const auto out = std::make_shared<MeshChecked>();
  const auto self = gossip_.self();
  out->node = self.node;
  out->version = MESH_VERSION;
  out->peer_port = self.peer_port;
  out->channel_port = self.channel_port;
  out->trackers = links_.states();
  auto& members = gossip_.members();
  out->members = static_cast<int>(members.size());
  try {
    static_cast<void>(co_await links_.first(milliseconds(2000)));
  } catch (const Error& error) {
    out->no_view = error.what();
  }
  auto asked = members.choose(most_asked, random_);
  // Some of those that did not answer the last time as well: why is what is wanted.
  for (auto& member : members.choose(most_missed, random_, MemberList::Which::missed))
    asked.push_back(std::move(member));
  const auto until = std::chrono::steady_clock::now() + look_limit;
  const auto is_late = [until] { return std::chrono::steady_clock::now() >= until; };
  Together all(workers_.loop());
  std::size_t begun = 0;
  while (begun < asked.size() && !is_late()) {
    if (all.waiting() >= most_at_once) {
      co_await sleep_for(milliseconds(20));
      continue;
    }
    all.add(ask(asked[begun++], out));
  }
  while (all.waiting() > 0 && !is_late()) co_await sleep_for(milliseconds(20));
  MeshChecked told = *out;
  for (std::size_t i = 0; i < begun; ++i) {
    if (std::ranges::find(told.nodes, asked[i].node, &NodeChecked::node) != told.nodes.end()) continue;
    NodeChecked silent;
    silent.node = asked[i].node;
    silent.trouble = "did not answer in time";
    told.nodes.push_back(std::move(silent));
  }
  std::ranges::sort(told.nodes, {}, &NodeChecked::node);
  co_return told;
}

}  // namespace mesh
