#include "core/error.h"
#include "core/read_streams.h"
#include "mount/directory_pages.h"
#include "mount/inodes.h"
#include "mount/mount_options.h"
#include "mount/pages.h"
#include "test.h"

using namespace mesh;

namespace {

FileEntry file(const std::string& path, std::int64_t size, std::int64_t mtime, char id = 0) {
  FileEntry out;
  out.path = path;
  out.size = size;
  out.mtime = mtime;
  out.mode = 0644;
  if (id != 0) out.id = *ContentId::from(std::string(32, id));
  return out;
}

}  // namespace

TEST_CASE("inodes: one a version, of which the content says what it is, and else size and time") {
  Inodes inodes(100);
  const auto first = inodes.look_up(file("a", 10, 1));
  CHECK(first == 100);
  CHECK(inodes.look_up(file("a", 10, 1)) == first);
  // Somebody has hashed it: that it is, whatever its time, from then on.
  CHECK(inodes.look_up(file("a", 10, 1, 'x')) == first);
  CHECK(inodes.look_up(file("a", 10, 2, 'x')) == first);
  CHECK(inodes.find(first)->entry.mtime == 2);
  CHECK(inodes.look_up(file("a", 10, 2)) == first);
  CHECK(inodes.find(first)->entry.id.is_set());
  const auto second = inodes.look_up(file("a", 10, 2, 'y'));
  CHECK(second != first);
  CHECK(inodes.find(first)->entry.id == file("", 0, 0, 'x').id);
  CHECK(inodes.look_up(file("b", 10, 2, 'y')) != second);
  CHECK(inodes.look_up(file("a", 11, 2, 'y')) != second);
}

TEST_CASE("inodes: what the kernel has heard of five times is there until it has forgotten that five times") {
  Inodes inodes(1);
  const auto one = inodes.look_up(file("a", 10, 1));
  for (int i = 0; i < 4; ++i) static_cast<void>(inodes.look_up(file("a", 10, 1)));
  inodes.forget(one, 4);
  CHECK(inodes.find(one) != nullptr);
  const auto other = inodes.look_up(file("a", 20, 1));
  inodes.forget(one, 1);
  CHECK(inodes.find(one) == nullptr);
  // The path is the other one's by now.
  CHECK(inodes.look_up(file("a", 20, 1)) == other);
  inodes.forget(other, 100);
  inodes.forget(other, 1);
  CHECK(inodes.size() == 0);
}

TEST_CASE("inodes: pages are kept of what is certainly the same, and of nothing else") {
  Inodes inodes(1);
  const auto one = inodes.look_up(file("a", 10, 1));
  CHECK_FALSE(inodes.keep(one, ""));
  CHECK_FALSE(inodes.keep(one, ""));
  CHECK_FALSE(inodes.keep(one, "x"));
  CHECK(inodes.keep(one, "x"));
  CHECK_FALSE(inodes.keep(one, "y"));
  inodes.keep_nothing(one);
  CHECK_FALSE(inodes.keep(one, "y"));
  CHECK_FALSE(inodes.keep(99, "y"));
}

TEST_CASE("inodes: what stat(2) calls one stays, and is another one's never") {
  CHECK(stat_number(file("a", 10, 1, 'x')) == stat_number(file("a", 10, 1)));
  CHECK(stat_number(file("a", 10, 1)) != stat_number(file("b", 10, 1)));
  CHECK(stat_number(file("a", 10, 1)) != stat_number(file("a", 10, 2)));
  Inodes inodes(1);
  const auto first = inodes.look_up(file("a", 10, 1));
  const auto number = inodes.find(first)->stat_number;
  CHECK(inodes.look_up(file("a", 10, 1, 'x')) == first);
  CHECK(inodes.look_up(file("a", 10, 2, 'x')) == first);
  CHECK(inodes.find(first)->stat_number == number);
  // Of the same size and time as the first was.
  CHECK(inodes.find(inodes.look_up(file("a", 10, 1, 'y')))->stat_number != number);
}

TEST_CASE("directories: positions name a page and a place, and go back to any page that was seen") {
  using Pages = DirectoryPages;
  for (const std::size_t page : {0U, 1U, 75U, 1'000'000U})
    for (const std::size_t place : {0U, 2001U}) {
      const auto at = Pages::position(Pages::offset({page, place}));
      CHECK(at.page == page);
      CHECK(at.place == place);
    }
  Pages pages;
  const auto page = [](std::size_t number, bool is_last) {
    auto out = std::make_shared<Pages::Page>();
    out->number = number;
    out->is_last = is_last;
    return out;
  };
  CHECK(pages.after(0) == "");
  CHECK_FALSE(pages.after(1).has_value());
  pages.put(page(0, false), "m");
  pages.put(page(1, false), "t");
  pages.put(page(2, true), "");
  CHECK(pages.find(2) != nullptr);
  CHECK(pages.find(1) == nullptr);
  CHECK(pages.after(1) == "m");
  CHECK(pages.after(2) == "t");
  CHECK_FALSE(pages.after(3).has_value());
  pages.put(page(1, false), "u");
  // It has become another one: what is behind it is not known any more, until it is there.
  CHECK(pages.after(2) == "u");
  CHECK_FALSE(pages.after(3).has_value());
  pages.begin_anew();
  CHECK(pages.find(1) == nullptr);
}

TEST_CASE("mount options: passed on, passed over, of one's own, and unknown") {
  const auto read = read_mount_options("ro,allow_other,noatime,_netdev,nofail,suid,dev,x-systemd.automount,user=me,,");
  CHECK(read.for_kernel == ",ro,allow_other,noatime");
  const auto own = read_mount_options("prefetch=boot,timeout=7,files=/a\\,b,control=/run/mesh");
  CHECK(own.for_kernel.empty());
  CHECK(own.prefetch == "boot");
  CHECK(own.timeout == 7);
  CHECK(own.files == "/a,b");
  CHECK(own.control == "/run/mesh");
  for (const auto* wrong : {"nonsense", "timeout=", "timeout=0", "timeout=7s", "timeout=99999999999", "allow_other=1"})
    CHECK_THROWS_AS(read_mount_options(wrong), Error);
}

TEST_CASE("pages: what is told of the mesh, whoever is silent; and trackers as they are written") {
  NodeStatus well;
  well.node = "a";
  well.version = "1.0";
  well.space = 2'000'000;
  well.free = 1'000'000;
  NodeStatus silent;
  silent.node = "b\n";
  silent.error = "does not answer";
  StatusReply mesh;
  mesh.nodes = {well, silent};
  ClusterTold cluster;
  cluster.node = "a";
  cluster.trackers = {"t:1", "u:2"};
  cluster.troubles = {"", "refused"};
  cluster.changes = {{1'000, "b", "gone"}};
  const auto text = cluster_info(cluster, mesh);
  CHECK(text.find("nodes:    2, of which 1 do not answer\n") != std::string::npos);
  CHECK(text.find("tracker:  t:1, registered\n") != std::string::npos);
  CHECK(text.find("tracker:  u:2: refused\n") != std::string::npos);
  CHECK(text.find("b gone\n") != std::string::npos);
  CHECK(text.find("1.00 MB free of 2.00 MB") != std::string::npos);
  const auto nodes = cluster_nodes(mesh);
  CHECK(nodes == "a  1.0  0 entries  1.00 MB free of 2.00 MB\nb\\x0a  does not answer\n");
  CHECK(trackers(cluster) == "t:1\nu:2\n");
  CHECK(read_trackers(" t:1,u:2\n\nv:3 ") == std::vector<std::string>{"t:1", "u:2", "v:3"});
  CHECK_THROWS_AS(read_trackers(" \n"), Error);
}

TEST_CASE("read streams: readers at several places are told apart, and the kernel's own order is no jump") {
  constexpr std::int64_t part = 128 * 1024;
  ReadStreams streams;
  std::int64_t ahead = 0;
  // Two that go on, in turns, each with two requests in the wrong order.
  for (std::int64_t at = 0; at < 200 * part; at += 2 * part)
    for (const std::int64_t place : {std::int64_t{0}, std::int64_t{1} << 34})
      for (const std::int64_t offset : {place + at + part, place + at})
        ahead = std::max(ahead, streams.at(offset).read(offset, part, 0) - (offset + part));
  CHECK(ahead > std::int64_t{1} << 20);
  // One that jumps about in a place of some MiB: nothing but what it reads.
  ReadStreams near;
  ahead = 0;
  std::uint32_t random = 1;
  for (int i = 0; i < 10'000; ++i) {
    random = random * 1'664'525 + 1'013'904'223;
    const auto offset = std::int64_t{random >> 20} * 4096;  // of 16 MiB
    ahead = std::max(ahead, near.at(offset).read(offset, 16'384, 0) - (offset + 16'384));
  }
  CHECK(ahead == 0);
  // One that jumps about, among more places than are remembered.
  ReadStreams jumping;
  ahead = 0;
  for (std::int64_t i = 0; i < 1000; ++i) {
    const auto offset = i * 7919 % 1000 * (std::int64_t{16} << 20);
    ahead = std::max(ahead, jumping.at(offset).read(offset, part, 0) - (offset + part));
  }
  CHECK(ahead == 0);
}
