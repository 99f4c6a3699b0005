#include "wire/channel.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/buffers_to_string.hpp>
#include <filesystem>

#include "core/format.h"
#include "wire/endpoint.h"
#include "wire/flow.h"

namespace mesh {
namespace {

constexpr int max_answering = 1024;
constexpr std::size_t max_outgoing_bytes = std::size_t{64} << 20;
/// Of memory for reading between two frames: an inventory's pages would otherwise stay allotted for each node.
constexpr std::size_t kept_bytes = std::size_t{16} << 10;
constexpr std::size_t drained_bytes = std::size_t{1} << 20;

using boost::system::error_code;
namespace websocket = boost::beast::websocket;

}  // namespace

Channel::Channel(Link link, std::string where, asio::ip::address remote)
    : stream_(std::move(link)), where_(std::move(where)), remote_(std::move(remote)), changed_(stream_.get_executor()) {
  stream_.binary(true);
  stream_.read_message_max(max_frame_bytes);
  // Pings keep the channel alive; a side that is silent for 12 s is gone. The kernel says when a local one is gone, and
  // a command may rightly be silent for long: its reader may have stopped reading.
  const auto none = websocket::stream_base::none();
  stream_.set_option(remote_.is_unspecified()
                         ? websocket::stream_base::timeout{std::chrono::seconds(10), none, false}
                         : websocket::stream_base::timeout{std::chrono::seconds(10), std::chrono::seconds(12), true});
  if (!remote_.is_unspecified()) {
    // A small last segment must not wait for Nagle and a delayed ACK.
    const int on = 1;
    setsockopt(stream_.next_layer().next_layer().native_handle(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
}

void Channel::close() {
  if (!open_) return;
  open_ = false;
  error_code ignored;
  auto& socket = stream_.next_layer().next_layer();
  socket.shutdown(Socket::shutdown_both, ignored);
  socket.close(ignored);
  changed_.cancel();
  for (auto& [number, pending] : pending_) pending->wake.cancel();
}

Task<void> Channel::run(const Handlers& handlers) {
  const auto self = shared_from_this();
  boost::beast::flat_buffer buffer;
  while (open_) {
    error_code ec;
    co_await stream_.async_read(buffer, asio::redirect_error(asio::use_awaitable, ec));
    if (ec) break;
    std::string frame = boost::beast::buffers_to_string(buffer.data());
    buffer.consume(buffer.size());
    if (buffer.capacity() > kept_bytes) buffer.shrink_to_fit();
    try {
      const auto node = parse_bencode(frame);
      if (node.type() != lt::bdecode_node::dict_t) throw CodecError("no dictionary");
      if (const auto reply_to = node.dict_find_int("r")) {
        take_reply(reply_to.int_value(), std::move(frame));
      } else if (node.dict_find_int("i")) {
        asio::co_spawn(stream_.get_executor(), answer(handlers, std::move(frame)), asio::detached);
      } else {
        const auto it = handlers.notes_.find(std::string(node.dict_find_string_value("t")));
        const auto body = node.dict_find_dict("b");
        if (it != handlers.notes_.end() && body) it->second(self, body);
      }
    } catch (const CodecError&) {
      break;  // the other side does not speak this protocol
    }
  }
  close();
}

void Channel::take_reply(std::int64_t number, std::string frame) {
  const auto it = pending_.find(number);
  if (it == pending_.end()) return;  // its time was up
  it->second->frame = std::move(frame);
  it->second->answered = true;
  it->second->wake.cancel();
}

Task<void> Channel::answer(const Handlers& handlers, std::string text) {
  const auto self = shared_from_this();
  ++answering_;
  lt::entry reply(lt::entry::dictionary_t);
  const auto fail = [&reply](Status status, const std::string& why) {
    reply["e"]["status"] = static_cast<int>(status);
    reply["e"]["text"] = why;
  };
  try {
    const auto node = parse_bencode(text);
    reply["r"] = node.dict_find_int_value("i");
    const auto it = handlers.requests_.find(std::string(node.dict_find_string_value("t")));
    const auto body = node.dict_find_dict("b");
    if (it == handlers.requests_.end() || !body)
      fail(Status::failed, "does not serve '" + printable(std::string(node.dict_find_string_value("t"))) + "'");
    else if (answering_ > max_answering)
      fail(Status::failed, "too many requests at once; try again later");
    else
      reply["b"] = co_await it->second(self, body);
  } catch (const Error& error) {
    fail(error.status(), error.what());
  } catch (const std::exception& error) {
    fail(Status::failed, error.what());
  }
  --answering_;
  send(reply);
}

void Channel::send(const lt::entry& frame) {
  if (!open_) return;
  std::string bytes;
  write_bencode(frame, bytes);
  outgoing_bytes_ += bytes.size();
  outgoing_.push_back(std::move(bytes));
  if (outgoing_bytes_ > max_outgoing_bytes) return close();
  if (!writing_) {
    writing_ = true;
    asio::co_spawn(stream_.get_executor(), write_all(), asio::detached);
  }
}

Task<void> Channel::write_all() {
  const auto self = shared_from_this();
  while (open_ && !outgoing_.empty()) {
    error_code ec;
    co_await stream_.async_write(asio::buffer(outgoing_.front()), asio::redirect_error(asio::use_awaitable, ec));
    if (ec) {
      close();
      break;
    }
    outgoing_bytes_ -= outgoing_.front().size();
    outgoing_.pop_front();
    if (outgoing_bytes_ < drained_bytes) changed_.cancel();
  }
  writing_ = false;
}

Task<void> Channel::drained() {
  const auto self = shared_from_this();
  while (open_ && outgoing_bytes_ >= drained_bytes) {
    error_code ec;
    changed_.expires_after(std::chrono::seconds(1));
    co_await changed_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
  }
  if (!open_) throw Error(Status::unreachable, where_ + ": the connection was lost");
}

Task<std::string> Channel::exchange(const char* name, lt::entry body, std::chrono::milliseconds limit) {
  const auto self = shared_from_this();
  const auto lost = [this] { return Error(Status::unreachable, where_ + ": the connection was lost"); };
  if (!open_) throw lost();
  const auto number = next_number_++;
  const auto pending = std::make_shared<Pending>(stream_.get_executor());
  pending_[number] = pending;
  lt::entry frame(lt::entry::dictionary_t);
  frame["t"] = name;
  frame["i"] = number;
  frame["b"] = std::move(body);
  pending->wake.expires_after(limit);
  send(frame);
  error_code ec;
  if (open_) co_await pending->wake.async_wait(asio::redirect_error(asio::use_awaitable, ec));
  pending_.erase(number);
  if (!pending->answered) {
    if (!open_) throw lost();
    throw Error(Status::unreachable,
                where_ + ": no answer to '" + name + "' within " + std::to_string(limit.count()) + " ms");
  }
  const auto node = parse_bencode(pending->frame);
  if (const auto error = node.dict_find_dict("e"))
    throw Error(static_cast<Status>(error.dict_find_int_value("status", 1)),
                std::string(error.dict_find_string_value("text")));
  if (!node.dict_find_dict("b")) throw Error(Status::failed, where_ + ": sent a reply without a body");
  co_return std::move(pending->frame);
}

namespace {

/// One try: at one of the host's addresses, with one of the keys.
Task<ChannelPtr> try_channel(asio::ip::tcp::endpoint endpoint, std::string host_port, std::string path,
                             std::chrono::milliseconds limit, MeshKeysPtr keys, const MeshKey* key) {
  const auto executor = co_await asio::this_coro::executor;
  const auto fail = [&](const std::string& why) { return Error(Status::unreachable, host_port + ": " + why); };
  error_code ec;
  asio::ip::tcp::socket socket(executor);
  {
    Deadline deadline(socket, limit);
    co_await socket.async_connect(endpoint, asio::redirect_error(asio::use_awaitable, ec));
    if (!deadline.met()) ec = asio::error::timed_out;
  }
  if (ec) throw fail(ec.message());
  Link link{Link::Socket(std::move(socket))};
  if (key != nullptr) {
    link.secure(keys, key);
    const Deadline deadline(link.next_layer(), limit);
    std::optional<Error> refused;
    try {
      co_await link.handshake();
    } catch (const Error& error) {
      refused = error;
    }
    if (refused) throw Error(refused->status(), host_port + ": " + refused->what());
  }
  auto channel = std::make_shared<Channel>(std::move(link), to_text(endpoint), endpoint.address());
  co_await channel->stream().async_handshake(host_port, path, asio::redirect_error(asio::use_awaitable, ec));
  if (ec == websocket::error::upgrade_declined)
    throw Error(Status::refused, host_port + ": is of a mesh with a key, or no meshswarm at all (--key names the key)");
  if (ec) throw fail(ec.message());
  co_return channel;
}

}  // namespace

Task<ChannelPtr> connect_channel(std::string host_port, std::string path, std::chrono::milliseconds limit,
                                 MeshKeysPtr keys) {
  const auto executor = co_await asio::this_coro::executor;
  const auto [host, port] = parse_host_port(host_port);
  error_code ec;
  asio::ip::tcp::resolver resolver(executor);
  const auto found =
      co_await resolver.async_resolve(host, std::to_string(port), asio::redirect_error(asio::use_awaitable, ec));
  if (ec) throw Error(Status::unreachable, host_port + ": " + ec.message());
  std::vector<const MeshKey*> offers = {nullptr};
  if (keys) {
    offers.clear();
    for (const auto& key : keys->all()) offers.push_back(&key);
  }
  std::optional<Error> trouble;
  for (const auto& candidate : found) {
    for (const auto* key : offers) {
      ChannelPtr channel;
      try {
        channel = co_await try_channel(candidate.endpoint(), host_port, path, limit, keys, key);
      } catch (const Error& error) {
        trouble = error;
      }
      if (channel) co_return channel;
      if (trouble->status() != Status::refused) break;  // another key would help nothing
    }
  }
  throw trouble ? *trouble : Error(Status::unreachable, host_port + ": has no address");
}

void run_to_ask(ChannelPtr channel) {
  auto run = [](ChannelPtr running) -> Task<void> {
    const auto nothing = std::make_shared<Handlers>();
    co_await running->run(*nothing);
  };
  const auto executor = channel->stream().get_executor();
  asio::co_spawn(executor, run(std::move(channel)), asio::detached);
}

Task<ChannelPtr> connect_local(std::string socket_path) {
  const auto executor = co_await asio::this_coro::executor;
  // A sockaddr_un holds 107 bytes; the directory's descriptor makes any path short.
  const std::filesystem::path path(socket_path);
  const int dir = ::open(path.parent_path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  error_code ec;
  if (dir < 0)
    throw Error(Status::unreachable,
                socket_path + ": " + error_code(errno, boost::system::system_category()).message());
  asio::local::stream_protocol::socket socket(executor);
  const std::string shortened = "/proc/self/fd/" + std::to_string(dir) + "/" + path.filename().string();
  co_await socket.async_connect(asio::local::stream_protocol::endpoint(shortened),
                                asio::redirect_error(asio::use_awaitable, ec));
  ::close(dir);
  if (ec) throw Error(Status::unreachable, socket_path + ": " + ec.message());
  auto channel = std::make_shared<Channel>(Link(Link::Socket(std::move(socket))), "this node", asio::ip::address{});
  co_await channel->stream().async_handshake("localhost", "/local", asio::redirect_error(asio::use_awaitable, ec));
  if (ec == websocket::error::upgrade_declined)
    throw Error(
        Status::refused,
        socket_path + ": is not for this user: the node's own user, root, and the group of its --control-group may");
  if (ec) throw Error(Status::unreachable, socket_path + ": " + ec.message());
  co_return channel;
}

}  // namespace mesh
