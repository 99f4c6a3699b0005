// Two of Boost.Asio's TLS streams over loopback, with records collected under one of them or both. What holds here is
// what Asio of this version does: when it tries again, and in what order it sends.
#include "swarm/tls_batch.h"

#include <sys/socket.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <functional>
#include <random>

#include "test.h"
#include "wire/mesh_key.h"

using namespace mesh;
namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

std::string noise(std::size_t size) {
  std::mt19937_64 random{1};
  std::string out(size, '\0');
  for (auto& c : out) c = static_cast<char>(random());
  return out;
}

asio::ssl::context make_context() {
  const MeshKeys keys({random_secret()});
  asio::ssl::context out(asio::ssl::context::tls);
  out.use_certificate_chain(asio::buffer(keys.first().certificate));
  out.use_private_key(asio::buffer(keys.first().private_key), asio::ssl::context::pem);
  return out;
}

/// A connection whose handshake is over, and a loop that flushes after each round as the network thread does.
struct Pair {
  explicit Pair(bool near_batches, bool far_batches) {
    tcp::acceptor acceptor(io, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    near.lowest_layer().open(tcp::v4());
    // Small, so that they are full often.
    near.lowest_layer().set_option(tcp::socket::send_buffer_size(64 * 1024));
    near.lowest_layer().connect(acceptor.local_endpoint());
    acceptor.accept(far.lowest_layer());
    far.lowest_layer().set_option(tcp::socket::receive_buffer_size(64 * 1024));
    int shaken = 0;
    std::string trouble;
    const auto over = [&](error_code ec) {
      shaken += ec ? 0 : 1;
      if (ec) trouble += ec.message() + "; ";
    };
    near.async_handshake(asio::ssl::stream_base::client, over);
    far.async_handshake(asio::ssl::stream_base::server, over);
    io.run();
    io.restart();
    INFO(trouble);
    REQUIRE(shaken == 2);
    if (near_batches) near_attached = batch.attach(near.native_handle(), near.next_layer());
    if (far_batches) far_attached = batch.attach(far.native_handle(), far.next_layer());
  }
  void run(const std::function<bool()>& done, std::chrono::seconds limit = std::chrono::seconds(60)) {
    const auto until = std::chrono::steady_clock::now() + limit;
    while (!done() && std::chrono::steady_clock::now() < until) {
      io.run_one_for(std::chrono::seconds(1));
      for (int i = 0; i < 100 && io.poll_one() > 0; ++i) {
      }
      batch.flush();
      io.restart();
    }
    CHECK(done());
  }

  TlsBatch batch;
  asio::io_context io{1};
  asio::ssl::context context = make_context();
  asio::ssl::stream<tcp::socket> near{io, context};
  asio::ssl::stream<tcp::socket> far{io, context};
  TlsBatch::Attached near_attached, far_attached;
};

/// Sends `bytes` in pieces of random sizes, as a peer's messages are.
struct Sender {
  Sender(asio::ssl::stream<tcp::socket>& to, const std::string& all) : stream(to), bytes(all) { next(); }
  void next() {
    if (at == bytes.size()) return;
    const auto size = std::min<std::size_t>(bytes.size() - at, random() % 3 == 0 ? 13 : 1 + random() % 40'000);
    stream.async_write_some(asio::buffer(bytes.data() + at, size), [this](error_code ec, std::size_t n) {
      failed = ec;
      at += n;
      if (!ec) next();
    });
  }
  asio::ssl::stream<tcp::socket>& stream;
  const std::string& bytes;
  std::size_t at = 0;
  error_code failed;
  std::mt19937 random{7};
};

/// Reads until `most` bytes are there; now and then it rests, so that the other side's socket fills up.
struct Receiver {
  Receiver(asio::io_context& io, asio::ssl::stream<tcp::socket>& from, bool rests)
      : stream(from), timer(io), slow(rests) {
    next();
  }
  void next() {
    stream.async_read_some(asio::buffer(buffer), [this](error_code ec, std::size_t n) {
      failed = ec;
      got.append(buffer.data(), n);
      if (ec) return;
      if (!slow || random() % 50 != 0) return next();
      timer.expires_after(std::chrono::milliseconds(2));
      timer.async_wait([this](error_code) { next(); });
    });
  }
  asio::ssl::stream<tcp::socket>& stream;
  asio::steady_timer timer;
  bool slow;
  std::vector<char> buffer = std::vector<char>(20'000);
  std::string got;
  error_code failed;
  std::mt19937 random{9};
};

}  // namespace

TEST_CASE("TLS records that are collected arrive all and in order, both ways at once, whoever collects") {
  const auto there = noise(12'000'000), back = noise(9'000'001);
  for (const bool slow : {false, true})
    for (const auto& [near, far] : {std::pair(true, true), std::pair(true, false), std::pair(false, true)}) {
      Pair pair(near, far);
      Receiver at_far(pair.io, pair.far, slow), at_near(pair.io, pair.near, slow);
      Sender from_near(pair.near, there), from_far(pair.far, back);
      pair.run([&] { return at_far.got.size() >= there.size() && at_near.got.size() >= back.size(); });
      CHECK((at_far.got == there));
      CHECK((at_near.got == back));
      CHECK_FALSE(from_near.failed);
      // An orderly end.
      pair.near_attached.detach();
      pair.far_attached.detach();
      pair.near.lowest_layer().cancel();
      pair.near.async_shutdown([](error_code) {});
      pair.run([&] { return at_far.failed.failed(); });
      CHECK(at_far.failed == asio::error::eof);
      pair.near.lowest_layer().close();
      pair.far.lowest_layer().close();
      pair.io.poll();
    }
}

TEST_CASE("TLS records that are collected: a reader that stops holds the writer up, and a little goes at once") {
  Pair pair(true, true);
  const auto much = noise(8'000'000);
  Sender sender(pair.near, much);
  // Nobody reads: what is collected is bounded.
  CHECK_FALSE(pair.batch.is_held_up());
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(300);
  pair.run([&] { return std::chrono::steady_clock::now() > until; });
  CHECK(pair.batch.is_held_up());
  CHECK(sender.at > 0);
  CHECK(sender.at < 2'000'000);
  const auto before = sender.at;
  Receiver receiver(pair.io, pair.far, false);
  pair.run([&] { return receiver.got.size() == much.size(); });
  CHECK_FALSE(pair.batch.is_held_up());
  CHECK(sender.at > before);
  CHECK((receiver.got == much));
  const std::string little = "one byte more";
  Sender last(pair.near, little);
  pair.run([&] { return receiver.got.size() == much.size() + little.size(); }, std::chrono::seconds(5));
  pair.near_attached.detach();
  pair.far_attached.detach();
  pair.near.lowest_layer().close();
  pair.far.lowest_layer().close();
  pair.io.poll();
}

TEST_CASE("TLS records that are collected: the other side is gone, or this one in the middle of sending") {
  const auto much = noise(3'000'000);
  {
    Pair pair(true, true);
    Sender sender(pair.near, much);
    Receiver receiver(pair.io, pair.near, false);
    pair.far_attached.detach();
    pair.far.lowest_layer().close();
    pair.run([&] { return receiver.failed.failed(); });
    CHECK_FALSE(pair.batch.is_held_up());
    pair.near_attached.detach();
    pair.near.lowest_layer().close();
    pair.io.poll();
  }
  {
    Pair pair(true, true);
    Sender sender(pair.near, much);
    pair.run([&] { return pair.batch.is_held_up(); });
    pair.near_attached.detach();
    CHECK_FALSE(pair.batch.is_held_up());
    pair.near.lowest_layer().close();
    pair.batch.flush();
    pair.io.poll();
    CHECK_FALSE(pair.batch.is_held_up());
    CHECK(sender.at < much.size());
    pair.far_attached.detach();
    pair.far.lowest_layer().close();
    pair.io.poll();
  }
}
