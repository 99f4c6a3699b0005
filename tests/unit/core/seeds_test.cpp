#include "core/seeds.h"

#include "core/error.h"
#include "test.h"

using namespace mesh;

namespace {

FileEntry file(const std::string& path, std::int64_t mtime, Kind kind = Kind::file) {
  FileEntry out;
  out.path = path;
  out.kind = kind;
  out.mtime = mtime;
  return out;
}

}  // namespace

TEST_CASE("names that differ in digits alone are versions of one thing") {
  CHECK(differ_in_digits_alone("disk-9.img", "disk-10.img"));
  CHECK(differ_in_digits_alone("vm-2026.11.30.qcow2", "vm-2027.1.2.qcow2"));
  CHECK_FALSE(differ_in_digits_alone("disk-9.img", "disk-9.img"));
  CHECK_FALSE(differ_in_digits_alone("disk-9.img", "disk.img"));
  CHECK_FALSE(differ_in_digits_alone("disk-9.img", "disk-9.raw"));
  CHECK_FALSE(differ_in_digits_alone("disk-9a.img", "disk-9b.img"));
}

TEST_CASE("seeds: what was named, the file itself, its siblings from the newest on") {
  const auto seeds = choose_seeds(file("vm/disk-3.img", 30), {"other/thing", "/mnt/usb/disk.img"},
                                  {file("vm/disk-1.img", 10), file("vm/disk-2.img", 20), file("vm/disk-3.img", 5),
                                   file("vm/disk-4.img", 40, Kind::link), file("vm/readme-1", 50)});
  CHECK(seeds == std::vector<std::string>{"other/thing", "/mnt/usb/disk.img", "vm/disk-3.img", "vm/disk-2.img",
                                          "vm/disk-1.img"});
}

TEST_CASE("a seed is a mesh path, or an absolute one of what lies outside") {
  const FilesDir files{"/srv/files"};
  CHECK(read_seed("vm/a.img", files) == "vm/a.img");
  CHECK(read_seed("/srv/files/vm/a.img", files) == "vm/a.img");
  CHECK(read_seed("/srv/other/a.img", files) == "/srv/other/a.img");
  CHECK_THROWS_AS(read_seed("../a", files), Error);
  CHECK_THROWS_AS(read_seed("http://host/a", files), Error);
  CHECK_THROWS_AS(read_seed("/srv/files", files), Error);
  CHECK(has_outside_seed({"a", "/x"}, files));
  CHECK_FALSE(has_outside_seed({"a", "/srv/files/b"}, files));
}
