#include "wire/server.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/websocket/rfc6455.hpp>
#include <cerrno>
#include <filesystem>
#include <map>
#include <optional>
#include <vector>

#include "wire/channel.h"
#include "wire/connection_count.h"
#include "wire/deadline.h"
#include "wire/endpoint.h"
#include "wire/flow.h"
#include "wire/link.h"
#include "wire/socket_owner.h"
#include "wire/upgrade.h"

namespace mesh {

using asio::ip::tcp;
using boost::system::error_code;
namespace beast = boost::beast;
namespace http = beast::http;

namespace {

constexpr auto head_limit = std::chrono::seconds(10);
constexpr int accepted_in_a_row = 64;

/// A reply as bytes.
std::string rendered(const HttpReply& reply, bool goes_on) {
  const auto reason = http::obsolete_reason(static_cast<http::status>(reply.status));
  std::string out = "HTTP/1.1 " + std::to_string(reply.status) + " ";
  out.append(reason.data(), reason.size());
  out += "\r\nContent-Type: " + reply.content_type + "\r\nContent-Length: " + std::to_string(reply.body.size());
  if (!goes_on) out += "\r\nConnection: close";
  return out + "\r\n\r\n" + reply.body;
}

/// Why a request is not answered, for whoever asks; empty where it may be. The request is there, and nothing was done
/// yet.
template <class Shared, class Request>
std::string refusal(const Shared& shared, int socket, const Request& request) {
  HttpHead head;
  head.is_upgrade = beast::websocket::is_upgrade(request);
  head.has_origin = request.count(http::field::origin) > 0;
  head.is_http_1_0 = request.version() < 11;
  const auto host = request[http::field::host];
  head.host = {host.data(), host.size()};
  if (auto out = http_refusal(head, shared.access.http_names); !out.empty()) return out;
  if (!shared.access.is_for_own_user()) return {};
  auto owner = owner_of_other_end(socket);
  if (owner.is == SocketOwner::Is::ours) return {};
  return "without a mesh key (--key), or --open, this is for the user alone who started it: " + owner.why;
}

/// Says so to a command of another user's.
Task<void> refuse(Link& link) {
  const Deadline deadline(link.next_layer(), head_limit);
  error_code ec;
  beast::flat_buffer buffer(16 * 1024);
  http::request_parser<http::empty_body> parser;
  parser.header_limit(8 * 1024);
  co_await http::async_read(link, buffer, parser, asio::redirect_error(asio::use_awaitable, ec));
  if (ec) co_return;
  http::response<http::empty_body> response(http::status::forbidden, 11);
  response.prepare_payload();
  co_await http::async_write(link, response, asio::redirect_error(asio::use_awaitable, ec));
}

}  // namespace

void raise_descriptor_limit() {
  rlimit descriptors{};
  if (::getrlimit(RLIMIT_NOFILE, &descriptors) != 0) return;
  descriptors.rlim_cur = std::min<rlim_t>(descriptors.rlim_max, 65'536);
  ::setrlimit(RLIMIT_NOFILE, &descriptors);
}

void bind_to(tcp::acceptor& acceptor, const tcp::endpoint& at, error_code& ec) {
  acceptor.open(at.protocol(), ec);
  if (!ec) acceptor.set_option(tcp::acceptor::reuse_address(true), ec);
  if (!ec && at.address().is_v6() && at.address().is_unspecified()) acceptor.set_option(asio::ip::v6_only(false), ec);
  if (!ec) acceptor.bind(at, ec);
}

struct Server::Shared {
  Shared(asio::io_context& io, OnHttp http_handler, OnHttpNow now_handler, OnChannel channel_handler,
         ConnectionLimits given, Access for_whom)
      : acceptor(io),
        on_http(std::move(http_handler)),
        on_http_now(std::move(now_handler)),
        on_channel(std::move(channel_handler)),
        counts(given),
        access(std::move(for_whom)) {}
  tcp::acceptor acceptor;
  OnHttp on_http;
  OnHttpNow on_http_now;
  OnChannel on_channel;
  ConnectionCount counts;
  Access access;

  static Task<void> accept_all(std::shared_ptr<Shared> shared);
  /// What of the answer the socket did not take, mostly nothing; nullopt where it was not answered.
  static std::optional<std::string> answer_now(const Shared& shared, int socket, const tcp::endpoint& remote);
  static Task<void> send_rest(tcp::socket socket, std::string rest, std::shared_ptr<void> counted);
  static Task<void> serve(std::shared_ptr<Shared> shared, tcp::socket socket, tcp::endpoint remote,
                          std::shared_ptr<void> counted);
  static Task<void> serve_http(std::shared_ptr<Shared> shared, tcp::socket socket, tcp::endpoint remote);
  static Task<void> serve_member(std::shared_ptr<Shared> shared, tcp::socket socket, tcp::endpoint remote);
};

Server::Server(asio::io_context& io, const tcp::endpoint& at, OnHttp on_http, OnChannel on_channel,
               ConnectionLimits limits, Access access, OnHttpNow on_http_now)
    : shared_(std::make_shared<Shared>(io, std::move(on_http), std::move(on_http_now), std::move(on_channel), limits,
                                       std::move(access))) {
  error_code ec;
  auto& acceptor = shared_->acceptor;
  bind_to(acceptor, at, ec);
  // Whoever connects speaks first: the kernel keeps those who do not say anything, for a while.
  const int silent_seconds = 5;
  if (!ec)
    ::setsockopt(acceptor.native_handle(), IPPROTO_TCP, TCP_DEFER_ACCEPT, &silent_seconds, sizeof silent_seconds);
  if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
  if (!ec) acceptor.native_non_blocking(true, ec);
  if (ec) throw Error(Status::failed, "cannot listen on " + to_text(at) + ": " + ec.message());
  spawn(io, Shared::accept_all(shared_));
}

Server::~Server() { close(); }
tcp::endpoint Server::local() const { return shared_->acceptor.local_endpoint(); }
void Server::close() {
  error_code ignored;
  shared_->acceptor.close(ignored);
}

Task<void> Server::Shared::accept_all(std::shared_ptr<Shared> shared) {
  auto& acceptor = shared->acceptor;
  while (acceptor.is_open()) {
    error_code ec;
    co_await acceptor.async_wait(tcp::acceptor::wait_read, asio::redirect_error(asio::use_awaitable, ec));
    if (ec == asio::error::operation_aborted) co_return;
    for (int i = 0; i < accepted_in_a_row && acceptor.is_open(); ++i) {
      tcp::endpoint remote;
      auto size = static_cast<socklen_t>(remote.capacity());
      const int fd = ::accept4(acceptor.native_handle(), remote.data(), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0 && (errno == ECONNABORTED || errno == EINTR)) continue;
      if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
      if (fd < 0) {
        co_await sleep_for(std::chrono::milliseconds(100));  // out of descriptors, most likely
        break;
      }
      remote.resize(size);
      remote.address(unmapped(remote.address()));
      std::optional<std::string> rest;
      if (!shared->counts.admits(remote.address()) || ((rest = answer_now(*shared, fd, remote)) && rest->empty())) {
        ::close(fd);
        continue;
      }
      tcp::socket socket(acceptor.get_executor());
      socket.assign(acceptor.local_endpoint(ec).protocol(), fd, ec);
      if (ec) {
        ::close(fd);
        continue;
      }
      auto counted = shared->counts.count(remote.address());
      spawn(acceptor.get_executor(), rest ? send_rest(std::move(socket), std::move(*rest), std::move(counted))
                                          : serve(shared, std::move(socket), remote, std::move(counted)));
    }
  }
}

std::optional<std::string> Server::Shared::answer_now(const Shared& shared, int socket, const tcp::endpoint& remote) {
  if (!shared.on_http_now) return std::nullopt;
  std::array<char, 4096> head;  // NOLINT(cppcoreguidelines-pro-type-member-init): read into
  const auto size = ::recv(socket, head.data(), head.size(), MSG_PEEK | MSG_DONTWAIT);
  if (size <= 0) return std::nullopt;
  error_code ec;
  http::request_parser<http::empty_body> parser;
  const auto used = parser.put(asio::buffer(head.data(), static_cast<std::size_t>(size)), ec);
  if (ec || !parser.is_done() || used != static_cast<std::size_t>(size)) return std::nullopt;
  const auto& request = parser.get();
  if (request.method() != http::verb::get || request.keep_alive() || beast::websocket::is_upgrade(request))
    return std::nullopt;
  if (!refusal(shared, socket, request).empty()) return std::nullopt;  // said at leisure
  std::optional<HttpReply> reply;
  try {
    reply = shared.on_http_now({request.target().data(), request.target().size()}, remote.address());
  } catch (const std::exception&) {
    return std::nullopt;  // ends this connection, not the listening
  }
  if (!reply) return std::nullopt;
  const auto text = rendered(*reply, false);
  ::recv(socket, head.data(), used, MSG_DONTWAIT);  // else to close it would reset it
  const auto sent = ::send(socket, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN) return std::string();  // gone
  return text.substr(static_cast<std::size_t>(std::max<ssize_t>(sent, 0)));
}

Task<void> Server::Shared::send_rest(tcp::socket socket, std::string rest, std::shared_ptr<void> /*counted*/) {
  const Deadline deadline(socket, head_limit);
  error_code ignored;
  co_await asio::async_write(socket, asio::buffer(rest), asio::redirect_error(asio::use_awaitable, ignored));
}

Task<void> Server::Shared::serve(std::shared_ptr<Shared> shared, tcp::socket socket, tcp::endpoint remote,
                                 std::shared_ptr<void> /*counted*/) {
  if (!shared->access.keys) {
    co_await serve_http(shared, std::move(socket), remote);
    co_return;
  }
  // The first byte tells TLS from HTTP.
  error_code ec;
  char first = 0;
  {
    const Deadline deadline(socket, head_limit);
    co_await socket.async_wait(tcp::socket::wait_read, asio::redirect_error(asio::use_awaitable, ec));
  }
  if (ec || ::recv(socket.native_handle(), &first, 1, MSG_PEEK | MSG_DONTWAIT) != 1) co_return;
  constexpr char tls_handshake = 0x16;
  if (first == tls_handshake)
    co_await serve_member(shared, std::move(socket), remote);
  else
    co_await serve_http(shared, std::move(socket), remote);
}

Task<void> Server::Shared::serve_member(std::shared_ptr<Shared> shared, tcp::socket socket, tcp::endpoint remote) {
  error_code ec;
  socket.set_option(tcp::no_delay(true), ec);
  Link link{Link::Socket(std::move(socket))};
  link.secure(shared->access.keys, nullptr);
  beast::flat_buffer buffer(16 * 1024);
  http::request_parser<http::empty_body> parser;
  parser.header_limit(8 * 1024);
  {
    const Deadline deadline(link.next_layer(), head_limit);
    bool member = true;
    try {
      co_await link.handshake();
    } catch (const Error&) {
      member = false;
    }
    if (!member) co_return;
    co_await http::async_read(link, buffer, parser, asio::redirect_error(asio::use_awaitable, ec));
  }
  if (ec || !beast::websocket::is_upgrade(parser.get()) || parser.get().count(http::field::origin) > 0) co_return;
  const std::string path(parser.get().target());
  auto channel = std::make_shared<Channel>(std::move(link), to_text(remote), remote.address());
  UpgradeRequest upgrade{parser.release()};
  if (co_await channel->accept(std::move(upgrade))) co_await shared->on_channel(path, channel);
  channel->close();
}

Task<void> Server::Shared::serve_http(std::shared_ptr<Shared> shared, tcp::socket socket, tcp::endpoint remote) {
  error_code ec;
  const auto local = unmapped(socket.local_endpoint(ec).address());
  beast::tcp_stream stream(std::move(socket));
  beast::flat_buffer buffer(16 * 1024);
  for (;;) {
    http::request_parser<http::empty_body> parser;
    parser.header_limit(8 * 1024);
    stream.expires_after(head_limit);
    co_await http::async_read(stream, buffer, parser, asio::redirect_error(asio::use_awaitable, ec));
    if (ec) break;
    stream.expires_never();
    const auto& request = parser.get();
    const auto refused = refusal(*shared, stream.socket().native_handle(), request);
    if (refused.empty() && beast::websocket::is_upgrade(request) && !shared->access.keys) {
      const std::string path(request.target());
      stream.socket().set_option(tcp::no_delay(true), ec);
      auto channel =
          std::make_shared<Channel>(Link(Link::Socket(stream.release_socket())), to_text(remote), remote.address());
      UpgradeRequest upgrade{parser.release()};
      if (co_await channel->accept(std::move(upgrade))) co_await shared->on_channel(path, channel);
      channel->close();
      co_return;
    }
    HttpReply reply{404, "not found\n"};
    if (!refused.empty())
      reply = {403, refused + "\n"};
    else if (beast::websocket::is_upgrade(request))
      reply = {403, "is of a mesh with a key (--key names the key)\n"};
    else if (request.method() != http::verb::get)
      reply = {405, "only GET is served\n"};
    else if (shared->on_http)
      reply = co_await shared->on_http(std::string(request.target()), remote.address(), local);
    const bool goes_on = request.keep_alive() && request.version() == 11 && reply.status == 200;
    const auto text = rendered(reply, goes_on);
    stream.expires_after(head_limit);
    co_await asio::async_write(stream, asio::buffer(text), asio::redirect_error(asio::use_awaitable, ec));
    if (ec || !goes_on) break;
  }
  // Closing sends what is left; to shut down before costs a tenth of an announce. What was not read (a second request)
  // would turn the close into a reset.
  if (buffer.size() > 0) stream.socket().shutdown(tcp::socket::shutdown_send, ec);
}

struct LocalServer::Shared {
  Shared(asio::io_context& io, Server::OnChannel channel_handler)
      : acceptor(io), on_channel(std::move(channel_handler)) {}
  asio::local::stream_protocol::acceptor acceptor;
  Server::OnChannel on_channel;
  LocalPlace place;
  std::optional<gid_t> group;
  struct stat bound {};

  [[nodiscard]] bool is_in(int directory) const {
    struct stat s {};
    return ::fstatat(directory, place.name.c_str(), &s, AT_SYMLINK_NOFOLLOW) == 0 && is_same_file(s, bound);
  }

  [[nodiscard]] static bool is_own(int fd) {
    ucred peer{};
    socklen_t size = sizeof peer;
    return ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && (peer.uid == ::geteuid() || peer.uid == 0);
  }

  /// Whoever connects is this process's user, root, or of the group, whatever the socket's mode has become.
  [[nodiscard]] bool admits(int fd) const {
    if (is_own(fd)) return true;
    ucred peer{};
    socklen_t size = sizeof peer;
    if (!group || ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
    if (peer.gid == *group) return true;
    std::vector<gid_t> groups(256);
    for (;;) {
      size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
      if (::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) == 0) break;
      if (errno != ERANGE) return false;
      groups.resize(size / sizeof(gid_t));
    }
    groups.resize(size / sizeof(gid_t));
    return std::ranges::find(groups, *group) != groups.end();
  }
};

LocalServer::LocalServer(asio::io_context& io, LocalPlace place, std::optional<gid_t> group,
                         Server::OnChannel on_channel)
    : shared_(std::make_shared<Shared>(io, std::move(on_channel))) {
  shared_->place = std::move(place);
  shared_->group = group;
  const auto& at = shared_->place;
  const int dir = at.directory.get();
  const auto fail = [&](const std::string& why) { return Error(Status::failed, at.shown + ": cannot listen: " + why); };
  // A sockaddr_un holds 107 bytes; the directory's descriptor makes any path short.
  const std::string shortened = "/proc/self/fd/" + std::to_string(dir) + "/" + at.name;
  struct stat old {};
  if (::fstatat(dir, at.name.c_str(), &old, AT_SYMLINK_NOFOLLOW) == 0) {
    if (!S_ISSOCK(old.st_mode))
      throw fail("something else is there; move it away, or name another place with --control");
    if (old.st_uid != ::geteuid() && old.st_uid != 0) throw fail("the socket there belongs to another user");
    asio::local::stream_protocol::socket probe(io);
    error_code silent;
    probe.connect(asio::local::stream_protocol::endpoint(shortened), silent);
    if (!silent) throw fail("another node serves this socket");
    ::unlinkat(dir, at.name.c_str(), 0);
  }
  error_code ec;
  auto& acceptor = shared_->acceptor;
  acceptor.open({}, ec);
  // The name that bind makes has the mode of the socket (unix(7)), so that it is never open to others.
  if (!ec && ::fchmod(acceptor.native_handle(), 0600) != 0) ec.assign(errno, boost::system::system_category());
  if (!ec) acceptor.bind(asio::local::stream_protocol::endpoint(shortened), ec);
  if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
  if (!ec && (::fstatat(dir, at.name.c_str(), &shared_->bound, AT_SYMLINK_NOFOLLOW) != 0 ||
              (group && (::fchownat(dir, at.name.c_str(), static_cast<uid_t>(-1), *group, AT_SYMLINK_NOFOLLOW) != 0 ||
                         ::fchmodat(dir, at.name.c_str(), 0660, AT_SYMLINK_NOFOLLOW) != 0))))
    ec.assign(errno, boost::system::system_category());
  if (ec) throw fail(ec.message());
  spawn(io, accept_all(shared_));
}

Task<void> LocalServer::begin(std::shared_ptr<Shared> shared, ChannelPtr channel) {
  error_code ec;
  beast::flat_buffer buffer(16 * 1024);
  http::request_parser<http::empty_body> parser;
  parser.header_limit(8 * 1024);
  auto& link = channel->link();
  {
    const Deadline deadline(link.next_layer(), head_limit);
    co_await http::async_read(link, buffer, parser, asio::redirect_error(asio::use_awaitable, ec));
  }
  if (ec || !beast::websocket::is_upgrade(parser.get())) co_return;
  const std::string path(parser.get().target());
  UpgradeRequest upgrade{parser.release()};
  if (co_await channel->accept(std::move(upgrade))) co_await shared->on_channel(path, channel);
}

LocalServer::~LocalServer() { close(); }
bool LocalServer::is_in(int directory) const { return shared_->is_in(directory); }
void LocalServer::close() {
  error_code ignored;
  if (!shared_->acceptor.is_open()) return;
  shared_->acceptor.close(ignored);
  const int dir = shared_->place.directory.get();
  if (shared_->is_in(dir)) ::unlinkat(dir, shared_->place.name.c_str(), 0);
}

Task<void> LocalServer::accept_all(std::shared_ptr<Shared> shared) {
  while (shared->acceptor.is_open()) {
    error_code ec;
    asio::local::stream_protocol::socket socket =
        co_await shared->acceptor.async_accept(asio::redirect_error(asio::use_awaitable, ec));
    if (ec == asio::error::operation_aborted) co_return;
    if (ec) {
      co_await sleep_for(std::chrono::milliseconds(100));
      continue;
    }
    const bool admitted = shared->admits(socket.native_handle());
    const bool is_own = shared->is_own(socket.native_handle());
    auto channel = std::make_shared<Channel>(Link(Link::Socket(std::move(socket))), "a command", asio::ip::address{});
    channel->set_of_own_user(is_own);
    auto serve = [](std::shared_ptr<Shared> owner, ChannelPtr served, bool welcome) -> Task<void> {
      if (!welcome)
        co_await refuse(served->link());
      else
        co_await begin(owner, served);
      served->close();
    };
    spawn(shared->acceptor.get_executor(), serve(shared, channel, admitted));
  }
}

}  // namespace mesh
