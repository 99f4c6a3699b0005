// Channels over a socket pair, and who is at the other end of a connection.
#include "wire/channel.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/local/connect_pair.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <optional>

#include "test.h"
#include "wire/flow.h"
#include "wire/socket_owner.h"

using namespace mesh;

namespace {

/// Two ends of one channel, on one loop.
struct Pair {
  Pair() {
    asio::local::stream_protocol::socket a(io), b(io);
    asio::local::connect_pair(a, b);
    near = std::make_shared<Channel>(Link(Link::Socket(std::move(a))), "far", asio::ip::address{});
    far = std::make_shared<Channel>(Link(Link::Socket(std::move(b))), "near", asio::ip::address{});
  }
  /// Answers with `handlers` at the far end until the near one's `ask` is over.
  void run(const Handlers& handlers, const std::function<Task<void>(ChannelPtr)>& ask) {
    auto serve = [](ChannelPtr end, const Handlers& answers) -> Task<void> {
      boost::system::error_code ec;
      co_await end->stream().async_accept(asio::redirect_error(asio::use_awaitable, ec));
      REQUIRE_FALSE(ec);
      co_await end->run(answers);
    };
    auto begin = [](ChannelPtr end, const std::function<Task<void>(ChannelPtr)>& work) -> Task<void> {
      boost::system::error_code ec;
      boost::beast::websocket::response_type response;
      co_await end->stream().async_handshake(response, "localhost", "/", asio::redirect_error(asio::use_awaitable, ec));
      REQUIRE_FALSE(ec);
      run_to_ask(end);
      co_await work(end);
      end->close();
    };
    asio::co_spawn(io, serve(far, handlers), asio::detached);
    asio::co_spawn(io, begin(near, ask), asio::detached);
    io.run();
  }
  asio::io_context io{1};
  ChannelPtr near, far;
};

}  // namespace

TEST_CASE("no answer with an error reads as one that all went well") {
  Pair pair;
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
  pair.run(handlers, ask);
  CHECK(heard == std::vector<Status>{Status::failed, Status::failed, Status::failed, Status::refused});
}

TEST_CASE("requests that wait on one channel take a bounded memory") {
  Pair pair;
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
  pair.run(handlers, ask);
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
