#include "store/requests.h"

#include <algorithm>
#include <charconv>

#include "core/format.h"
#include "store/sigv4.h"

namespace mesh {

std::array<std::string, 3> endpoint_parts(const std::string& endpoint) {
  const auto host = endpoint.find("://") + 3;
  const auto slash = std::min(endpoint.find('/', host), endpoint.size());
  auto path = endpoint.substr(slash);
  while (path.ends_with('/')) path.pop_back();
  auto at = endpoint.substr(host, slash - host);
  // As libcurl says it in Host, which is signed.
  const std::string_view usual = endpoint.starts_with("https:") ? ":443" : ":80";
  if (at.ends_with(usual)) at = at.substr(0, at.size() - usual.size());
  return {endpoint.substr(0, host), at, path};
}

std::string encoded_query(std::vector<std::pair<std::string, std::string>> query) {
  std::string out;
  for (const auto& [name, value] : query) {
    out += (out.empty() ? "?" : "&") + s3_encoded(name, false);
    out += "=" + s3_encoded(value, false);
  }
  return out;
}

std::int64_t header_number(const std::string& text) {
  std::int64_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() ? out : -1;
}

std::string without_quotes(std::string etag) {
  if (etag.starts_with("W/")) etag.erase(0, 2);
  std::erase(etag, '"');
  return etag;
}

bool is_md5(const std::string& etag) { return is_hex(etag, 32); }

Error there_already(const StoreCall& call) {
  return {Status::refused, printable(call.shown) + ": there is one already; --force replaces it"};
}

Error got_something_else(const StoreCall& call) {
  return {Status::failed, printable(call.shown) + ": the store says that it got other bytes than were sent"};
}

void throw_put_trouble(const StoreLink& link, const StoreAnswer& answer, const ObjectStore& store,
                       const StoreCall& call, bool is_conditional) {
  if (is_conditional && answer.code == 501) throw NoConditions(Status::failed, "If-None-Match is not known");
  // 409: another one is being put at this moment.
  if (is_conditional && (answer.code == 412 || answer.code == 409)) throw there_already(call);
  throw Error(link.trouble(answer, store.name()));
}

}  // namespace mesh
