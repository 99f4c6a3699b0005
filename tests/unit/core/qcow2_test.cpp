#include "core/qcow2.h"

#include <random>

#include "core/mesh_path.h"
#include "test.h"

using namespace mesh;

namespace {
std::string big_endian(std::uint64_t value, int bytes) {
  std::string out;
  for (int i = bytes - 1; i >= 0; --i) out += static_cast<char>(value >> (8 * i) & 0xff);
  return out;
}
std::string header(std::uint64_t version, std::uint64_t offset, std::uint64_t size, std::uint64_t bits) {
  auto out = "QFI\xfb" + big_endian(version, 4) + big_endian(offset, 8) + big_endian(size, 4) + big_endian(bits, 4);
  out.resize(qcow2_head_bytes, '\0');
  return out;
}
}  // namespace

TEST_CASE("qcow2: the backing file's name lies in the first cluster, or there is none") {
  const auto found = find_backing_name(header(3, 112, 9, 16));
  REQUIRE(found);
  CHECK(found->offset == 112);
  CHECK(found->size == 9);
  CHECK(find_backing_name(header(2, 72, 1023, 21)));
  for (const auto& bad :
       {header(1, 112, 9, 16), header(4, 112, 9, 16), header(3, 0, 9, 16), header(3, 112, 0, 16),
        header(3, 112, 1024, 16), header(3, 112, 9, 8), header(3, 112, 9, 22), header(3, 71, 9, 16),
        header(3, 65536, 1, 16), header(3, ~0ULL, 9, 16), header(3, 65530, 9, 16), header(3, 112, 0xffffffff, 16),
        header(3, 112, 9, 16).substr(0, 31), std::string{}, std::string(32, '\xff')})
    CHECK_FALSE(find_backing_name(bad));
}

TEST_CASE("qcow2: where a backing file lies") {
  const auto path = [](const char* image, std::string_view name) {
    return locate_backing(image, name, {"/tmp/minimega/files"}).path;
  };
  CHECK(path("top.qcow2", "base.qcow2") == "base.qcow2");
  CHECK(path("vm/top.qcow2", "base.qcow2") == "vm/base.qcow2");
  CHECK(path("vm/top.qcow2", "../base.qcow2") == "base.qcow2");
  CHECK(path("vm/top.qcow2", "./../vm/./base.qcow2") == "vm/base.qcow2");
  CHECK(path("vm/top.qcow2", "file:base.qcow2") == "vm/base.qcow2");
  CHECK(path("vm/top.qcow2", "/tmp/minimega/files/base.qcow2") == "base.qcow2");
  CHECK(path("vm/top.qcow2", "/tmp/minimega/files/a/../b/base:1.qcow2") == "b/base:1.qcow2");
  for (const char* out : {"", "..", "../../etc/passwd", "/etc/passwd", "/tmp/minimega/files", "/tmp/minimega/filesx/a",
                          "/tmp/minimega/files/../../../etc/passwd", "nbd://h/x", "json:{\"driver\":\"qcow2\"}",
                          "rbd:pool/image", "/tmp/minimega/files/.mesh/state.db", ".mesh/state.db"}) {
    CAPTURE(out);
    CHECK(path("vm.qcow2", out).empty());
    CHECK_FALSE(locate_backing("vm.qcow2", out, {"/tmp/minimega/files"}).fault.empty());
  }
  CHECK(path("a", std::string_view("a\0b", 3)).empty());
}

TEST_CASE("qcow2: 500 hostile headers name nothing outside") {
  std::mt19937_64 random(500);
  for (int i = 0; i < 500; ++i) {
    auto head = header(random() % 5, random() >> (random() % 64), random() >> (32 + random() % 32), random() % 32);
    for (int flips = static_cast<int>(random() % 4); flips > 0; --flips)
      head[4 + random() % 28] = static_cast<char>(random());
    if (const auto found = find_backing_name(head)) {
      CHECK(found->size <= 1023);
      CHECK(found->offset + found->size <= std::uint64_t{2} << 20);
    }
    std::string name;
    const char* parts[] = {"..", "/", ".", "a", "file:", ":", "//", "/tmp/minimega/files/", "\xff", ".mesh"};
    for (int n = static_cast<int>(random() % 12); n > 0; --n) name += parts[random() % 10];
    const auto backing = locate_backing("d/image", name, {"/tmp/minimega/files"});
    CHECK((backing.path.empty() || is_mesh_path(backing.path)));
    CHECK(backing.path.empty() != backing.fault.empty());
  }
}
