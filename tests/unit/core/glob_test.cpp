#include "core/glob.h"

#include <random>
#include <string>
#include <vector>

#include <chrono>

#include "core/mesh_path.h"
#include "test.h"

using namespace mesh;

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

TEST_CASE("globs: a pattern made to be slow matches what it says, and one without bounds nothing") {
  const std::string as(250, 'a');
  CHECK_FALSE(Glob("**/" + std::string(100, '*') + "a*a*a*a*a*a*a*a*a*a*b").matches("x/" + as));
  CHECK(Glob("**/*a*a*a*a*a*a*a*a*a*a*b").matches("x/" + as + "b"));
  CHECK(Glob("*?*?*?*?*[ab]*?*?*a").matches(as));
  CHECK_FALSE(Glob("*?*?*?*?*[bc]*?*?*a").matches(as));
  std::string deep = "a";
  for (int i = 0; i < 1900; ++i) deep += "/a";
  CHECK(Glob("**/a/**/a/**/a").matches(deep));
  CHECK_FALSE(Glob("**/a/**/a/**/b").matches(deep));
  CHECK(Glob("a/**/b").judge("a/x/b/c").taken);
  CHECK_FALSE(Glob("a/**/b").judge("a/x/c").taken);
  CHECK(mesh::glob_fault("**/x").empty());
  CHECK_FALSE(mesh::glob_fault(std::string(1025, 'a')).empty());
  std::string parts = "*";
  for (int i = 0; i < 64; ++i) parts += "/*";
  CHECK_FALSE(mesh::glob_fault(parts).empty());
  CHECK_FALSE(Glob(parts).matches(parts));
}

namespace {

/// The same by the book, for patterns of letters, '*' and '?'.
bool matches_slowly(const std::string& pattern, const std::string& text) {
  std::vector<std::vector<bool>> at(pattern.size() + 1, std::vector<bool>(text.size() + 1));
  at[0][0] = true;
  for (std::size_t p = 1; p <= pattern.size(); ++p)
    for (std::size_t t = 0; t <= text.size(); ++t) {
      const char c = pattern[p - 1];
      if (c == '*')
        at[p][t] = at[p - 1][t] || (t > 0 && at[p][t - 1]);
      else
        at[p][t] = t > 0 && at[p - 1][t - 1] && (c == '?' || c == text[t - 1]);
    }
  return at[pattern.size()][text.size()];
}

}  // namespace

TEST_CASE("globs: both ways to match a part agree with the book") {
  std::mt19937 random(7);
  const auto text = [&](const char* letters, std::size_t count, std::size_t most) {
    std::string out;
    for (auto n = random() % (most + 1); n > 0; --n) out += letters[random() % count];
    return out;
  };
  for (int i = 0; i < 3'000; ++i) {
    // So many stars before it that the quick way gives up.
    const auto tail = text("ab*?", 4, 8);
    const auto path = std::string(200, 'a') + text("ab", 2, 12);
    for (const auto& pattern : {"*" + tail, "*a*a*a*a*a*a*a*a*a*a*" + tail + "b", "*a*a*a*a?a*" + tail})
      REQUIRE(Glob(pattern).matches(path) == matches_slowly(pattern, path));
  }
}

TEST_CASE("what is there wins over the glob that it spells: a path, and a directory that begins one") {
  const auto read = [](const char* pattern) {
    return as_it_stands(What{pattern, pattern, true}, [](const std::string& path) {
      return path == "d[x]" || path == "d[x]/e*" || path == "disk[1].img" || path == "plain";
    });
  };
  CHECK_FALSE(read("disk[1].img").is_glob);
  CHECK(read("disk[1]*").is_glob);
  CHECK(read("disk[1]*").pattern == "disk[1]*");
  const auto in = read("d[x]/*");
  CHECK(in.is_glob);
  CHECK(names(in, "d[x]/a"));
  CHECK_FALSE(names(in, "dx/a"));
  CHECK(names(read("d[x]/e*/*"), "d[x]/e*/a"));
  CHECK_FALSE(names(read("d[x]/e*/*"), "d[x]/ef/a"));
  CHECK(read("plain/*").pattern == "plain/*");
  CHECK(names(read("d[y]/*"), "dy/a"));
  CHECK(may_stand_for(in.pattern, "d[x]/*"));
  CHECK(may_stand_for("d[x]/*", "d[x]/*"));
  for (const char* other : {"**", "", "d[x]/**", "d\\[x\\]/e*", "d[x\\]/*"})
    CHECK_FALSE(may_stand_for(other, "d[x]/*"));
}
