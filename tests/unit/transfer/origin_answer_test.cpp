#include "transfer/origin_answer.h"

#include <ctime>

#include "test.h"

using namespace mesh;

namespace {

OriginAnswer answer_of(const char* line) {
  OriginAnswer out;
  out.take("HTTP/1.1 206 Partial Content\r\n");
  out.take(line);
  return out;
}

}  // namespace

TEST_CASE("what an origin says of a part: the unit in any case, a total that it does not know") {
  const auto part = answer_of("content-range: Bytes 5-9/20\r\n");
  CHECK(part.range_begin == 5);
  CHECK(part.range_end == 10);
  CHECK(part.range_total == 20);
  const auto open = answer_of("Content-Range: bytes 0-99/*\r\n");
  CHECK(open.range_end == 100);
  CHECK(open.range_total == -1);
  CHECK(answer_of("Content-Range: bytes */20\r\n").range_total == 20);
  for (const char* wrong : {"Content-Range: lines 0-9/20", "Content-Range: bytes 0-20/20",
                            "Content-Range: bytes 0-9/20x", "Content-Range: bytes 0-9223372036854775807/*",
                            "Content-Range: bytes 0-x/20", "Content-Range: bytes", "Content-Range: bytes 0-9"})
    CHECK(answer_of(wrong).range_end == -1);
}

TEST_CASE("when an origin wants to be asked again: seconds, or a date") {
  CHECK(answer_of("Retry-After: 7\r\n").retry_after == 7);
  CHECK(answer_of("Retry-After: 100000\r\n").retry_after == 120);
  CHECK(answer_of("Retry-After: soon\r\n").retry_after == 0);
  CHECK(answer_of("Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n").retry_after == 0);
  const std::time_t later = std::time(nullptr) + 60;
  char date[64];
  std::tm utc{};
  ::gmtime_r(&later, &utc);
  std::strftime(date, sizeof date, "Retry-After: %a, %d %b %Y %H:%M:%S GMT\r\n", &utc);
  const auto wait = answer_of(date).retry_after;
  CHECK(wait > 50);
  CHECK(wait <= 60);
}
