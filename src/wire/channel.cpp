#include "wire/channel.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/connect_pair.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/buffers_to_string.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/websocket/stream.hpp>
#include <cstring>
#include <deque>
#include <unordered_map>

#include "core/format.h"
#include "core/merkle.h"
#include "wire/deadline.h"
#include "wire/endpoint.h"
#include "wire/flow.h"
#include "wire/link.h"
#include "wire/socket_owner.h"
#include "wire/upgrade.h"

namespace mesh {
namespace {

constexpr int max_answering = 1024;
constexpr std::size_t max_answering_bytes = std::size_t{32} << 20;
constexpr std::size_t max_answering_bytes_everywhere = std::size_t{256} << 20;
constexpr std::size_t few_bytes = std::size_t{64} << 10;
std::atomic<std::size_t> answering_everywhere = 0;
constexpr std::size_t max_outgoing_bytes = std::size_t{64} << 20;
/// Of memory for reading between two frames: an inventory's pages would otherwise stay allotted for each node.
constexpr std::size_t kept_bytes = std::size_t{16} << 10;
constexpr std::size_t drained_bytes = std::size_t{1} << 20;

using boost::system::error_code;
namespace websocket = boost::beast::websocket;

struct Pending {
  explicit Pending(const asio::any_io_executor& executor) : wake(executor) {}
  asio::steady_timer wake;
  std::string frame;
  bool answered = false;
};

}  // namespace

struct Channel::State {
  explicit State(Link link) : stream(std::move(link)), changed(stream.get_executor()) {}
  websocket::stream<Link> stream;
  bool writing = false;
  std::deque<std::string> outgoing;
  std::size_t outgoing_bytes = 0;
  std::int64_t next_number = 1;
  int answering = 0;
  std::size_t answering_bytes = 0;
  asio::steady_timer changed;  ///< wakes whoever waits for room, in or out
  std::unordered_map<std::int64_t, std::shared_ptr<Pending>> pending;
};

Channel::Channel(Link link, std::string where, asio::ip::address remote)
    : state_(std::make_unique<State>(std::move(link))), where_(std::move(where)), remote_(std::move(remote)) {
  state_->stream.binary(true);
  state_->stream.read_message_max(max_frame_bytes);
  // Pings keep the channel alive; a side that is silent for 12 s is gone. The kernel says when a local one is gone, and
  // a command may rightly be silent for long: its reader may have stopped reading.
  const auto none = websocket::stream_base::none();
  state_->stream.set_option(
      remote_.is_unspecified()
          ? websocket::stream_base::timeout{std::chrono::seconds(10), none, false}
          : websocket::stream_base::timeout{std::chrono::seconds(10), std::chrono::seconds(12), true});
  if (!remote_.is_unspecified()) {
    // A small last segment must not wait for Nagle and a delayed ACK.
    const int on = 1;
    setsockopt(state_->stream.next_layer().next_layer().native_handle(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
}

namespace {

constexpr const char* challenge_header = "Mesh-Challenge";
constexpr std::size_t most_challenge_bytes = 256;

std::string binding_of(const Link& link, std::string_view connecting, std::string_view accepting) {
  const auto length = [](std::string_view text) { return std::to_string(text.size()) + ":" + std::string(text); };
  const auto keying = link.exporter("EXPORTER-meshswarm-channel");
  const auto digest = sha256("meshswarm channel 1" + length(keying) + length(connecting) + length(accepting));
  return std::string(digest.view());
}

}  // namespace

Channel::~Channel() = default;
bool Channel::is_waiting() const { return !state_->pending.empty(); }
asio::any_io_executor Channel::executor() const { return state_->stream.get_executor(); }
Link& Channel::link() { return state_->stream.next_layer(); }

std::string Channel::local() const {
  error_code ec;
  const auto at = state_->stream.next_layer().next_layer().local_endpoint(ec);
  asio::ip::tcp::endpoint out;
  if (ec || (at.protocol().family() != AF_INET && at.protocol().family() != AF_INET6) || at.size() > out.capacity())
    return {};
  std::memcpy(out.data(), at.data(), at.size());
  out.resize(at.size());
  out.address(unmapped(out.address()));
  return to_text(out);
}

Task<bool> Channel::accept() {
  error_code ec;
  co_await state_->stream.async_accept(asio::redirect_error(asio::use_awaitable, ec));
  co_return !ec;
}

Task<bool> Channel::accept(UpgradeRequest request) {
  const auto own = random_secret().hex();
  state_->stream.set_option(websocket::stream_base::decorator(
      [own](websocket::response_type& response) { response.set(challenge_header, own); }));
  const std::string theirs(request.http[challenge_header].substr(0, most_challenge_bytes));
  error_code ec;
  co_await state_->stream.async_accept(request.http, asio::redirect_error(asio::use_awaitable, ec));
  if (!ec && !theirs.empty()) binding_ = binding_of(link(), theirs, own);
  co_return !ec;
}

Task<void> Channel::connect(std::string host, std::string path) {
  const auto own = random_secret().hex();
  state_->stream.set_option(websocket::stream_base::decorator(
      [own](websocket::request_type& request) { request.set(challenge_header, own); }));
  websocket::response_type response;
  error_code ec;
  co_await state_->stream.async_handshake(response, host, path, asio::redirect_error(asio::use_awaitable, ec));
  if (ec == websocket::error::upgrade_declined)
    throw Error(Status::refused, printable(response.body().substr(0, response.body().find('\n')).substr(0, 300)));
  if (ec) throw Error(Status::unreachable, ec.message());
  const std::string theirs(response[challenge_header].substr(0, most_challenge_bytes));
  if (!theirs.empty()) binding_ = binding_of(link(), own, theirs);
}

void Channel::close() {
  if (!open_) return;
  open_ = false;
  error_code ignored;
  auto& socket = state_->stream.next_layer().next_layer();
  socket.shutdown(Link::Socket::shutdown_both, ignored);
  socket.close(ignored);
  state_->changed.cancel();
  for (auto& [number, pending] : state_->pending) pending->wake.cancel();
}

Task<void> Channel::run(ChannelPtr self, const Handlers& handlers) {
  boost::beast::flat_buffer buffer;
  while (self->open_) {
    error_code ec;
    co_await self->state_->stream.async_read(buffer, asio::redirect_error(asio::use_awaitable, ec));
    if (ec) break;
    std::string frame = boost::beast::buffers_to_string(buffer.data());
    buffer.consume(buffer.size());
    if (buffer.capacity() > kept_bytes) buffer.shrink_to_fit();
    try {
      const auto node = parse_bencode(frame);
      if (node.type() != lt::bdecode_node::dict_t) throw CodecError("no dictionary");
      if (const auto reply_to = node.dict_find_int("r")) {
        self->take_reply(reply_to.int_value(), std::move(frame));
      } else if (node.dict_find_int("i")) {
        spawn(self->executor(), answer(self, handlers, std::move(frame)));
      } else {
        const auto it = handlers.notes_.find(std::string(node.dict_find_string_value("t")));
        const auto body = node.dict_find_dict("b");
        if (it != handlers.notes_.end() && body) it->second(self, body);
      }
    } catch (const CodecError&) {
      break;  // the other side does not speak this protocol
    }
  }
  self->close();
}

void Channel::take_reply(std::int64_t number, std::string frame) {
  const auto it = state_->pending.find(number);
  if (it == state_->pending.end()) return;  // its time was up
  it->second->frame = std::move(frame);
  it->second->answered = true;
  it->second->wake.cancel();
}

Task<void> Channel::answer(ChannelPtr self, const Handlers& handlers, std::string text) {
  const auto& state = self->state_;
  ++state->answering;
  const auto bytes = text.size();
  state->answering_bytes += bytes;
  answering_everywhere += bytes;
  const bool too_much = state->answering_bytes > max_answering_bytes ||
                        (bytes > few_bytes && answering_everywhere > max_answering_bytes_everywhere);
  lt::entry reply(lt::entry::dictionary_t);
  const auto fail = [&reply](Status status, const std::string& why) {
    reply["e"]["status"] = static_cast<int>(status);
    reply["e"]["text"] = why;
  };
  std::optional<std::string_view> request;
  const auto begun = std::chrono::steady_clock::now();
  try {
    auto node = parse_bencode(text);
    reply["r"] = node.dict_find_int_value("i");
    const auto it = handlers.requests_.find(std::string(node.dict_find_string_value("t")));
    const auto body = node.dict_find_dict("b");
    if (it == handlers.requests_.end() || !body)
      fail(Status::failed, "does not serve '" + printable(std::string(node.dict_find_string_value("t"))) + "'");
    else if (state->answering > max_answering || too_much)
      fail(Status::failed, "too many requests at once; try again later");
    else {
      request = it->first;
      auto work = it->second(self, body);  // has read it
      node.clear();
      std::string().swap(text);
      reply["b"] = co_await std::move(work);
    }
  } catch (const Error& error) {
    fail(error.status(), error.what());
  } catch (const std::exception& error) {
    fail(Status::failed, error.what());
  }
  if (request && handlers.on_answered) handlers.on_answered(*request, std::chrono::steady_clock::now() - begun);
  --state->answering;
  state->answering_bytes -= bytes;
  answering_everywhere -= bytes;
  self->send(reply);
}

void Channel::send(const lt::entry& frame) {
  if (!open_) return;
  std::string bytes;
  write_bencode(frame, bytes);
  state_->outgoing_bytes += bytes.size();
  state_->outgoing.push_back(std::move(bytes));
  if (state_->outgoing_bytes > max_outgoing_bytes) return close();
  if (!state_->writing) {
    state_->writing = true;
    spawn(executor(), write_all(shared_from_this()));
  }
}

Task<void> Channel::write_all(ChannelPtr self) {
  const auto& state = self->state_;
  while (self->open_ && !state->outgoing.empty()) {
    error_code ec;
    co_await state->stream.async_write(asio::buffer(state->outgoing.front()),
                                       asio::redirect_error(asio::use_awaitable, ec));
    if (ec) {
      self->close();
      break;
    }
    state->outgoing_bytes -= state->outgoing.front().size();
    state->outgoing.pop_front();
    if (state->outgoing_bytes < drained_bytes) state->changed.cancel();
  }
  state->writing = false;
}

Task<void> Channel::drained() {
  const auto self = shared_from_this();
  while (open_ && state_->outgoing_bytes >= drained_bytes) {
    error_code ec;
    state_->changed.expires_after(std::chrono::seconds(1));
    co_await state_->changed.async_wait(asio::redirect_error(asio::use_awaitable, ec));
  }
  if (!open_) throw Error(Status::unreachable, where_ + ": the connection was lost");
}

Task<std::string> Channel::exchange(const char* name, lt::entry body, std::chrono::milliseconds limit) {
  const auto self = shared_from_this();
  const auto lost = [this] { return Error(Status::unreachable, where_ + ": the connection was lost"); };
  if (!open_) throw lost();
  const auto number = state_->next_number++;
  const auto pending = std::make_shared<Pending>(state_->stream.get_executor());
  state_->pending[number] = pending;
  lt::entry frame(lt::entry::dictionary_t);
  frame["t"] = name;
  frame["i"] = number;
  frame["b"] = std::move(body);
  pending->wake.expires_after(limit);
  send(frame);
  error_code ec;
  if (open_) co_await pending->wake.async_wait(asio::redirect_error(asio::use_awaitable, ec));
  state_->pending.erase(number);
  if (!pending->answered) {
    if (!open_) throw lost();
    throw Error(Status::unreachable,
                where_ + ": no answer to '" + name + "' within " + std::to_string(limit.count()) + " ms");
  }
  const auto node = parse_bencode(pending->frame);
  if (const auto error = node.dict_find_dict("e"))
    throw Error(known_status(error.dict_find_int_value("status", 1)),
                std::string(error.dict_find_string_value("text")));
  if (!node.dict_find_dict("b")) throw Error(Status::failed, where_ + ": sent a reply without a body");
  co_return std::move(pending->frame);
}

namespace {

/// One try: at one of the host's addresses, with one of the keys.
Task<ChannelPtr> try_channel(asio::ip::tcp::endpoint endpoint, std::string host_port, std::string path,
                             std::chrono::milliseconds limit, Access access, const MeshKey* key) {
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
    link.secure(access.keys, key);
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
  // Named by its address: that it answers to, whatever name led here.
  std::optional<Error> trouble;
  try {
    const auto host = to_text(endpoint);
    co_await channel->connect(host, path);
  } catch (const Error& error) {
    trouble = error;
  }
  if (trouble && trouble->status() == Status::refused && *trouble->what() == '\0')
    trouble = Error(Status::refused, "is of a mesh with a key (--key names the key), or no meshswarm at all");
  if (trouble) throw Error(trouble->status(), host_port + ": " + trouble->what());
  if (access.is_for_own_user()) {
    // It has answered, so the connection is somebody's.
    const auto owner = owner_of_other_end(channel->link().next_layer().native_handle());
    if (owner.is == SocketOwner::Is::closed) throw fail(owner.why);
    if (owner.is != SocketOwner::Is::ours)
      throw Error(Status::refused,
                  host_port + ": " + owner.why +
                      ", and without --key or --open only this user's programs, and root's, are believed");
  }
  co_return channel;
}

}  // namespace

Task<ChannelPtr> connect_channel(std::string host_port, std::string path, std::chrono::milliseconds limit,
                                 Access access) {
  const auto executor = co_await asio::this_coro::executor;
  const auto [host, port] = parse_host_port(host_port);
  error_code ec;
  asio::ip::tcp::resolver resolver(executor);
  const auto found =
      co_await resolver.async_resolve(host, std::to_string(port), asio::redirect_error(asio::use_awaitable, ec));
  if (ec) throw Error(Status::unreachable, host_port + ": " + ec.message());
  std::vector<const MeshKey*> offers = {nullptr};
  if (access.keys) {
    offers.clear();
    for (const auto& key : access.keys->all()) offers.push_back(&key);
  }
  std::optional<Error> trouble;
  for (const auto& candidate : found) {
    for (const auto* key : offers) {
      ChannelPtr channel;
      try {
        channel = co_await try_channel(candidate.endpoint(), host_port, path, limit, access, key);
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
  const auto executor = channel->executor();
  spawn(executor, run(std::move(channel)));
}

Task<ChannelPtr> connect_local(int directory, std::string name, std::string shown, std::function<bool(uid_t)> believes,
                               std::string path) {
  const auto executor = co_await asio::this_coro::executor;
  // A sockaddr_un holds 107 bytes; the directory's descriptor makes any path short.
  error_code ec;
  asio::local::stream_protocol::socket socket(executor);
  const std::string shortened = "/proc/self/fd/" + std::to_string(directory) + "/" + name;
  co_await socket.async_connect(asio::local::stream_protocol::endpoint(shortened),
                                asio::redirect_error(asio::use_awaitable, ec));
  if (ec) throw Error(Status::unreachable, shown + ": " + ec.message());
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || !believes(peer.uid))
    throw Error(Status::refused, shown + ": process " + std::to_string(peer.pid) + " of user " +
                                     std::to_string(peer.uid) +
                                     " serves this socket, which is neither root nor this user; what it says is not "
                                     "believed (run as that user, or name your own node's --files)");
  auto channel = std::make_shared<Channel>(Link(Link::Socket(std::move(socket))), "this node", asio::ip::address{});
  std::optional<Error> trouble;
  try {
    co_await channel->connect("localhost", std::move(path));
  } catch (const Error& error) {
    trouble = error;
  }
  if (trouble && trouble->status() == Status::refused)
    throw Error(Status::refused,
                shown + ": is not for this user: the node's own user, root, and the group of its --control-group may");
  if (trouble) throw Error(trouble->status(), shown + ": " + trouble->what());
  co_return channel;
}

Task<ChannelPair> make_channel_pair(std::string near, std::string far) {
  const auto executor = co_await asio::this_coro::executor;
  asio::local::stream_protocol::socket a(executor);
  asio::local::stream_protocol::socket b(executor);
  error_code ec;
  asio::local::connect_pair(a, b, ec);
  if (ec) throw Error(Status::failed, ec.message());
  ChannelPair out;
  out.near = std::make_shared<Channel>(Link(Link::Socket(std::move(a))), std::move(far), asio::ip::address{});
  out.far = std::make_shared<Channel>(Link(Link::Socket(std::move(b))), std::move(near), asio::ip::address{});
  // Each waits for the other.
  auto serve = [](ChannelPtr end) -> Task<void> { static_cast<void>(co_await end->accept()); };
  Together accepted(executor);
  accepted.add(serve(out.far));
  co_await out.near->connect("localhost", "/");
  co_await accepted.all();
  const auto binding = random_secret().hex();
  out.near->set_binding(binding);
  out.far->set_binding(binding);
  co_return out;
}

}  // namespace mesh
