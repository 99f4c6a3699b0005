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

TEST_CASE(
    "read-ahead: none while a reader jumps or has gone on for a little, then half as far as it has, up to a bound") {
  constexpr std::int64_t kb = 1024;
  const auto ahead_of = [](ReadAhead& reader, std::int64_t at, std::int64_t sure = 0,
                           std::int64_t most = ReadAhead::most_bytes) {
    return reader.read(at, 64 * kb, sure, most) - (at + 64 * kb);
  };
  ReadAhead jumping;
  std::int64_t in_vain = 0;
  for (const std::int64_t at : {50'000 * kb, 1'000 * kb, 9'000 * kb, 0 * kb})
    for (std::int64_t i = 0; i < 16; ++i) in_vain += ahead_of(jumping, at + i * 64 * kb);
  CHECK(in_vain == 0);
  ReadAhead going;
  std::int64_t before = 0;
  for (std::int64_t at = 0; at < 64'000 * kb; at += 64 * kb) {
    const auto ahead = ahead_of(going, at);
    CHECK(ahead >= before);
    CHECK(ahead <= (at + 64 * kb) / 2);
    before = ahead;
  }
  CHECK(before == ReadAhead::most_bytes);
  // It is asked again while it waits for its bytes, which is no going on.
  CHECK(ahead_of(going, 63'936 * kb) == before);
  CHECK(ahead_of(going, 1'000'000 * kb) == 0);
  // What is sure to be read is no guess.
  ReadAhead sure;
  CHECK(ahead_of(sure, 0, 192 * kb) == 128 * kb);
  CHECK(ahead_of(sure, 64 * kb, 100'000 * kb) == 1'024 * kb + 128 * kb);
  for (std::int64_t at = 128 * kb; at < 64'000 * kb; at += 64 * kb)
    before = ahead_of(sure, at, 100'000 * kb, 16'000 * kb);
  CHECK(before == 16'000 * kb);
}
