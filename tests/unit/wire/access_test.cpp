#include "wire/access.h"

#include "test.h"

using namespace mesh;

namespace {

bool is_answered(std::string_view host) {
  HttpHead head;
  head.host = host;
  return http_refusal(head, {"head.example"}).empty();
}

}  // namespace

TEST_CASE("requests are answered to addresses, localhost and the names that are given, with a port or without") {
  for (const char* host : {"127.0.0.1", "10.1.2.3:6969", "[::1]", "[fe80::1]:80", "localhost:1", "head.example",
                           "HEAD.example.:6969", "head.example:"})
    CHECK(is_answered(host));
  for (const char* host : {"evil.example", "evil.example:6969", "127.0.0.1.evil.example", "head.example.evil.example"})
    CHECK_FALSE(is_answered(host));
}

TEST_CASE("a host that has anything else behind it than a port is none") {
  for (const char* host : {"[::0]he]hevil.example:v:", "[::1]evil.example", "[::1]:80evil", "127.0.0.1:evil.example",
                           "127.0.0.1:80:80", "[::1", "[", ":80", "[]:80", "[::1%evil.example]"})
    CHECK_FALSE(is_answered(host));
  CHECK_FALSE(is_answered(std::string("[::1\0evil.example]", 18)));
}

TEST_CASE("no page opens a channel, and a request of HTTP 1.1 names a host") {
  HttpHead head;
  head.host = "127.0.0.1";
  head.is_upgrade = true;
  CHECK(http_refusal(head, {}).empty());
  head.has_origin = true;
  CHECK_FALSE(http_refusal(head, {}).empty());
  CHECK_FALSE(http_refusal(HttpHead{}, {}).empty());
  HttpHead old;
  old.is_http_1_0 = true;
  CHECK(http_refusal(old, {}).empty());
}
