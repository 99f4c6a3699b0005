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
  OriginAnswer answer;
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
    return {status, printable(options.shown) + ": " + why, transient, answer.retry_after};
  }

  /// The headers are complete; false: this answer is of no use.
  bool judge() {
    head_done = true;
    ::curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer.head.code);
    const auto code = answer.head.code;
    if (code == 206) {
      answer.head.size = answer.range_total;
      if (answer.range_begin != wanted_begin || answer.range_end <= answer.range_begin ||
          answer.range_total < answer.range_end || answer.range_end > wanted_end) {
        trouble = fail(Status::failed, "answers with another part of the file than it was asked for", false);
        return false;
      }
      if (answer.content_length >= 0 && answer.content_length != answer.range_end - answer.range_begin) {
        trouble = fail(Status::failed, "its Content-Length and its Content-Range differ", false);
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
      if (code == 401 || code == 403 || code == 407) why += ": not allowed (a netrc or the URL may hold a password)";
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
      if (state.answer.head.code != 200 && state.answer.head.code != 206) return size;  // words for people
      state.got += static_cast<std::int64_t>(size);
      state.pace(static_cast<std::int64_t>(size));
      if (state.answer.head.code == 206 && state.got > state.answer.range_end - state.answer.range_begin) {
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
    answer = {};
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
  state.wanted_begin = state.wanted_end = 0;
  state.conditional = true;
  std::vector<std::string> headers;
  if (!etag.empty()) headers.push_back("If-None-Match: " + etag);
  if (mtime > 0) headers.push_back("If-Modified-Since: " + http_date(mtime));
  state.perform(headers);
  return state.answer.head;
}

}  // namespace mesh
