#include "node/run_node.h"

#include <boost/asio/signal_set.hpp>
#include <csignal>

#include "node/node.h"
#include "wire/flow.h"
#include "wire/server.h"

namespace mesh {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

namespace {

/// For what is under way to come to its end: when the program is to end, and when only this node is.
constexpr auto stop_limit = milliseconds(4500);
constexpr auto anew_limit = milliseconds(20'000);

/// SIGTERM and SIGINT, over all the lives of a node: one that comes between two of them counts, too.
class Told {
 public:
  Told() : signals_(io_, SIGTERM, SIGINT) {
    signals_.async_wait([this](const boost::system::error_code& ec, int) { told_ = told_ || !ec; });
  }
  [[nodiscard]] bool to_stop() {
    io_.poll();
    return told_;
  }

 private:
  asio::io_context io_{1};
  asio::signal_set signals_;
  bool told_ = false;
};

struct Lived {
  Status status = Status::ok;
  bool begins_anew = false;
  Node::Legacy legacy;
};

/// One life. Does not return where something does not come to its end: the program ends then.
Lived live(const NodeOptions& options, std::unique_ptr<StateDir> state, const NodeEvents& events,
           const Node::Legacy& legacy, Told& told) {
  asio::io_context io(1);
  const auto node = std::make_unique<Node>(io, options, std::move(state), events.log, legacy);
  std::shared_ptr<void> serving;
  bool stopping = false;
  asio::signal_set signals(io, SIGTERM, SIGINT);
  const auto stop = [&]() -> Task<void> {
    if (std::exchange(stopping, true)) co_return;
    co_await node->stop();
    signals.cancel();
    serving.reset();
  };
  signals.async_wait([&](const boost::system::error_code& ec, int) {
    if (!ec) spawn(io, stop());
  });
  const auto begin_anew = [&]() -> Task<void> {
    co_await node->until_it_begins_anew();
    co_await stop();
  };
  spawn(io, begin_anew());
  const auto leave = [&]() -> Task<void> {
    co_await node->until_unneeded();
    co_await stop();
  };
  if (options.linger_seconds) spawn(io, leave());
  events.log(node->describe());
  if (events.serves) serving = events.serves(io);
  while (!stopping && io.run_one() > 0) {
  }
  // Everything that was closed now comes to its end. All state is saved by then; what hangs is not waited for.
  const auto stopped = Clock::now();
  const auto limit = [&] { return node->begins_anew() && !told.to_stop() ? anew_limit : stop_limit; };
  while (!io.stopped() && Clock::now() - stopped < limit()) io.run_for(milliseconds(100));
  Lived out;
  out.begins_anew = node->begins_anew() && !node->has_failed() && !told.to_stop();
  if (node->has_failed() || (out.begins_anew && !io.stopped())) out.status = Status::failed;
  if (!io.stopped()) std::_Exit(static_cast<int>(out.status));
  if (out.begins_anew) out.legacy = node->legacy();
  return out;
}

}  // namespace

std::unique_ptr<StateDir> take_state(const NodeOptions& options) {
  auto out = std::make_unique<StateDir>(options.state_dir(), Trust{group_number(options.control_group)});
  if (!out->lock()) out.reset();
  return out;
}

Error already_runs(const NodeOptions& options) {
  return Error(Status::failed, options.state_dir().string() + ": another node runs here already",
               std::make_error_code(std::errc::device_or_resource_busy));
}

int run_node(NodeOptions options, std::unique_ptr<StateDir> state, const NodeEvents& events) {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGIO, SIG_IGN);  // a lease that PathGate::is_being_written held for an instant was broken
  raise_descriptor_limit();
  options = checked(std::move(options));
  Told told;
  Node::Legacy legacy;
  for (;;) {
    if (events.begins) events.begins(*state);
    auto lived = live(options, std::move(state), events, legacy, told);
    if (!lived.begins_anew || told.to_stop()) return static_cast<int>(lived.status);
    legacy = std::move(lived.legacy);
    try {
      state = events.take ? events.take() : take_state(options);
    } catch (const Error& error) {  // it was in order when the program began
      throw Error(Status::failed, error.what(), error.code());
    }
    if (!state) throw already_runs(options);
  }
}

}  // namespace mesh
