#include "transfer/origin.h"

#include <curl/curl.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "core/address.h"
#include "core/format.h"
#include "wire/endpoint.h"

namespace mesh {
namespace {

namespace asio = boost::asio;

constexpr std::int64_t most_skipped = 1 << 20;  // bytes that come before what was asked for
constexpr long most_redirects = 10;
constexpr std::int64_t most_buffer = std::int64_t{256} << 10;
constexpr std::int64_t least_buffer = std::int64_t{16} << 10;
constexpr std::size_t most_words = 256 * 1024;
constexpr std::size_t most_header_bytes = 256 * 1024;

std::string http_date(std::int64_t mtime) {
  const std::time_t when = mtime / 1'000'000'000;
  std::tm tm{};
  ::gmtime_r(&when, &tm);
  static constexpr const char* days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr const char* months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                           "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  char out[64];
  std::snprintf(out, sizeof out, "%s, %02d %s %d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon],
                tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
  return out;
}

bool is_redirect(long code) { return code == 301 || code == 302 || code == 303 || code == 307 || code == 308; }

/// This machine itself, or what only its own network segment reaches (cloud metadata, say).
bool is_local(const asio::ip::address& given) {
  const auto address = unmapped(given);
  if (address.is_unspecified() || reach_of(address) != Reach::anywhere) return true;
  return address.is_v4() && address.to_v4().to_bytes()[0] == 0;
}

/// By its name alone, for where a proxy would do the looking up.
bool is_local_name(const std::string& host) {
  const auto address = parse_address(host);
  return address ? is_local(*address) : host == "localhost" || host.ends_with(".localhost");
}

struct Site {
  std::string scheme;
  std::string host;  ///< in lower case, without brackets
  std::string port;  ///< empty where the address has none
};
Site site_of(const std::string& address, unsigned more = 0) {
  const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> url(curl_url(), &curl_url_cleanup);
  Site out;
  if (curl_url_set(url.get(), CURLUPART_URL, address.c_str(), more) != CURLUE_OK) return out;
  const auto part = [&](CURLUPart which) {
    char* text = nullptr;
    if (curl_url_get(url.get(), which, &text, 0) != CURLUE_OK) return std::string();
    std::string value(text);
    curl_free(text);
    std::ranges::transform(value, value.begin(),
                           [](char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
    return value;
  };
  out.scheme = part(CURLUPART_SCHEME);
  out.host = part(CURLUPART_HOST);
  out.port = part(CURLUPART_PORT);
  if (out.host.starts_with('[') && out.host.ends_with(']')) out.host = out.host.substr(1, out.host.size() - 2);
  return out;
}

/// Whether who has a password for the one may be told it by the other: the same service, or the same by TLS.
bool is_same_host(const Site& named, const Site& now) {
  const auto port = [](const Site& site) {
    return !site.port.empty() ? site.port : site.scheme == "https" ? "443" : "80";
  };
  if (named.host.empty() || named.host != now.host) return false;
  if (named.scheme == now.scheme) return port(named) == port(now);
  return now.scheme == "https" && port(named) == "80" && port(now) == "443";
}

/// Whether a proxy of this process's environment is at this address of this machine.
bool is_own_proxy(const asio::ip::address& address, unsigned port) {
  for (const char* name : {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == 0) continue;
    auto proxy = site_of(value, CURLU_DEFAULT_SCHEME | CURLU_NON_SUPPORT_SCHEME | CURLU_GUESS_SCHEME);
    if (proxy.port.empty()) proxy.port = "1080";  // libcurl's
    const auto at = parse_address(proxy.host);
    const bool here = at ? *at == address : proxy.host == "localhost" && address.is_loopback();
    if (here && proxy.port == std::to_string(port)) return true;
  }
  return false;
}

}  // namespace

struct Origin::State {
  Options options;
  CURL* curl = nullptr;
  std::string user;  ///< of the URL, where it has one
  std::string password;

  // Of the question under way.
  OriginAnswer answer;
  std::size_t header_bytes = 0;
  bool head_done = false;
  bool enough = false;
  std::int64_t got = 0;
  std::int64_t wanted_begin = 0;
  std::int64_t wanted_end = 0;  // where only a part is asked for
  bool conditional = false;
  bool is_head = false;
  bool redirected = false;
  bool is_of_another = false;  ///< the version that was asked for is not there any more (412)
  std::size_t words = 0;       ///< of an answer that has no file in it
  std::optional<OriginError> trouble;
  std::exception_ptr thrown;  // by a callback; it must not pass through libcurl
  const OnHead* on_head = nullptr;
  const OnBytes* on_bytes = nullptr;

  OriginError fail(Status status, const std::string& why, bool transient) const {
    return {status, printable(options.shown) + ": " + why, transient, answer.retry_after};
  }

  /// The headers are complete; false: this answer is of no use.
  bool judge() {
    head_done = true;
    ::curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer.head.code);
    const auto code = answer.head.code;
    redirected = is_redirect(code) || (options.object && (code == 401 || (code == 400 && !answer.region.empty())));
    if (redirected) return true;
    // Of another version now: that one is asked for.
    is_of_another = options.object && code == 412;
    if (is_of_another) return true;
    if (code == 206) {
      answer.head.size = answer.range_total;
      // More than was asked for is cut, and less is a beginning (RFC 9110, 15.3.7): what it must have is the first
      // byte.
      if (wanted_end == 0 || answer.range_begin < 0 || answer.range_begin > wanted_begin ||
          wanted_begin - answer.range_begin > most_skipped || answer.range_end <= wanted_begin) {
        trouble = fail(Status::failed, "answers with another part of the file than it was asked for", false);
        trouble->set_useless_part();
        return false;
      }
      if (answer.content_length >= 0 && answer.content_length != answer.range_end - answer.range_begin) {
        trouble = fail(Status::failed, "its Content-Length and its Content-Range differ", false);
        trouble->set_useless_part();
        return false;
      }
    } else if (code == 200) {
      answer.head.size = answer.content_length;
    } else if (code == 416 && wanted_end > 0) {
      answer.head.size = answer.range_total;
    } else if (code != 304 || !conditional) {
      const bool transient = code == 408 || code == 425 || code == 429 || code >= 500;
      const auto status = code == 404 || code == 410 ? Status::not_found : Status::failed;
      std::string why = "HTTP status " + std::to_string(code);
      if (code == 404) why += ": not found";
      if (options.object && (code == 401 || code == 403))
        why += ": not allowed (the credentials of the store " + printable(options.object->store()) +
               ", or the clock of this machine)";
      else if (code == 401 || code == 403 || code == 407)
        why += ": not allowed (a netrc or the URL may hold a password)";
      trouble = fail(status, why, transient);
      return false;
    }
    enough = !(*on_head)(answer.head);
    return !enough;
  }

  /// libcurl's own limit is none for answers that are as short as a piece.
  void pace(std::int64_t bytes) {
    const auto now = RateLimit::Clock::now();
    auto until = now;
    for (const auto& limit : options.limits) until = std::max(until, limit->spend(bytes, now));
    while (RateLimit::Clock::now() < until) {
      if (options.stopped && options.stopped()) throw Error(Status::interrupted, "stopped");
      std::this_thread::sleep_until(std::min(until, RateLimit::Clock::now() + RateLimit::burst));
    }
  }

  static std::size_t header(char* data, std::size_t, std::size_t size, void* self) {
    auto& state = *static_cast<State*>(self);
    state.header_bytes += size;
    if (state.header_bytes > most_header_bytes) {
      state.trouble = state.fail(Status::failed, "sends headers without end", false);
      return 0;
    }
    state.answer.take({data, size});
    return size;
  }
  static std::size_t body(char* data, std::size_t, std::size_t size, void* self) {
    auto& state = *static_cast<State*>(self);
    try {
      if (!state.head_done && !state.judge()) return 0;
      if (state.answer.head.code != 200 && state.answer.head.code != 206) {  // words for people, and few of them
        state.words += size;
        return state.words <= most_words ? size : 0;
      }
      state.got += static_cast<std::int64_t>(size);
      state.pace(static_cast<std::int64_t>(size));
      if (state.answer.head.code == 206 && state.got > state.answer.range_end - state.answer.range_begin) {
        state.trouble = state.fail(Status::failed, "sends more than it said", false);
        return 0;
      }
      std::span<const char> bytes(data, size);
      if (state.answer.head.code == 206) {
        const auto at = state.answer.range_begin + state.got - static_cast<std::int64_t>(size);
        const auto from = std::clamp<std::int64_t>(state.wanted_begin - at, 0, static_cast<std::int64_t>(size));
        const auto to = std::clamp<std::int64_t>(state.wanted_end - at, from, static_cast<std::int64_t>(size));
        bytes = bytes.subspan(static_cast<std::size_t>(from), static_cast<std::size_t>(to - from));
        state.enough =
            at + static_cast<std::int64_t>(size) >= state.wanted_end && state.answer.range_end > state.wanted_end;
      }
      if ((bytes.empty() || (*state.on_bytes)(bytes)) && !state.enough) return size;
      state.enough = true;
    } catch (...) {
      state.thrown = std::current_exception();
    }
    return 0;
  }
  static int progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    const auto& stopped = static_cast<State*>(self)->options.stopped;
    return stopped && stopped() ? 1 : 0;
  }

  /// The URL's own, where it has one.
  void read_password() {
    const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> url(curl_url(), &curl_url_cleanup);
    if (curl_url_set(url.get(), CURLUPART_URL, options.address.c_str(), 0) != CURLUE_OK) return;
    for (auto& [part, out] :
         {std::pair<CURLUPart, std::string*>(CURLUPART_USER, &user), {CURLUPART_PASSWORD, &password}}) {
      char* text = nullptr;
      if (curl_url_get(url.get(), part, &text, CURLU_URLDECODE) != CURLUE_OK) continue;
      *out = text;
      curl_free(text);
    }
  }

  void set(CURLoption option, long value) const { ::curl_easy_setopt(curl, option, value); }
  void set(CURLoption option, const char* value) const { ::curl_easy_setopt(curl, option, value); }

  void prepare() {
    answer = {};
    header_bytes = 0;
    is_head = false;
    head_done = enough = redirected = is_of_another = false;
    got = 0;
    words = 0;
    trouble.reset();
    thrown = nullptr;
    ::curl_easy_reset(curl);  // keeps connections
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_FOLLOWLOCATION, 0L);  // see perform
    ::curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, &State::open_socket);
    ::curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, this);
    set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    set(CURLOPT_USERAGENT, "meshswarm");
    set(CURLOPT_CONNECTTIMEOUT, long{options.timeout_seconds});
    set(CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(CURLOPT_LOW_SPEED_TIME, long{options.timeout_seconds});
    std::int64_t buffer = most_buffer;
    for (const auto& limit : options.limits) buffer = std::clamp(limit->handful(buffer) / 8, least_buffer, buffer);
    set(CURLOPT_BUFFERSIZE, static_cast<long>(buffer));
    set(CURLOPT_NOPROGRESS, 0L);
    ::curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, &State::progress);
    ::curl_easy_setopt(curl, CURLOPT_XFERINFODATA, this);
    ::curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, &State::header);
    ::curl_easy_setopt(curl, CURLOPT_HEADERDATA, this);
    ::curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &State::body);
    ::curl_easy_setopt(curl, CURLOPT_WRITEDATA, this);
    if (!options.ca.empty()) {
      curl_blob blob{options.ca.data(), options.ca.size(), CURL_BLOB_COPY};
      ::curl_easy_setopt(curl, CURLOPT_CAINFO_BLOB, &blob);
    }
  }

  static curl_socket_t open_socket(void* self, curlsocktype, curl_sockaddr* to) {
    auto& state = *static_cast<State*>(self);
    asio::ip::tcp::endpoint at;
    if (to->addrlen <= at.capacity() && (to->family == AF_INET || to->family == AF_INET6)) {
      std::memcpy(at.data(), &to->addr, to->addrlen);
      at.resize(to->addrlen);
    }
    const auto& options = state.options;
    if (options.ordered && !options.local && is_local(at.address()) && !is_own_proxy(at.address(), at.port())) {
      state.refuse_local(at.address().to_string());
      return CURL_SOCKET_BAD;
    }
    return ::socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
  }
  void refuse_local(const std::string& where) {
    trouble = fail(
        Status::refused,
        "leads to " + where + ", which only this machine reaches; not for other nodes (its --local-urls allows it)",
        false);
  }

  /// Redirects are followed here, as libcurl would look for a password for each host that it is led to.
  void perform(const std::vector<std::string>& headers) {
    if (options.object) return perform_signed(headers);
    if (options.address.starts_with("s3://") || options.address.starts_with("swift://"))
      throw fail(Status::failed, "this node has no store of that name ([store.NAME] in its mesh.conf)", false);
    const auto named = site_of(options.address);
    std::string address = options.address;
    for (long redirects = 0;; ++redirects) {
      const auto now = site_of(address);
      const bool may_tell = is_same_host(named, now);
      if (options.ordered && !options.local && is_local_name(now.host)) {
        refuse_local(printable(now.host));
        throw OriginError(*trouble);
      }
      set(CURLOPT_URL, address.c_str());
      set(CURLOPT_NETRC, long{may_tell && !options.ordered ? CURL_NETRC_OPTIONAL : CURL_NETRC_IGNORED});
      if (redirects > 0 && may_tell && !user.empty()) {
        set(CURLOPT_USERNAME, user.c_str());
        set(CURLOPT_PASSWORD, password.c_str());
      } else if (redirects > 0) {
        set(CURLOPT_USERNAME, static_cast<const char*>(nullptr));
        set(CURLOPT_PASSWORD, static_cast<const char*>(nullptr));
      }
      ask_once(headers);
      if (!redirected) return;
      char* next = nullptr;
      ::curl_easy_getinfo(curl, CURLINFO_REDIRECT_URL, &next);
      if (next == nullptr)
        throw fail(Status::failed, "HTTP status " + std::to_string(answer.head.code) + " without a place to go to",
                   false);
      if (redirects == most_redirects)
        throw fail(Status::failed, "redirects more than " + std::to_string(most_redirects) + " times", false);
      address = next;
      head_done = redirected = false;
      got = 0;
      words = 0;
      trouble.reset();
    }
  }

  /// What is signed is signed for one host: nobody is followed to another, but a store may say in which region it is.
  void perform_signed(const std::vector<std::string>& headers) {
    constexpr int most_signings = 3;
    for (int tries = 1;; ++tries) {
      SignedRequest request;
      try {
        request = options.object->request(is_head ? "HEAD" : "GET");
      } catch (const Error& error) {
        throw fail(error.status(), error.what(), error.status() == Status::unreachable);
      }
      auto all = headers;
      all.insert(all.end(), request.headers.begin(), request.headers.end());
      set(CURLOPT_URL, request.url.c_str());
      set(CURLOPT_PATH_AS_IS, 1L);  // a key may have .. in it
      set(CURLOPT_NETRC, long{CURL_NETRC_IGNORED});
      ask_once(all);
      if (!redirected) return;
      const auto code = answer.head.code;
      if (tries == most_signings || !options.object->learn(request, code, answer.region)) {
        if (code == 401)
          throw fail(
              Status::failed,
              "HTTP status 401: not allowed (the credentials of the store " + printable(options.object->store()) + ")",
              false);
        throw fail(Status::failed,
                   "HTTP status " + std::to_string(code) + ": the store sends elsewhere (is its region right?)", false);
      }
      head_done = redirected = false;
      got = 0;
      words = 0;
      trouble.reset();
    }
  }

  void ask_once(const std::vector<std::string>& headers) {
    curl_slist* list = nullptr;
    for (const auto& line : headers) list = ::curl_slist_append(list, line.c_str());
    ::curl_easy_setopt(curl, CURLOPT_HTTPHEADER, list);
    char detail[CURL_ERROR_SIZE] = {};
    ::curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail);
    const auto result = ::curl_easy_perform(curl);
    ::curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, nullptr);
    ::curl_easy_setopt(curl, CURLOPT_HTTPHEADER, nullptr);
    ::curl_slist_free_all(list);
    if (thrown) std::rethrow_exception(thrown);
    if (enough) return;
    // What one of several addresses was refused for does not count where another one served.
    if (trouble && result != CURLE_OK) throw OriginError(*trouble);
    if (redirected && result == CURLE_OK) return;
    const std::string why = detail[0] != '\0' ? detail : ::curl_easy_strerror(result);
    switch (result) {
      case CURLE_OK:
        trouble.reset();
        if (!head_done) judge();  // no body
        if (trouble) throw OriginError(*trouble);
        return;
      case CURLE_ABORTED_BY_CALLBACK:
        throw Error(Status::interrupted, "stopped");
      case CURLE_COULDNT_RESOLVE_HOST:
      case CURLE_COULDNT_RESOLVE_PROXY:
      case CURLE_COULDNT_CONNECT:
      case CURLE_OPERATION_TIMEDOUT:
        throw fail(Status::unreachable, why, true);
      case CURLE_UNSUPPORTED_PROTOCOL:
        throw fail(Status::failed, "leads to what is neither http nor https, refused: " + why, false);
      case CURLE_PEER_FAILED_VERIFICATION:
        throw fail(Status::failed, why + " (--cacert names the certificates to trust)", false);
      case CURLE_SSL_CACERT_BADFILE:
      case CURLE_SSL_CERTPROBLEM:
      case CURLE_URL_MALFORMAT:
      case CURLE_LOGIN_DENIED:
        throw fail(Status::failed, why, false);
      default:
        throw fail(Status::failed, why, true);
    }
  }
};

Origin::Origin(Options options) : state_(std::make_unique<State>()) {
  static std::once_flag once;
  std::call_once(once, [] { ::curl_global_init(CURL_GLOBAL_DEFAULT); });
  state_->options = std::move(options);
  state_->read_password();
  state_->curl = ::curl_easy_init();
  if (state_->curl == nullptr) throw Error(Status::failed, "libcurl cannot be set up");
}

Origin::~Origin() { ::curl_easy_cleanup(state_->curl); }

void Origin::read(std::int64_t begin, std::int64_t end, const std::string& if_range, const OnHead& on_head,
                  const OnBytes& on_bytes) {
  auto& state = *state_;
  state.prepare();
  state.on_head = &on_head;
  state.on_bytes = &on_bytes;
  std::vector<std::string> headers;
  state.wanted_begin = begin < end ? begin : 0;
  state.wanted_end = begin < end ? end : 0;
  state.conditional = false;
  if (begin < end) {
    // As a header of one's own, so that libcurl takes an answer with all of the file for one.
    headers.push_back("Range: bytes=" + std::to_string(begin) + "-" + std::to_string(end - 1));
    // Stores know no If-Range.
    if (!if_range.empty() && (!state.options.object || !if_range.starts_with('"')))
      headers.push_back("If-Range: " + if_range);
    else if (!if_range.empty())
      headers.push_back("If-Match: " + if_range);
  }
  const bool is_conditional = headers.size() > 1;
  state.perform(headers);
  if (state.is_of_another) {
    if (!is_conditional) throw state.fail(Status::failed, "HTTP status 412 without a condition", false);
    // What it has now: the asker sees from its head that it is another one. It may be shorter than what was asked for.
    const OnBytes nothing = [](std::span<const char>) { return false; };
    state.prepare();
    state.on_bytes = &nothing;
    state.wanted_begin = 0;
    state.wanted_end = 1;
    bool is_told = false;
    const OnHead tell = [&](const OriginHead& head) {
      is_told = !on_head(head);
      return false;
    };
    state.on_head = &tell;
    state.perform({"Range: bytes=0-0"});
    if (is_told) return;
    if (state.answer.head.code == 412) throw state.fail(Status::failed, "HTTP status 412 without a condition", false);
    throw state.fail(Status::failed, "is one version and another in turn", true);
  }
  if (state.enough || (state.answer.head.code != 200 && state.answer.head.code != 206)) return;
  const auto expected =
      state.answer.head.code == 206 ? state.answer.range_end - state.answer.range_begin : state.answer.content_length;
  if (expected >= 0 && state.got != expected)
    throw state.fail(Status::failed, "ended after " + human_bytes(state.got) + " of " + human_bytes(expected), true);
}

OriginHead Origin::ask(const std::string& etag, std::int64_t mtime) {
  auto& state = *state_;
  state.prepare();
  const OnHead on_head = [](const OriginHead&) { return true; };
  const OnBytes on_bytes = [](std::span<const char>) { return true; };
  state.on_head = &on_head;
  state.on_bytes = &on_bytes;
  state.set(CURLOPT_NOBODY, 1L);
  state.is_head = true;
  state.wanted_begin = state.wanted_end = 0;
  state.conditional = true;
  std::vector<std::string> headers;
  if (!etag.empty()) headers.push_back("If-None-Match: " + etag);
  if (mtime > 0) headers.push_back("If-Modified-Since: " + http_date(mtime));
  state.perform(headers);
  return state.answer.head;
}

}  // namespace mesh
