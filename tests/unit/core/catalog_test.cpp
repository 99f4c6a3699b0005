#include "core/catalog.h"

#include "core/merkle.h"

#include "test.h"

using namespace mesh;

namespace {
FileEntry entry(const std::string& path, Kind kind = Kind::file) { return {path, kind, 1, 1, 0644, {}, {}}; }
std::vector<std::string> walked(const Catalog& catalog, const std::string& pattern, bool glob,
                                const std::string& after = {}) {
  std::vector<std::string> out;
  const auto ended = catalog.walk(
      {pattern, pattern, glob}, after,
      [&](const std::string& path) {
        out.push_back(path);
        return true;
      },
      [] { return false; });
  REQUIRE_FALSE(ended);
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
  CHECK(c.holders(hashed.id, hashed.size).size() == 2);
  CHECK(c.copy_count() == 3);
  c.put(1, entry("p"));  // changed: a candidate again
  CHECK(c.holders(hashed.id, hashed.size).size() == 1);
  CHECK_FALSE(c.remove_nodes({2}, {}, [] { return false; }));
  CHECK(c.holders(hashed.id, hashed.size).empty());
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
  CHECK_FALSE(c.remove_nodes({1}, {}, [] { return false; }));
  CHECK(c.copies("l").at(0).target == "b");
}

TEST_CASE("catalog: where files are from is kept for as long as somebody says so") {
  Catalog catalog;
  FileEntry file;
  file.path = "a";
  file.origin = "http://x/a";
  const auto first = catalog.put(1, file);
  CHECK(first.bytes == 1 + 10);
  catalog.put(2, file);
  file.origin.clear();
  catalog.put(3, file);
  const auto origin_on = [&](NodeKey node) {
    for (const auto& copy : catalog.copies("a"))
      if (copy.node == node) return std::string(copy.origin);
    return std::string("none");
  };
  CHECK(origin_on(1) == "http://x/a");
  CHECK(origin_on(2) == "http://x/a");
  CHECK(origin_on(3).empty());
  // Changed there: then it is not known any more.
  CHECK(catalog.put(1, file).bytes == -10);
  CHECK(origin_on(1).empty());
  CHECK(catalog.remove(2, "a").bytes == -11);
  CHECK(origin_on(2) == "none");
}

TEST_CASE("catalog: a walk that is interrupted at every path goes on behind it, and misses nothing") {
  Catalog c;
  for (const char* p : {"a", "a/x", "b/1.img", "b/2.img", "b/d/3.img", "c/4.img"}) c.put(1, entry(p));
  for (const auto& [pattern, glob] : {std::pair("", false), {"b", false}, {"**/*.img", true}, {"b/*", true}}) {
    std::vector<std::string> found;
    std::string after;
    for (bool more = true; more;) {
      const auto reached = c.walk(
          {pattern, pattern, glob}, after,
          [&](const std::string& path) {
            found.push_back(path);
            return true;
          },
          [] { return true; });
      more = reached.has_value();
      if (reached) after = *reached;
    }
    CHECK(found == walked(c, pattern, glob));
  }
}

TEST_CASE("catalog: 64 bytes that are two hashes are no holder of the file whose tree has them") {
  Catalog c;
  FileEntry image = entry("image");
  image.size = 1 << 20;
  image.id = sha256("root");
  FileEntry pair = image;
  pair.path = "pair";
  pair.size = 64;
  c.put(1, image);
  c.put(2, pair);
  REQUIRE(c.holders(image.id, image.size).size() == 1);
  CHECK(c.holders(image.id, image.size).front().node == 1);
  CHECK_FALSE(c.is_holder(image.id, image.size, 2));
  CHECK(c.is_holder(image.id, 64, 2));
}

TEST_CASE("catalog: what nodes that are gone had said goes, however often the pass is interrupted") {
  Catalog c;
  for (const char* p : {"a", "b", "c", "d"})
    for (NodeKey node = 1; node < 4; ++node)
      if (std::string(p) != "c" || node != 2) c.put(node, entry(p));
  std::string after;
  for (bool more = true; more;) {
    const auto reached = c.remove_nodes({1, 3}, after, [] { return true; });
    more = reached.has_value();
    if (reached) after = *reached;
  }
  CHECK(walked(c, "", false) == std::vector<std::string>{"a", "b", "d"});
  CHECK(c.copy_count() == 3);
}
