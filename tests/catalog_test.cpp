#include "core/catalog.h"

#include "test.h"

using namespace mesh;

namespace {
FileEntry entry(const std::string& path, Kind kind = Kind::file) { return {path, kind, 1, 1, 0644, {}, {}}; }
std::vector<std::string> walked(const Catalog& catalog, const std::string& pattern, bool glob,
                                const std::string& after = {}) {
  std::vector<std::string> out;
  catalog.walk({pattern, pattern, glob}, after, [&](const std::string& path) {
    out.push_back(path);
    return true;
  });
  return out;
}
}  // namespace

TEST_CASE("catalog: walks and lists") {
  Catalog c;
  for (const char* p : {"a", "a-b", "a/x", "a/y/z", "a.c", "b/1.img", "b/2.img", "b/d/3.img"}) c.put(1, entry(p));
  using Paths = std::vector<std::string>;
  CHECK(walked(c, "a", false) == Paths{"a", "a/x", "a/y/z"});
  CHECK(walked(c, "b/*.img", true) == Paths{"b/1.img", "b/2.img"});
  CHECK(walked(c, "**/*.img", true) == Paths{"b/1.img", "b/2.img", "b/d/3.img"});
  CHECK(walked(c, "b/*", true) == Paths{"b/1.img", "b/2.img", "b/d/3.img"});
  CHECK(walked(c, "a?b", true) == Paths{"a-b"});
  CHECK(walked(c, "", false).size() == 8);
  CHECK(walked(c, "", false, "b/1.img") == Paths{"b/2.img", "b/d/3.img"});
  CHECK(walked(c, "a", false, "a/x") == Paths{"a/y/z"});
  CHECK(walked(c, "b/*.img", true, "b/1.img") == Paths{"b/2.img"});
  CHECK(walked(c, "none", false).empty());
  Paths listed;
  c.list("", "", "", [&](const std::string& path) {
    listed.push_back(path);
    return true;
  });
  CHECK(listed == Paths{"a", "a-b", "a.c"});
}

TEST_CASE("catalog: holders follow what nodes say") {
  Catalog c;
  auto hashed = entry("p");
  hashed.id = *ContentId::from(std::string(32, 'x'));
  c.put(1, hashed);
  c.put(2, hashed);
  hashed.path = "q";
  c.put(2, hashed);
  CHECK(c.holders(hashed.id).size() == 2);
  CHECK(c.copy_count() == 3);
  c.put(1, entry("p"));  // changed: a candidate again
  CHECK(c.holders(hashed.id).size() == 1);
  c.remove_node(2);
  CHECK(c.holders(hashed.id).empty());
  CHECK(c.path_count() == 1);
  c.remove(1, "p");
  CHECK(c.path_count() == 0);
  CHECK(c.copy_count() == 0);
}

TEST_CASE("catalog: links keep their targets") {
  Catalog c;
  auto link = entry("l", Kind::link);
  link.target = "a";
  c.put(1, link);
  link.target = "b";
  c.put(2, link);
  const auto copies = c.copies("l");
  REQUIRE(copies.size() == 2);
  CHECK(copies[0].target == "a");
  CHECK(copies[1].target == "b");
  c.remove_node(1);
  CHECK(c.copies("l").at(0).target == "b");
}
