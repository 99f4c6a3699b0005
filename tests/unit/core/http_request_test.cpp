#include "core/http_request.h"

#include "core/read_ahead.h"
#include "test.h"

using namespace mesh;

TEST_CASE("a request's target: the path decoded once, the query apart, and nothing that makes no sense") {
  CHECK(read_target("/files/a%20b%25.txt")->path == "/files/a b%.txt");
  CHECK(read_target("/files/%C3%BC")->path == "/files/\xC3\xBC");
  CHECK(read_target("/files/a%2Fb")->path == "/files/a/b");
  CHECK(read_target("/files/a%2520b")->path == "/files/a%20b");
  CHECK(read_target("http://host:80/files/x")->path == "/files/x");
  CHECK(read_target("http://host:80/files/x")->authority == "host:80");
  CHECK(read_target("http://host")->path == "/");
  CHECK(read_target("/files/x")->authority.empty());
  CHECK(read_target("/files/?after=a%26b&x&y=1")->query.at("after") == "a&b");
  CHECK(read_target("/files/?after=a%26b&x&y=1")->query.at("x").empty());
  for (const auto* bad : {"", "files", "*", "/a%2", "/a%zz", "/a%00b", "/x?a=%", "http:///x", "https://host/x"})
    CHECK_FALSE(read_target(bad));
  CHECK(read_target(url_path("/a b%?#\"<>\xC3\xBC&.x"))->path == "/a b%?#\"<>\xC3\xBC&.x");
}

TEST_CASE("Range: one range of bytes, the rest of it, its end, and all where it says anything else") {
  const auto part = [](const char* header) { return read_range(header, 1000).range; };
  CHECK(part("bytes=0-0") == ByteRange{0, 1});
  CHECK(part("bytes=100-199") == ByteRange{100, 100});
  CHECK(part("bytes=100-") == ByteRange{100, 900});
  CHECK(part("bytes=900-5000") == ByteRange{900, 100});
  CHECK(part("bytes=0-99999999999999999999") == ByteRange{0, 1000});
  CHECK(part("bytes=-1") == ByteRange{999, 1});
  CHECK(part("bytes=-5000") == ByteRange{0, 1000});
  for (const auto* all : {"", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-4", "bytes=0-1,3-4", "lines=1-2",
                          "bytes=1--2", "bytes=+1-2", "bytes= 1 - 2"}) {
    CAPTURE(all);
    CHECK_FALSE(part(all));
    CHECK(read_range(all, 1000).is_satisfiable);
  }
  for (const auto* none : {"bytes=1000-", "bytes=1000-2000", "bytes=99999999999999999999-", "bytes=-0"}) {
    CAPTURE(none);
    CHECK_FALSE(read_range(none, 1000).is_satisfiable);
  }
  CHECK_FALSE(read_range("bytes=0-", 0).is_satisfiable);
}

TEST_CASE("preconditions, in the order of RFC 9110") {
  const Validators current{"\"abc\"", 1'000'000};
  const auto earlier = http_date(999'999), same = http_date(1'000'000);
  const auto is = [&](const Preconditions& given) { return evaluate(given, current); };
  CHECK(is({}) == 200);
  CHECK(is({.if_match = "\"abc\""}) == 200);
  CHECK(is({.if_match = "*"}) == 200);
  CHECK(is({.if_match = "\"x\", \"abc\""}) == 200);
  CHECK(is({.if_match = "\"x\""}) == 412);
  CHECK(is({.if_match = "W/\"abc\""}) == 412);
  CHECK(is({.if_none_match = "\"abc\""}) == 304);
  CHECK(is({.if_none_match = "W/\"abc\""}) == 304);
  CHECK(is({.if_none_match = "\"x\""}) == 200);
  CHECK(is({.if_modified_since = same}) == 304);
  CHECK(is({.if_modified_since = earlier}) == 200);
  CHECK(is({.if_none_match = "\"x\"", .if_modified_since = same}) == 200);
  CHECK(is({.if_unmodified_since = same}) == 200);
  CHECK(is({.if_unmodified_since = earlier}) == 412);
  CHECK(is({.if_match = "\"abc\"", .if_unmodified_since = earlier}) == 200);
  CHECK(is({.if_modified_since = "no date"}) == 200);
  // One that nobody has hashed has no tag.
  CHECK(evaluate({.if_match = "\"\""}, {"", 0}) == 412);
  CHECK(evaluate({.if_none_match = "\"\""}, {"", 0}) == 200);
  CHECK(is_range_wanted({}, current, 1'000'001));
  CHECK(is_range_wanted({.if_range = "\"abc\""}, current, 1'000'001));
  CHECK_FALSE(is_range_wanted({.if_range = "\"x\""}, current, 1'000'001));
  CHECK_FALSE(is_range_wanted({.if_range = "W/\"abc\""}, current, 1'000'001));
  CHECK_FALSE(is_range_wanted({.if_range = same}, current, 1'000'030));
  CHECK(is_range_wanted({.if_range = same}, current, 1'000'060));
  CHECK_FALSE(is_range_wanted({.if_range = earlier}, current, 1'000'060));
}

TEST_CASE("dates, media, and text in HTML") {
  CHECK(http_date(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT");
  CHECK(read_http_date("Sun, 06 Nov 1994 08:49:37 GMT") == 784111777);
  CHECK(read_http_date("Sunday, 06-Nov-94 08:49:37 GMT") == 784111777);
  CHECK_FALSE(read_http_date(""));
  CHECK_FALSE(read_http_date("now"));
  CHECK(media_type("a/b.TXT") == "text/plain; charset=utf-8");
  CHECK(media_type("a.b/c") == "application/octet-stream");
  CHECK(media_type("") == "application/octet-stream");
  for (const auto* active : {"x.html", "x.svg", "x.xml", "x.pdf", "x.xhtml"})
    CHECK(is_active_media(media_type(active)));
  CHECK_FALSE(is_active_media(media_type("x.png")));
  CHECK(html_text("<a href=\"x\">&'") == "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
}

TEST_CASE("read-ahead: none while a reader jumps, twice as much while it goes on, up to a bound") {
  constexpr std::int64_t kb = 1024;
  ReadAhead jumping;
  for (const std::int64_t at : {50'000 * kb, 1'000 * kb, 9'000 * kb, 0 * kb})
    CHECK(jumping.read(at, 64 * kb) == at + 64 * kb);
  ReadAhead going;
  std::int64_t before = 0, most = 0;
  for (std::int64_t at = 0; at < 64'000 * kb; at += 64 * kb) {
    const auto ahead = going.read(at, 64 * kb) - (at + 64 * kb);
    CHECK(ahead >= before);
    before = ahead;
    most = std::max(most, ahead);
  }
  CHECK(most == ReadAhead::most_bytes);
  // It is asked again while it waits for its bytes, which is no going on.
  const auto there = going.read(63'936 * kb, 64 * kb);
  CHECK(going.read(63'936 * kb, 64 * kb) == there);
  CHECK(going.read(1'000'000 * kb, 64 * kb) == 1'000'064 * kb);
  ReadAhead whole(true);
  CHECK(whole.read(0, 64 * kb) > 500 * kb);
  ReadAhead far(true);
  std::int64_t end = 0;
  for (std::int64_t at = 0; at < 64'000 * kb; at += 64 * kb) end = far.read(at, 64 * kb, 16'000 * kb) - at;
  CHECK(end == 16'000 * kb + 64 * kb);
}
