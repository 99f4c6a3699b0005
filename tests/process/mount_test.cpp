// The mesh as a mounted tree (meshmount): real processes and the kernel's FUSE, in a mount namespace of the test's own.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "process.h"
#include "test.h"

using namespace mesh::test;
using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

bool may_mount() {
  const bool can = can_mount();
  if (!can) WARN("SKIPPED: needs root, /dev/fuse and mount namespaces");
  return can;
}

constexpr std::size_t mb = 1 << 20;

bool says(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// A source, and a reader on whose machine the mesh is mounted.
struct Mounts : Mesh {
  Mounts() { fs::create_directories(at()); }
  ~Mounts() {
    for (auto& mount : mounts_) mount->signal(SIGKILL);
    while (::umount2(at().c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) continue;
  }
  Mounts(const Mounts&) = delete;
  Mounts& operator=(const Mounts&) = delete;

  [[nodiscard]] fs::path at(const std::string& path = "") const { return root() / "mnt" / path; }
  [[nodiscard]] fs::path in_mesh(const std::string& path) const { return at("files") / path; }
  void has(const std::string& path, const std::string& bytes, const std::string& node = "source") const {
    fs::create_directories((files(node) / path).parent_path());
    write_file(files(node) / path, bytes);
  }
  void begin() {
    start_node("source");
    start_node("reader");
  }
  [[nodiscard]] std::vector<std::string> command(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {program("meshmount"), "--files", files("reader").string()});
    return arguments;
  }
  /// In the foreground, with its log in mount.log.
  void mount(std::vector<std::string> arguments = {}) {
    arguments.insert(arguments.begin(), "-f");
    arguments.push_back(at().string());
    mounts_.push_back(start(command(std::move(arguments)), "mount"));
    REQUIRE(eventually([&] { return is_mounted(); }));
  }
  [[nodiscard]] bool is_mounted() const {
    struct stat s {};
    return ::lstat((at() / "files").c_str(), &s) == 0;
  }
  Process& mount_process() { return *mounts_.back(); }
  [[nodiscard]] std::string mount_log() const { return read_file(root() / "mount.log"); }
  [[nodiscard]] bool shows(const std::string& path) const {
    return eventually([&] { return fs::exists(fs::symlink_status(in_mesh(path))); });
  }
  /// What others read.
  [[nodiscard]] std::string sum_of(const fs::path& file) const {
    const auto ran = run({"sha256sum", file.string()}, seconds(120));
    return ran.status == 0 ? ran.out.substr(0, 64) : ran.err;
  }

 private:
  std::vector<std::unique_ptr<Process>> mounts_;
};

struct Descriptor {
  explicit Descriptor(const fs::path& path, int flags = O_RDONLY) : fd(::open(path.c_str(), flags | O_CLOEXEC)) {}
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  const int fd;
};

/// What open(2) of it fails with; 0: it does not.
int error_of_open(const fs::path& path, int flags = O_RDONLY) {
  const Descriptor file(path, flags);
  return file.fd >= 0 ? 0 : errno;
}

std::string bytes_at(int fd, off_t offset, std::size_t size) {
  std::string out(size, '\0');
  const auto n = ::pread(fd, out.data(), size, offset);
  out.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
  return out;
}

std::uint64_t inode_of(const fs::path& path) {
  struct stat s {};
  return ::stat(path.c_str(), &s) == 0 ? s.st_ino : 0;
}

}  // namespace

TEST_CASE("the catalog is a tree: attributes, links, empty directories, odd names; and nothing in it can be changed") {
  if (!may_mount()) return;
  Mounts mesh;
  const auto source = mesh.files("source");
  mesh.has("disk.img", noise(3 * mb, 1));
  mesh.has("deep/er/file", "hello\n");
  mesh.has("deep/empty", "");
  for (const auto* name : {"with space", "-dash", "new\nline", "\xc3\xa9t\xc3\xa9", "quo'te\"", "*", "back\\slash"})
    mesh.has(std::string("odd/") + name, name);
  mesh.has("odd/" + std::string(255, 'n'), "long");
  fs::create_directories(source / "nothing/in/here");
  fs::create_symlink("../disk.img", source / "deep/link");
  fs::create_symlink("er", source / "deep/to directory");
  fs::create_symlink("nowhere", source / "dangling");
  fs::create_symlink("/etc/passwd", source / "out");
  ::chmod((source / "disk.img").c_str(), 0640);
  const timespec times[2] = {{0, UTIME_OMIT}, {1'234'567'890, 123'456'789}};
  ::utimensat(AT_FDCWD, (source / "deep/er/file").c_str(), times, 0);
  mesh.begin();
  mesh.mount();
  REQUIRE(mesh.shows("deep/er/file"));
  const auto listing = [&](const fs::path& root) {
    // Sorted by find's own names; directories' sizes are each file system's own.
    const std::string format =
        "( -type d -printf d\\t%m\\t%P\\0 ) -o ( -type l -printf l\\t%l\\t%P\\0 ) -o -printf "
        "f\\t%m\\t%s\\t%T@\\t%P\\0";
    std::vector<std::string> words{"find", root.string(), "-name", ".mesh", "-prune", "-o", "-name", "out", "-o"};
    for (std::size_t at = 0; at < format.size();) {
      const auto end = std::min(format.find(' ', at), format.size());
      words.push_back(format.substr(at, end - at));
      at = end + 1;
    }
    const auto text = mesh.run(words).out;
    std::set<std::string> out;
    for (std::size_t at = 0; at < text.size();) {
      const auto end = std::min(text.find('\0', at), text.size());
      const auto line = text.substr(at, end - at);
      if (!line.ends_with("\t")) out.insert(line);  // but the roots
      at = end + 1;
    }
    return out;
  };
  const auto theirs = listing(source);
  CHECK(theirs.size() > 15);
  CHECK(listing(mesh.in_mesh("")) == theirs);
  const auto differs = mesh.run({"diff", "-r", "--no-dereference", "--exclude=.mesh", "--exclude=out", source.string(),
                                 mesh.in_mesh("").string()});
  INFO(differs.out << differs.err);
  CHECK(differs.status == 0);
  CHECK(read_file(mesh.in_mesh("deep/link")) == read_file(source / "disk.img"));
  CHECK(error_of_open(mesh.in_mesh("out")) == ENOENT);
  CHECK(error_of_open(mesh.in_mesh("dangling")) == ENOENT);
  CHECK(error_of_open(mesh.in_mesh("missing/file")) == ENOENT);
  CHECK(error_of_open(mesh.in_mesh("disk.img/file")) == ENOTDIR);
  CHECK(error_of_open(mesh.in_mesh("deep"), O_WRONLY) == EISDIR);
  CHECK(error_of_open(mesh.in_mesh(".mesh")) == ENOENT);
  for (const int flags : {O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC})
    CHECK(error_of_open(mesh.in_mesh("disk.img"), flags) == EROFS);
  CHECK(error_of_open(mesh.in_mesh("fresh"), O_WRONLY | O_CREAT) == EROFS);
  CHECK((::mkdir(mesh.in_mesh("fresh").c_str(), 0755) != 0 && errno == EROFS));
  CHECK((::unlink(mesh.in_mesh("disk.img").c_str()) != 0 && errno == EROFS));
  CHECK((::rename(mesh.in_mesh("disk.img").c_str(), mesh.in_mesh("other").c_str()) != 0 && errno == EROFS));
  CHECK((::chmod(mesh.in_mesh("disk.img").c_str(), 0600) != 0 && errno == EROFS));
  CHECK((::truncate(mesh.in_mesh("disk.img").c_str(), 0) != 0 && errno == EROFS));
  // What was there before is what is looked at by a number that stays.
  const auto number = inode_of(mesh.in_mesh("disk.img"));
  mesh.mount_process().signal(SIGTERM);
  CHECK(mesh.mount_process().wait(seconds(10)) == 0);
  CHECK_FALSE(mesh.is_mounted());
  mesh.mount();
  CHECK(inode_of(mesh.in_mesh("disk.img")) == number);
}

TEST_CASE("bytes that are here, elsewhere, small, none, not hashed: all of them right, read by anybody in any way") {
  if (!may_mount()) return;
  Mounts mesh;
  mesh.has("there.img", noise(40 * mb, 2));
  mesh.has("small", noise(1000, 3));
  mesh.has("edge", noise(64 * 1024, 4));
  mesh.has("empty", "");
  mesh.has("here.img", noise(20 * mb + 17, 5), "reader");
  mesh.has("here small", noise(77, 6), "reader");
  mesh.begin();
  mesh.mount();
  for (const auto* name : {"there.img", "small", "edge", "empty", "here.img", "here small"}) {
    const std::string node = std::string(name).starts_with("here") ? "reader" : "source";
    REQUIRE(mesh.shows(name));
    INFO(name);
    CHECK(mesh.sum_of(mesh.in_mesh(name)) == mesh.sum_of(mesh.files(node) / name));
  }
  // Nothing was put into the files directory for that.
  CHECK_FALSE(fs::exists(mesh.files("reader") / "there.img"));
  const Descriptor file(mesh.in_mesh("there.img"));
  const auto all = read_file(mesh.files("source") / "there.img");
  for (const off_t offset : {off_t{0}, off_t{1}, off_t{16'383}, off_t{39 * mb + 1}, off_t{40 * mb - 1}})
    CHECK(bytes_at(file.fd, offset, 70'000) == all.substr(static_cast<std::size_t>(offset), 70'000));
  CHECK(bytes_at(file.fd, 40 * mb, 10).empty());
  CHECK(bytes_at(file.fd, 400 * mb, 10).empty());
}

TEST_CASE("random reads by several at once, past the page cache, through it and mapped, are what was written there") {
  if (!may_mount()) return;
  Mounts mesh;
  const auto fio = [&](const fs::path& file, std::vector<std::string> how) {
    how.insert(how.begin(), {"fio", "--name=v", "--filename=" + file.string(), "--size=16m", "--bs=64k",
                             "--verify=crc32c", "--verify_fatal=1", "--output-format=terse", "--randseed=7"});
    return mesh.run(how, seconds(120));
  };
  // Each block says what and where it is.
  if (mesh.run({"sh", "-c", "command -v fio"}).status != 0) {
    WARN("SKIPPED: fio is not installed");
    return;
  }
  for (const auto* node : {"source", "reader"}) {
    fs::create_directories(mesh.files(node));
    REQUIRE(fio(mesh.files(node) / (std::string("of ") + node), {"--rw=write", "--do_verify=0"}).status == 0);
  }
  mesh.begin();
  for (const auto* node : {"source", "reader"})
    for (const auto& how : std::vector<std::vector<std::string>>{{"--ioengine=psync", "--direct=1", "--numjobs=3"},
                                                                 {"--ioengine=mmap", "--direct=0"},
                                                                 {"--ioengine=psync", "--direct=0", "--numjobs=3"}}) {
      // Nothing of it is in the kernel.
      mesh.mount();
      const auto file = mesh.in_mesh(std::string("of ") + node);
      REQUIRE(eventually([&] { return fs::exists(file); }));
      auto words = how;
      words.insert(words.end(), {"--rw=randread", "--readonly"});
      const auto ran = fio(file, words);
      INFO(node << " " << how.front() << " " << ran.err << ran.out);
      CHECK(ran.status == 0);
      REQUIRE(mesh.run(mesh.command({"-u", mesh.at().string()})).status == 0);
    }
}

TEST_CASE("a new version is a new inode for who opens next; who has the old one open keeps it") {
  if (!may_mount()) return;
  Mounts mesh;
  const auto first = noise(8 * mb, 7);
  const auto second = noise(8 * mb, 8);
  mesh.has("disk.img", first);
  mesh.has("other.img", first, "reader");
  mesh.begin();
  mesh.mount();
  for (const auto* name : {"disk.img", "other.img"}) {
    INFO(name);
    const std::string node = std::string(name) == "disk.img" ? "source" : "reader";
    REQUIRE(mesh.shows(name));
    const auto path = mesh.in_mesh(name);
    const auto number = inode_of(path);
    CHECK(read_file(path) == first);
    const Descriptor old(path);
    CHECK(bytes_at(old.fd, 0, 4096) == first.substr(0, 4096));
    // Once more while it is open, from what the kernel has.
    CHECK(read_file(path) == first);
    mesh.has("fresh", second, node);
    fs::rename(mesh.files(node) / "fresh", mesh.files(node) / name);
    REQUIRE(eventually([&] { return read_file(path) == second; }));
    CHECK(inode_of(path) != number);
    // Whoever has the old one open never sees a byte of the new one.
    for (off_t at = 0; at < off_t{8 << 20}; at += off_t{1 << 20}) {
      const auto bytes = bytes_at(old.fd, at, 1000);
      CHECK((bytes.empty() || bytes == first.substr(static_cast<std::size_t>(at), 1000)));
    }
    CHECK(read_file(path) == second);
  }
  // Written to in place, while it is open here.
  const auto path = mesh.in_mesh("other.img");
  const Descriptor old(path);
  CHECK(bytes_at(old.fd, 0, 4096) == second.substr(0, 4096));
  {
    std::fstream file(mesh.files("reader") / "other.img", std::ios::in | std::ios::out);
    file.seekp(5 * mb);
    file << "other bytes";
  }
  const auto third = read_file(mesh.files("reader") / "other.img");
  errno = 0;
  const auto now = bytes_at(old.fd, 5 * mb - 10, 100);
  CHECK((now.empty() || now == second.substr(std::size_t{5} * mb - 10, 100)));
  CHECK(eventually([&] { return read_file(path) == third; }));
  // And where it vanishes.
  fs::remove(mesh.files("reader") / "other.img");
  CHECK(eventually([&] { return error_of_open(path) == ENOENT; }));
}

TEST_CASE("a node that restarts is waited for, and so are its source and its tracker: no wrong byte, no error") {
  if (!may_mount()) return;
  Mounts mesh;
  mesh.has("disk.img", noise(48 * mb, 9));
  mesh.start_node("source", {"--max-up", megabytes_a_second(8)});
  mesh.start_node("reader");
  mesh.mount();
  REQUIRE(mesh.shows("disk.img"));
  const auto right = mesh.sum_of(mesh.files("source") / "disk.img");
  std::string sum;
  std::atomic<bool> is_over = false;
  std::jthread reading([&] {
    sum = mesh.sum_of(mesh.in_mesh("disk.img"));
    is_over = true;
  });
  int killed = 0;
  for (; !is_over && killed < 12; ++killed) {
    std::this_thread::sleep_for(milliseconds(600));
    if (killed % 4 == 0 || killed % 4 == 2) {
      mesh.stop_node("reader", killed % 4 == 0 ? SIGKILL : SIGTERM);
      mesh.start_node("reader");
    } else if (killed % 4 == 1) {
      mesh.stop_node("source", SIGKILL);
      mesh.start_node("source", {"--max-up", megabytes_a_second(8)});
    } else {
      mesh.stop_tracker(SIGKILL);
      mesh.start_tracker();
    }
  }
  reading.join();
  CHECK(killed >= 3);
  CHECK(sum == right);
  CHECK(says(mesh.mount_log(), "the node answers again"));
}

TEST_CASE("a node by itself, without any tracker, is a mesh of its own files") {
  if (!may_mount()) return;
  Mounts mesh;
  mesh.has("here", "hello\n", "reader");
  mesh.start_node_with("reader", {}, "scanned");
  mesh.mount();
  std::vector<std::string> names;
  for (const auto& one : fs::directory_iterator(mesh.in_mesh(""))) names.push_back(one.path().filename().string());
  CHECK(names == std::vector<std::string>{"here"});
  CHECK(read_file(mesh.in_mesh("here")) == "hello\n");
}

TEST_CASE(
    "in a mesh that is dead a reader gets EIO when its time is up, EINTR when it is interrupted, and can be killed") {
  if (!may_mount()) return;
  Mounts mesh;
  mesh.has("disk.img", noise(4 * mb, 10));
  mesh.has("here", noise(2 * mb, 11), "reader");
  mesh.begin();
  mesh.mount({"--timeout", "3"});
  REQUIRE(mesh.shows("disk.img"));
  REQUIRE(mesh.shows("here"));
  const Descriptor file(mesh.in_mesh("disk.img"));
  const Descriptor here(mesh.in_mesh("here"));
  REQUIRE(bytes_at(file.fd, 0, 100).size() == 100);
  mesh.stop_node("source", SIGKILL);
  // Once, and not once for the kernel's read-ahead and once more.
  const auto begun = std::chrono::steady_clock::now();
  char byte = 0;
  errno = 0;
  CHECK(::pread(file.fd, &byte, 1, 3 * mb) < 0);
  CHECK(errno == EIO);
  CHECK(std::chrono::steady_clock::now() - begun < milliseconds(5500));
  CHECK(eventually([&] { return says(mesh.mount_log(), "meshmount: disk.img: "); }));
  // What is here is read with or without anybody else, whoever answers the node.
  CHECK(bytes_at(here.fd, mb, 100) == read_file(mesh.files("reader") / "here").substr(mb, 100));
  mesh.stop_node("reader", SIGKILL);
  CHECK(bytes_at(here.fd, mb + 300'000, 100) == read_file(mesh.files("reader") / "here").substr(mb + 300'000, 100));
  errno = 0;
  CHECK(error_of_open(mesh.in_mesh("nobody can say")) == EIO);
  // Interrupted, by a signal that does not end it.
  struct sigaction nothing {};
  struct sigaction before {};
  nothing.sa_handler = [](int) {};
  ::sigaction(SIGUSR1, &nothing, &before);
  const auto self = ::pthread_self();
  {
    std::atomic<bool> is_over = false;
    std::jthread interrupting([&] {
      while (!is_over) {
        std::this_thread::sleep_for(milliseconds(100));
        ::pthread_kill(self, SIGUSR1);
      }
    });
    CHECK(error_of_open(mesh.in_mesh("nobody")) == EINTR);
    is_over = true;
  }
  ::sigaction(SIGUSR1, &before, nullptr);
  // Killed, it goes at once.
  const auto reader = mesh.start({"cat", mesh.in_mesh("disk.img").string()}, "cat");
  std::this_thread::sleep_for(milliseconds(300));
  reader->signal(SIGKILL);
  CHECK(reader->wait(seconds(2)).has_value());
}

TEST_CASE("a meshmount that is killed leaves ENOTCONN, a new one mounts over it; -u, SIGTERM and umount end it") {
  if (!may_mount()) return;
  Mounts mesh;
  mesh.has("disk.img", noise(4 * mb, 12));
  mesh.has("other.img", noise(4 * mb, 17));
  mesh.begin();
  const auto in_background = [&] { return mesh.run(mesh.command({mesh.at().string()})); };
  const auto unmount = [&] { return mesh.run(mesh.command({"-u", mesh.at().string()})); };
  const auto none = unmount();
  CHECK(none.status == 1);
  CHECK(says(none.err, "no meshmount is mounted there"));
  mesh.mount();
  REQUIRE(mesh.shows("disk.img"));
  const auto twice = in_background();
  CHECK(twice.status == 1);
  CHECK(says(twice.err, "is mounted there already"));
  {
    const Descriptor file(mesh.in_mesh("disk.img"));
    REQUIRE(bytes_at(file.fd, 0, 10).size() == 10);
    const auto busy = unmount();
    CHECK(busy.status == 1);
    CHECK(says(busy.err, "is in use"));
    mesh.mount_process().signal(SIGKILL);
    REQUIRE(mesh.mount_process().wait(seconds(10)).has_value());
    char byte = 0;
    CHECK((::pread(file.fd, &byte, 1, 3 * mb) < 0 && errno == ENOTCONN));
    CHECK(error_of_open(mesh.in_mesh("disk.img")) == ENOTCONN);
    const auto again = in_background();
    INFO(again.err);
    CHECK(again.status == 0);
    CHECK(says(again.err, "was unmounted"));
  }
  CHECK(mesh.sum_of(mesh.in_mesh("disk.img")) == mesh.sum_of(mesh.files("source") / "disk.img"));
  CHECK(unmount().status == 0);
  CHECK_FALSE(mesh.is_mounted());
  // By umount(8), of one in the foreground: it ends as it should.
  mesh.mount();
  REQUIRE(mesh.run({"umount", mesh.at().string()}).status == 0);
  CHECK(mesh.mount_process().wait(seconds(10)) == 0);
  // With somebody in the middle of reading.
  mesh.mount();
  mesh.node("source").signal(SIGSTOP);
  const auto reader = mesh.start({"cat", mesh.in_mesh("other.img").string()}, "cat");
  std::this_thread::sleep_for(milliseconds(300));
  CHECK(reader->is_running());
  mesh.mount_process().signal(SIGTERM);
  CHECK(mesh.mount_process().wait(seconds(10)) == 0);
  CHECK_FALSE(mesh.is_mounted());
  CHECK(reader->wait(seconds(10)) == 1);
  mesh.node("source").signal(SIGCONT);
  // What is wrong is said before anything is mounted.
  for (const auto& wrong : std::vector<std::vector<std::string>>{{"-o", "nonsense", mesh.at().string()},
                                                                 {"-o", "timeout=x", mesh.at().string()},
                                                                 {"--prefetch", "some", mesh.at().string()},
                                                                 {}}) {
    const auto ran = mesh.run(mesh.command(wrong));
    CHECK(ran.status == 2);
    CHECK_FALSE(ran.err.empty());
  }
  const auto nowhere = mesh.run(mesh.command({(mesh.root() / "no such").string()}));
  CHECK(nowhere.status == 1);
  CHECK(says(nowhere.err, "no such"));
  CHECK_FALSE(mesh.is_mounted());
}

TEST_CASE("cluster/, node/ and transfers say how the mesh is, and config/tracker leads it elsewhere") {
  if (!may_mount()) return;
  Mounts mesh;
  mesh.has("disk.img", noise(2 * mb, 13));
  mesh.begin();
  mesh.mount();
  const auto text = [&](const std::string& path) { return read_file(mesh.at(path)); };
  CHECK(eventually([&] { return says(text("cluster/info"), "nodes:    2\n"); }));
  CHECK(eventually([&] { return says(text("cluster/info"), mesh.tracker() + ", registered"); }));
  CHECK(eventually([&] { return says(text("cluster/info"), "source joined"); }));
  CHECK(says(text("cluster/nodes"), "source  "));
  CHECK(eventually([&] { return says(text("node/source/info"), "entries:  1\n"); }));
  const auto number = inode_of(mesh.at("node/source/info"));
  std::set<std::string> names;
  for (const auto& one : fs::directory_iterator(mesh.at("node"))) names.insert(one.path().filename().string());
  CHECK(names == std::set<std::string>{"source", "reader"});
  CHECK(error_of_open(mesh.at("node/nobody")) == ENOENT);
  CHECK(mesh.run({"cp", mesh.at("node/source/info").string(), mesh.root().string()}).status == 0);
  CHECK(json::parse(text("cluster/info.json"))["nodes"] == 2);
  CHECK(json::parse(text("cluster/nodes.json")).size() == 2);
  CHECK(json::parse(text("node/reader/info.json"))["node"] == "reader");
  CHECK(json::parse(text("transfers.json"))["transfers"].is_array());
  CHECK(inode_of(mesh.at("node/source/info")) == number);
  CHECK(mesh.get("reader", {"disk.img"}).status == 0);
  CHECK(eventually([&] { return says(text("transfers"), "disk.img"); }));
  struct stat s {};
  REQUIRE(::stat(mesh.at("config/tracker").c_str(), &s) == 0);
  CHECK((s.st_mode & 07777) == 0600);
  CHECK(text("config/tracker") == mesh.tracker() + "\n");
  const auto write = [&](const std::string& what) {
    return mesh.run({"sh", "-c", "printf '%s' \"$0\" > " + mesh.at("config/tracker").string(), what});
  };
  CHECK(write("no tracker at all:x\n").status != 0);
  CHECK(write("").status == 0);
  CHECK(text("config/tracker") == mesh.tracker() + "\n");
  CHECK(write("192.0.2.1:6969\n").status != 0);  // not on loopback, and there is no key
  CHECK(says(mesh.mount_log(), "not on loopback"));
  const auto second = mesh.start_second();
  REQUIRE(write(second + "\n").status == 0);
  CHECK(text("config/tracker") == second + "\n");
  CHECK(eventually([&] { return says(text("cluster/info"), second + ", registered"); }));
  CHECK(eventually([&] { return !says(mesh.file("source", {"list", "--json"}).out, "reader"); }));
  CHECK(write(mesh.tracker() + " " + second + "\n").status == 0);
  CHECK(eventually([&] { return says(text("cluster/info"), mesh.tracker() + ", registered"); }));
}

TEST_CASE("a directory of more than a page is listed whole, in one go and by halves; ten thousand are open at once") {
  if (!may_mount()) return;
  Mounts mesh;
  constexpr std::size_t count = 10'000;
  for (std::size_t i = 0; i < count; ++i) mesh.has("many/" + std::to_string(100'000 + i), std::to_string(i), "reader");
  mesh.start_node("source");
  mesh.start_node("reader");
  mesh.mount();
  REQUIRE(mesh.shows("many/" + std::to_string(100'000 + count - 1)));
  std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(mesh.in_mesh("many").c_str()), &::closedir);
  REQUIRE(directory);
  const auto rest = [&] {
    std::vector<std::string> out;
    while (const auto* entry = ::readdir(directory.get())) out.emplace_back(entry->d_name);
    return out;
  };
  const auto all = rest();
  CHECK(all.size() == count + 2);
  CHECK(std::set<std::string>(all.begin(), all.end()).size() == count + 2);
  ::rewinddir(directory.get());
  std::vector<std::string> half;
  long place = 0;
  while (half.size() < 4000) {
    const auto* entry = ::readdir(directory.get());
    REQUIRE(entry != nullptr);
    half.emplace_back(entry->d_name);
    place = ::telldir(directory.get());
  }
  const auto second = rest();
  ::seekdir(directory.get(), place);
  CHECK(rest() == second);
  half.insert(half.end(), second.begin(), second.end());
  CHECK(half == all);
  std::vector<std::unique_ptr<Descriptor>> open;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  for (std::size_t i = 0; i < count; ++i) {
    open.push_back(std::make_unique<Descriptor>(mesh.in_mesh("many/" + std::to_string(100'000 + i))));
    if (open.back()->fd < 0) break;
  }
  REQUIRE(open.size() == count);
  std::size_t right = 0;
  for (std::size_t i = 0; i < count; ++i)
    if (bytes_at(open[i]->fd, 0, 100) == std::to_string(i)) ++right;
  CHECK(right == count);
}

TEST_CASE("a disk that cannot be read is no end where others have the file; what was closed is let go of") {
  if (!may_mount()) return;
  Mounts mesh;
  const auto bytes = noise(4 * mb, 18);
  for (const auto* node : {"source", "reader"}) {
    mesh.has("disk.img", bytes, node);
    fs::last_write_time(mesh.files(node) / "disk.img", fs::file_time_type::clock::now() - std::chrono::hours(1));
  }
  mesh.start_node("source");
  mesh.start_node("reader", {"--hash=eager"});
  // To meshmount what is here fails, and is then read through the node.
  const auto preload = std::string("LD_PRELOAD=") + MESH_FAULT_SHIM;
  auto words = mesh.command({"-f", "--timeout", "20", mesh.at().string()});
  words.insert(words.begin(),
               {"env", preload, "ASAN_OPTIONS=verify_asan_link_order=0", "MESH_FAULT=eio", "MESH_FAULT_FILE=disk.img"});
  const auto mount = mesh.start(words, "mount");
  REQUIRE(eventually([&] { return mesh.is_mounted(); }));
  REQUIRE(mesh.shows("disk.img"));
  REQUIRE(eventually([&] { return says(mesh.file("reader", {"list", "--local", "--json"}).out, "content_id"); }));
  CHECK(read_file(mesh.in_mesh("disk.img")) == bytes);
  mount->signal(SIGTERM);
  CHECK(mount->wait(seconds(10)) == 0);
  // Of what was read through the node nothing is in use when it is closed.
  mesh.has("other.img", noise(2 * mb, 19));
  mesh.mount();
  REQUIRE(mesh.shows("other.img"));
  CHECK(mesh.sum_of(mesh.in_mesh("other.img")) == mesh.sum_of(mesh.files("source") / "other.img"));
  const auto cache = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"cache", "--json"});
    return json::parse(mesh.file("reader", more).out);
  };
  CHECK(cache({})["contents"] == 1);
  CHECK(eventually([&] { return cache({"--drop"})["contents"] == 0; }));
}

TEST_CASE("a full disk costs no byte; a file that vanishes while it is open is an error when its time is up") {
  if (!may_mount()) return;
  Mounts mesh;
  const auto here = mesh.files("reader");
  fs::create_directories(here);
  REQUIRE(::mount("tmpfs", here.c_str(), "tmpfs", 0, "size=8m") == 0);
  const std::shared_ptr<void> unmounted(nullptr, [&](void*) { ::umount2(here.c_str(), MNT_DETACH); });
  const auto bytes = noise(24 * mb, 20);
  mesh.has("disk.img", bytes);
  mesh.has("gone.img", noise(24 * mb, 21));
  mesh.begin();
  mesh.mount({"--timeout", "3"});
  REQUIRE(mesh.shows("disk.img"));
  REQUIRE(mesh.shows("gone.img"));
  CHECK(mesh.run({"dd", "if=/dev/zero", "of=" + (here / "fill").string(), "bs=64k"}).status == 1);
  CHECK(read_file(mesh.in_mesh("disk.img")) == bytes);
  const Descriptor file(mesh.in_mesh("gone.img"));
  CHECK(bytes_at(file.fd, 0, 10).size() == 10);
  fs::remove(mesh.files("source") / "gone.img");
  CHECK(eventually([&] { return error_of_open(mesh.in_mesh("gone.img")) == ENOENT; }));
  char byte = 0;
  errno = 0;
  CHECK(::pread(file.fd, &byte, 1, off_t{20} << 20) < 0);
  CHECK(errno == EIO);
  CHECK(eventually([&] { return says(mesh.mount_log(), "meshmount: gone.img: "); }));
}

TEST_CASE("wrong bytes are an error and a line in the log, and right ones come as soon as somebody has them") {
  if (!may_mount()) return;
  Mounts mesh;
  const auto bytes = noise(6 * mb, 14);
  mesh.has("disk.img", bytes, "liar");
  const auto marker = mesh.root() / "lies";
  mesh.set_environment("liar", {std::string("LD_PRELOAD=") + MESH_FAULT_SHIM, "ASAN_OPTIONS=verify_asan_link_order=0",
                                "MESH_FAULT=flip", "MESH_FAULT_FILE=disk.img", "MESH_FAULT_WHILE=" + marker.string()});
  mesh.start_node("liar", {"--hash=eager"});
  mesh.start_node("reader");
  mesh.mount({"--timeout", "4"});
  REQUIRE(mesh.shows("disk.img"));
  REQUIRE(eventually([&] { return says(mesh.file("reader", {"list", "--json"}).out, "content_id"); }));
  write_file(marker, "");
  const auto wrong = mesh.run({"cat", mesh.in_mesh("disk.img").string()});
  CHECK(wrong.status == 1);
  CHECK(says(wrong.err, "Input/output error"));
  CHECK(bytes.starts_with(wrong.out));
  CHECK(eventually([&] { return says(mesh.mount_log(), "disk.img"); }));
  fs::remove(marker);
  mesh.has("disk.img", bytes);
  fs::last_write_time(mesh.files("source") / "disk.img", fs::last_write_time(mesh.files("liar") / "disk.img"));
  mesh.start_node("source");
  CHECK(eventually([&] { return read_file(mesh.in_mesh("disk.img")) == bytes; }, seconds(60)));
}

TEST_CASE("allow_other: others see what the modes let them see, and config/tracker is none of it") {
  if (!may_mount()) return;
  Mounts mesh;
  mesh.has("open", "for everybody");
  mesh.has("closed", "for the owner");
  ::chmod((mesh.files("source") / "closed").c_str(), 0600);
  mesh.begin();
  ::chmod(mesh.root().c_str(), 0755);
  const auto as_nobody = [&](const std::string& path) {
    return mesh.run(
        {"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "cat", mesh.at(path).string()});
  };
  mesh.mount();
  REQUIRE(mesh.shows("open"));
  CHECK(says(as_nobody("files/open").err, "Permission denied"));
  CHECK(mesh.run(mesh.command({"-u", mesh.at().string()})).status == 0);
  mesh.mount({"-o", "allow_other"});
  CHECK(as_nobody("files/open").out == "for everybody");
  CHECK(says(as_nobody("files/closed").err, "Permission denied"));
  CHECK(says(as_nobody("config/tracker").err, "Permission denied"));
  CHECK(as_nobody("cluster/info").status == 0);
  // Whoever asks for them: no set-user-ID programs, no devices.
  const auto table = read_file("/proc/self/mountinfo");
  const auto line = table.substr(table.find(mesh.at("").parent_path().string()));
  CHECK(says(line.substr(0, line.find('\n')), "nosuid,nodev"));
}

TEST_CASE("mount(8), as from fstab, mounts it, with options of its own and of everybody") {
  if (!may_mount()) return;
  Mounts mesh;
  if (mesh.run({"sh", "-c", "test -x /sbin/mount.fuse3"}).status != 0) {
    WARN("SKIPPED: mount.fuse3 (package fuse3) is not there");
    return;
  }
  mesh.has("disk.img", noise(2 * mb, 15));
  mesh.begin();
  const auto table = mesh.root() / "fstab";
  write_file(
      table,
      "meshswarm " + mesh.at("").parent_path().string() +
          " fuse.meshmount ro,allow_other,noatime,_netdev,nofail,x-systemd.automount,prefetch=boot,timeout=9,files=" +
          mesh.files("reader").string() + " 0 0\n");
  // mount(8) looks for it where programs are installed: in this namespace it is there.
  const auto bin = fs::path(program("meshmount")).parent_path();
  REQUIRE(::mount(bin.c_str(), "/usr/local/bin", nullptr, MS_BIND, nullptr) == 0);
  const auto mounted = mesh.run({"mount", "-T", table.string(), mesh.at("").parent_path().string()});
  INFO(mounted.err);
  REQUIRE(mounted.status == 0);
  CHECK(mesh.sum_of(mesh.in_mesh("disk.img")) == mesh.sum_of(mesh.files("source") / "disk.img"));
  CHECK(mesh.run({"findmnt", "-n", "-o", "FSTYPE", mesh.at("").parent_path().string()}).out == "fuse.meshmount\n");
  CHECK(error_of_open(mesh.at("config/tracker"), O_WRONLY) == EROFS);
  CHECK(mesh.run({"umount", mesh.at("").parent_path().string()}).status == 0);
}

TEST_CASE("images are read by qemu where they are, and through an overlay on them, while they arrive") {
  if (!may_mount()) return;
  Mounts mesh;
  const auto raw = noise(24 * mb, 16);
  mesh.has("base.img", raw);
  const auto qcow = mesh.files("source") / "disk.qcow2";
  if (mesh.run({"qemu-img", "convert", "-f", "raw", "-O", "qcow2", (mesh.files("source") / "base.img").string(),
                qcow.string()})
          .status != 0) {
    WARN("SKIPPED: qemu-img is not installed");
    return;
  }
  mesh.start_node("source", {"--max-up", megabytes_a_second(16)});
  mesh.start_node("reader");
  mesh.mount();
  REQUIRE(mesh.shows("disk.qcow2"));
  const auto overlay = (mesh.root() / "overlay.qcow2").string();
  const auto made = mesh.run(
      {"qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", mesh.in_mesh("disk.qcow2").string(), overlay});
  INFO(made.err);
  REQUIRE(made.status == 0);
  CHECK(mesh.run({"qemu-io", "-c", "write -P 7 1M 64k", "-c", "read -P 7 1M 64k", overlay}).status == 0);
  CHECK(mesh.run({"qemu-img", "compare", "-f", "qcow2", "-F", "raw", mesh.in_mesh("disk.qcow2").string(),
                  (mesh.files("source") / "base.img").string()})
            .status == 0);
  CHECK(mesh.run({"qemu-img", "check", mesh.in_mesh("disk.qcow2").string()}).status == 0);
}
