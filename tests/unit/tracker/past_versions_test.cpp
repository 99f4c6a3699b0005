#include "past_versions.h"

#include "test.h"

using namespace mesh;

namespace {

ContentId id(char first) {
  ContentId out;
  out.bytes.fill(first);
  return out;
}

}  // namespace

TEST_CASE("past versions: another node's, by path, content and size; the oldest are forgotten first") {
  PastVersions past(3);
  past.add("a", id('1'), 10, "n1");
  CHECK(past.had("a", id('1'), 10, {"n2"}));
  CHECK(past.had_size("a", 10, {"n2"}));
  CHECK_FALSE(past.had("a", id('1'), 10, {"n1"}));        // its own
  CHECK_FALSE(past.had("a", id('1'), 10, {"n3", "n1"}));  // when it was called otherwise
  CHECK_FALSE(past.had("a", id('1'), 11, {"n2"}));
  CHECK_FALSE(past.had("a", id('2'), 10, {"n2"}));
  CHECK_FALSE(past.had("b", id('1'), 10, {"n2"}));
  past.add("a", id('1'), 10, "n1");  // once
  past.add("b", id('1'), 10, "n1");
  past.add("c", id('1'), 10, "n1");
  CHECK(past.had("a", id('1'), 10, {"n2"}));
  past.add("d", id('1'), 10, "n1");
  CHECK_FALSE(past.had("a", id('1'), 10, {"n2"}));
  CHECK(past.had("d", id('1'), 10, {"n2"}));
  PastVersions many(100);
  many.add("other", id('1'), 1, "n1");
  for (int size = 1; size <= 40; ++size) many.add("a", id('1'), size, "n1");
  CHECK_FALSE(many.had_size("a", 8, {"n2"}));  // 32 of one path
  CHECK(many.had_size("a", 9, {"n2"}));
  CHECK(many.had_size("other", 1, {"n2"}));
  PastVersions small(100, 10);
  small.add("a long path", id('1'), 10, "n1");
  CHECK_FALSE(small.had("a long path", id('1'), 10, {"n2"}));
}
