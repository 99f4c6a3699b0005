#include "node/origin.h"

#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <ctime>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "core/format.h"

namespace mesh {
namespace {

constexpr long most_redirects = 10;
constexpr std::int64_t most_buffer = std::int64_t{256} << 10;
constexpr std::int64_t least_buffer = std::int64_t{16} << 10;
constexpr std::size_t most_header_bytes = 256 * 1024;
constexpr int longest_retry_after = 120;
constexpr std::time_t most_time = 9'000'000'000;  // seconds; as nanoseconds it still is a number

std::int64_t number(std::string_view text) {
  std::int64_t out = -1;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), out);
  return ec == std::errc{} && end == text.data() + text.size() && out >= 0 ? out : -1;
}

std::string_view trimmed(std::string_view text) {
  const auto from = text.find_first_not_of(" \t\r\n");
  if (from == std::string_view::npos) return {};
  return text.substr(from, text.find_last_not_of(" \t\r\n") - from + 1);
}

bool same_word(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::ranges::equal(a, b, [&](char x, char y) { return lower(x) == lower(y); });
}

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

}  // namespace

struct Origin::State {
  Options options;
  CURL* curl = nullptr;

  // Of the question under way.
  OriginHead head;
  std::int64_t content_length = -1;
  std::int64_t range_begin = -1;
  std::int64_t range_end = -1;  // not included
  std::int64_t range_total = -1;
  int retry_after = 0;
  std::size_t header_bytes = 0;
  bool head_done = false;
  bool enough = false;
  std::int64_t got = 0;
  std::int64_t wanted_begin = 0;
  std::int64_t wanted_end = 0;  // where only a part is asked for
  bool conditional = false;
  std::optional<OriginError> trouble;
  std::exception_ptr thrown;  // by a callback; it must not pass through libcurl
  const OnHead* on_head = nullptr;
  const OnBytes* on_bytes = nullptr;

  OriginError fail(Status status, const std::string& why, bool transient) const {
    return {status, printable(options.shown) + ": " + why, transient, retry_after};
  }

  void take_header(std::string_view line) {
    if (line.starts_with("HTTP/")) {  // of the next answer: a redirect's come first
      head = {};
      content_length = range_begin = range_end = range_total = -1;
      retry_after = 0;
      return;
    }
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) return;
    const auto name = trimmed(line.substr(0, colon));
    const auto value = trimmed(line.substr(colon + 1));
    if (same_word(name, "content-length")) {
      content_length = number(value);
    } else if (same_word(name, "content-range")) {
      // bytes 0-99/1000, or bytes */1000
      if (!value.starts_with("bytes ")) return;
      const auto slash = value.find('/');
      const auto dash = value.find('-');
      if (slash == std::string_view::npos) return;
      range_total = number(value.substr(slash + 1));
      if (dash == std::string_view::npos || dash > slash) return;
      range_begin = number(value.substr(6, dash - 6));
      range_end = number(value.substr(dash + 1, slash - dash - 1)) + 1;
    } else if (same_word(name, "etag")) {
      if (value.size() < 500 && value.starts_with('"')) head.etag = value;
    } else if (same_word(name, "last-modified")) {
      const auto when = ::curl_getdate(std::string(value).c_str(), nullptr);
      if (value.size() >= 100 || when <= 0 || when > most_time) return;
      head.modified = value;
      head.mtime = std::int64_t{when} * 1'000'000'000;
    } else if (same_word(name, "retry-after")) {
      retry_after = static_cast<int>(std::clamp<std::int64_t>(number(value), 0, longest_retry_after));
    }
  }

  /// The headers are complete; false: this answer is of no use.
  bool judge() {
    head_done = true;
    ::curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &head.code);
    const auto code = head.code;
    if (code == 206) {
      head.size = range_total;
      if (range_begin != wanted_begin || range_end <= range_begin || range_total < range_end ||
          range_end > wanted_end) {
        trouble = fail(Status::failed, "answers with another part of the file than it was asked for", false);
        return false;
      }
      if (content_length >= 0 && content_length != range_end - range_begin) {
        trouble = fail(Status::failed, "its Content-Length and its Content-Range differ", false);
        return false;
      }
    } else if (code == 200) {
      head.size = content_length;
    } else if (code == 416 && wanted_end > 0) {
      head.size = range_total;
    } else if (code != 304 || !conditional) {
      const bool transient = code == 408 || code == 425 || code == 429 || code >= 500;
      const auto status = code == 404 || code == 410 ? Status::not_found : Status::failed;
      std::string why = "HTTP status " + std::to_string(code);
      if (code == 404) why += ": not found";
      if (code == 401 || code == 403 || code == 407) why += ": not allowed (a netrc or the URL may hold a password)";
      trouble = fail(status, why, transient);
      return false;
    }
    enough = !(*on_head)(head);
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
    state.take_header({data, size});
    return size;
  }
  static std::size_t body(char* data, std::size_t, std::size_t size, void* self) {
    auto& state = *static_cast<State*>(self);
    try {
      if (!state.head_done && !state.judge()) return 0;
      if (state.head.code != 200 && state.head.code != 206) return size;  // words for people
      state.got += static_cast<std::int64_t>(size);
      state.pace(static_cast<std::int64_t>(size));
      if (state.head.code == 206 && state.got > state.range_end - state.range_begin) {
        state.trouble = state.fail(Status::failed, "sends more than it said", false);
        return 0;
      }
      if ((*state.on_bytes)({data, size})) return size;
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

  void set(CURLoption option, long value) const { ::curl_easy_setopt(curl, option, value); }
  void set(CURLoption option, const char* value) const { ::curl_easy_setopt(curl, option, value); }

  void prepare() {
    head = {};
    content_length = range_begin = range_end = range_total = -1;
    retry_after = 0;
    header_bytes = 0;
    head_done = enough = false;
    got = 0;
    trouble.reset();
    thrown = nullptr;
    ::curl_easy_reset(curl);  // keeps connections
    set(CURLOPT_URL, options.address.c_str());
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    set(CURLOPT_FOLLOWLOCATION, 1L);
    set(CURLOPT_MAXREDIRS, most_redirects);
    set(CURLOPT_NETRC, long{CURL_NETRC_OPTIONAL});
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

  void perform(const std::vector<std::string>& headers) {
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
    if (trouble) throw OriginError(*trouble);
    if (enough) return;
    const std::string why = detail[0] != '\0' ? detail : ::curl_easy_strerror(result);
    switch (result) {
      case CURLE_OK:
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
      case CURLE_TOO_MANY_REDIRECTS:
        throw fail(Status::failed, "redirects more than " + std::to_string(most_redirects) + " times", false);
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
    if (!if_range.empty()) headers.push_back("If-Range: " + if_range);
  }
  state.perform(headers);
  if (state.enough || (state.head.code != 200 && state.head.code != 206)) return;
  const auto expected = state.head.code == 206 ? state.range_end - state.range_begin : state.content_length;
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
  state.wanted_begin = state.wanted_end = 0;
  state.conditional = true;
  std::vector<std::string> headers;
  if (!etag.empty()) headers.push_back("If-None-Match: " + etag);
  if (mtime > 0) headers.push_back("If-Modified-Since: " + http_date(mtime));
  state.perform(headers);
  return state.head;
}

}  // namespace mesh
