// Volumes (meshvol): real file systems on loop devices, qemu's own tools on the other side, and processes that are
// killed. In a mount namespace of the test's own.
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <thread>

#include "process.h"
#include "test.h"

using namespace mesh::test;
using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr std::size_t mb = 1 << 20;

bool says(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// Loop devices are the machine's, and other tests use them, too.
bool can_loop() {
  static const bool can = can_mount() && ::access("/dev/loop-control", R_OK | W_OK) == 0 &&
                          std::system("command -v mkfs.btrfs mkfs.xfs qemu-img qemu-storage-daemon >/dev/null") == 0;
  if (!can)
    WARN("SKIPPED: needs root, /dev/fuse, loop devices, qemu-utils, qemu-system-common, btrfs-progs and xfsprogs");
  return can;
}

struct Volumes : Mesh {
  Volumes() { write_file(root() / "plain.yaml", "type: plain\nlocation: plain\n"); }
  ~Volumes() {
    for (const auto& process : processes_) process->signal(SIGKILL);
    for (const auto& name : {"mnt", "mnt2", "mesh"}) detach(root() / name);
    static_cast<void>(run({"sh", "-c", "pkill -9 -f \"qemu-storage-daemon.*$0/\"; true", root().string()}));
    for (const auto& place : places_) {
      for (const auto& file : files_in(place / ".meshvol/exports")) detach(file);
      detach(place);
    }
    static_cast<void>(
        run({"sh", "-c", "losetup -n -O NAME,BACK-FILE | grep -F \"$0/\" | cut -d' ' -f1 | xargs -r losetup -d",
             root().string()}));
  }
  Volumes(const Volumes&) = delete;
  Volumes& operator=(const Volumes&) = delete;

  /// A file system of its own, in which there is a place.
  fs::path make_place(const std::string& file_system, const std::string& type = "auto",
                      const std::string& size = "600M") {
    const auto at = root() / file_system;
    if (!fs::exists(at)) {
      fs::create_directories(at);
      const auto image = at.string() + ".img";
      REQUIRE(run({"truncate", "-s", size, image}).status == 0);
      REQUIRE(run({"mkfs." + file_system, "-q", image}).status == 0);
      REQUIRE(run({"mount", "-o", "loop", image, at.string()}).status == 0);
      places_.push_back(at);
    }
    write_file(root() / (file_system + ".yaml"), "type: " + type + "\nlocation: " + at.string() + "/v\n");
    return at / "v";
  }
  [[nodiscard]] std::vector<std::string> command(const std::string& place, std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {program("meshvol"), "-c", (root() / (place + ".yaml")).string(), "--files",
                                         files("n1").string(), "--config", "/dev/null"});
    return arguments;
  }
  [[nodiscard]] Ran vol(const std::string& place, std::vector<std::string> arguments) const {
    return run(command(place, std::move(arguments)));
  }
  /// The same, to succeed: the line that it printed.
  [[nodiscard]] std::string path_of(const std::string& place, std::vector<std::string> arguments) const {
    auto ran = vol(place, std::move(arguments));
    INFO(ran.err);
    CHECK(ran.status == 0);
    while (ran.out.ends_with("\n")) ran.out.pop_back();
    return ran.out;
  }
  [[nodiscard]] bool does(const std::string& place, std::vector<std::string> arguments) const {
    const auto ran = vol(place, std::move(arguments));
    UNSCOPED_INFO(ran.err);
    return ran.status == 0;
  }
  [[nodiscard]] json info(const std::string& place, const std::string& name) const {
    return json::parse(vol(place, {"info", "--json", name}).out);
  }
  [[nodiscard]] std::set<std::string> names(const std::string& place) const {
    std::set<std::string> out;
    const auto list = json::parse(vol(place, {"list", "-r", "--json"}).out);
    for (const auto& one : list.at("volumes")) out.insert(one.at("name").get<std::string>());
    return out;
  }
  /// An image whose disk begins with these bytes.
  void has_image(const std::string& path, const std::string& format, const std::string& bytes,
                 const std::string& node = "n1", const std::string& size = "64M") const {
    const auto at = files(node) / path;
    fs::create_directories(at.parent_path());
    write_file(root() / "bytes", bytes);
    REQUIRE(run({"qemu-img", "create", "-q", "-f", format, at.string(), size}).status == 0);
    REQUIRE(run({"qemu-img", "dd", "-f", "raw", "-O", "raw", "if=" + (root() / "bytes").string(),
                 "of=" + (root() / "raw").string(), "bs=64k"})
                .status == 0);
    const auto write = "write -s " + (root() / "bytes").string() + " 0 " + std::to_string(bytes.size());
    REQUIRE(run({"qemu-io", "-f", format, "-c", write, at.string()}).status == 0);
    REQUIRE(run({"touch", "-d", "-1 hour", at.string()}).status == 0);
  }
  /// The beginning of the disk in an image, as qemu reads it.
  [[nodiscard]] std::string disk_of(const std::string& image, std::size_t size, const std::string& format) const {
    const auto out = root() / "disk";
    fs::remove(out);
    const auto ran = run({"qemu-img", "convert", "-U", "-f", format, "-O", "raw", image, out.string()});
    UNSCOPED_INFO(ran.err);
    return read_file(out).substr(0, size);
  }
  [[nodiscard]] bool writes(const std::string& image, const std::string& format, int value, std::size_t at,
                            std::size_t size) const {
    return run({"qemu-io", "-f", format, "-c",
                "write -P " + std::to_string(value) + " " + std::to_string(at) + " " + std::to_string(size), image})
               .status == 0;
  }
  [[nodiscard]] static std::set<std::string> files_in(const fs::path& directory) {
    std::set<std::string> out;
    std::error_code ec;
    for (const auto& entry : fs::directory_iterator(directory, ec)) out.insert(entry.path().string());
    return out;
  }
  static void detach(const fs::path& at) {
    while (::umount2(at.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) continue;
  }
  [[nodiscard]] std::string directory(const std::string& name) const {
    fs::create_directories(root() / name);
    return (root() / name).string();
  }
  void mount_mesh(std::vector<std::string> arguments = {}, std::vector<std::string> before = {}) {
    std::vector<std::string> words = std::move(before);
    words.insert(words.end(), {program("meshmount"), "-f", "--files", files("n1").string(), "--place",
                               (root() / "ext4.yaml").string()});
    words.insert(words.end(), arguments.begin(), arguments.end());
    words.push_back(directory("mesh"));
    processes_.push_back(start(words, "mount"));
    REQUIRE(eventually([&] { return fs::exists(root() / "mesh/vdi/mount"); }));
  }
  Process& mount_process() { return *processes_.back(); }
  /// 0, or what writing it failed with.
  [[nodiscard]] int order(const std::string& file, const std::string& text) const {
    const int fd = ::open((root() / "mesh/vdi" / file).c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    const int error = ::write(fd, text.data(), text.size()) < 0 ? errno : 0;
    ::close(fd);
    return error;
  }

 private:
  std::vector<fs::path> places_;
  std::vector<std::unique_ptr<Process>> processes_;
};

}  // namespace

TEST_CASE("each action on each type of place, in moctl's words and in full") {
  if (!can_loop()) return;
  Volumes mesh;
  const auto mnt = mesh.directory("mnt");
  const auto mnt2 = mesh.directory("mnt2");
  struct Kind {
    std::string file_system, type;
    bool has_disks, clones_disks, has_trees;
  };
  for (const auto& kind : {Kind{"xfs", "reflink", true, true, false}, Kind{"ext4", "qcow2", true, true, false},
                           Kind{"ext4", "fsimg", true, false, false}, Kind{"ext4", "plain", true, true, true},
                           Kind{"btrfs", "btrfs", false, false, true}, Kind{"btrfs", "auto", true, true, true}}) {
    INFO(kind.file_system << " " << kind.type);
    const auto place = mesh.make_place(kind.file_system, kind.type);
    const auto at = (mesh.root() / (kind.file_system + ".yaml")).string();
    const auto moctl = [&](std::vector<std::string> words) {
      words.insert(words.begin(), {program("meshvol"), at});
      return mesh.run(words);
    };
    CHECK(says(moctl({"info"}).out, "features:"));
    CHECK(says(moctl({"info"}).out, " clone") == (kind.type != "fsimg"));
    CHECK(moctl({"h", "fs1"}).out == "fs1 exists: no\n");
    CHECK(mesh.vol(kind.file_system, {"have", "fs1"}).status == 3);
    // With a file system or as a tree, as mosaic's own test has it.
    const auto made = moctl({"create", "fs", "fs1", "40m"});
    INFO(made.err);
    REQUIRE(made.status == 0);
    CHECK(moctl({"have", "fs1"}).out == "fs1 exists: yes\n");
    CHECK(moctl({"m", "fs1", mnt}).status == 0);
    write_file(fs::path(mnt) / "file", "in fs1");
    const auto dropped = moctl({"drop", "fs1"});
    CHECK(dropped.status == 5);
    CHECK(says(dropped.err, "fs1: is mounted on " + mnt));
    CHECK(moctl({"umount", "fs1", mnt}).status == 0);
    CHECK_FALSE(fs::exists(fs::path(mnt) / "file"));
    CHECK(moctl({"umount", "fs1", mnt}).status == 5);
    const auto cloned = moctl({"clone", "fs1", "clone1"});
    CHECK((cloned.status == 0) == (kind.clones_disks || kind.has_trees));
    if (cloned.status == 0) {
      REQUIRE(moctl({"mount", "clone1", mnt}).status == 0);
      REQUIRE(moctl({"mount", "fs1", mnt2, "-o", "ro"}).status == 0);
      CHECK(read_file(fs::path(mnt) / "file") == "in fs1");
      write_file(fs::path(mnt) / "more", "in clone1");
      CHECK_FALSE(fs::exists(fs::path(mnt2) / "more"));
      CHECK(::access((fs::path(mnt2) / "file").c_str(), W_OK) != 0);
      CHECK(moctl({"umount", "clone1"}).status == 0);
      CHECK(moctl({"umount", "fs1"}).status == 0);
      CHECK(moctl({"drop", "fs1"}).status == 0);
      // A clone is whole without what it was made of.
      REQUIRE(moctl({"mount", "clone1", mnt}).status == 0);
      CHECK(read_file(fs::path(mnt) / "file") == "in fs1");
      CHECK(read_file(fs::path(mnt) / "more") == "in clone1");
      CHECK(moctl({"umount", "clone1", mnt}).status == 0);
      CHECK(moctl({"drop", "clone1"}).status == 0);
    } else {
      CHECK(cloned.status == 2);
      CHECK(says(cloned.err, "type loop makes no clones; auto, reflink and qcow2 do"));
      CHECK(moctl({"drop", "fs1"}).status == 0);
    }
    // Disks.
    const auto disk = mesh.vol(kind.file_system, {"new", "disk", "dir/disk1", "16M"});
    CHECK((disk.status == 0) == kind.has_disks);
    if (!kind.has_disks) {
      CHECK(disk.status == 2);
      CHECK(says(disk.err, "auto, reflink, qcow2 and loop make disks"));
    } else {
      const auto attached = moctl({"attach", "dir/disk1"});
      INFO(attached.err);
      REQUIRE(says(attached.out, "Device: /"));
      CHECK(moctl({"attach", "dir/disk1"}).status == 5);
      CHECK(says(moctl({"drop", "dir/disk1"}).err, "is attached as"));
      auto device = attached.out.substr(8);
      device.pop_back();
      CHECK(mesh.run({"mkfs.ext4", "-q", device}).status == 0);
      CHECK(mesh.does(kind.file_system, {"detach", "dir/disk1"}));
      CHECK(moctl({"detach", "dir/disk1"}).status == 5);
      CHECK(mesh.does(kind.file_system, {"mount", "dir/disk1", mnt}));
      CHECK(fs::exists(fs::path(mnt) / "lost+found"));
      CHECK(mesh.does(kind.file_system, {"umount", "dir/disk1"}));
      CHECK(mesh.does(kind.file_system, {"resize", "dir/disk1", "32M"}));
      CHECK(mesh.info(kind.file_system, "dir/disk1").at("size") == 32 * mb);
      CHECK(mesh.vol(kind.file_system, {"resize", "dir/disk1", "16M"}).status == 2);
      CHECK(mesh.names(kind.file_system) == std::set<std::string>{"dir/disk1"});
      CHECK(says(mesh.vol(kind.file_system, {"list"}).out, "dir/\n"));
      CHECK(mesh.does(kind.file_system, {"drop", "dir/disk1"}));
    }
    // The place itself.
    CHECK(moctl({"mount", "-", mnt}).status == 0);
    write_file(fs::path(mnt) / "metadata", "x");
    CHECK(moctl({"umount", "-", mnt}).status == 0);
    CHECK_FALSE(fs::exists(fs::path(mnt) / "metadata"));
    CHECK(fs::remove(place / "metadata"));
    // Nothing is left.
    CHECK(Volumes::files_in(place) == std::set<std::string>{(place / ".meshvol").string()});
    for (const auto* own : {"volumes", "bases", "making", "attached", "exports", "overlays"})
      CHECK(Volumes::files_in(place / ".meshvol" / own).empty());
  }
}

TEST_CASE("a base with clones stays, whatever becomes of the image; and goes with the last of them") {
  if (!can_loop()) return;
  Volumes mesh;
  const auto bytes = noise(2 * mb, 1);
  for (const std::string file_system : {"xfs", "ext4"}) {
    INFO(file_system);
    const auto place = mesh.make_place(file_system);
    mesh.has_image("vm/base.qcow2", "qcow2", bytes);
    const auto web1 = mesh.path_of(file_system, {"clone", "vm/base.qcow2", "web1"});
    const auto web2 = mesh.path_of(file_system, {"clone", "file:vm/base.qcow2", "web2"});
    CHECK(web1 == (place / "web1").string());
    CHECK(mesh.info(file_system, "web1").at("lies_on").size() == 1);
    CHECK(mesh.info(file_system, "web2").at("lies_on").at(0).at("on_it") == json({"web1", "web2"}));
    // A clone of a clone; then both are written to.
    const auto web3 = mesh.path_of(file_system, {"clone", "web1", "web3"});
    CHECK(mesh.writes(web1, "qcow2", 1, 0, mb));
    const auto web4 = mesh.path_of(file_system, {"clone", "web1", "web4"});
    CHECK(mesh.writes(web1, "qcow2", 2, 0, mb / 2));
    CHECK(mesh.writes(web4, "qcow2", 3, mb / 2, mb / 2));
    // Replaced, then deleted.
    mesh.has_image("vm/base.qcow2", "qcow2", noise(2 * mb, 9));
    CHECK(mesh.disk_of(web2, 2 * mb, "qcow2") == bytes);
    const auto newer = mesh.path_of(file_system, {"clone", "vm/base.qcow2", "newer"});
    CHECK(mesh.disk_of(newer, 2 * mb, "qcow2") == noise(2 * mb, 9));
    fs::remove(mesh.files("n1") / "vm/base.qcow2");
    CHECK(mesh.disk_of(web2, 2 * mb, "qcow2") == bytes);
    CHECK(mesh.disk_of(web3, 2 * mb, "qcow2") == bytes);
    CHECK(mesh.disk_of(web1, 2 * mb, "qcow2") ==
          std::string(mb / 2, '\2') + std::string(mb / 2, '\1') + bytes.substr(mb));
    CHECK(mesh.does(file_system, {"drop", "web1", "web2"}));
    CHECK(mesh.disk_of(web4, 2 * mb, "qcow2") ==
          std::string(mb / 2, '\1') + std::string(mb / 2, '\3') + bytes.substr(mb));
    CHECK(mesh.run({"qemu-img", "check", "-q", web4}).status == 0);
    CHECK(mesh.does(file_system, {"drop", "web3", "web4"}));
    CHECK(Volumes::files_in(place / ".meshvol/bases").size() == 2);  // of the newer one
    const auto several = mesh.vol(file_system, {"drop", "newer", "nobody"});
    CHECK(several.status == 3);
    CHECK(says(several.err, "nobody: there is no such volume in " + place.string()));
    CHECK(Volumes::files_in(place / ".meshvol/bases").empty());
  }
}

TEST_CASE("an image's backing files stay with it, and none outside the files directory") {
  if (!can_loop()) return;
  Volumes mesh;
  const auto place = mesh.make_place("ext4");
  const auto bytes = noise(mb, 1);
  mesh.has_image("vm/base.raw", "raw", bytes);
  const auto at = mesh.files("n1") / "vm";
  REQUIRE(
      mesh.run({"qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", (at / "top.qcow2").string()})
          .status == 0);
  CHECK(mesh.writes((at / "top.qcow2").string(), "qcow2", 5, 0, 1024));
  const auto clone = mesh.path_of("ext4", {"clone", "vm/top.qcow2", "c"});
  CHECK(mesh.info("ext4", "c").at("lies_on").size() == 2);
  fs::remove_all(at);
  CHECK(mesh.disk_of(clone, mb, "qcow2") == std::string(1024, '\5') + bytes.substr(1024));
  fs::create_directories(at);
  for (const std::string bad : {"/etc/hostname", "../../../etc/hostname", "json:{\"driver\":\"nbd\",\"host\":\"x\"}",
                                "nbd://x/y", "itself.qcow2"}) {
    INFO(bad);
    const auto image = at / "itself.qcow2";
    fs::remove(image);
    REQUIRE(mesh.run({"qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", bad, "-F", "raw", image.string(), "1M"})
                .status == 0);
    const auto ran = mesh.vol("ext4", {"clone", "vm/itself.qcow2", "bad"});
    CHECK(ran.status == 1);
    CHECK(says(ran.err, bad == "itself.qcow2" ? "lies on itself" : "its backing file"));
    CHECK(mesh.names("ext4") == std::set<std::string>{"c"});
  }
  fs::remove(at / "itself.qcow2");
  write_file(at / "x.vmdk", "KDMV" + std::string(5000, '\0'));
  CHECK(says(mesh.vol("ext4", {"clone", "vm/x.vmdk", "bad"}).err, "is a VMDK image"));
  REQUIRE(mesh.run({"qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=" + (at / "data").string(),
                    (at / "ext.qcow2").string(), "1M"})
              .status == 0);
  CHECK(says(mesh.vol("ext4", {"clone", "vm/ext.qcow2", "bad"}).err, "in another file"));
  CHECK(Volumes::files_in(place / ".meshvol/making").empty());
}

TEST_CASE("archives are trees: snapshots on btrfs, overlays elsewhere, each with its own writes") {
  if (!can_loop()) return;
  Volumes mesh;
  const auto tree = mesh.root() / "tree/rootfs";
  fs::create_directories(tree / "etc");
  write_file(tree / "etc/hostname", "base\n");
  write_file(tree / "same", noise(mb, 3));
  fs::create_directories(mesh.files("n1"));
  REQUIRE(mesh.run({"tar", "-C", (mesh.root() / "tree").string(), "-czf", (mesh.files("n1") / "r.tar.gz").string(),
                    "rootfs"})
              .status == 0);
  const auto mnt = mesh.directory("mnt");
  const auto mnt2 = mesh.directory("mnt2");
  for (const std::string file_system : {"btrfs", "ext4"}) {
    INFO(file_system);
    const auto place = mesh.make_place(file_system);
    CHECK(mesh.does(file_system, {"clone", "tar:r.tar.gz", "c1"}));
    CHECK(mesh.does(file_system, {"clone", "tar:r.tar.gz", "c2"}));
    CHECK(mesh.info(file_system, "c1").at("form") == (file_system == "btrfs" ? "subvolume" : "overlay"));
    CHECK(mesh.does(file_system, {"mount", "c1", mnt}));
    CHECK(mesh.does(file_system, {"mount", "c2", mnt2}));
    const auto of = [](const std::string& at) { return read_file(fs::path(at) / "rootfs/etc/hostname"); };
    CHECK(of(mnt) == "base\n");
    write_file(fs::path(mnt) / "rootfs/etc/hostname", "one\n");
    CHECK(of(mnt2) == "base\n");
    CHECK(mesh.vol(file_system, {"drop", "c1"}).status == 5);
    // As systemd in a container makes them.
    if (file_system == "btrfs") CHECK(mesh.run({"btrfs", "subvolume", "create", mnt + "/rootfs/machines"}).status == 0);
    CHECK(mesh.does(file_system, {"umount", "c1"}));
    CHECK(mesh.does(file_system, {"clone", "c1", "c3"}));
    CHECK(mesh.does(file_system, {"umount", "c2"}));
    CHECK(mesh.does(file_system, {"drop", "c1", "c2"}));
    CHECK(mesh.does(file_system, {"mount", "c3", mnt}));
    CHECK(of(mnt) == "one\n");
    CHECK(read_file(fs::path(mnt) / "rootfs/same") == noise(mb, 3));
    CHECK(mesh.does(file_system, {"umount", "c3"}));
    CHECK(mesh.does(file_system, {"drop", "c3"}));
    CHECK(Volumes::files_in(place / ".meshvol/bases").empty());
    CHECK(Volumes::files_in(place / ".meshvol/overlays").empty());
  }
}

TEST_CASE("the room that a clone takes is what it does not share") {
  if (!can_loop()) return;
  Volumes mesh;
  mesh.has_image("base.img", "raw", noise(40 * mb, 1));
  for (const std::string file_system : {"xfs", "ext4"}) {
    INFO(file_system);
    const auto place = mesh.make_place(file_system);
    const auto used = [&] {
      ::sync();
      struct statvfs s {};
      REQUIRE(::statvfs(place.c_str(), &s) == 0);
      return static_cast<std::int64_t>((s.f_blocks - s.f_bfree) * s.f_frsize);
    };
    CHECK(mesh.does(file_system, {"clone", "base.img", "c0"}));
    const auto before = used();
    for (int i = 1; i <= 10; ++i) CHECK(mesh.does(file_system, {"clone", "base.img", "c" + std::to_string(i)}));
    CHECK(used() - before < 10 * static_cast<std::int64_t>(mb));
    const auto c1 = mesh.info(file_system, "c1");
    CHECK(c1.at("own_bytes") < mb);
    CHECK(mesh.writes((place / "c1").string(), c1.at("form"), 1, 0, 4 * mb));
    const auto own = mesh.info(file_system, "c1").at("own_bytes").get<std::int64_t>();
    CHECK(own >= 4 * static_cast<std::int64_t>(mb));
    CHECK(own < 6 * static_cast<std::int64_t>(mb));
    const auto written = used() - before;
    CHECK(written > 3 * static_cast<std::int64_t>(mb));
  }
}

TEST_CASE("commands that are killed at any moment leave nothing half") {
  if (!can_loop()) return;
  Volumes mesh;
  mesh.has_image("base.qcow2", "qcow2", noise(8 * mb, 1));
  std::mt19937 random(7);
  for (const std::string file_system : {"xfs", "ext4", "btrfs"}) {
    const auto place = mesh.make_place(file_system);
    std::set<std::string> may_be;
    for (int turn = 0; turn < 40; ++turn) {
      INFO(file_system << " " << turn);
      const auto name = "v" + std::to_string(random() % 5);
      const std::vector<std::vector<std::string>> all{{"clone", "base.qcow2", name},
                                                      {"drop", name},
                                                      {"clone", "v" + std::to_string(random() % 5), name},
                                                      {"new", "fs", name, "20M"},
                                                      {"new", "disk", name, "20M"}};
      auto process = mesh.start(mesh.command(file_system, all[random() % all.size()]), "killed");
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 60'000));
      process->signal(SIGKILL);
      process->wait(seconds(10));
      if (turn % 4 != 3) continue;
      // Whoever comes next finds volumes that are whole, and nothing else.
      // (A program that one that was killed had started may take a moment to come to its end.)
      CHECK(eventually([&] {
        return mesh.vol(file_system, {"drop", "nobody"}).status == 3 &&
               Volumes::files_in(place / ".meshvol/making").empty();
      }));
      std::set<std::string> needed;
      std::set<std::string> there;
      for (const auto& one : mesh.names(file_system)) {
        const auto info = mesh.info(file_system, one);
        CHECK_FALSE(info.at("missing").get<bool>());
        const std::string path = info.at("path");
        there.insert(path);
        if (info.at("form") == "qcow2") {
          const auto checked = mesh.run({"qemu-img", "check", "-q", "-f", "qcow2", path});
          UNSCOPED_INFO(checked.err);
          CHECK(checked.status == 0);
        }
        for (const auto& base : info.at("lies_on")) needed.insert(base.at("id").get<std::string>());
      }
      there.insert((place / ".meshvol").string());
      CHECK(Volumes::files_in(place) == there);
      for (const auto& file : Volumes::files_in(place / ".meshvol/bases"))
        CHECK(needed.contains(
            fs::path(file).filename().string().substr(0, fs::path(file).filename().string().find('.'))));
    }
    for (const auto& one : mesh.names(file_system)) CHECK(mesh.does(file_system, {"drop", one}));
    CHECK(Volumes::files_in(place / ".meshvol/bases").empty());
  }
}

TEST_CASE("many at once clone and drop what hangs on one base") {
  if (!can_loop()) return;
  Volumes mesh;
  const auto place = mesh.make_place("ext4");
  const auto bytes = noise(4 * mb, 1);
  mesh.has_image("base.qcow2", "qcow2", bytes);
  std::vector<std::thread> workers;
  std::atomic<int> failed = 0;
  for (int i = 0; i < 6; ++i)
    workers.emplace_back([&, i] {
      for (int turn = 0; turn < 8; ++turn) {
        const auto name = "v" + std::to_string(i);
        if (mesh.vol("ext4", {"clone", "base.qcow2", name}).status != 0) ++failed;
        if (turn < 7 && mesh.vol("ext4", {"drop", name}).status != 0) ++failed;
      }
    });
  for (auto& worker : workers) worker.join();
  CHECK(failed == 0);
  for (int i = 0; i < 6; ++i)
    CHECK(mesh.disk_of((place / ("v" + std::to_string(i))).string(), 4 * mb, "qcow2") == bytes);
  CHECK(Volumes::files_in(place / ".meshvol/bases").size() == 2);
  // One name, many who want it: one has it.
  std::atomic<int> won = 0;
  workers.clear();
  for (int i = 0; i < 6; ++i)
    workers.emplace_back([&] { won += mesh.vol("ext4", {"clone", "base.qcow2", "one"}).status == 0 ? 1 : 0; });
  for (auto& worker : workers) worker.join();
  CHECK(won == 1);
}

TEST_CASE("a place that is reached by a link: what is in use there is found all the same") {
  if (!can_loop()) return;
  Volumes mesh;
  const auto at = mesh.make_place("btrfs");
  REQUIRE(mesh.does("btrfs", {"new", "fs", "other", "10M"}));
  fs::create_symlink(at, mesh.root() / "link");
  write_file(mesh.root() / "linked.yaml", "type: auto\nlocation: " + (mesh.root() / "link").string() + "\n");
  REQUIRE(mesh.does("linked", {"new", "fs", "tree", "10M"}));
  const auto mnt = mesh.directory("mnt");
  REQUIRE(mesh.does("linked", {"mount", "tree", mnt}));
  write_file(fs::path(mnt) / "file", "kept");
  CHECK(mesh.vol("linked", {"drop", "tree"}).status == 5);
  CHECK(read_file(fs::path(mnt) / "file") == "kept");
  CHECK(mesh.does("linked", {"umount", "tree"}));
  CHECK(mesh.does("linked", {"drop", "tree"}));
  // Nobody else reaches what is set-user-id in a tree.
  struct stat s {};
  REQUIRE(::stat((at / ".meshvol/bases").c_str(), &s) == 0);
  CHECK((s.st_mode & 07777) == 0700);
}

TEST_CASE("an image whose header says one thing to QEMU and another here is refused") {
  if (!can_loop()) return;
  Volumes mesh;
  mesh.has_image("odd.qcow2", "qcow2", noise(mb, 1));
  const auto image = mesh.files("n1") / "odd.qcow2";
  auto bytes = read_file(image);
  bytes.replace(8, 12,
                std::string("\0\0\0\0\0\0\0\x40\0\0\0\x07", 12));  // a backing file's name where other fields are
  write_file(image, bytes);
  REQUIRE(mesh.run({"touch", "-d", "-1 hour", image.string()}).status == 0);
  static_cast<void>(mesh.make_place("ext4"));
  const auto ran = mesh.vol("ext4", {"clone", "odd.qcow2", "x"});
  CHECK(ran.status == 1);
  CHECK(says(ran.err, "odd.qcow2: is no sound qcow2 image"));
}

TEST_CASE("what shows a disk ends with it, whatever the place is called") {
  if (!can_loop()) return;
  Volumes mesh;
  const auto at = mesh.root() / "a,b c";
  fs::create_directories(at);
  write_file(mesh.root() / "odd.yaml", "type: qcow2\nlocation: '" + at.string() + "'\n");
  REQUIRE(mesh.does("odd", {"new", "disk", "d", "64M"}));
  const auto disk = mesh.path_of("odd", {"attach", "d"});
  const auto shown = [&] { return mesh.run({"pgrep", "-f", "qemu-storage-daemon.*a,b c/"}).status == 0; };
  CHECK(shown());
  const auto bytes = noise(mb, 3);
  {
    std::ofstream out(disk, std::ios::in | std::ios::binary);
    out << bytes;
  }
  CHECK(mesh.does("odd", {"detach", "d"}));
  CHECK_FALSE(shown());
  CHECK_FALSE(fs::exists(disk));
  CHECK(mesh.disk_of((at / "d").string(), bytes.size(), "qcow2") == bytes);
  CHECK(mesh.does("odd", {"drop", "d"}));
}

TEST_CASE("what is wrong is said in a line, before anything is done") {
  if (!can_loop()) return;
  Volumes mesh;
  const auto place = mesh.make_place("ext4");
  mesh.has_image("base.img", "raw", "x");
  const auto fails = [&](std::vector<std::string> words, int status, const std::string& part) {
    const auto ran = mesh.vol("ext4", words);
    INFO(words.front() << ": " << ran.err);
    CHECK(ran.status == status);
    CHECK(says(ran.err, part));
    CHECK(std::ranges::count(ran.err, '\n') == 1);
  };
  CHECK(mesh.does("ext4", {"new", "disk", "d", "1M"}));
  fails({"new", "disk", "d", "1M"}, 5, "d: there is a volume of that name");
  fails({"new", "disk", "d/e", "1M"}, 5, "d is a volume");
  fails({"new", "disk", "../x", "1M"}, 2, "is no name for a volume");
  fails({"new", "disk", ".meshvol/x", "1M"}, 2, "meshvol's own");
  fails({"new", "disk", "x", "1Q"}, 2, "'1Q' is no size");
  fails({"new", "disk", "x", "-1"}, 2, "");
  fails({"new", "tape", "x", "1M"}, 2, "neither disk nor fs");
  fails({"drop", "nobody"}, 3, "there is no such volume");
  fails({"clone", "*.img", "x"}, 2, "is a glob");
  fails({"commit", "d", "base.img"}, 5, "is there already");
  fails({"mount", "d", mesh.directory("mnt")}, 1, "has no file system of its own");
  fails({"attach", "nobody"}, 3, "no such volume");
  write_file(place / "foreign", "x");
  fails({"new", "disk", "foreign", "1M"}, 5, "is no volume of meshvol's");
  {
    const int fd = ::open((place / "d").c_str(), O_RDWR | O_CLOEXEC);
    fails({"drop", "d"}, 5, "d: is open in swarm_tests (process " + std::to_string(::getpid()) + ")");
    fails({"resize", "d", "2M"}, 5, "is open in");
    ::close(fd);
  }
  {
    const int fd = ::open((mesh.files("n1") / "base.img").c_str(), O_RDWR | O_CLOEXEC);
    fails({"clone", "base.img", "x"}, 5, "somebody has it open for writing");
    ::close(fd);
  }
  write_file(place / ".meshvol/volumes/broken.json", "{");
  fails({"new", "disk", "x", "1M"}, 1, "is no record of a volume");
  CHECK(says(mesh.vol("ext4", {"list"}).out, "d"));
  fs::remove(place / ".meshvol/volumes/broken.json");
  const auto config = [&](const std::string& text) {
    write_file(mesh.root() / "ext4.yaml", text);
    return mesh.vol("ext4", {"list"}).err;
  };
  CHECK(says(config("type: zfs\nlocation: x\n"), "type 'zfs' is none"));
  CHECK(says(config("type: ploop\nlocation: x\n"), "is not one of meshvol's"));
  CHECK(says(config("location: x\n"), "no 'type' in it"));
  CHECK(says(config("type: auto\nlocation: x\nsize: 3\n"), "unknown key 'size'"));
  CHECK(says(config("type: [auto\n"), "line "));
  CHECK(says(config("type: auto\nlocation: x\nlayout:\n  vol: y\n"), "layout.vol"));
  // Somebody else could exchange what root's VMs lie on.
  fs::create_directories(mesh.root() / "open");
  fs::permissions(mesh.root() / "open", fs::perms::all);
  write_file(mesh.root() / "ext4.yaml", "type: auto\nlocation: open/x\n");
  CHECK(mesh.vol("ext4", {"new", "disk", "x", "1M"}).status == 2);
}

TEST_CASE("an ordinary user has volumes where he may write, and is told what needs root") {
  if (!can_loop()) return;
  Volumes mesh;
  const auto home = mesh.root() / "home";
  fs::create_directories(home);
  fs::permissions(mesh.root(), fs::perms::all & ~fs::perms::group_write & ~fs::perms::others_write);
  REQUIRE(::chown(home.c_str(), 65534, 65534) == 0);
  mesh.has_image("base.qcow2", "qcow2", noise(mb, 1));
  fs::permissions(mesh.files("n1"), fs::perms::all & ~fs::perms::group_write & ~fs::perms::others_write);
  const auto as_user = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env",
                                 "HOME=" + home.string(), "XDG_DATA_HOME=" + home.string(), program("meshvol"),
                                 "--files", mesh.files("n1").string(), "--config", "/dev/null"});
    return mesh.run(words);
  };
  const auto cloned = as_user({"clone", "base.qcow2", "mine"});
  INFO(cloned.err);
  CHECK(cloned.out == (home / "mesh/volumes/mine").string() + "\n");
  const auto mounted = as_user({"mount", "mine", mesh.directory("mnt")});
  CHECK(mounted.status == 5);
  CHECK(says(mounted.err, "mounting needs root"));
  CHECK(as_user({"new", "disk", "raw", "4M"}).status == 0);
  CHECK(as_user({"attach", "raw"}).out == (home / "mesh/volumes/raw").string() + "\n");
  CHECK(as_user({"drop", "raw"}).status == 5);
  CHECK(as_user({"detach", "raw"}).status == 0);
  CHECK(as_user({"drop", "raw", "mine"}).status == 0);
}

TEST_CASE("a volume becomes a file of the mesh, and others fetch what is new in it") {
  if (!can_loop()) return;
  Volumes mesh;
  const auto place = mesh.make_place("ext4");
  const auto bytes = noise(24 * mb, 1);
  mesh.has_image("vm/base-1.qcow2", "qcow2", bytes);
  mesh.start_node("n1");
  mesh.start_node("n2");
  REQUIRE(mesh.get("n2", {"vm/base-1.qcow2"}).status == 0);
  const auto web1 = mesh.path_of("ext4", {"clone", "vm/base-1.qcow2", "web1"});
  CHECK(mesh.writes(web1, "qcow2", 7, mb, 64 * 1024));
  CHECK(mesh.does("ext4", {"clone", "web1", "web2"}));
  CHECK(mesh.writes(web1, "qcow2", 8, 3 * mb, 64 * 1024));
  const auto made = mesh.path_of("ext4", {"commit", "web1", "vm/base-2.qcow2"});
  CHECK(made == (mesh.files("n1") / "vm/base-2.qcow2").string());
  auto wanted = bytes;
  wanted.replace(mb, 64 * 1024, std::string(64 * 1024, '\7'));
  wanted.replace(3 * mb, 64 * 1024, std::string(64 * 1024, '\10'));
  CHECK(mesh.disk_of(made, 24 * mb, "qcow2") == wanted);
  CHECK(mesh.run({"qemu-img", "check", "-q", made}).status == 0);
  CHECK_FALSE(says(mesh.run({"qemu-img", "info", made}).out, "backing file"));
  const auto got = mesh.get("n2", {"--wait", "--json", "vm/base-2.qcow2"});
  const auto file = json::parse(got.out).at("files").at(0);
  CHECK(file.at("status") == 0);
  CHECK(file.at("bytes_fetched") < 2 * mb);
  CHECK(file.at("bytes_reused") > 22 * mb);
  CHECK(mesh.disk_of((mesh.files("n2") / "vm/base-2.qcow2").string(), 24 * mb, "qcow2") == wanted);
}

TEST_CASE("a clone of an image that is not here: brought first, or read in the mounted mesh until it is whole") {
  if (!can_loop()) return;
  Volumes mesh;
  const auto place = mesh.make_place("ext4");
  const auto bytes = noise(24 * mb, 1);
  mesh.has_image("vm/base.qcow2", "qcow2", bytes, "source");
  mesh.has_image("vm/other.img", "raw", bytes, "source");
  mesh.start_node("source", {"--max-up", megabytes_a_second(8)});
  mesh.start_node("n1");
  const auto none = mesh.vol("ext4", {"clone", "vm/nothing", "x"});
  CHECK(none.status == 3);
  CHECK(says(none.err, "neither a volume"));
  const auto unmounted = mesh.vol("ext4", {"clone", "--lazy", "vm/base.qcow2", "lazy"});
  CHECK(unmounted.status == 2);
  CHECK(says(unmounted.err, "meshmount DIR"));
  mesh.mount_mesh();
  const auto lazy = mesh.path_of("ext4", {"clone", "--lazy", "vm/base.qcow2", "lazy"});
  CHECK(mesh.info("ext4", "lazy").at("lazy") == true);
  CHECK(mesh.writes(lazy, "qcow2", 3, 5 * mb, 4096));
  // While it is on its way the path comes to stand for another version: that one is not read.
  auto wanted = bytes;
  wanted.replace(5 * mb, 4096, std::string(4096, '\3'));
  CHECK(mesh.disk_of(lazy, 24 * mb, "qcow2") == wanted);
  CHECK(eventually([&] { return fs::exists(mesh.files("n1") / "vm/base.qcow2"); }));
  CHECK(mesh.does("ext4", {"new", "disk", "any", "1M"}));
  CHECK(mesh.info("ext4", "lazy").at("lazy") == false);
  CHECK(mesh.info("ext4", "lazy").at("lies_on").size() == 1);
  mesh.mount_process().signal(SIGTERM);
  mesh.mount_process().wait(seconds(20));
  mesh.stop_node("source", SIGKILL);
  fs::remove(mesh.files("n1") / "vm/base.qcow2");
  CHECK(mesh.disk_of(lazy, 24 * mb, "qcow2") == wanted);
  // Brought first.
  mesh.start_node("source");
  const auto other = mesh.path_of("ext4", {"clone", "vm/other.img", "other"});
  CHECK(mesh.disk_of(other, 24 * mb, "qcow2") == bytes);
}

TEST_CASE("vdi/: the disk in a clone is a file, which fio, mkfs and mount write to, and its writes stay") {
  if (!can_loop()) return;
  Volumes mesh;
  const auto place = mesh.make_place("ext4");
  const auto bytes = noise(8 * mb, 1);
  mesh.has_image("vm/base.qcow2", "qcow2", bytes, "source", "96M");
  mesh.start_node("source");
  mesh.start_node("n1");
  mesh.mount_mesh();
  const auto volume = mesh.root() / "mesh/volume";
  CHECK(mesh.order("mount", "vm/nothing\n") == ENOENT);
  CHECK(mesh.order("mount", "vm/base.qcow2 a/b\n") == EINVAL);
  CHECK(mesh.order("mount", "\n") == EINVAL);
  REQUIRE(mesh.order("mount", "vm/base.qcow2 web1\n") == 0);
  CHECK(mesh.order("mount", "vm/base.qcow2 web1\n") == EEXIST);
  CHECK(mesh.order("mount", "/vm/base.qcow2\n") == 0);
  CHECK(Volumes::files_in(volume) == std::set<std::string>{volume / "base.qcow2", volume / "web1"});
  struct stat s {};
  REQUIRE(::stat((volume / "web1").c_str(), &s) == 0);
  CHECK((s.st_mode & 07777) == 0600);
  CHECK(s.st_uid == ::geteuid());
  CHECK(s.st_size == 96 * static_cast<off_t>(mb));
  CHECK(read_file(volume / "web1").substr(0, 8 * mb) == bytes);
  CHECK(says(read_file(mesh.root() / "mesh/vdi/list"), "web1"));
  CHECK(says(read_file(mesh.root() / "mesh/vdi/status"), "vm/nothing"));
  // With the kernel's cache, past it, and through mappings; fsync among them.
  for (const std::vector<std::string>& how : {std::vector<std::string>{"--direct=1"},
                                              {"--fsync=16"},
                                              {"--ioengine=mmap"},
                                              {"--direct=1", "--numjobs=3", "--size=4M", "--offset_increment=4M"}}) {
    std::vector<std::string> words{"fio",
                                   "--name=v",
                                   "--filename=" + (volume / "web1").string(),
                                   "--rw=randrw",
                                   "--bs=8k",
                                   "--ioengine=psync",
                                   "--size=12M",
                                   "--offset=64M",
                                   "--verify=crc32c",
                                   "--verify_fatal=1"};
    words.insert(words.end(), how.begin(), how.end());
    const auto ran = mesh.run(words, seconds(120));
    INFO(ran.err);
    CHECK(ran.status == 0);
  }
  CHECK(mesh.run({"mkfs.ext4", "-q", "-F", (volume / "base.qcow2").string()}).status == 0);
  const auto mnt = mesh.directory("mnt");
  REQUIRE(mesh.run({"mount", "-o", "loop", (volume / "base.qcow2").string(), mnt}).status == 0);
  write_file(fs::path(mnt) / "file", "written");
  CHECK(mesh.order("unmount", "base.qcow2\n") == EBUSY);
  CHECK(mesh.vol("ext4", {"drop", "base.qcow2"}).status == 5);
  CHECK(mesh.run({"umount", mnt}).status == 0);
  CHECK(eventually([&] { return mesh.order("unmount", "base.qcow2\n") == 0; }));
  CHECK(mesh.order("unmount", "base.qcow2\n") == ENOENT);
  CHECK_FALSE(fs::exists(volume / "base.qcow2"));
  // What somebody has attached by himself is his.
  static_cast<void>(mesh.path_of("ext4", {"attach", "base.qcow2"}));
  CHECK(mesh.order("mount", "vm/base.qcow2\n") == EBUSY);
  CHECK(mesh.info("ext4", "base.qcow2").at("attached_by") == "");
  CHECK(mesh.does("ext4", {"detach", "base.qcow2"}));
  REQUIRE(mesh.order("mount", "vm/base.qcow2\n") == 0);
  REQUIRE(mesh.run({"mount", "-o", "loop,ro", (volume / "base.qcow2").string(), mnt}).status == 0);
  CHECK(read_file(fs::path(mnt) / "file") == "written");
  CHECK(mesh.run({"umount", mnt}).status == 0);
  // The mesh has heard nothing of it.
  CHECK(mesh.disk_of((mesh.files("source") / "vm/base.qcow2").string(), 8 * mb, "qcow2") == bytes);
  // It is as large as it is.
  CHECK(::truncate((volume / "web1").c_str(), 1) != 0);
  {
    const int fd = ::open((volume / "web1").c_str(), O_WRONLY | O_CLOEXEC);
    CHECK(::pwrite(fd, "x", 1, 96 * static_cast<off_t>(mb)) < 0);
    CHECK(errno == ENOSPC);
    ::close(fd);
  }
  // What shows them is killed: an error, and not zeros; what was synced is there when it is mounted anew.
  const auto written = read_file(volume / "web1");
  CHECK(mesh.run({"sync", (volume / "web1").string()}).status == 0);
  REQUIRE(mesh.run({"pkill", "-9", "-f", "qemu-storage-daemon.*" + mesh.root().string() + "/"}).status == 0);
  {
    const int fd = ::open((volume / "web1").c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
    alignas(4096) static std::array<char, 4096> block;
    CHECK(eventually([&] { return ::pread(fd, block.data(), block.size(), 0) < 0; }));
    ::close(fd);
  }
  for (const auto* name : {"web1", "base.qcow2"}) {
    CHECK(mesh.order("unmount", std::string(name) + "\n") == 0);
    CHECK(mesh.order("mount", "vm/base.qcow2 " + std::string(name) + "\n") == 0);
  }
  const bool is_as_written = read_file(volume / "web1") == written;
  CHECK(is_as_written);
  // Others of this machine, where they may look in at all, read no version by its name, and hear of nobody's volumes.
  const auto mode_of = [&](const std::string& path) {
    struct stat one {};
    return ::stat((mesh.root() / "mesh" / path).c_str(), &one) == 0 ? one.st_mode & 07777 : 0U;
  };
  CHECK(mode_of("version") == 0700);
  CHECK(mode_of("volume") == 0711);
  CHECK(mode_of("vdi/list") == 0400);
  CHECK(mode_of("vdi/status") == 0400);
  CHECK(mode_of("vdi/mount") == 0600);
  // What is served goes with the mount, in order, however often it is told.
  mesh.mount_process().signal(SIGTERM);
  mesh.mount_process().signal(SIGTERM);
  mesh.mount_process().wait(seconds(20));
  // They lie on the image by now, which is here.
  CHECK(eventually([&] { return fs::exists(mesh.files("n1") / "vm/base.qcow2"); }));
  CHECK(mesh.does("ext4", {"new", "disk", "any", "1M"}));
  for (const auto* name : {"web1", "base.qcow2"}) {
    const auto info = mesh.info("ext4", name);
    CHECK(info.at("attached") == "");
    CHECK(mesh.run({"qemu-img", "check", "-q", info.at("path").get<std::string>()}).status == 0);
    CHECK(mesh.does("ext4", {"drop", name}));
  }
}

TEST_CASE("vdi/: what was synced is there after a power failure, and after everything was killed") {
  if (!can_loop()) return;
  Volumes mesh;
  const auto place = mesh.make_place("ext4");
  mesh.has_image("base.qcow2", "qcow2", noise(2 * mb, 1), "n1", "64M");
  mesh.start_node("n1");
  for (int turn = 0; turn < 3; ++turn) {
    INFO(turn);
    const auto off = mesh.root() / ("off" + std::to_string(turn));
    const bool is_power = turn < 2;
    std::vector<std::string> shim{"env"};
    if (is_power)
      shim.insert(shim.end(), {std::string("LD_PRELOAD=") + MESH_POWER_SHIM, "ASAN_OPTIONS=verify_asan_link_order=0",
                               "MESH_POWER_DIR=" + (place / ("v" + std::to_string(turn))).string(),
                               "MESH_POWER_SEED=" + std::to_string(turn), "MESH_POWER_FILE=" + off.string()});
    mesh.mount_mesh({}, shim);
    const auto name = "v" + std::to_string(turn);
    REQUIRE(mesh.order("mount", "base.qcow2 " + name) == 0);
    const auto at = (mesh.root() / "mesh/volume" / name).string();
    const std::vector<std::string> job{"fio",          "--name=v",       "--filename=" + at, "--rw=randwrite",
                                       "--bs=16k",     "--size=16M",     "--offset=8M",      "--ioengine=psync",
                                       "--randseed=5", "--verify=crc32c"};
    auto synced = job;
    synced.insert(synced.end(), {"--end_fsync=1", "--do_verify=0"});
    REQUIRE(mesh.run(synced).status == 0);
    // And then some, which nobody has synced.
    auto more = mesh.start({"fio", "--name=w", "--filename=" + at, "--rw=randwrite", "--bs=16k", "--size=24M",
                            "--offset=32M", "--ioengine=psync", "--time_based", "--runtime=60"},
                           "more");
    std::this_thread::sleep_for(milliseconds(400));
    if (is_power) write_file(off, "x");
    if (!is_power)
      static_cast<void>(mesh.run({"sh", "-c", "pkill -9 -f \"qemu-storage-daemon.*$0/\"", mesh.root().string()}));
    if (is_power) mesh.mount_process().wait(seconds(20));
    if (!is_power) mesh.mount_process().signal(SIGKILL), mesh.mount_process().wait(seconds(20));
    Volumes::detach(mesh.root() / "mesh");
    more->signal(SIGKILL);
    more->wait(seconds(20));
    const auto file = mesh.info("ext4", name).at("path").get<std::string>();
    CHECK(eventually([&] { return mesh.run({"qemu-img", "info", file}).status == 0; }));
    const auto checked = mesh.run({"qemu-img", "check", "-q", file});
    CHECK((checked.status == 0 || checked.status == 3));  // clusters that nobody uses may be left, and nothing is wrong
    mesh.mount_mesh();
    REQUIRE(mesh.order("mount", "base.qcow2 " + name) == 0);
    auto verify = job;
    verify.insert(verify.end(), {"--verify_only"});
    const auto ran = mesh.run(verify);
    INFO(ran.err);
    CHECK(ran.status == 0);
    CHECK(mesh.order("unmount", name) == 0);
    mesh.mount_process().signal(SIGTERM);
    mesh.mount_process().wait(seconds(20));
  }
}
