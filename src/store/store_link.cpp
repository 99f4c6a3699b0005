#include "store/store_link.h"

#include <curl/curl.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <mutex>
#include <random>
#include <thread>

#include "core/format.h"
#include "store/listing.h"

namespace mesh {
namespace {

constexpr std::size_t most_header_bytes = 256 * 1024;
// With pauses of 1, 2, 4... seconds between them. A put is worth waiting for; who lists wants to know.
constexpr int most_put_tries = 6;
constexpr int most_tries = 3;
constexpr int most_signings = 3;

bool may_be_over(long code) { return code == 408 || code == 429 || (code >= 500 && code != 501); }

}  // namespace

struct StoreLink::State {
  std::string ca;
  StoreCall call;
  CURL* curl = nullptr;
  StoreAnswer answer;
  std::size_t header_bytes = 0;
  const Body* body = nullptr;
  std::string trouble;
  std::exception_ptr thrown;  // must not pass through libcurl

  [[nodiscard]] Error fail(Status status, const std::string& why) const {
    return {status, printable(call.shown) + ": " + why};
  }

  static std::size_t take_header(char* data, std::size_t, std::size_t size, void* self) {
    auto& state = *static_cast<State*>(self);
    state.header_bytes += size;
    if (state.header_bytes > most_header_bytes) return 0;
    std::string_view line(data, size);
    if (line.starts_with("HTTP/")) state.answer.headers.clear();
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) return size;
    std::string name(line.substr(0, colon));
    std::ranges::transform(name, name.begin(),
                           [](char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
    auto value = line.substr(colon + 1);
    const auto from = std::min(value.find_first_not_of(" \t"), value.size());
    const auto to = value.find_last_not_of(" \t\r\n");
    value = to == std::string_view::npos || to < from ? std::string_view() : value.substr(from, to - from + 1);
    state.answer.headers[std::move(name)] = value;
    return size;
  }
  static std::size_t take_body(char* data, std::size_t, std::size_t size, void* self) {
    auto& state = *static_cast<State*>(self);
    if (state.answer.body.size() + size > most_body_bytes) {
      state.trouble = "the store's answer has no end";
      return 0;
    }
    state.answer.body.append(data, size);
    return size;
  }
  static std::size_t give_body(char* to, std::size_t, std::size_t size, void* self) {
    auto& state = *static_cast<State*>(self);
    try {
      return state.body->read(to, size);
    } catch (...) {
      state.thrown = std::current_exception();
      return CURL_READFUNC_ABORT;
    }
  }
  static int give_again(void* self, curl_off_t offset, int) {
    auto& state = *static_cast<State*>(self);
    if (offset != 0 || !state.body->rewind) return CURL_SEEKFUNC_CANTSEEK;
    state.body->rewind();
    return CURL_SEEKFUNC_OK;
  }
  static int progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    const auto& stopped = static_cast<State*>(self)->call.stopped;
    return stopped && stopped() ? 1 : 0;
  }
  void pause(std::chrono::milliseconds time) const {
    const auto until = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < until) {
      if (call.stopped && call.stopped()) throw fail(Status::interrupted, "stopped");
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
};

StoreLink::StoreLink(std::string ca, StoreCall call) : state_(std::make_unique<State>()) {
  static std::once_flag once;
  std::call_once(once, [] { ::curl_global_init(CURL_GLOBAL_DEFAULT); });
  state_->ca = std::move(ca);
  state_->call = std::move(call);
  state_->curl = ::curl_easy_init();
  if (state_->curl == nullptr) throw Error(Status::failed, "libcurl cannot be set up");
}

StoreLink::~StoreLink() { ::curl_easy_cleanup(state_->curl); }

StoreLink::Body StoreLink::body_of(const std::string& text) {
  Body out;
  out.size = std::ssize(text);
  const auto at = std::make_shared<std::size_t>(0);
  out.read = [text, at](char* to, std::size_t size) {
    const auto n = std::min(size, text.size() - *at);
    std::memcpy(to, text.data() + *at, n);
    *at += n;
    return n;
  };
  out.rewind = [at] { *at = 0; };
  return out;
}

StoreAnswer StoreLink::ask(const std::string& method, const SignedRequest& request, const Body* body) {
  auto& state = *state_;
  auto* curl = state.curl;
  state.answer = {};
  state.header_bytes = 0;
  state.trouble.clear();
  state.thrown = nullptr;
  state.body = body;
  const auto set = [curl](CURLoption option, auto value) { ::curl_easy_setopt(curl, option, value); };
  ::curl_easy_reset(curl);  // keeps connections
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_NETRC, long{CURL_NETRC_IGNORED});
  set(CURLOPT_PATH_AS_IS, 1L);  // a key may have .. in it
  set(CURLOPT_USERAGENT, "meshswarm");
  set(CURLOPT_CONNECTTIMEOUT, long{state.call.timeout_seconds});
  set(CURLOPT_LOW_SPEED_LIMIT, 1L);
  set(CURLOPT_LOW_SPEED_TIME, long{state.call.timeout_seconds});
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFOFUNCTION, &State::progress);
  set(CURLOPT_XFERINFODATA, &state);
  set(CURLOPT_HEADERFUNCTION, &State::take_header);
  set(CURLOPT_HEADERDATA, &state);
  set(CURLOPT_WRITEFUNCTION, &State::take_body);
  set(CURLOPT_WRITEDATA, &state);
  if (!state.ca.empty()) {
    curl_blob blob{state.ca.data(), state.ca.size(), CURL_BLOB_COPY};
    set(CURLOPT_CAINFO_BLOB, &blob);
  }
  set(CURLOPT_URL, request.url.c_str());
  if (method == "HEAD") {
    set(CURLOPT_NOBODY, 1L);
  } else if (body != nullptr) {
    set(CURLOPT_UPLOAD, 1L);
    set(CURLOPT_READFUNCTION, &State::give_body);
    set(CURLOPT_READDATA, &state);
    set(CURLOPT_SEEKFUNCTION, &State::give_again);
    set(CURLOPT_SEEKDATA, &state);
    set(CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(body->size));
    set(CURLOPT_UPLOAD_BUFFERSIZE, 256L * 1024);
  }
  if (method != "HEAD") set(CURLOPT_CUSTOMREQUEST, method.c_str());
  curl_slist* list = nullptr;
  for (const auto& line : request.headers) {
    // libcurl leaves out a header without a value, unless it is told so.
    const bool is_empty = line.ends_with(": ");
    list = ::curl_slist_append(list, is_empty ? (line.substr(0, line.size() - 2) + ";").c_str() : line.c_str());
  }
  // A server that refuses says so before the body is on its way.
  if (body != nullptr && body->size > 1 << 20) list = ::curl_slist_append(list, "Expect: 100-continue");
  if (body != nullptr && body->size <= 1 << 20) list = ::curl_slist_append(list, "Expect:");
  set(CURLOPT_HTTPHEADER, list);
  char detail[CURL_ERROR_SIZE] = {};
  set(CURLOPT_ERRORBUFFER, detail);
  const auto result = ::curl_easy_perform(curl);
  set(CURLOPT_ERRORBUFFER, static_cast<char*>(nullptr));
  set(CURLOPT_HTTPHEADER, static_cast<curl_slist*>(nullptr));
  ::curl_slist_free_all(list);
  if (state.thrown) std::rethrow_exception(state.thrown);
  if (!state.trouble.empty()) throw state.fail(Status::failed, state.trouble);
  ::curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &state.answer.code);
  // It may hang up on a body that it does not want, once it has said so.
  if (result == CURLE_SEND_ERROR && state.answer.code >= 400) return state.answer;
  const std::string why = detail[0] != '\0' ? detail : ::curl_easy_strerror(result);
  switch (result) {
    case CURLE_OK:
      return state.answer;
    case CURLE_ABORTED_BY_CALLBACK:
      throw state.fail(Status::interrupted, "stopped");
    case CURLE_PEER_FAILED_VERIFICATION:
      throw state.fail(Status::failed, why + " (cacert in the store's section names the certificates to trust)");
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
      throw state.fail(Status::failed, why);
    default:
      throw state.fail(Status::unreachable, why);
  }
}

StoreAnswer StoreLink::ask(ObjectStore& store, const StoreRequest& request, const Body* body) {
  auto wait = std::chrono::milliseconds(1000);
  int signings = 1;
  for (int tries = 1;; ++tries) {
    if (tries + signings > 2 && body != nullptr) body->rewind();
    bool is_last = tries >= (body != nullptr ? most_put_tries : most_tries);
    std::chrono::milliseconds asked_to{0};
    try {
      const auto by = store.sign(request);
      auto answer = ask(request.method, by, body);
      if (signings < most_signings &&
          store.learn(by, request.bucket, answer.code, answer.header("x-amz-bucket-region"))) {
        ++signings;
        --tries;
        continue;
      }
      if (is_last || !may_be_over(answer.code)) return answer;
      asked_to = std::chrono::seconds(std::clamp(std::atoi(answer.header("retry-after").c_str()), 0, 60));
    } catch (const Error& error) {
      if (is_last || error.status() != Status::unreachable) throw;
    }
    state_->pause(std::max(wait, asked_to));
    wait = std::min(2 * wait, std::chrono::milliseconds(8000));
  }
}

Error StoreLink::trouble(const StoreAnswer& answer, const std::string& store) const {
  std::string why = "HTTP status " + std::to_string(answer.code);
  // S3 says why in XML, Swift in HTML for people.
  if (answer.body.starts_with("<?xml")) try {
      const auto code = read_s3_element(answer.body, "Code");
      const auto text = read_s3_element(answer.body, "Message");
      if (!code.empty()) why += " " + printable(code.substr(0, 100));
      if (!text.empty()) why += ": " + printable(text.substr(0, 300));
    } catch (const Error&) {
      // It says nothing that helps.
    }
  switch (answer.code) {
    case 404:
      return state_->fail(Status::not_found, why + ": not found");
    case 401:
    case 403:
      return state_->fail(Status::failed, why + ": not allowed (the credentials of the store " + printable(store) +
                                              ", or the clock of this machine)");
    case 301:
    case 302:
    case 307:
    case 308:
      return state_->fail(Status::failed, why + ": the store sends elsewhere (is its endpoint or its region right?)");
    default:
      return state_->fail(Status::failed, why);
  }
}

}  // namespace mesh
