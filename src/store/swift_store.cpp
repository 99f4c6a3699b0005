#include "store/swift_store.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/format.h"
#include "store/digests.h"
#include "store/listing.h"
#include "store/requests.h"
#include "store/sigv4.h"
#include "store/store_link.h"

namespace mesh {
namespace {

using nlohmann::json;

constexpr std::size_t page_size = 1000;
constexpr auto longest_session = std::chrono::minutes(50);

std::string text_at(const json& from, const char* name) {
  const auto at = from.is_object() ? from.find(name) : from.end();
  return from.is_object() && at != from.end() && at->is_string() ? at->get<std::string>() : std::string();
}

const json& part_of(const json& from, const char* name) {
  static const json nothing;
  if (!from.is_object()) return nothing;
  const auto at = from.find(name);
  return at != from.end() ? *at : nothing;
}

/// What the answer's URL becomes a part of must be one.
bool is_plain_url(const std::string& text) {
  return (text.starts_with("http://") || text.starts_with("https://")) && text.size() < 2000 &&
         std::ranges::all_of(text, [](char c) { return c > ' ' && c < 0x7f && c != '?' && c != '#' && c != '@'; });
}

bool is_plain_header(const std::string& text) {
  return !text.empty() && text.size() < 16'000 && std::ranges::all_of(text, [](char c) { return c > ' ' && c < 0x7f; });
}

std::string token_header(const std::string& token) { return "X-Auth-Token: " + token; }

std::string segments_container(const std::string& bucket) { return bucket + "_segments"; }

}  // namespace

SwiftStore::Session SwiftStore::session() {
  const std::lock_guard lock(mutex_);
  // The token would be refused at some time, and a body that was sent for nothing is dear.
  if (session_.token.empty() || Clock::now() - session_.begun > longest_session) session_ = log_in();
  return session_;
}

SwiftStore::Session SwiftStore::log_in() {
  const auto by = options_.credentials();
  StoreCall call;
  call.shown = "the store " + printable(options_.name);
  StoreLink link(ca(), call);
  Session out;
  const auto path = endpoint_parts(options_.auth)[2];
  if (path.ends_with("/v3"))
    log_in_to_keystone(link, by, out);
  else
    log_in_to_v1(link, by, out);
  while (out.url.ends_with('/')) out.url.pop_back();
  if (!is_plain_url(out.url) || !is_plain_header(out.token))
    throw Error(Status::failed, call.shown + ": it takes the credentials, and does not say where its objects are");
  out.begun = Clock::now();
  return out;
}

void SwiftStore::log_in_to_v1(StoreLink& link, const SwiftCredentials& by, Session& out) const {
  const SignedRequest request{options_.auth, {"X-Auth-User: " + by.user, "X-Auth-Key: " + by.key}};
  const auto answer = link.ask("GET", request);
  if (answer.code / 100 != 2) throw link.trouble(answer, options_.name);
  out.url = answer.header("x-storage-url");
  out.token = answer.header("x-auth-token");
}

void SwiftStore::log_in_to_keystone(StoreLink& link, const SwiftCredentials& by, Session& out) const {
  json identity;
  json asked;
  const auto domain = [](const std::string& name) { return json{{"name", name.empty() ? "Default" : name}}; };
  if (!by.application_id.empty()) {
    identity = {{"methods", {"application_credential"}},
                {"application_credential", {{"id", by.application_id}, {"secret", by.application_secret}}}};
  } else {
    identity = {
        {"methods", {"password"}},
        {"password", {{"user", {{"name", by.user}, {"domain", domain(by.user_domain)}, {"password", by.key}}}}}};
    asked["auth"]["scope"]["project"] = {{"name", by.project}, {"domain", domain(by.project_domain)}};
  }
  asked["auth"]["identity"] = identity;
  const auto body = StoreLink::body_of(asked.dump(-1, ' ', false, json::error_handler_t::replace));
  const SignedRequest request{options_.auth + "/auth/tokens", {"Content-Type: application/json"}};
  const auto answer = link.ask("POST", request, &body);
  if (answer.code != 201 && answer.code != 200) throw link.trouble(answer, options_.name);
  out.token = answer.header("x-subject-token");
  const auto said = json::parse(answer.body, nullptr, false);
  for (const auto& service : part_of(part_of(said, "token"), "catalog")) {
    if (text_at(service, "type") != "object-store") continue;
    for (const auto& endpoint : part_of(service, "endpoints")) {
      const auto region =
          text_at(endpoint, "region_id").empty() ? text_at(endpoint, "region") : text_at(endpoint, "region_id");
      if (text_at(endpoint, "interface") != "public" || (!options_.region.empty() && region != options_.region))
        continue;
      if (out.url.empty()) out.url = text_at(endpoint, "url");
    }
  }
  if (out.url.empty())
    throw Error(Status::failed, "the store " + printable(options_.name) +
                                    ": Keystone's catalog has no public object-store" +
                                    (options_.region.empty() ? "" : " in the region " + printable(options_.region)));
}

SignedRequest SwiftStore::sign(const StoreRequest& request) {
  const auto by = session();
  SignedRequest out;
  out.url = by.url + "/" + s3_encoded(request.bucket, false) +
            (request.key.empty() ? "" : "/" + s3_encoded(request.key, true)) + encoded_query(request.query);
  out.headers.push_back(token_header(by.token));
  for (const auto& [name, value] : request.headers) out.headers.push_back(name + ": " + value);
  return out;
}

/// A token may end before its time. Another one may have been had meanwhile.
bool SwiftStore::learn(const SignedRequest& asked, const std::string&, long code, const std::string&) {
  if (code != 401) return false;
  const std::lock_guard lock(mutex_);
  if (!asked.headers.empty() && asked.headers.front() == token_header(session_.token)) session_.token.clear();
  return true;
}

ObjectPage SwiftStore::list(const std::string& bucket, const std::string& prefix, const std::string& delimiter,
                            const std::string& after, const StoreCall& call) {
  StoreRequest request;
  request.bucket = bucket;
  request.query = {{"format", "json"}, {"limit", std::to_string(page_size)}};
  if (!prefix.empty()) request.query.emplace_back("prefix", prefix);
  if (!delimiter.empty()) request.query.emplace_back("delimiter", delimiter);
  if (!after.empty()) request.query.emplace_back("marker", after);
  StoreLink link(ca(), call);
  const auto answer = link.ask(*this, request);
  if (answer.code == 204) return {};
  if (answer.code != 200) throw link.trouble(answer, name());
  return read_swift_listing(answer.body, page_size);
}

ObjectHead SwiftStore::head(const std::string& bucket, const std::string& key, const StoreCall& call) {
  StoreRequest request;
  request.method = "HEAD";
  request.bucket = bucket;
  request.key = key;
  StoreLink link(ca(), call);
  const auto answer = link.ask(*this, request);
  if (answer.code != 200) throw link.trouble(answer, name());
  return {header_number(answer.header("content-length")), without_quotes(answer.header("etag")),
          answer.header("x-static-large-object") == "True" || answer.header("x-static-large-object") == "true"};
}

void SwiftStore::remove(const std::string& bucket, const std::string& key, const StoreCall& call) {
  const auto known = head(bucket, key, call);
  StoreLink link(ca(), call);
  const auto segments = known.is_large ? segments_of(link, bucket, key) : std::vector<std::string>();
  StoreRequest request;
  request.method = "DELETE";
  request.bucket = bucket;
  request.key = key;
  const auto answer = link.ask(*this, request);
  if (answer.code / 100 != 2) throw link.trouble(answer, name());
  remove_segments(link, bucket, segments);
}

/// The segments of a static large object that are its own by their names, as this program and the swift command name
/// them: others may be somebody else's.
std::vector<std::string> SwiftStore::segments_of(StoreLink& link, const std::string& bucket, const std::string& key) {
  StoreRequest request;
  request.bucket = bucket;
  request.key = key;
  request.query = {{"multipart-manifest", "get"}, {"format", "raw"}};
  const auto answer = link.ask(*this, request);
  if (answer.code == 404) return {};
  if (answer.code != 200) throw link.trouble(answer, name());
  std::vector<std::string> out;
  const auto own = "/" + segments_container(bucket) + "/";
  const auto segments = json::parse(answer.body, nullptr, false);
  if (!segments.is_array()) return out;
  for (const auto& segment : segments)
    if (const auto path = text_at(segment, "path"); path.starts_with(own + key + "/slo/"))
      out.push_back(path.substr(own.size()));
  return out;
}

void SwiftStore::remove_segments(StoreLink& link, const std::string& bucket, const std::vector<std::string>& keys) {
  for (const auto& key : keys) {
    StoreRequest request;
    request.method = "DELETE";
    request.bucket = segments_container(bucket);
    request.key = key;
    const auto answer = link.ask(*this, request);
    if (answer.code / 100 != 2 && answer.code != 404) throw link.trouble(answer, name());
  }
}

std::string SwiftStore::put_whole(StoreLink& link, StoreRequest request, const Upload& upload, const StoreCall& call) {
  const auto digests = digest(upload, 0, upload.size, call);
  // The store compares.
  request.headers["etag"] = digests.md5;
  const auto body = body_of(upload, 0, upload.size);
  const auto answer = link.ask(*this, request, &body);
  if (answer.code == 422) throw got_something_else(call);
  if (answer.code / 100 != 2) throw_put_trouble(link, answer, *this, call, request.headers.contains("if-none-match"));
  return digests.md5;
}

std::int64_t SwiftStore::segment_bytes(std::int64_t size) const {
  constexpr std::int64_t most_segments = 1000;  // Swift's own limit
  constexpr std::int64_t megabyte = 1 << 20;
  return std::max(options_.least_segment_bytes, (size / most_segments + megabyte) / megabyte * megabyte);
}

std::string SwiftStore::put_segments(StoreLink& link, StoreRequest manifest, const Upload& upload,
                                     const StoreCall& call) {
  const auto bytes = segment_bytes(upload.size);
  const auto container = segments_container(manifest.bucket);
  StoreRequest make;
  make.method = "PUT";
  make.bucket = container;
  const auto nothing = StoreLink::body_of("");
  if (const auto answer = link.ask(*this, make, &nothing); answer.code / 100 != 2) throw link.trouble(answer, name());
  // What an earlier run sent of the same state of the file counts where it is the same.
  const auto prefix =
      manifest.key + "/slo/" + upload.version + "/" + std::to_string(upload.size) + "/" + std::to_string(bytes) + "/";
  std::map<std::string, StoredObject> there;
  for (std::string after;;) {
    const auto page = list(container, prefix, {}, after, call);
    for (const auto& object : page.objects) there[object.key] = object;
    if (page.next.empty()) break;
    after = page.next;
  }
  auto segments = json::array();
  std::string all_md5;
  int number = 0;
  for (std::int64_t from = 0; from < upload.size; from += bytes, ++number) {
    const auto size = std::min(bytes, upload.size - from);
    const auto digests = digest(upload, from, size, call);
    auto digits = std::to_string(number);
    digits.insert(0, 8 - std::min<std::size_t>(8, digits.size()), '0');
    const auto key = prefix + digits;
    const auto known = there.find(key);
    if (known == there.end() || known->second.size != size || known->second.etag != digests.md5) {
      StoreRequest request;
      request.method = "PUT";
      request.bucket = container;
      request.key = key;
      request.headers["etag"] = digests.md5;
      const auto body = body_of(upload, from, size);
      const auto answer = link.ask(*this, request, &body);
      if (answer.code == 422) throw got_something_else(call);
      if (answer.code / 100 != 2) throw link.trouble(answer, name());
    }
    if (upload.on_progress) upload.on_progress(from + size);
    all_md5 += digests.md5;
    segments.push_back({{"path", "/" + container + "/" + key}, {"etag", digests.md5}, {"size_bytes", size}});
  }
  if (upload.check) upload.check();
  manifest.query = {{"multipart-manifest", "put"}};
  const auto body = StoreLink::body_of(segments.dump());
  const auto answer = link.ask(*this, manifest, &body);
  if (answer.code / 100 != 2) throw_put_trouble(link, answer, *this, call, manifest.headers.contains("if-none-match"));
  return md5_hex(all_md5);
}

Uploaded SwiftStore::put(const std::string& bucket, const std::string& key, const Upload& upload,
                         const StoreCall& call) {
  StoreLink link(ca(), call);
  std::vector<std::string> old;
  const bool is_large = upload.size > options_.most_single_bytes;
  const auto expected = [&] {
    if (!is_large) return digest(upload, 0, upload.size, call).md5;
    std::string all_md5;
    const auto bytes = segment_bytes(upload.size);
    for (std::int64_t from = 0; from < upload.size; from += bytes)
      all_md5 += digest(upload, from, std::min(bytes, upload.size - from), call).md5;
    return md5_hex(all_md5);
  };
  // An answer that was lost, or a node that was killed: it may be there by now.
  const auto is_ours = [&](const ObjectHead& known) { return known.size == upload.size && known.etag == expected(); };
  Uploaded out;
  try {
    const auto known = head(bucket, key, call);
    if (!upload.may_replace) {
      if (!is_ours(known)) throw there_already(call);
      out.etag = known.etag;
      return out;
    }
    if (known.is_large) old = segments_of(link, bucket, key);
  } catch (const Error& error) {
    if (error.status() != Status::not_found) throw;
  }
  StoreRequest request;
  request.method = "PUT";
  request.bucket = bucket;
  request.key = key;
  if (!upload.may_replace) request.headers["if-none-match"] = "*";
  try {
    out.etag = is_large ? put_segments(link, request, upload, call) : put_whole(link, request, upload, call);
  } catch (const Error& error) {
    if (error.status() != Status::refused || !is_ours(head(bucket, key, call))) throw;
    out.etag = expected();
  }
  const auto now = head(bucket, key, call);
  if (now.size != upload.size || now.etag != out.etag)
    throw Error(Status::failed, printable(call.shown) + ": is another object than was put, of " +
                                    human_bytes(now.size) + ": somebody else has put one at the same time");
  if (is_large) {
    const auto own = segments_of(link, bucket, key);
    const std::set<std::string> kept(own.begin(), own.end());
    std::erase_if(old, [&](const std::string& segment) { return kept.contains(segment); });
  }
  remove_segments(link, bucket, old);
  return out;
}

}  // namespace mesh
