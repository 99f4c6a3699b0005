#include "core/mesh_path.h"

#include "core/error.h"
#include "test.h"

using namespace mesh;

TEST_CASE("mesh paths: what is one, and what is not") {
  for (const char* good : {"a", "a/b/c", ".hidden", "a b", "-dash", "a\nb", "\xc3\xa4/\xe2\x82\xac", "...", "a/.mesh"})
    CHECK(is_mesh_path(good));
  for (const char* bad : {"", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", ".mesh", ".mesh/parts/x", "\xff",
                          "a/\xc0\xaf", "\xed\xa0\x80"})
    CHECK_FALSE(is_mesh_path(bad));
  CHECK_FALSE(is_mesh_path(std::string_view("a\0b", 3)));
  CHECK(is_mesh_path(std::string(255, 'x')));
  CHECK_FALSE(is_mesh_path(std::string(256, 'x')));
  std::string deep = "a";
  while (deep.size() <= max_path_bytes) deep += "/a";
  CHECK_FALSE(is_mesh_path(deep));
}

TEST_CASE("links: where they lead") {
  CHECK(link_destination("a/l", "b") == "a/b");
  CHECK(link_destination("a/l", "../b/./c") == "b/c");
  CHECK(link_destination("l", "a//b/") == "a/b");
  CHECK(link_destination("l", "..").empty());
  CHECK(link_destination("a/l", "../../etc/passwd").empty());
  CHECK(link_destination("l", "/etc/passwd").empty());
  CHECK(link_destination("a/l", "../.mesh/state.db").empty());
}

TEST_CASE("WHATs: as people type them") {
  const auto read = [](const char* text) { return parse_what(text, {"/tmp/minimega/files"}); };
  CHECK(read("/foo").pattern == "foo");
  CHECK(read("foo").pattern == "foo");
  CHECK(read("file:foo/bar").pattern == "foo/bar");
  CHECK(read("/tmp/minimega/files/foo").pattern == "foo");
  CHECK(read("/tmp/minimega/files").pattern.empty());
  CHECK(read("/tmp/minimega/filesystem").pattern == "tmp/minimega/filesystem");
  CHECK(read("/").pattern.empty());
  CHECK(read("dir//./sub/").pattern == "dir/sub");
  CHECK(read("vm/*.qcow2").is_glob);
  CHECK_FALSE(read("vm/a.qcow2").is_glob);
  CHECK(read("path:vm/[1]*").pattern == "vm/[1]*");
  CHECK_FALSE(read("path:vm/[1]*").is_glob);
  CHECK(portable_text(read("vm/a[1]")) == "file:vm/a[1]");
  for (const char* text : {"path:vm/[1]", "vm/a", "/", "path:back\\slash", "path:file:x"}) {
    CHECK(read(portable_text(read(text)).c_str()).pattern == read(text).pattern);
    CHECK_FALSE(read(portable_text(read(text)).c_str()).is_glob);
  }
  for (const char* bad : {"../x", "a/../b", "/tmp/minimega/files/../x", "", "file:", "path:", "path:../x",
                          ".mesh/control", "tar:x.tar", "http://host/"}) {
    try {
      static_cast<void>(read(bad));
      FAIL(bad);
    } catch (const Error& error) {
      CHECK(error.status() == Status::usage);
    }
  }
}

TEST_CASE("links: none that climbs behind a name leads anywhere") {
  CHECK(link_destination("a/b/c", "../../s") == "s");
  CHECK(link_destination("a/b", "x/../../s").empty());
  CHECK(link_destination("a/b", "x/..").empty());
  CHECK(link_destination("a/b", "./../s/t") == "s/t");
  CHECK(link_destination("a/b", "x/../y", true) == "a/y");
}
