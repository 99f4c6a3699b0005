#include "store/sigv4.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <array>

#include "core/format.h"
#include "core/merkle.h"

namespace mesh {
namespace {

std::string hmac(std::string_view key, std::string_view text) {
  std::string out(32, '\0');
  unsigned size = 0;
  ::HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), reinterpret_cast<const unsigned char*>(text.data()),
         text.size(), reinterpret_cast<unsigned char*>(out.data()), &size);
  return out;
}

std::string time_text(std::time_t now, const char* form) {
  std::tm tm{};
  ::gmtime_r(&now, &tm);
  std::array<char, 32> out{};
  return {out.data(), std::strftime(out.data(), out.size(), form, &tm)};
}

}  // namespace

std::string s3_encoded(std::string_view text, bool is_path) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                          c == '.' || c == '_' || c == '~' || (is_path && c == '/');
    if (is_plain)
      out += c;
    else
      out += {'%', digits[static_cast<unsigned char>(c) >> 4], digits[static_cast<unsigned char>(c) & 15]};
  }
  return out;
}

std::vector<std::string> sign_v4(const S3Request& request, const S3Credentials& by, std::string_view region,
                                 std::time_t now) {
  const auto time = time_text(now, "%Y%m%dT%H%M%SZ");
  const auto date = time.substr(0, 8);
  auto headers = request.headers;
  headers["host"] = request.host;
  headers["x-amz-content-sha256"] = request.content_sha256;
  headers["x-amz-date"] = time;
  if (!by.session_token.empty()) headers["x-amz-security-token"] = by.session_token;
  std::vector<std::pair<std::string, std::string>> query;
  for (const auto& [name, value] : request.query) query.emplace_back(s3_encoded(name, false), s3_encoded(value, false));
  std::ranges::sort(query);
  std::string canonical = request.method + "\n" + request.path + "\n";
  for (std::size_t i = 0; i < query.size(); ++i)
    canonical += (i > 0 ? "&" : "") + query[i].first + "=" + query[i].second;
  canonical += "\n";
  std::string names;
  for (const auto& [name, value] : headers) {
    canonical += name + ":" + value + "\n";
    names += (names.empty() ? "" : ";") + name;
  }
  canonical += "\n" + names + "\n" + request.content_sha256;
  const auto scope = date + "/" + std::string(region) + "/s3/aws4_request";
  const auto to_sign = "AWS4-HMAC-SHA256\n" + time + "\n" + scope + "\n" + sha256(canonical).hex();
  const auto key = hmac(hmac(hmac(hmac("AWS4" + by.secret, date), region), "s3"), "aws4_request");
  std::vector<std::string> out{"Authorization: AWS4-HMAC-SHA256 Credential=" + by.key_id + "/" + scope +
                               ",SignedHeaders=" + names + ",Signature=" + to_hex(hmac(key, to_sign))};
  for (const auto& [name, value] : headers)
    if (name != "host") out.push_back(name + ": " + value);
  return out;
}

}  // namespace mesh
