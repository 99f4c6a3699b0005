#include "serve/http_gateway.h"

#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <ctime>
#include <optional>
#include <set>

#include "core/format.h"
#include "core/http_request.h"
#include "core/piece_plan.h"
#include "serve/http_answer.h"
#include "serve/http_token.h"
#include "serve/listed_file.h"
#include "serve/to_json.h"
#include "wire/access.h"
#include "wire/connection_count.h"
#include "wire/deadline.h"
#include "wire/endpoint.h"
#include "wire/server.h"
#include "wire/socket_owner.h"
#include "wire/while_checking.h"

namespace mesh {

using asio::ip::tcp;
using boost::system::error_code;
namespace beast = boost::beast;
namespace http = beast::http;
using Request = http::request<http::empty_body>;
using std::chrono::seconds;
using namespace http_answer;

namespace {

constexpr auto head_limit = seconds(10);
constexpr auto drain_limit = seconds(2);
constexpr std::size_t most_drained = std::size_t{16} << 20;
constexpr int most_sending = 2;            // at once: a disk may be slow, and others use the pool
constexpr auto rest_limit = seconds(60);   // between two requests
constexpr auto take_limit = seconds(120);  // by a client that takes nothing
constexpr std::size_t most_head = 16 * 1024;
constexpr std::size_t first_bytes = 64 * 1024;
constexpr std::size_t most_bytes = 256 * 1024;
constexpr std::int64_t most_sent_at_once = std::int64_t{2} << 20;
constexpr std::string_view files = "/files";
/// A path is resolved for so long: a client asks for many ranges, one after another.
constexpr auto resolved_for = std::chrono::milliseconds(500);
constexpr std::size_t most_resolved = 1000;

std::string_view header(const Request& request, http::field field) {
  const auto value = request[field];
  return {value.data(), value.size()};
}

/// Whether somebody's browser asks, which a page from anywhere can have it do: all of them say so.
bool is_of_browser(const Request& request) {
  return header(request, http::field::user_agent).find("Mozilla") != std::string_view::npos ||
         request.count(http::field::accept_language) > 0 || request.count(http::field::referer) > 0 ||
         request.count("Sec-Fetch-Site") > 0;
}

bool accepts_json(const Request& request) {
  const auto accept = header(request, http::field::accept);
  const auto json = accept.find("application/json");
  return json != std::string_view::npos && json < accept.find("text/html");
}

/// Of a file that is here.
struct LocalFile {
  Fd fd;
  FileStamp stamp;
};

}  // namespace

struct HttpGateway::Shared : std::enable_shared_from_this<HttpGateway::Shared> {
  Shared(Options given, Facts told, ReadFrom read_from, Getter& gets)
      : acceptor(read_from.workers.loop()),
        options(std::move(given)),
        counts(bounded(options.connections)),
        facts(std::move(told)),
        from(read_from),
        getter(gets),
        sent(read_from.workers.loop()) {}
  /// Some descriptors are left to all else.
  static ConnectionLimits bounded(ConnectionLimits limits) {
    if (rlimit descriptors{}; ::getrlimit(RLIMIT_NOFILE, &descriptors) == 0)
      limits.all = static_cast<int>(std::min<rlim_t>(static_cast<rlim_t>(limits.all), descriptors.rlim_cur / 4));
    return limits;
  }

  struct Connection {
    explicit Connection(tcp::socket socket) : stream(std::move(socket)) {}
    beast::tcp_stream stream;
    bool is_head = false;   ///< of the request that is being answered: only the head is wanted
    bool goes_on = true;    ///< the connection, after it
    bool has_rest = false;  ///< of a request that was not read: it is read before the connection is closed
    bool is_cut = false;    ///< what is still to be sent is dropped
    bool has_begun = false;
    /// Of the last request that read what is not here, and where that ended: a client that goes on is read ahead for.
    std::shared_ptr<VersionReader> reader{};
    std::int64_t read_to = 0;
  };
  using ConnectionPtr = std::shared_ptr<Connection>;
  struct Found {
    FileEntry entry;
    std::vector<NodeRef> holders;
    std::optional<LocalEntry> own;  ///< it is here, under this path
    std::vector<std::uint32_t> keys;
    NodesByKey nodes;
  };

  static Task<void> accept_all(std::shared_ptr<Shared> self);
  static Task<void> serve(std::shared_ptr<Shared> self, ConnectionPtr connection, std::shared_ptr<void> counted);
  /// What is to be sent; nothing where it has been.
  Task<std::optional<Text>> answer(ConnectionPtr to, const Request& request);
  Task<std::optional<Text>> answer_file(ConnectionPtr to, const Request& request, std::string path, Prefetch prefetch);
  Task<std::optional<Text>> answer_directory(ConnectionPtr to, const Request& request, std::string path,
                                             std::string after);
  Task<void> send_text(ConnectionPtr to, Text text);
  Task<void> send_bytes(ConnectionPtr to, std::string_view head, std::string_view bytes = {});
  Task<void> send_file(ConnectionPtr to, Head head, std::shared_ptr<LocalFile> file, std::int64_t first);
  Task<void> send_read(ConnectionPtr to, Head head, std::shared_ptr<Reader> reader, std::int64_t first);
  [[nodiscard]] std::string refusal(int socket, const Request& request, const HttpTarget& target, int& status) const;
  Task<Found> find(ConnectionPtr to, std::string path);
  /// Whether the client has gone. What it sends meanwhile is for later; that it sends nothing more is no end.
  [[nodiscard]] static bool is_gone(Connection& connection) {
    char byte = 0;
    const auto n = ::recv(connection.stream.socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n < 0 && errno != EAGAIN && errno != EINTR;
  }
  /// What `work` returns, within the time that an answer may take to begin, and while somebody waits for it. Throws
  /// Error.
  template <class T>
  Task<T> in_time(ConnectionPtr to, Task<T> work) {
    const auto until = std::chrono::steady_clock::now() + options.stall;
    const std::function<void()> check = [to, until] {
      if (is_gone(*to)) throw Error(Status::interrupted, "the client is gone");
      if (std::chrono::steady_clock::now() > until) throw Error(Status::unreachable, "it takes too long at the moment");
    };
    co_return co_await while_checking(from.workers.loop(), std::move(work), check);
  }
  tcp::acceptor acceptor;
  Options options;
  ConnectionCount counts;
  Facts facts;
  ReadFrom from;
  Getter& getter;
  std::set<ConnectionPtr> open;
  int sending = 0;  ///< of what is here, on the pool
  Event sent;
  bool closed = false;
  std::map<std::string, std::pair<std::chrono::steady_clock::time_point, Found>> resolved;
};

HttpGateway::HttpGateway(const tcp::endpoint& at, Options options, Facts facts, ReadFrom from, Getter& getter)
    : shared_(std::make_shared<Shared>(std::move(options), std::move(facts), from, getter)) {
  error_code ec;
  auto& acceptor = shared_->acceptor;
  bind_to(acceptor, at, ec);
  if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
  if (ec) throw Error(Status::failed, "--http: cannot listen on " + to_text(at) + ": " + ec.message());
  spawn(from.workers.loop(), Shared::accept_all(shared_));
}

HttpGateway::~HttpGateway() { close(); }

tcp::endpoint HttpGateway::local() const { return shared_->acceptor.local_endpoint(); }

int HttpGateway::connections() const { return static_cast<int>(shared_->open.size()); }

void HttpGateway::close() {
  shared_->closed = true;
  error_code ignored;
  shared_->acceptor.close(ignored);
  for (const auto& connection : shared_->open)
    connection->stream.socket().shutdown(tcp::socket::shutdown_both, ignored);
}

Task<void> HttpGateway::Shared::accept_all(std::shared_ptr<Shared> self) {
  while (!self->closed) {
    error_code ec;
    tcp::socket socket = co_await self->acceptor.async_accept(asio::redirect_error(asio::use_awaitable, ec));
    if (self->closed || ec == asio::error::operation_aborted) co_return;
    if (ec) {
      co_await sleep_for(std::chrono::milliseconds(100));  // out of descriptors, most likely
      continue;
    }
    const auto address = unmapped(socket.remote_endpoint(ec).address());
    if (ec || !self->counts.admits(address)) continue;
    socket.set_option(tcp::no_delay(true), ec);
    const auto connection = std::make_shared<Connection>(std::move(socket));
    self->open.insert(connection);
    spawn(self->from.workers.loop(), serve(self, connection, self->counts.count(address)));
  }
}

Task<void> HttpGateway::Shared::serve(std::shared_ptr<Shared> self, ConnectionPtr connection,
                                      std::shared_ptr<void> /*counted*/) {
  auto& stream = connection->stream;
  beast::flat_buffer buffer(2 * most_head);
  try {
    for (bool first = true; connection->goes_on && !self->closed; first = false) {
      error_code ec;
      http::request_parser<http::empty_body> parser;
      parser.header_limit(most_head);
      parser.body_limit(boost::none);  // none is read
      stream.expires_after(first ? head_limit : rest_limit);
      co_await http::async_read_header(stream, buffer, parser, asio::redirect_error(asio::use_awaitable, ec));
      stream.expires_never();
      connection->has_begun = false;
      const bool is_wrong = ec.category() == error_code(http::error::bad_method).category();
      if (ec == http::error::end_of_stream || (ec && !is_wrong)) break;
      connection->is_head = false;
      if (ec) {
        connection->goes_on = false;
        connection->has_rest = true;
        auto text = error_text(ec == http::error::header_limit ? 431 : 400, "is no HTTP request");
        co_await self->send_text(connection, std::move(text));
        break;
      }
      connection->is_head = parser.get().method() == http::verb::head;
      connection->goes_on = parser.keep_alive() && parser.get().version() >= 11;
      const auto request = std::make_shared<Request>(parser.release());
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
      if (text) co_await self->send_text(connection, std::move(*text));
      if (connection->reader) connection->reader->rest();
      if (trouble) connection->reader.reset();
    }
  } catch (const std::exception&) {
    // The client is gone.
  }
  connection->reader.reset();
  error_code ignored;
  if (connection->is_cut) stream.socket().set_option(asio::socket_base::linger(true, 0), ignored);
  if (!connection->is_cut) stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
  // What it still sends would turn the end of an answer into a reset.
  if (connection->has_rest && !self->closed) {
    std::string rest(first_bytes, '\0');
    stream.expires_after(drain_limit);
    for (std::size_t drained = 0; drained < most_drained && !ignored;)
      drained +=
          co_await stream.async_read_some(asio::buffer(rest), asio::redirect_error(asio::use_awaitable, ignored));
  }
  stream.socket().close(ignored);
  self->open.erase(connection);
}

/// Why a request is not answered; empty where it may be.
std::string HttpGateway::Shared::refusal(int socket, const Request& request, const HttpTarget& target,
                                         int& status) const {
  status = 403;
  HttpHead head;
  head.is_http_1_0 = request.version() < 11;
  head.host = target.authority.empty() ? header(request, http::field::host) : std::string_view(target.authority);
  if (auto out = http_refusal(head, options.names); !out.empty()) return out;
  // Pages that were written elsewhere cannot read the answer, but what they ask for would come here and fill the disk.
  if (const auto site = request["Sec-Fetch-Site"]; !site.empty() && site != "none" && site != "same-origin")
    return "pages of other origins may not ask";
  if (const auto origin = header(request, http::field::origin); !origin.empty()) {
    const auto scheme = origin.find("://");
    if (scheme == std::string_view::npos || origin.substr(scheme + 3) != head.host)
      return "pages of other origins may not ask";
  }
  if (carries_token(header(request, http::field::authorization), options.token)) return {};
  // A browser does what pages from anywhere say, and where this is no loopback address to it, or it is an old one, it
  // does not say which page it was.
  const bool may_be_a_page = is_of_browser(request) && request["Sec-Fetch-Site"].empty();
  if (!may_be_a_page && owner_of_other_end(socket).is == SocketOwner::Is::ours) return {};
  status = 401;
  return "needs the token of this node's --http-token file, as Authorization: Bearer";
}

Task<std::optional<Text>> HttpGateway::Shared::answer(ConnectionPtr to, const Request& request) {
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
  if (to->has_rest) co_return refuse(400, "no body is taken");
  if (request.method() != http::verb::get && request.method() != http::verb::head)
    co_return error_text(405, "only GET and HEAD are served");
  const auto& path = target->path;
  if (path == "/stats" || path == "/config") {
    Text out;
    out.head.fields = {{"Content-Type", "application/json"}, {"Cache-Control", "no-store"}};
    add_guards(out.head, true);
    if (path == "/config")
      out.body = facts.config();
    else
      out.body = co_await facts.stats();
    co_return out;
  }
  if (path == "/" || path == files) co_return found_at(std::string(files) + "/");
  if (!path.starts_with("/files/")) co_return error_text(404, "there are /files/, /stats and /config");
  auto rest = path.substr(files.size() + 1);
  const bool is_directory = rest.empty() || rest.ends_with('/');
  if (is_directory && !rest.empty()) rest.pop_back();
  if (!rest.empty() && !is_mesh_path(rest))
    co_return error_text(404, printable(rest) + ": the path " + std::string(path_fault(rest)));
  if (!is_directory) {
    const auto asked = target->query.find("prefetch");
    const auto prefetch = asked == target->query.end() ? Prefetch::none : read_prefetch(asked->second);
    if (!prefetch) co_return error_text(400, "prefetch is boot, all or none");
    co_return co_await answer_file(to, request, std::move(rest), *prefetch);
  }
  const auto after = target->query.find("after");
  std::string behind;
  if (after != target->query.end()) behind = after->second;
  co_return co_await answer_directory(to, request, std::move(rest), std::move(behind));
}

/// As one: a client that has the head alone in its hands is the rarer case, and not every one is prepared for it
/// (qemu's driver for http hangs now and then).
Task<void> HttpGateway::Shared::send_bytes(ConnectionPtr to, std::string_view head, std::string_view bytes) {
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

Task<void> HttpGateway::Shared::send_text(ConnectionPtr to, Text text) {
  text.head.length = std::ssize(text.body);
  auto bytes = rendered(text.head, to->goes_on);
  if (!to->is_head) bytes += text.body;
  to->has_begun = true;
  co_await send_bytes(to, bytes);
}

/// The version that a get would bring, and where it is.
Task<HttpGateway::Shared::Found> HttpGateway::Shared::find(ConnectionPtr to, std::string path) {
  const auto now = std::chrono::steady_clock::now();
  if (const auto it = resolved.find(path); it != resolved.end()) {
    if (now - it->second.first < resolved_for) co_return it->second.second;
    resolved.erase(it);
  }
  std::string any;
  auto choosing = getter.resolver().choose(path, std::move(any), false);
  auto chosen = co_await in_time(to, std::move(choosing));
  Found out;
  out.entry = chosen.file.entry;
  const auto* own = chosen.file.own_wins ? from.library.inventory().find(std::string_view(out.entry.path)) : nullptr;
  if (own != nullptr && own->entry.kind == Kind::file) {
    out.entry = own->entry;
    out.own = LocalEntry{own->entry, own->stamp};
  }
  for (const auto key : chosen.file.holders)
    if (const auto node = chosen.nodes.find(key); node != chosen.nodes.end()) out.holders.push_back(node->second);
  out.keys = chosen.file.holders;
  out.nodes = std::move(chosen.nodes);
  if (resolved.size() >= most_resolved) resolved.clear();
  resolved[path] = {now, out};
  co_return out;
}

Task<std::optional<Text>> HttpGateway::Shared::answer_file(ConnectionPtr to, const Request& request, std::string path,
                                                           Prefetch prefetch) {
  Found found;
  try {
    found = co_await find(to, path);
  } catch (const Resolver::IsDirectory& directory) {
    co_return found_at(std::string(files) + "/" + url_path(directory.path) + "/");
  }
  const auto& wanted = found.entry;
  const auto size = wanted.size;
  Validators current;
  if (wanted.id.is_set()) current.etag = "\"" + wanted.id.hex() + "\"";
  current.modified = wanted.mtime / 1'000'000'000;
  Preconditions given;
  given.if_match = header(request, http::field::if_match);
  given.if_none_match = header(request, http::field::if_none_match);
  given.if_modified_since = header(request, http::field::if_modified_since);
  given.if_unmodified_since = header(request, http::field::if_unmodified_since);
  given.if_range = header(request, http::field::if_range);
  Text answer;
  auto& head = answer.head;
  head.status = evaluate(given, current);
  head.fields = {{"Last-Modified", http_date(std::min<std::int64_t>(current.modified, ::time(nullptr)))},
                 {"Accept-Ranges", "bytes"},
                 {"Cache-Control", "no-cache"}};
  if (!current.etag.empty()) head.fields.emplace_back("ETag", current.etag);
  const auto media = media_type(path);
  add_guards(head, (media.starts_with("image/") && !is_active_media(media)) || media.starts_with("video/") ||
                       media.starts_with("audio/"));
  if (head.status != 200) co_return answer;
  head.fields.emplace_back("Content-Type", media);
  if (is_active_media(media)) head.fields.emplace_back("Content-Disposition", "attachment");
  ByteRange range{0, size};
  const auto text = header(request, http::field::range);
  bool is_part = false;
  if (!text.empty() && request.method() == http::verb::get && is_range_wanted(given, current, ::time(nullptr))) {
    const auto asked = read_range(text, size);
    if (!asked.is_satisfiable) {
      head.status = 416;
      head.fields.emplace_back("Content-Range", "bytes */" + std::to_string(size));
      co_return answer;
    }
    is_part = asked.range.has_value();
    if (is_part) range = *asked.range;
  }
  if (is_part) {
    head.status = 206;
    head.fields.emplace_back("Content-Range", "bytes " + std::to_string(range.first) + "-" +
                                                  std::to_string(range.first + range.length - 1) + "/" +
                                                  std::to_string(size));
  }
  head.length = range.length;
  if (to->is_head || range.length == 0) {
    const auto bytes = rendered(head, to->goes_on);
    to->has_begun = true;
    co_await send_bytes(to, bytes);
    co_return std::nullopt;
  }
  auto own = found.own;
  if (!own && wanted.id.is_set())
    if (const auto* item = from.library.inventory().find(wanted.id, size)) own = LocalEntry{item->entry, item->stamp};
  if (own) {
    const auto open_own = [this, &own]() -> std::shared_ptr<LocalFile> {
      auto opened = from.library.gate().open_offered(own->entry.path);
      if (!is_same_but_ctime(opened.local.stamp, own->stamp)) return nullptr;
      auto out = std::make_shared<LocalFile>();
      out->fd = std::move(opened.fd);
      out->stamp = opened.local.stamp;
      return out;
    };
    std::shared_ptr<LocalFile> file;
    try {
      file = co_await run_on(from.workers.brief(), open_own);
    } catch (const Error&) {
      // It is gone, or not offered any more. Others may have it.
    }
    if (file) {
      if (wanted.id.is_set()) from.profiles.note(wanted, range.first, range.length);
      co_await send_file(to, std::move(head), std::move(file), range.first);
      co_return std::nullopt;
    }
    resolved.erase(path);
    if (!wanted.id.is_set() || found.holders.empty())
      throw Error(Status::unreachable, printable(path) + ": is being changed; ask again");
  }
  if (size <= small_file_bytes) {
    auto fetching = getter.small_files().fetch_one(wanted, found.keys, found.nodes);
    const std::string all = co_await in_time(to, std::move(fetching));
    auto bytes = rendered(head, to->goes_on);
    bytes += all.substr(static_cast<std::size_t>(range.first), static_cast<std::size_t>(range.length));
    to->has_begun = true;
    co_await send_bytes(to, bytes);
    co_return std::nullopt;
  }
  auto& reader = to->reader;
  if (!reader || reader->wanted() != wanted) {
    VersionReader::Options reading;
    reading.patience = options.stall;
    // Held by the connection.
    reading.is_stopped = [client = to.get()] { return is_gone(*client); };
    reading.prefetch = prefetch;
    reader = std::make_shared<VersionReader>(from, wanted, found.holders, std::move(reading));
    to->read_to = -1;
  }
  reader->set_end(range.first + range.length, range.first == to->read_to);
  to->read_to = range.first + range.length;
  std::shared_ptr<Reader> source = reader;
  co_await send_read(to, std::move(head), std::move(source), range.first);
  co_return std::nullopt;
}

/// From the page cache to the socket, without a copy of it here.
Task<void> HttpGateway::Shared::send_file(ConnectionPtr to, Head head, std::shared_ptr<LocalFile> file,
                                          std::int64_t first) {
  auto& socket = to->stream.socket();
  error_code ec;
  socket.native_non_blocking(true, ec);
  const auto text = rendered(head, to->goes_on);
  to->has_begun = true;
  // A small part that is in the page cache goes out at once, with the head.
  if (head.length <= static_cast<std::int64_t>(most_bytes)) {
    std::string bytes(static_cast<std::size_t>(head.length), '\0');
    iovec into{bytes.data(), bytes.size()};
    const auto n = ::preadv2(file->fd.get(), &into, 1, first, RWF_NOWAIT);
    if (n == head.length && is_same_but_ctime(stamp_now(file->fd.get()), file->stamp)) {
      co_await send_bytes(to, text, bytes);
      co_return;
    }
  }
  // Together with what follows.
  const auto said = ::send(socket.native_handle(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE);
  const auto rest = std::string_view(text).substr(static_cast<std::size_t>(std::max<ssize_t>(said, 0)));
  co_await send_bytes(to, rest);
  struct Sent {
    ssize_t bytes = 0;
    int error = 0;
    bool has_changed = false;
  };
  const auto has_changed = [file] { return !is_same_but_ctime(stamp_now(file->fd.get()), file->stamp); };
  for (auto left = head.length; left > 0;) {
    while (sending >= most_sending) {
      if (closed || is_gone(*to)) throw Error(Status::interrupted, "gone");
      co_await sent.wait_for(std::chrono::milliseconds(500));
    }
    const auto send = [file, first, left, has_changed, out = socket.native_handle()] {
      Sent done;
      // Asked before each part and after it: what goes out is of the version that was named.
      done.has_changed = has_changed();
      if (done.has_changed) return done;
      off_t at = first;
      done.bytes = ::sendfile(out, file->fd.get(), &at, static_cast<std::size_t>(std::min(left, most_sent_at_once)));
      done.error = done.bytes < 0 ? errno : 0;
      done.has_changed = has_changed();
      return done;
    };
    ++sending;
    std::shared_ptr<void> counted(nullptr, [self = shared_from_this()](void*) {
      --self->sending;
      self->sent.notify();
    });
    const Sent part = co_await run_on(from.workers.brief(), send);
    counted.reset();  // others send while this one waits for its client
    if (part.has_changed || part.bytes == 0) {
      to->is_cut = true;
      throw Error(Status::failed, "changed while it was read");
    }
    if (part.bytes > 0) {
      first += part.bytes;
      left -= part.bytes;
    }
    if (left == 0) break;
    if (part.error != 0 && part.error != EAGAIN && part.error != EINTR) throw Error(Status::interrupted, "gone");
    Deadline deadline(socket, take_limit);
    co_await socket.async_wait(tcp::socket::wait_write, asio::redirect_error(asio::use_awaitable, ec));
    if (ec || !deadline.met()) throw Error(Status::interrupted, "gone");
  }
}

/// As it arrives.
Task<void> HttpGateway::Shared::send_read(ConnectionPtr to, Head head, std::shared_ptr<Reader> reader,
                                          std::int64_t first) {
  std::string bytes;
  std::string text = rendered(head, to->goes_on);
  auto at_once = first_bytes;
  for (auto left = head.length; left > 0;) {
    bytes.resize(std::min(at_once, static_cast<std::size_t>(left)));
    const std::span<char> into(bytes);
    const auto n = co_await reader->read(first, into);
    if (n == 0) throw Error(Status::failed, "has become shorter");
    to->has_begun = true;
    const auto part = std::string_view(bytes).substr(0, n);
    co_await send_bytes(to, text, part);
    text.clear();
    first += static_cast<std::int64_t>(n);
    left -= static_cast<std::int64_t>(n);
    at_once = most_bytes;
  }
}

Task<std::optional<Text>> HttpGateway::Shared::answer_directory(ConnectionPtr to, const Request& request,
                                                                std::string path, std::string after) {
  List question;
  question.pattern = path;
  const auto in_path = [&](const std::string& name) { return path.empty() ? name : path + "/" + name; };
  if (!after.empty()) question.after = in_path(after);
  auto asking = from.links.ask(question, tracker_limit, seconds(60));
  const Listed listed = co_await in_time(to, std::move(asking));
  const bool is_file = listed.items.size() == 1 && listed.items.front().entry.path == path && !path.empty() &&
                       listed.items.front().entry.kind != Kind::directory;
  if (is_file) throw Error(Status::not_found, printable(path) + ": is a file, not a directory");
  Text out;
  auto& head = out.head;
  head.fields = {{"Cache-Control", "no-cache"}, {"Vary", "Accept"}};
  add_guards(head, true);
  const auto next = listed.next.empty() || listed.items.empty()
                        ? std::string()
                        : std::string(last_part(listed.items.back().entry.path));
  if (accepts_json(request)) {
    head.fields.emplace_back("Content-Type", "application/json");
    auto entries = nlohmann::json::array();
    for (const auto& item : listed.items) {
      auto entry = to_json(item.entry);
      entry["name"] = std::string(last_part(item.entry.path));
      entry["holders"] = item.holders;
      entry["versions"] = item.versions;
      entries.push_back(std::move(entry));
    }
    const nlohmann::json page = {{"path", path}, {"entries", entries}, {"next", next}, {"view", listed.view}};
    out.body = to_text(page, 1) + "\n";
    co_return out;
  }
  head.fields.emplace_back("Content-Type", "text/html; charset=utf-8");
  const auto title = html_text(printable("/" + path));
  std::string page = "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><title>" + title +
                     "</title><style>body{font:14px sans-serif;margin:2em}td{padding:0 1.5em 0 0}"
                     "td.n{text-align:right}</style><h1>" +
                     title + "</h1>\n";
  if (!listed.view.empty()) page += "<p>" + html_text(printable(listed.view)) + "</p>\n";
  page += "<table>\n";
  if (!path.empty()) page += "<tr><td><a href=\"../\">../</a>\n";
  for (const auto& item : listed.items) {
    const auto& entry = item.entry;
    const bool is_directory = entry.kind == Kind::directory;
    const auto name = std::string(last_part(entry.path)) + (is_directory ? "/" : "");
    page += "<tr><td><a href=\"./" + url_path(name) + "\">" + html_text(printable(name)) + "</a><td class=\"n\">" +
            (is_directory ? std::string() : human_bytes(entry.size)) + "<td>" + human_time(entry.mtime) +
            "<td class=\"n\">" + (is_directory ? std::string() : std::to_string(item.holders)) + "\n";
  }
  page += "</table>\n";
  if (!next.empty()) page += "<p><a href=\"?after=" + url_path(next) + "\">more</a></p>\n";
  out.body = page + "</html>\n";
  co_return out;
}

}  // namespace mesh
