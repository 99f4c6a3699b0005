#include "wire/http_listener.h"

#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <charconv>
#include <limits>

#include "core/digest.h"
#include "core/format.h"
#include "core/merkle.h"
#include "wire/endpoint.h"
#include "wire/flow.h"
#include "wire/http_token.h"
#include "wire/server.h"
#include "wire/socket_owner.h"

namespace mesh {

using asio::ip::tcp;
using boost::system::error_code;
namespace beast = boost::beast;
namespace http = beast::http;
using std::chrono::seconds;
using namespace http_answer;

namespace {

constexpr auto head_limit = seconds(10);
constexpr auto drain_limit = seconds(2);
constexpr std::size_t most_drained = std::size_t{16} << 20;
constexpr std::size_t drained_at_once = 64 * 1024;
constexpr auto rest_limit = seconds(60);  // between two requests
constexpr auto most_head = HttpConnection::most_head;
constexpr std::size_t most_body = 64 * 1024;

/// Some descriptors are left to all else.
ConnectionLimits bounded(ConnectionLimits limits) {
  if (rlimit descriptors{}; ::getrlimit(RLIMIT_NOFILE, &descriptors) == 0)
    limits.all = static_cast<int>(std::min<rlim_t>(static_cast<rlim_t>(limits.all), descriptors.rlim_cur / 4));
  return limits;
}

/// Whether somebody's browser asks, which a page from anywhere can have it do: all of them say so.
bool is_of_browser(const HttpRequest& request) {
  return http_header(request, http::field::user_agent).find("Mozilla") != std::string_view::npos ||
         request.count(http::field::accept_language) > 0 || request.count(http::field::referer) > 0 ||
         request.count("Sec-Fetch-Site") > 0;
}

}  // namespace

HttpListener::HttpListener(asio::io_context& io, Options options)
    : io_(io), acceptor_(io), options_(std::move(options)), counts_(bounded(options_.connections)) {}

HttpListenerPtr HttpListener::open(asio::io_context& io, const std::string& where, Options options) {
  const auto named = parse_host_port(where);
  error_code ec;
  const auto address = asio::ip::make_address(named.host == "localhost" ? "127.0.0.1" : named.host, ec);
  if (ec) throw Error(Status::usage, "--http " + printable(where) + ": is no IP address and port");
  const tcp::endpoint at(address, named.port);
  HttpListenerPtr out(new HttpListener(io, std::move(options)));
  bind_to(out->acceptor_, at, ec);
  if (!ec) out->acceptor_.listen(asio::socket_base::max_listen_connections, ec);
  if (ec) throw Error(Status::failed, "--http: cannot listen on " + to_text(at) + ": " + ec.message());
  spawn(io, accept_all(out));
  return out;
}

void HttpListener::add_page(std::string path, std::string type, Make make) {
  pages_[std::move(path)] = [type = std::move(type), make = std::move(make)](
                                HttpConnectionPtr, const HttpRequest&,
                                const HttpTarget&) -> Task<std::optional<http_answer::Text>> {
    Text out;
    out.head.fields = {{"Content-Type", type}, {"Cache-Control", "no-store"}};
    add_guards(out.head, true);
    out.body = co_await make();
    co_return out;
  };
}

void HttpListener::add_answer(std::string path, Answer answer) { pages_[std::move(path)] = std::move(answer); }

void HttpListener::add_asset(std::string path, std::string type, std::string_view bytes) {
  assets_[std::move(path)] = {std::move(type), bytes, "\"" + sha256(bytes).hex().substr(0, 32) + "\""};
}

void HttpListener::add_order(std::string path, Take take) { orders_[std::move(path)] = std::move(take); }

void HttpListener::close() {
  is_closed_ = true;
  error_code ignored;
  acceptor_.close(ignored);
  for (const auto& connection : open_) connection->stream.socket().shutdown(tcp::socket::shutdown_both, ignored);
}

bool HttpListener::is_gone(HttpConnection& connection) {
  char byte = 0;
  const auto n = ::recv(connection.stream.socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return n < 0 && errno != EAGAIN && errno != EINTR;
}

Task<void> HttpListener::accept_all(HttpListenerPtr self) {
  while (!self->is_closed_) {
    error_code ec;
    tcp::socket socket = co_await self->acceptor_.async_accept(asio::redirect_error(asio::use_awaitable, ec));
    if (self->is_closed_ || ec == asio::error::operation_aborted) co_return;
    if (ec) {
      co_await sleep_for(std::chrono::milliseconds(100));  // out of descriptors, most likely
      continue;
    }
    const auto address = unmapped(socket.remote_endpoint(ec).address());
    if (ec || !self->counts_.admits(address)) continue;
    socket.set_option(tcp::no_delay(true), ec);
    const auto connection = std::make_shared<HttpConnection>(std::move(socket));
    self->open_.insert(connection);
    spawn(self->io_, serve(self, connection, self->counts_.count(address)));
  }
}

Task<void> HttpListener::serve(HttpListenerPtr self, HttpConnectionPtr connection, std::shared_ptr<void> /*counted*/) {
  auto& stream = connection->stream;
  try {
    for (bool first = true; connection->goes_on && !self->is_closed_; first = false) {
      error_code ec;
      http::request_parser<http::empty_body> parser;
      parser.header_limit(most_head);
      parser.body_limit(std::numeric_limits<std::uint64_t>::max());  // none is read with the head
      stream.expires_after(first ? head_limit : rest_limit);
      co_await http::async_read_header(stream, connection->read, parser, asio::redirect_error(asio::use_awaitable, ec));
      stream.expires_never();
      connection->has_begun = false;
      const bool is_wrong = ec.category() == error_code(http::error::bad_method).category();
      if (ec == http::error::end_of_stream || (ec && !is_wrong)) break;
      connection->is_head = false;
      if (ec) {
        connection->goes_on = false;
        connection->has_rest = true;
        auto text = error_text(ec == http::error::header_limit ? 431 : 400, "is no HTTP request");
        co_await send_text(connection, std::move(text));
        break;
      }
      connection->is_head = parser.get().method() == http::verb::head;
      connection->goes_on = parser.keep_alive() && parser.get().version() >= 11;
      const auto request = std::make_shared<HttpRequest>(parser.release());
      std::optional<Text> text;
      std::optional<Error> trouble;
      try {
        text = co_await self->answer(connection, *request);
      } catch (const Error& error) {
        trouble = error;
      } catch (const std::exception& error) {
        trouble = Error(Status::failed, error.what());
      }
      // What has begun can only be cut off, so that the client sees that it is not whole.
      if (trouble && (connection->has_begun || is_gone(*connection))) break;
      if (trouble) text = error_text(status_of(*trouble), trouble->what());
      if (text) co_await send_text(connection, std::move(*text));
      if (connection->answered) connection->answered(!trouble);
    }
  } catch (const std::exception&) {
    // The client is gone.
  }
  connection->answered = {};
  connection->kept.reset();
  error_code ignored;
  if (connection->is_cut) stream.socket().set_option(asio::socket_base::linger(true, 0), ignored);
  if (!connection->is_cut) stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
  // What it still sends would turn the end of an answer into a reset.
  if (connection->has_rest && !self->is_closed_) {
    std::string rest(drained_at_once, '\0');
    stream.expires_after(drain_limit);
    for (std::size_t drained = 0; drained < most_drained && !ignored;)
      drained +=
          co_await stream.async_read_some(asio::buffer(rest), asio::redirect_error(asio::use_awaitable, ignored));
  }
  stream.socket().close(ignored);
  self->open_.erase(connection);
}

bool HttpListener::has_token(const HttpRequest& request) const {
  return !options_.token.empty() && carries_token(http_header(request, http::field::authorization), options_.token);
}

/// Why a request is not answered; empty where it may be.
std::string HttpListener::refusal(int socket, const HttpRequest& request, const HttpTarget& target, int& status) const {
  status = 403;
  HttpHead head;
  head.is_http_1_0 = request.version() < 11;
  head.host = target.authority.empty() ? http_header(request, http::field::host) : std::string_view(target.authority);
  if (auto out = http_refusal(head, options_.names); !out.empty()) return out;
  const bool is_asset = assets_.contains(target.path);
  // Somebody followed a link, to what is the same everywhere.
  if (is_asset && request["Sec-Fetch-Mode"] == "navigate" && request["Sec-Fetch-Dest"] == "document") return {};
  // Pages that were written elsewhere cannot read the answer, but what they ask for would come here and fill the disk.
  if (const auto site = request["Sec-Fetch-Site"]; !site.empty() && site != "none" && site != "same-origin")
    return "pages of other origins may not ask";
  if (const auto origin = http_header(request, http::field::origin); !origin.empty()) {
    const auto scheme = origin.find("://");
    if (scheme == std::string_view::npos || origin.substr(scheme + 3) != head.host)
      return "pages of other origins may not ask";
  }
  if (is_asset || has_token(request)) return {};
  // A browser does what pages from anywhere say, and where this is no loopback address to it, or it is an old one, it
  // does not say which page it was. What changes something is for who has the token, whoever's process asks.
  const bool may_be_a_page = is_of_browser(request) && request["Sec-Fetch-Site"].empty();
  if (!orders_.contains(target.path) && !may_be_a_page && owner_of_other_end(socket).is == SocketOwner::Is::ours)
    return {};
  status = 401;
  return "needs the token of the --http-token file, as Authorization: Bearer";
}

Text HttpListener::answer_asset(const Asset& asset, const HttpRequest& request) const {
  Text out;
  out.head.fields = {{"Content-Type", asset.type}, {"Cache-Control", "no-cache"}, {"ETag", asset.etag}};
  add_page_guards(out.head);
  if (http_header(request, http::field::if_none_match) == asset.etag)
    out.head.status = 304;
  else
    out.body = asset.bytes;
  return out;
}

Task<std::string> HttpListener::read_body(HttpConnectionPtr from, std::size_t size) {
  std::string out(size, '\0');
  const auto before = std::min(size, from->read.size());
  asio::buffer_copy(asio::buffer(out), from->read.data(), before);
  from->read.consume(before);
  from->stream.expires_after(head_limit);
  for (auto at = before; at < size;) {
    error_code ec;
    const auto rest = asio::buffer(out.data() + at, size - at);
    at += co_await from->stream.async_read_some(rest, asio::redirect_error(asio::use_awaitable, ec));
    if (ec) throw Error(Status::interrupted, "the client is gone");
  }
  from->stream.expires_never();
  co_return out;
}

Task<Text> HttpListener::take_order(HttpConnectionPtr from, const HttpRequest& request, const Take& take) {
  const auto refuse = [&](int status, const std::string& why) {
    from->goes_on = false;
    return error_text(status, why);
  };
  if (request.method() != http::verb::post) {
    auto out = refuse(405, "is asked for by POST alone");
    for (auto& [name, value] : out.head.fields)
      if (name == "Allow") value = "POST";
    co_return out;
  }
  // Which no form can send, and no page of elsewhere without having asked.
  if (!http_header(request, http::field::content_type).starts_with("application/json"))
    co_return refuse(415, "the body is application/json");
  const auto said = http_header(request, http::field::content_length);
  std::size_t size = 0;
  const auto [end, fault] = std::from_chars(said.data(), said.data() + said.size(), size);
  if (request.count(http::field::transfer_encoding) > 0 || said.empty() || fault != std::errc{} ||
      end != said.data() + said.size())
    co_return refuse(411, "the body needs a Content-Length");
  if (size > most_body) co_return refuse(413, "the body is larger than 64 KiB");
  std::string body = co_await read_body(from, size);
  from->has_rest = false;
  Text out;
  out.head.fields = {{"Content-Type", "application/json"}, {"Cache-Control", "no-store"}};
  add_guards(out.head, true);
  out.body = co_await take(std::move(body));
  co_return out;
}

Task<std::optional<Text>> HttpListener::answer(HttpConnectionPtr to, const HttpRequest& request) {
  const auto body = request.find(http::field::content_length);
  to->has_rest = (body != request.end() && body->value() != "0") || request.count(http::field::transfer_encoding) > 0;
  const auto refuse = [&](int status, const std::string& why) {
    to->goes_on = false;
    return error_text(status, why);
  };
  const auto target = read_target({request.target().data(), request.target().size()});
  if (!target) co_return refuse(400, "the path of the request makes no sense");
  if (request.count(http::field::host) > 1) co_return refuse(400, "the request names two hosts");
  int status = 0;
  const auto refused = refusal(to->stream.socket().native_handle(), request, *target, status);
  if (!refused.empty()) co_return refuse(status, refused);
  if (const auto order = orders_.find(target->path); order != orders_.end()) {
    Text done = co_await take_order(to, request, order->second);
    co_return done;
  }
  if (to->has_rest) co_return refuse(400, "no body is taken");
  if (request.method() != http::verb::get && request.method() != http::verb::head)
    co_return error_text(405, "only GET and HEAD are served");
  if (const auto asset = assets_.find(target->path); asset != assets_.end())
    co_return answer_asset(asset->second, request);
  if (const auto page = pages_.find(target->path); page != pages_.end())
    co_return co_await page->second(to, request, *target);
  if (answer_) co_return co_await answer_(to, request, *target);
  std::string known;
  for (const auto& [path, page] : pages_) known += (known.empty() ? "" : ", ") + path;
  co_return error_text(404, "there are " + known);
}

/// As one: a client that has the head alone in its hands is the rarer case, and not every one is prepared for it
/// (qemu's driver for http hangs now and then).
Task<void> HttpListener::send_bytes(HttpConnectionPtr to, std::string_view head, std::string_view bytes) {
  while (!head.empty() || !bytes.empty()) {
    error_code ec;
    to->stream.expires_after(take_limit);
    const std::array<asio::const_buffer, 2> both = {asio::buffer(head.data(), head.size()),
                                                    asio::buffer(bytes.data(), bytes.size())};
    const auto n = co_await to->stream.async_write_some(both, asio::redirect_error(asio::use_awaitable, ec));
    to->stream.expires_never();
    if (ec) throw Error(Status::interrupted, "the client is gone");
    const auto of_head = std::min(n, head.size());
    head.remove_prefix(of_head);
    bytes.remove_prefix(n - of_head);
  }
}

Task<void> HttpListener::send_text(HttpConnectionPtr to, Text text) {
  text.head.length = std::ssize(text.body);
  auto bytes = rendered(text.head, to->goes_on);
  if (!to->is_head) bytes += text.body;
  to->has_begun = true;
  co_await send_bytes(to, bytes);
}

}  // namespace mesh
