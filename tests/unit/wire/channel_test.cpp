// Channels over a socket pair, and who is at the other end of a connection.
#include "wire/channel.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <optional>

#include "test.h"
#include "wire/flow.h"
#include "wire/socket_owner.h"

using namespace mesh;

namespace {

/// Answers with `handlers` at one end of a channel until the other's `ask` is over.
void run_pair(const Handlers& handlers, const std::function<Task<void>(ChannelPtr)>& ask) {
  asio::io_context io{1};
  auto serve = [](ChannelPtr end, const Handlers& answers) -> Task<void> { co_await end->run(answers); };
  auto begin = [&]() -> Task<void> {
    const auto ends = co_await make_channel_pair("near", "far");
    spawn(io, serve(ends.far, handlers));
    run_to_ask(ends.near);
    co_await ask(ends.near);
    ends.near->close();
  };
  spawn(io, begin());
  io.run();
}

}  // namespace

TEST_CASE("no answer with an error reads as one that all went well") {
  Handlers handlers;
  handlers.on<ProbePath>([](ChannelPtr, ProbePath asked) -> Task<Probed> {
    // What a hostile node may say.
    throw Error(static_cast<Status>(std::stoi(asked.path)), "it did not go well");
    co_return Probed{};
  });
  std::vector<Status> heard;
  const std::function<Task<void>(ChannelPtr)> ask = [&](ChannelPtr channel) -> Task<void> {
    for (const char* status : {"0", "-7", "99", "5"}) {
      ProbePath question;
      question.path = status;
      try {
        static_cast<void>(co_await channel->request(question, std::chrono::seconds(10)));
        heard.push_back(Status::ok);
      } catch (const Error& error) {
        heard.push_back(error.status());
      }
    }
  };
  run_pair(handlers, ask);
  CHECK(heard == std::vector<Status>{Status::failed, Status::failed, Status::failed, Status::refused});
}

TEST_CASE("requests that wait on one channel take a bounded memory") {
  Handlers handlers;
  int waiting = 0;
  bool over = false;
  handlers.on<ProbePath>([&](ChannelPtr, ProbePath) -> Task<Probed> {
    ++waiting;
    while (!over) co_await sleep_for(std::chrono::milliseconds(5));
    co_return Probed{};
  });
  int refused = 0;
  const std::function<Task<void>(ChannelPtr)> ask = [&](ChannelPtr channel) -> Task<void> {
    Together all(co_await asio::this_coro::executor);
    auto one = [](ChannelPtr to, int& count) -> Task<void> {
      ProbePath question;
      question.path.assign(std::size_t{8} << 20, 'x');
      try {
        static_cast<void>(co_await to->request(question, std::chrono::seconds(60)));
      } catch (const Error&) {
        ++count;
      }
    };
    for (int i = 0; i < 6; ++i) all.add(one(channel, refused));
    while (refused + waiting < 6) co_await sleep_for(std::chrono::milliseconds(5));
    over = true;
    co_await all.all();
  };
  run_pair(handlers, ask);
  CHECK(waiting == 3);
  CHECK(refused == 3);
}

TEST_CASE("a connection within this machine is somebody's only while he holds it") {
  using asio::ip::tcp;
  asio::io_context io(1);
  for (const char* address : {"127.0.0.1", "::1"}) {
    tcp::acceptor acceptor(io);
    boost::system::error_code ec;
    const tcp::endpoint at(asio::ip::make_address(address), 0);
    acceptor.open(at.protocol(), ec);
    if (!ec) acceptor.bind(at, ec);
    if (ec) {
      WARN("skipped: no " << address);
      continue;
    }
    acceptor.listen();
    tcp::socket client(io);
    client.connect(acceptor.local_endpoint());
    tcp::socket served = acceptor.accept();
    using Is = SocketOwner::Is;
    if (owner_of_other_end(served.native_handle()).is == Is::unknown) {
      WARN("skipped: no inet_diag here");
      return;
    }
    CHECK(owner_of_other_end(served.native_handle()).is == Is::ours);
    CHECK(owner_of_other_end(client.native_handle()).is == Is::ours);
    client.shutdown(tcp::socket::shutdown_send);
    CHECK(owner_of_other_end(served.native_handle()).is == Is::ours);
    // Sent, and closed at once: what the kernel shows then is root's.
    client.close();
    CHECK(owner_of_other_end(served.native_handle()).is == Is::closed);
  }
}
