#include "serve/http_gateway.h"

#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <ctime>
#include <optional>

#include "core/format.h"
#include "core/piece_plan.h"
#include "serve/listed_file.h"
#include "wire/access.h"
#include "wire/deadline.h"
#include "wire/endpoint.h"
#include "wire/http_answer.h"
#include "wire/to_json.h"
#include "wire/while_checking.h"

namespace mesh {

using asio::ip::tcp;
using boost::system::error_code;
namespace http = boost::beast::http;
using Request = HttpRequest;
using ConnectionPtr = HttpConnectionPtr;
using std::chrono::seconds;
using namespace http_answer;

namespace {

constexpr int most_sending = 2;  // at once: a disk may be slow, and others use the pool
constexpr std::size_t first_bytes = 64 * 1024;
constexpr std::size_t most_bytes = 256 * 1024;
constexpr std::int64_t most_sent_at_once = std::int64_t{2} << 20;
constexpr std::string_view files = "/files";
/// A path is resolved for so long: a client asks for many ranges, one after another.
constexpr auto resolved_for = std::chrono::milliseconds(500);
constexpr std::size_t most_resolved = 1000;

constexpr auto take_limit = HttpListener::take_limit;

bool is_gone(HttpConnection& connection) { return HttpListener::is_gone(connection); }
Task<void> send_bytes(ConnectionPtr to, std::string_view head, std::string_view bytes = {}) {
  return HttpListener::send_bytes(std::move(to), head, bytes);
}

bool accepts_json(const Request& request) {
  const auto accept = http_header(request, http::field::accept);
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
  Shared(Options given, ReadFrom read_from, Getter& gets)
      : options(given), from(read_from), getter(gets), sent(read_from.workers.loop()) {}

  /// Of a connection's last request that read what is not here, and where that ended: a client that goes on is read
  /// ahead for.
  struct Kept {
    std::shared_ptr<VersionReader> reader{};
    std::int64_t read_to = 0;
    Prefetch prefetch = Prefetch::none;
  };
  struct Found {
    FileEntry entry;
    std::vector<NodeRef> holders;
    std::optional<LocalEntry> own;  ///< it is here, under this path
    std::vector<std::uint32_t> keys;
    NodesByKey nodes;
  };

  /// What is to be sent; nothing where it has been.
  Task<std::optional<Text>> answer(ConnectionPtr to, const Request& request, const HttpTarget& target);
  Task<std::optional<Text>> answer_file(ConnectionPtr to, const Request& request, std::string path, Prefetch prefetch);
  Task<std::optional<Text>> answer_directory(ConnectionPtr to, const Request& request, std::string path,
                                             std::string after);
  Task<void> send_file(ConnectionPtr to, Head head, std::shared_ptr<LocalFile> file, std::int64_t first);
  static Task<void> send_read(ConnectionPtr to, Head head, std::shared_ptr<Reader> reader, std::int64_t first);
  Task<Found> find(ConnectionPtr to, std::string path);
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
  Options options;
  ReadFrom from;
  Getter& getter;
  int sending = 0;  ///< of what is here, on the pool
  Event sent;
  std::map<std::string, std::pair<std::chrono::steady_clock::time_point, Found>> resolved;
};

HttpGateway::HttpGateway(HttpListener& listener, Options options, ReadFrom from, Getter& getter)
    : shared_(std::make_shared<Shared>(options, from, getter)) {
  listener.set_answer([shared = shared_](ConnectionPtr to, const Request& request, const HttpTarget& target) {
    return shared->answer(std::move(to), request, target);
  });
}

Task<std::optional<Text>> HttpGateway::Shared::answer(ConnectionPtr to, const Request& request,
                                                      const HttpTarget& target) {
  const auto& path = target.path;
  if (path == files) co_return found_at(std::string(files) + "/");
  if (!path.starts_with("/files/"))
    co_return error_text(404, "there are / (a page for browsers), /files/, /stats, /status.json, /metrics and /config");
  auto rest = path.substr(files.size() + 1);
  const bool is_directory = rest.empty() || rest.ends_with('/');
  if (is_directory && !rest.empty()) rest.pop_back();
  if (!rest.empty() && !is_mesh_path(rest))
    co_return error_text(404, printable(rest) + ": the path " + std::string(path_fault(rest)));
  if (!is_directory) {
    const auto asked = target.query.find("prefetch");
    const auto prefetch = asked == target.query.end() ? Prefetch::none : read_prefetch(asked->second);
    if (!prefetch) co_return error_text(400, "prefetch is boot, all or none");
    co_return co_await answer_file(to, request, std::move(rest), *prefetch);
  }
  const auto after = target.query.find("after");
  std::string behind;
  if (after != target.query.end()) behind = after->second;
  co_return co_await answer_directory(to, request, std::move(rest), std::move(behind));
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
  Resolver::Chosen chosen;
  Found out;
  std::optional<Error> trouble;
  try {
    chosen = co_await in_time(to, std::move(choosing));
  } catch (const Resolver::IsDirectory&) {
    throw;
  } catch (const Error& error) {
    trouble = error;
  }
  if (trouble) {
    // What is here is here, whoever else can be asked.
    const auto* item = from.library.inventory().find(std::string_view(path));
    if (trouble->status() != Status::unreachable || item == nullptr || item->entry.kind != Kind::file)
      throw Error(*trouble);
    out.entry = item->entry;
    out.own = LocalEntry{item->entry, item->stamp};
    co_return out;
  }
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
  given.if_match = http_header(request, http::field::if_match);
  given.if_none_match = http_header(request, http::field::if_none_match);
  given.if_modified_since = http_header(request, http::field::if_modified_since);
  given.if_unmodified_since = http_header(request, http::field::if_unmodified_since);
  given.if_range = http_header(request, http::field::if_range);
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
  const auto text = http_header(request, http::field::range);
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
  auto kept = std::static_pointer_cast<Kept>(to->kept);
  if (!kept) {
    kept = std::make_shared<Kept>();
    to->kept = kept;
    to->answered = [kept](bool is_well) {
      if (kept->reader) kept->reader->rest();
      if (!is_well) kept->reader.reset();
    };
  }
  auto& reader = kept->reader;
  if (!reader || reader->wanted() != wanted || kept->prefetch != prefetch) {
    kept->prefetch = prefetch;
    VersionReader::Options reading;
    reading.patience = options.stall;
    // Held by the connection.
    reading.is_stopped = [client = to.get()] { return is_gone(*client); };
    reading.prefetch = prefetch;
    reader = std::make_shared<VersionReader>(from, wanted, found.holders, std::move(reading));
    kept->read_to = -1;
  }
  reader->set_end(range.first + range.length, range.first == kept->read_to);
  kept->read_to = range.first + range.length;
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
      if (from.workers.stopping() || is_gone(*to)) throw Error(Status::interrupted, "gone");
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
