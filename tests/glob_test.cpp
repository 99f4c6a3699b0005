#include "core/glob.h"

#include <chrono>

#include "test.h"

using mesh::Glob;

TEST_CASE("globs: what matches") {
  CHECK(Glob("*.qcow2").matches("a.qcow2"));
  CHECK(Glob("*").matches(".hidden"));
  CHECK_FALSE(Glob("*.qcow2").matches("d/a.qcow2"));
  CHECK(Glob("d/*").matches("d/a"));
  CHECK_FALSE(Glob("d/*").matches("d/a/b"));
  CHECK(Glob("**").matches("a/b/c"));
  CHECK(Glob("**/x").matches("x"));
  CHECK(Glob("**/x").matches("a/b/x"));
  CHECK(Glob("a/**/x").matches("a/x"));
  CHECK(Glob("a/**/x").matches("a/b/c/x"));
  CHECK_FALSE(Glob("a/**/x").matches("b/x"));
  CHECK(
      Glob("a?c").matches("a\xc3\xa4"
                          "c"));
  CHECK(Glob("[a-c]x").matches("bx"));
  CHECK_FALSE(Glob("[!a-c]x").matches("bx"));
  CHECK(Glob("[]]").matches("]"));
  CHECK(Glob("[a").matches("[a"));
  CHECK(Glob("\\*").matches("*"));
  CHECK_FALSE(Glob("\\*").matches("a"));
  CHECK(Glob("a*b*c").matches("a-b-b-c"));
}

TEST_CASE("globs: a sorted walk may skip what cannot match, and nothing else") {
  CHECK(Glob("vm/*.img").literal_prefix() == "vm/");
  CHECK(Glob("vm/*.img").judge("vm/a.img").taken);
  CHECK(Glob("vm/*").judge("vm/dir/below").taken);
  const auto dead = Glob("*.img").judge("dir/x");
  CHECK_FALSE(dead.taken);
  CHECK(dead.dead == 3);
  CHECK(Glob("a/**/z").judge("b/c").dead == 1);
  CHECK(Glob("**/z").judge("b/c").dead == 0);
}

TEST_CASE("globs: hostile patterns end") {
  const std::string stars = [] {
    std::string s;
    for (int i = 0; i < 100; ++i) s += "*a";
    return s + "b";
  }();
  CHECK_FALSE(Glob(stars).matches(std::string(250, 'a')));
  std::string deep, path = "a";
  for (int i = 0; i < 50; ++i) deep += "**/a/", path += "/a";
  CHECK_FALSE(Glob(deep + "b").matches(path));
}
