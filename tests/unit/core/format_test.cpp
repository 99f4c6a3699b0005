#include "core/format.h"

#include "test.h"

using namespace mesh;

TEST_CASE("names are safe to print") {
  CHECK(printable("plain \xc3\xa4") == "plain \xc3\xa4");
  CHECK(printable("a\nb\x1b[2J") == "a\\x0ab\\x1b[2J");
  CHECK(printable("\xff\xc3") == "\\xff\\xc3");
  CHECK(printable("\xc2\x9b"
                  "1A") ==
        "\\xc2\\x9b"
        "1A");
}

TEST_CASE("what is said of a path names it once") {
  CHECK(about("a/b", "is gone") == "a/b: is gone");
  CHECK(about("a/b", "a/b: is gone") == "a/b: is gone");
  CHECK(about("a\n", "a\\x0a: is gone") == "a\\x0a: is gone");
  CHECK(about("a", "a/b: is gone") == "a: a/b: is gone");
}

TEST_CASE("numbers as people read them") {
  CHECK(human_bytes(0) == "0 B");
  CHECK(human_bytes(999) == "999 B");
  CHECK(human_bytes(1000) == "1.00 kB");
  CHECK(human_bytes(67108864) == "67.1 MB");
  CHECK(human_bytes(5'000'000'000) == "5.00 GB");
  CHECK(human_seconds(59) == "59 s");
  CHECK(human_seconds(125) == "2 min 05 s");
  CHECK(human_seconds(3720) == "1 h 02 min");
  CHECK(from_hex(to_hex("\x01\xff")) == "\x01\xff");
  CHECK_THROWS(from_hex("0"));
  CHECK_THROWS(from_hex("zz"));
}
