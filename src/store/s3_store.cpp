#include "store/s3_store.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "core/format.h"
#include "store/digests.h"
#include "store/listing.h"
#include "store/requests.h"
#include "store/store_link.h"

namespace mesh {
namespace {

using nlohmann::json;

constexpr std::size_t most_regions = 1000;

std::string in_quotes(const std::string& etag) { return "\"" + etag + "\""; }

}  // namespace

SignedRequest S3Store::sign(const StoreRequest& request) {
  auto region = options_.region;
  {
    const std::lock_guard lock(mutex_);
    if (const auto known = regions_.find(request.bucket); known != regions_.end()) region = known->second;
  }
  const auto endpoint = options_.endpoint.empty() ? "https://s3." + region + ".amazonaws.com" : options_.endpoint;
  const auto [scheme, host, path] = endpoint_parts(endpoint);
  S3Request out;
  out.method = request.method;
  out.host = options_.has_path_style ? host : request.bucket + "." + host;
  out.path = path + (options_.has_path_style ? "/" + s3_encoded(request.bucket, false) : std::string()) +
             (request.key.empty() && options_.has_path_style ? "" : "/") + s3_encoded(request.key, true);
  out.query = request.query;
  out.headers = request.headers;
  out.content_sha256 = request.content_sha256;
  const auto url = scheme + out.host + out.path + encoded_query(request.query);
  const auto credentials = options_.credentials();
  if (!credentials.key_id.empty()) return {url, sign_v4(out, credentials, region, std::time(nullptr))};
  // A bucket may be everybody's.
  SignedRequest plain{url, {}};
  for (const auto& [name, value] : request.headers) plain.headers.push_back(name + ": " + value);
  return plain;
}

bool S3Store::learn(const SignedRequest&, const std::string& bucket, long code, const std::string& region) {
  // 400 AuthorizationHeaderMalformed is what a wrong region may be, too.
  const bool is_elsewhere = code == 301 || code == 302 || code == 307 || code == 308 || code == 400 || code == 403;
  const bool is_name = !region.empty() && region.size() < 64 && std::ranges::all_of(region, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
  if (!is_elsewhere || !is_name) return false;
  const std::lock_guard lock(mutex_);
  const auto known = regions_.find(bucket);
  if (region == (known != regions_.end() ? known->second : options_.region)) return false;
  if (regions_.size() > most_regions) regions_.clear();
  regions_[bucket] = region;
  return true;
}

ObjectPage S3Store::list(const std::string& bucket, const std::string& prefix, const std::string& delimiter,
                         const std::string& after, const StoreCall& call) {
  StoreRequest request;
  request.bucket = bucket;
  // XML has no way to write some characters.
  request.query = {{"list-type", "2"}, {"encoding-type", "url"}, {"max-keys", "1000"}};
  if (!prefix.empty()) request.query.emplace_back("prefix", prefix);
  if (!delimiter.empty()) request.query.emplace_back("delimiter", delimiter);
  if (!after.empty()) request.query.emplace_back("continuation-token", after);
  StoreLink link(ca(), call);
  const auto answer = link.ask(*this, request);
  if (answer.code != 200) throw link.trouble(answer, name());
  return read_s3_listing(answer.body);
}

ObjectHead S3Store::head(const std::string& bucket, const std::string& key, const StoreCall& call) {
  StoreRequest request;
  request.method = "HEAD";
  request.bucket = bucket;
  request.key = key;
  StoreLink link(ca(), call);
  const auto answer = link.ask(*this, request);
  if (answer.code != 200) throw link.trouble(answer, name());
  return {header_number(answer.header("content-length")), without_quotes(answer.header("etag")), false};
}

void S3Store::remove(const std::string& bucket, const std::string& key, const StoreCall& call) {
  // What is not there is deleted, says S3.
  static_cast<void>(head(bucket, key, call));
  StoreRequest request;
  request.method = "DELETE";
  request.bucket = bucket;
  request.key = key;
  StoreLink link(ca(), call);
  const auto answer = link.ask(*this, request);
  if (answer.code / 100 != 2) throw link.trouble(answer, name());
}

/// One upload of one object.
class S3Store::Putting {
 public:
  Putting(S3Store& store, const std::string& bucket, const std::string& key, Upload upload, const StoreCall& call)
      : store_(store), upload_(std::move(upload)), call_(call), link_(store.ca(), call) {
    about_.bucket = bucket;
    about_.key = key;
    // Where it begins anew, it goes on with what there is.
    upload_.on_state = [this, tell = std::exchange(upload_.on_state, {})](const std::string& state) {
      upload_.resume = state;
      if (tell) tell(state);
    };
  }

  /// What its ETag will be, unless the store encrypts it with a key of one's own. Reads it.
  std::string expected() {
    if (upload_.size <= store_.options_.most_single_bytes) return digest(upload_, 0, upload_.size, call_).md5;
    std::string all_md5;
    for (int number = 0; number < count(); ++number)
      all_md5 += digest(upload_, number * part_bytes(), size_of(number), call_).md5_raw;
    return md5_hex(all_md5) + "-" + std::to_string(count());
  }

  /// Its ETag. `is_conditional`: only where there is none.
  std::string run(bool is_conditional) {
    is_conditional_ = is_conditional;
    return upload_.size > store_.options_.most_single_bytes ? in_parts() : whole();
  }

 private:
  [[noreturn]] void fail(const StoreAnswer& answer, bool has_condition = false) {
    throw_put_trouble(link_, answer, store_, call_, has_condition && is_conditional_);
  }
  /// A part of it, or all; its ETag.
  std::string send(StoreRequest request, std::int64_t begin, std::int64_t size, const Digests& digests) {
    request.method = "PUT";
    request.content_sha256 = digests.sha256;
    request.headers["content-md5"] = digests.md5_base64;
    const auto body = body_of(upload_, begin, size);
    const auto answer = link_.ask(store_, request, &body);
    if (answer.code / 100 != 2) fail(answer, true);
    auto etag = without_quotes(answer.header("etag"));
    if (is_md5(etag) && etag != digests.md5) throw got_something_else(call_);
    return etag;
  }

  std::string whole() {
    auto request = about_;
    if (is_conditional_) request.headers["if-none-match"] = "*";
    return send(request, 0, upload_.size, digest(upload_, 0, upload_.size, call_));
  }

  /// The parts that the store has of the upload `id`; nothing where it knows no such upload.
  std::optional<std::map<int, S3Part>> parts_of(const std::string& id) {
    std::map<int, S3Part> out;
    for (std::string after;;) {
      auto request = about_;
      request.query = {{"uploadId", id}};
      if (!after.empty()) request.query.emplace_back("part-number-marker", after);
      const auto answer = link_.ask(store_, request);
      if (answer.code == 404) return std::nullopt;
      if (answer.code != 200) fail(answer);
      const auto page = read_s3_parts(answer.body);
      for (const auto& part : page.parts) out[part.number] = part;
      if (page.next.empty() || page.next == after) return out;
      after = page.next;
    }
  }

  /// Its parts would stay for ever.
  void abandon(const std::string& id) {
    if (id.empty()) return;
    auto request = about_;
    request.method = "DELETE";
    request.query = {{"uploadId", id}};
    static_cast<void>(link_.ask(store_, request));
  }

  std::string begin() {
    auto request = about_;
    request.method = "POST";
    request.query = {{"uploads", ""}};
    const auto nothing = StoreLink::body_of("");
    const auto answer = link_.ask(store_, request, &nothing);
    if (answer.code != 200) fail(answer);
    auto id = read_s3_element(answer.body, "UploadId");
    if (id.empty()) throw Error(Status::failed, printable(call_.shown) + ": the store begins no upload");
    upload_.on_state(json{{"upload", id}, {"part_bytes", part_bytes()}}.dump());
    return id;
  }

  [[nodiscard]] std::int64_t part_bytes() const {
    constexpr std::int64_t megabyte = 1 << 20;
    constexpr std::int64_t most_parts = 10'000;
    const auto least = (upload_.size / most_parts + megabyte) / megabyte * megabyte;
    return std::max(store_.options_.least_part_bytes, least);
  }
  [[nodiscard]] std::int64_t count() const { return (upload_.size + part_bytes() - 1) / part_bytes(); }
  [[nodiscard]] std::int64_t size_of(std::int64_t number) const {
    return std::min(part_bytes(), upload_.size - number * part_bytes());
  }

  std::string in_parts() {
    std::string id;
    std::map<int, S3Part> done;
    const auto begun = json::parse(upload_.resume, nullptr, false);
    if (begun.is_object() && begun.value("part_bytes", std::int64_t{0}) == part_bytes()) {
      id = begun.value("upload", std::string());
      if (auto known = id.empty() ? std::nullopt : parts_of(id))
        done = std::move(*known);
      else
        id.clear();
    }
    if (const auto old = json::parse(upload_.abandoned, nullptr, false); old.is_object())
      abandon(old.value("upload", std::string()));
    if (id.empty()) id = begin();
    std::string list = "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">";
    std::string all_md5;
    for (int number = 1; number <= count(); ++number) {
      const auto from = (number - 1) * part_bytes();
      const auto size = size_of(number - 1);
      const auto digests = digest(upload_, from, size, call_);
      auto etag = digests.md5;
      const auto known = done.find(number);
      if (known == done.end() || known->second.size != size || known->second.etag != digests.md5) {
        auto request = about_;
        request.query = {{"partNumber", std::to_string(number)}, {"uploadId", id}};
        etag = send(request, from, size, digests);
      }
      if (upload_.on_progress) upload_.on_progress(from + size);
      all_md5 += digests.md5_raw;
      list +=
          "<Part><PartNumber>" + std::to_string(number) + "</PartNumber><ETag>" + in_quotes(etag) + "</ETag></Part>";
    }
    list += "</CompleteMultipartUpload>";
    if (upload_.check) upload_.check();
    auto request = about_;
    request.method = "POST";
    request.query = {{"uploadId", id}};
    request.headers["content-type"] = "application/xml";
    if (is_conditional_) request.headers["if-none-match"] = "*";
    request.content_sha256 = sha256_hex(list);
    const auto body = StoreLink::body_of(list);
    const auto answer = link_.ask(store_, request, &body);
    // It may say 200 and find out later.
    if (answer.code != 200 || !read_s3_element(answer.body, "Code").empty()) fail(answer, true);
    auto etag = without_quotes(read_s3_element(answer.body, "ETag"));
    const auto expected = md5_hex(all_md5) + "-" + std::to_string(count());
    if (etag.size() == expected.size() && is_md5(etag.substr(0, 32)) && etag != expected)
      throw got_something_else(call_);
    return etag;
  }

  S3Store& store_;
  Upload upload_;
  const StoreCall& call_;
  StoreLink link_;
  StoreRequest about_;
  bool is_conditional_ = false;
};

Uploaded S3Store::put(const std::string& bucket, const std::string& key, const Upload& upload, const StoreCall& call) {
  const auto is_there = [&] {
    try {
      static_cast<void>(head(bucket, key, call));
      return true;
    } catch (const Error& error) {
      if (error.status() != Status::not_found) throw;
      return false;
    }
  };
  Putting putting(*this, bucket, key, upload, call);
  // An answer that was lost, or a node that was killed: it may be there by now.
  const auto is_ours = [&] {
    try {
      const auto now = head(bucket, key, call);
      return now.size == upload.size && now.etag == putting.expected();
    } catch (const Error& error) {
      if (error.status() != Status::not_found) throw;
      return false;
    }
  };
  Uploaded out;
  bool is_conditional = !upload.may_replace;
  if (is_conditional && is_there()) {
    if (!is_ours()) throw there_already(call);
    out.etag = putting.expected();
    return out;
  }
  if (is_conditional) {
    const std::lock_guard lock(mutex_);
    is_conditional = has_conditions_;
  }
  bool is_known = true;
  try {
    out.etag = putting.run(is_conditional);
  } catch (const NoConditions&) {
    const std::lock_guard lock(mutex_);
    is_known = has_conditions_ = is_conditional = false;
  } catch (const Error& error) {
    if ((error.status() != Status::refused && error.status() != Status::not_found) || !is_ours()) throw;
    out.etag = putting.expected();
  }
  if (!is_known) {
    if (is_there()) throw there_already(call);
    out.etag = putting.run(false);
  }
  out.is_raced = !upload.may_replace && !is_conditional;
  const auto now = head(bucket, key, call);
  if (now.size != upload.size || now.etag != out.etag)
    throw Error(Status::failed, printable(call.shown) + ": is another object than was put, of " +
                                    human_bytes(now.size) + ": somebody else has put one at the same time");
  return out;
}

}  // namespace mesh
