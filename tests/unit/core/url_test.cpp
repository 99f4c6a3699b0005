#include "core/url.h"

#include "core/error.h"
#include "core/mesh_path.h"
#include "test.h"

using namespace mesh;

TEST_CASE("URLs: the mesh path is the URL's, decoded, without the host and the query") {
  CHECK(parse_url("https://host/a/b/image.img?x=y").path == "a/b/image.img");
  CHECK(parse_url("http://host:8080//a//b.img").path == "a/b.img");
  CHECK(parse_url("http://host/a%20b/%C3%A4.img").path == "a b/\xc3\xa4.img");
  CHECK(parse_url("http://host/a/./x/../b").path == "a/b");
  CHECK(parse_url("http://host/a/[1]*.img").path == "a/[1]*.img");
  const auto what = parse_what("http://host/a/*.img", {"/f"});
  CHECK(what.pattern == "a/*.img");
  CHECK_FALSE(what.is_glob);
  CHECK(portable_text(what) == "http://host/a/*.img");
}

TEST_CASE("URLs: secrets are used and not shown") {
  const auto url = parse_url("https://me:secret@host/x?k=1");
  CHECK(url.address == "https://me:secret@host/x?k=1");
  CHECK(url.identity == "https://host/x?k=1");
  CHECK(url.shown == "https://host/x?...");
  CHECK(without_secrets("https://me:secret@host/x") == "https://host/x");
  CHECK(without_secrets("https://host/a@b") == "https://host/a@b");
  CHECK(without_secrets("file:me:secret@host") == "file:me:secret@host");
  try {
    static_cast<void>(parse_url("https://me:secret@host/"));
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find("secret") == std::string::npos);
  }
}

TEST_CASE("URLs: a checksum, and nothing else behind #") {
  const std::string sum(64, 'a');
  CHECK(parse_url("http://h/x#sha256=" + std::string(64, 'A')).sha256 == sum);
  CHECK(parse_url("http://h/x#sha256=" + sum).address == "http://h/x");
  for (const auto* bad : {"http://h/x#sha256=12", "http://h/x#sha265=aa", "http://h/x#top"})
    CHECK_THROWS_AS(parse_url(bad), Error);
}

TEST_CASE("URLs: what is none, or names no file") {
  for (const auto* bad : {"ftp://h/x", "file:///etc/passwd", "http://", "http://h", "http://h/", "http://h/a/",
                          "http:/h/x", "http://h/%00", "http://h/a%0ab", "http://h/..%2f..%2fetc%2fpasswd",
                          "http://h/.mesh/state.db", "http://h:99999/x", "http://h/%ff"}) {
    INFO(bad);
    CHECK_THROWS_AS(parse_url(bad), Error);
  }
  CHECK_THROWS_AS(parse_url("http://h/" + std::string(9000, 'a')), Error);
  CHECK_THROWS_AS(parse_what("tar:x", {"/f"}), Error);
}

TEST_CASE("URLs: what is shown has no password and no token in it, however they are written") {
  CHECK(without_secrets("http://u:pa/ss@h/x") == "http://h/x");
  CHECK(without_secrets("HTTP://u:p@h/x") == "HTTP://h/x");
  CHECK(without_secrets("hTTps://u:p@h/x?token=1#sha256=00") == "hTTps://h/x?...#sha256=00");
  CHECK(without_secrets("tar:http://u:p@h/x?t=1") == "tar:http://h/x?...");
  CHECK(without_secrets("http://h:80/a@b") == "http://h:80/a@b");
  CHECK(without_secrets("http://[::1]:80/a@b") == "http://[::1]:80/a@b");
  CHECK_THROWS_WITH(parse_url("http://u:pa/ss@h/x"), !Catch::Contains("pa/ss") && !Catch::Contains("u:"));
  CHECK(parse_url("HTTP://h/a/x").path == "a/x");
}

TEST_CASE("URLs: a signature is no part of what they name") {
  const auto identity = [](const char* url, const std::vector<std::string>& more = {}) {
    return parse_url(url, more).identity;
  };
  CHECK(identity("https://h/x?X-Amz-Date=1&X-Amz-Signature=2") == "https://h/x");
  CHECK(identity("https://h/x?version=3&x-amz-signature=2&part=a") == "https://h/x?version=3&part=a");
  CHECK(identity("https://h/x?Expires=1&Signature=2&Key-Pair-Id=3") == "https://h/x");
  CHECK(identity("https://h/x?sv=1&sig=2&se=3&snapshot=4") == "https://h/x?snapshot=4");
  CHECK(identity("https://h/x?stamp=1&k=2", {"STAMP"}) == "https://h/x?k=2");
  CHECK(identity("https://h/x?stamp=1&k=2") == "https://h/x?stamp=1&k=2");
  CHECK(parse_url("https://h/x?token=t&k=2").address == "https://h/x?token=t&k=2");
  CHECK(parse_url("https://h/x?token=t").shown == "https://h/x?...");
}
