// Whole swarms of real processes on loopback: what a user was promised, one promise a test.
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "process.h"
#include "test.h"

using namespace mesh::test;
using std::chrono::seconds;

namespace {

constexpr std::size_t mb = 1 << 20;

std::int64_t disk_bytes(const fs::path& file) {
  struct stat s {};
  return ::stat(file.c_str(), &s) == 0 ? s.st_blocks * 512 : -1;
}

}  // namespace

TEST_CASE("a file reaches several nodes at once, as one swarm") {
  Mesh mesh;
  const auto bytes = noise(20 * mb, 1);
  write_file(mesh.files("n0") / "vm/disk.img", bytes);
  for (const char* node : {"n0", "n1", "n2", "n3"}) mesh.start_node(node);
  std::vector<std::unique_ptr<Process>> gets;
  for (const char* node : {"n1", "n2", "n3"})
    gets.push_back(mesh.start({program("meshget"), "--files", mesh.files(node).string(), "vm/disk.img"}, "get"));
  for (auto& get : gets) CHECK(get->wait(seconds(60)) == 0);
  for (const char* node : {"n1", "n2", "n3"}) CHECK((read_file(mesh.files(node) / "vm/disk.img") == bytes));
  const auto list = mesh.file("n1", {"list", "vm", "--json"});
  CHECK(nlohmann::json::parse(list.out).at(0).at("holders") == 4);
  const auto info = mesh.file("n1", {"info", "vm/disk.img", "--json"});
  CHECK(nlohmann::json::parse(info.out).at("versions").size() == 1);
}

TEST_CASE("stdout holds the absolute path and nothing else") {
  Mesh mesh;
  write_file(mesh.files("n0") / "a.img", noise(100'000, 1));
  write_file(mesh.files("n0") / "b.img", "small");
  write_file(mesh.files("n0") / "d/x\ny", "odd");
  mesh.start_node("n0");
  mesh.start_node("n1");
  const auto at = [&](const char* path) { return (fs::canonical(mesh.files("n1")) / path).string(); };
  CHECK(mesh.get("n1", {"/a.img"}).out == at("a.img") + "\n");
  CHECK(mesh.get("n1", {"*.img"}).out == at("a.img") + "\n" + at("b.img") + "\n");
  CHECK(mesh.get("n1", {"file:d"}).out == at("d") + "\n");
  CHECK(mesh.get("n1", {"--print0", "d/*"}).out == at("d/x\ny") + std::string(1, '\0'));
  CHECK(mesh.get("n1", {at("a.img")}).out == at("a.img") + "\n");
  CHECK(mesh.get("n1", {"/"}).out == fs::canonical(mesh.files("n1")).string() + "\n");
  const auto json = nlohmann::json::parse(mesh.get("n1", {"--json", "a.img", "none"}).out);
  CHECK(json.at("status") == 3);
  CHECK(json.at("files").size() == 2);
}

TEST_CASE("a tree arrives as it was: odd names, modes, times, links, empty files and directories, holes") {
  Mesh mesh;
  const auto tree = mesh.files("n0") / "tree";
  const char* names[] = {"plain",       "with space", "-dash", "new\nline", "\xc3\xa4\xe2\x82\xac",
                         "back\\slash", "[br]",       "star*"};
  int count = 0;
  for (int dir = 0; dir < 10; ++dir) {
    const auto where = tree / (std::string(names[dir % 8]) + std::to_string(dir));
    for (int i = 0; i < 40; ++i) {
      const auto file = where / (std::string(names[i % 8]) + std::to_string(i));
      write_file(file, i % 5 == 0 ? "" : noise(static_cast<std::size_t>(i) * 37, static_cast<std::uint64_t>(count++)));
      constexpr mode_t modes[] = {0400, 0600, 0644, 0755, 0555};
      ::chmod(file.c_str(), modes[i % 5]);
      const timespec times[2] = {{0, UTIME_NOW}, {1'000'000'000 + i, 123'456'789}};
      ::utimensat(AT_FDCWD, file.c_str(), times, 0);
    }
  }
  fs::create_directories(tree / "empty/deeper");
  fs::create_symlink("plain0/plain0", tree / "link");
  fs::create_symlink("../nowhere", tree / "empty/dangling");
  write_file(tree / "sparse", "");
  REQUIRE(::truncate((tree / "sparse").c_str(), std::int64_t{5} << 30) == 0);
  {
    const int fd = ::open((tree / "sparse").c_str(), O_WRONLY);
    const auto data = noise(mb, 7);
    for (const off_t at :
         {std::int64_t{0}, std::int64_t{3} << 30, (std::int64_t{5} << 30) - static_cast<std::int64_t>(mb)})
      REQUIRE(::pwrite(fd, data.data(), data.size(), at) == static_cast<ssize_t>(data.size()));
    ::close(fd);
  }
  ::chmod((tree / "empty").c_str(), 0750);
  const timespec times[2] = {{0, UTIME_NOW}, {1'100'000'000, 5}};
  ::utimensat(AT_FDCWD, (tree / "empty").c_str(), times, 0);
  mesh.start_node("n0");
  mesh.start_node("n1");
  const auto ran = mesh.get("n1", {"tree"}, seconds(240));
  CHECK(ran.status == 0);
  CHECK(ran.err.empty());
  const auto got = mesh.files("n1") / "tree";
  CHECK(fs::file_size(got / "sparse") == std::uintmax_t{5} << 30);
  CHECK(disk_bytes(got / "sparse") <= disk_bytes(tree / "sparse") + 64 * 1024);
  // Its data where it belongs, and zeros elsewhere; reading all of it twice would take longer than the rest of the
  // tests.
  const int a = ::open((tree / "sparse").c_str(), O_RDONLY), b = ::open((got / "sparse").c_str(), O_RDONLY);
  std::string left(mb, '\1'), right(mb, '\2');
  for (off_t at = 0; at < std::int64_t{5} << 30; at += std::int64_t{128} << 20) {
    for (const off_t where : {at, at + (std::int64_t{128} << 20) - static_cast<off_t>(mb)}) {
      CHECK(::pread(a, left.data(), mb, where) == static_cast<ssize_t>(mb));
      CHECK(::pread(b, right.data(), mb, where) == static_cast<ssize_t>(mb));
      CHECK((left == right));
    }
  }
  ::close(a);
  ::close(b);
  const auto rsync = mesh.run({"rsync", "-rlptnci", "--delete", "--exclude=.mesh", "--exclude=sparse",
                               tree.string() + "/", got.string() + "/"});
  CHECK(rsync.out.empty());
  CHECK(rsync.status == 0);
}

TEST_CASE("copied in and asked for at once: found") {
  Mesh mesh;
  mesh.start_node("n0");
  mesh.start_node("n1");
  for (int i = 0; i < 5; ++i) {
    const auto name = "f" + std::to_string(i);
    write_file(mesh.files("n0") / name, noise(300'000, static_cast<std::uint64_t>(i)));
    CHECK(mesh.get("n1", {name}).status == 0);
    CHECK((read_file(mesh.files("n1") / name) == read_file(mesh.files("n0") / name)));
  }
}

TEST_CASE("same size and mtime, other bytes: two versions, and no mixture") {
  Mesh mesh;
  const auto a = noise(3 * mb, 1), b = noise(3 * mb, 2);
  const timespec times[2] = {{1'500'000'000, 0}, {1'500'000'000, 0}};
  write_file(mesh.files("n0") / "x", a);
  write_file(mesh.files("n1") / "x", b);
  for (const char* node : {"n0", "n1"}) ::utimensat(AT_FDCWD, (mesh.files(node) / "x").c_str(), times, 0);
  for (const char* node : {"n0", "n1", "n2", "n3"}) mesh.start_node(node);
  CHECK(mesh.get("n2", {"x"}).status == 0);
  CHECK(mesh.get("n3", {"x"}).status == 0);
  const auto got = read_file(mesh.files("n2") / "x");
  CHECK((got == a || got == b));
  CHECK((read_file(mesh.files("n3") / "x") == got));
  CHECK(nlohmann::json::parse(mesh.file("n2", {"info", "x", "--json"}).out).at("versions").size() == 2);
  CHECK(mesh.log("n2").find("failed its hash") == std::string::npos);
  const auto strict = mesh.get("n3", {"--strict", "x"});
  CHECK(strict.status == 1);
  CHECK(strict.err.find("n0") != std::string::npos);
  CHECK(mesh.get("n3", {"--force", "--from", got == a ? "n1" : "n0", "x"}).status == 0);
  CHECK((read_file(mesh.files("n3") / "x") == (got == a ? b : a)));
}

TEST_CASE("local changes are kept; what meshget wrote is replaced") {
  Mesh mesh;
  write_file(mesh.files("n0") / "x", noise(200'000, 1));
  mesh.start_node("n0");
  mesh.start_node("n1");
  REQUIRE(mesh.get("n1", {"x"}).status == 0);
  const auto newer = noise(300'000, 2);
  write_file(mesh.files("n0") / "x", newer);
  CHECK(mesh.lists("n1", "x", newer.size()));
  CHECK(mesh.get("n1", {"x"}).status == 0);
  CHECK((read_file(mesh.files("n1") / "x") == newer));
  write_file(mesh.files("n1") / "x", "mine");
  const auto kept = mesh.get("n1", {"x"});
  CHECK(kept.status == 1);
  CHECK(kept.err.find("kept") != std::string::npos);
  CHECK(kept.err.find("--force") != std::string::npos);
  CHECK((read_file(mesh.files("n1") / "x") == "mine"));
  CHECK(mesh.get("n1", {"--force", "x"}).status == 0);
  CHECK((read_file(mesh.files("n1") / "x") == newer));
}

TEST_CASE("an edit of a served file survives, and no getter ends with a mixture") {
  Mesh mesh;
  const auto before = noise(40 * mb, 1);
  const auto file = mesh.files("n0") / "x";
  write_file(file, before);
  for (const char* node : {"n0", "n1", "n2"}) mesh.start_node(node);
  SECTION("while it is being downloaded") {
    std::vector<std::unique_ptr<Process>> gets;
    for (const char* node : {"n1", "n2"})
      gets.push_back(mesh.start({program("meshget"), "--files", mesh.files(node).string(), "x"}, "get"));
    REQUIRE(eventually([&] {
      return mesh.log("n1").find("here") != std::string::npos ||
             mesh.file("n1", {"status"}).out.find("downloading") != std::string::npos;
    }));
    auto after = before;
    const auto edit = noise(64 * 1024, 9);
    std::copy(edit.begin(), edit.end(), after.begin() + 30 * static_cast<std::ptrdiff_t>(mb));
    const int fd = ::open(file.c_str(), O_WRONLY);
    REQUIRE(::pwrite(fd, edit.data(), edit.size(), 30 * static_cast<off_t>(mb)) == static_cast<ssize_t>(edit.size()));
    ::close(fd);
    for (auto& get : gets) CHECK(get->wait(seconds(60)));
    CHECK((read_file(file) == after));
    for (const char* node : {"n1", "n2"}) {
      const auto got = fs::exists(mesh.files(node) / "x") ? read_file(mesh.files(node) / "x") : before;
      CHECK((got == before || got == after));
    }
  }
  SECTION("while another node holds the old bytes") {
    REQUIRE(mesh.get("n1", {"x"}).status == 0);
    const int fd = ::open(file.c_str(), O_WRONLY);
    REQUIRE(::pwrite(fd, "edited", 6, 12345) == 6);
    ::close(fd);
    auto after = before;
    after.replace(12345, 6, "edited");
    CHECK(mesh.get("n2", {"x"}).status == 0);
    CHECK((read_file(file) == after));
    const auto got = read_file(mesh.files("n2") / "x");
    CHECK((got == before || got == after));
    CHECK((read_file(mesh.files("n1") / "x") == before));
  }
}

TEST_CASE("a file that is open for writing is not offered until it is closed") {
  Mesh mesh;
  mesh.start_node("n0");
  mesh.start_node("n1");
  const int fd = ::open((mesh.files("n0") / "vm.img").c_str(), O_WRONLY | O_CREAT, 0644);
  const auto bytes = noise(200'000, 1);
  REQUIRE(::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  CHECK(mesh.get("n1", {"vm.img"}).status == 3);
  ::close(fd);
  CHECK(mesh.get("n1", {"vm.img"}).status == 0);
}

TEST_CASE("every failure has its status, and a line that names the path or the node") {
  Mesh mesh;
  write_file(mesh.files("n0") / "dir/x", "x");
  mesh.start_node("n0");
  mesh.start_node("n1");
  const auto expect = [&](std::vector<std::string> arguments, int status, const char* text) {
    const auto ran = mesh.get("n1", arguments);
    INFO(ran.err);
    CHECK(ran.status == status);
    CHECK(ran.err.find(text) != std::string::npos);
    CHECK(std::count(ran.err.begin(), ran.err.end(), '\n') == 1);
    CHECK(ran.out.empty());
  };
  expect({"none"}, 3, "none: not found");
  expect({"none*"}, 3, "none*: not found");
  expect({"../x"}, 2, "../x");
  expect({"dir/../x"}, 2, "'..'");
  expect({"/etc/passwd"}, 3, "etc/passwd");
  expect({"--from", "n9", "dir/x"}, 3, "n9");
  expect({"--bogus", "x"}, 2, "--bogus");
  expect({}, 2, "WHAT");
  // Several WHATs: the others still finish.
  const auto mixed = mesh.get("n1", {"none", "dir/x"});
  CHECK(mixed.status == 3);
  CHECK((read_file(mesh.files("n1") / "dir/x") == "x"));
  fs::create_symlink("/etc/hostname", mesh.files("n0") / "out");
  REQUIRE(eventually([&] { return mesh.log("n0").find("out of the files directory") != std::string::npos; }));
  expect({"out"}, 1, "--follow");
  mesh.stop_tracker(SIGKILL);
  mesh.stop_node("n0", SIGKILL);
  expect({"dir/x"}, 4, mesh.tracker().c_str());
}

TEST_CASE("an unreadable file is an error that names it") {
  if (::geteuid() == 0) {
    WARN("SKIPPED: root reads everything; run the tests as another user to see this one");
    return;
  }
  Mesh mesh;
  write_file(mesh.files("n0") / "secret", "x");
  ::chmod((mesh.files("n0") / "secret").c_str(), 0);
  mesh.start_node("n0");
  mesh.start_node("n1");
  const auto ran = mesh.get("n1", {"secret"});
  CHECK(ran.status == 1);
  CHECK(ran.err.find("secret") != std::string::npos);
}

TEST_CASE("--follow serves what a link leads to, and nothing beside it") {
  Mesh mesh;
  const auto other = mesh.root() / "other-disk";
  write_file(other / "big.img", noise(200'000, 3));
  fs::create_directories(mesh.files("n0"));
  fs::create_symlink(other, mesh.files("n0") / "images");
  fs::create_symlink(mesh.root() / "tracker.log", mesh.files("n0") / "log");
  mesh.start_node("n0", {"--follow", other.string()});
  mesh.start_node("n1");
  CHECK(mesh.get("n1", {"images"}).status == 0);
  CHECK((read_file(mesh.files("n1") / "images/big.img") == read_file(other / "big.img")));
  CHECK(mesh.get("n1", {"log"}).status == 1);
}

TEST_CASE("a restarted tracker is whole again, without a node being touched") {
  Mesh mesh;
  write_file(mesh.files("n0") / "x", noise(100'000, 1));
  mesh.start_node("n0");
  mesh.start_node("n1");
  mesh.stop_tracker(SIGKILL);
  mesh.start_tracker();
  CHECK(mesh.get("n1", {"x"}).status == 0);
  CHECK(mesh.copies_become(2));
}

TEST_CASE("a node that is killed in mid-get goes on where it was") {
  Mesh mesh;
  const auto bytes = noise(150 * mb, 1);
  write_file(mesh.files("n0") / "x", bytes);
  mesh.start_node("n0");
  mesh.start_node("n1");
  CHECK(mesh.get("n1", {"--detach", "x"}).status == 0);
  REQUIRE(eventually(
      [&] { return fs::exists(mesh.files("n1") / ".mesh/parts") && !fs::is_empty(mesh.files("n1") / ".mesh/parts"); }));
  mesh.stop_node("n1", SIGKILL);
  CHECK((!fs::exists(mesh.files("n1") / "x") || fs::file_size(mesh.files("n1") / "x") == bytes.size()));
  mesh.start_node("n1");
  CHECK(eventually([&] { return fs::exists(mesh.files("n1") / "x"); }, seconds(60)));
  CHECK((read_file(mesh.files("n1") / "x") == bytes));
  CHECK(eventually([&] { return fs::is_empty(mesh.files("n1") / ".mesh/parts"); }));
}

TEST_CASE("Ctrl-C keeps what has arrived, says so, and the next get goes on from there") {
  Mesh mesh;
  const auto bytes = noise(200 * mb, 1);
  write_file(mesh.files("n0") / "x", bytes);
  mesh.start_node("n0");
  mesh.start_node("n1");
  auto get = mesh.start({program("meshget"), "--files", mesh.files("n1").string(), "x"}, "get");
  REQUIRE(eventually(
      [&] { return fs::exists(mesh.files("n1") / ".mesh/parts") && !fs::is_empty(mesh.files("n1") / ".mesh/parts"); }));
  get->signal(SIGINT);
  CHECK(get->wait(seconds(10)) == 130);
  CHECK(mesh.log("get").find("kept") != std::string::npos);
  const auto again = mesh.get("n1", {"x"});
  INFO(again.err << mesh.log("n1"));
  CHECK(again.status == 0);
  CHECK((read_file(mesh.files("n1") / "x") == bytes));
}

TEST_CASE("a second get of the same path joins the first") {
  Mesh mesh;
  write_file(mesh.files("n0") / "x", noise(60 * mb, 1));
  mesh.start_node("n0");
  mesh.start_node("n1");
  std::vector<std::unique_ptr<Process>> gets;
  for (int i = 0; i < 3; ++i)
    gets.push_back(
        mesh.start({program("meshget"), "--files", mesh.files("n1").string(), "x"}, "get" + std::to_string(i)));
  for (auto& get : gets) CHECK(get->wait(seconds(60)) == 0);
  const auto log = mesh.log("n1");
  CHECK(log.find("x: here") == log.rfind("x: here"));
}

TEST_CASE("without a daemon meshget is the node itself, and seeds for a while") {
  Mesh mesh;
  const auto bytes = noise(2 * mb, 1);
  write_file(mesh.files("n0") / "x", bytes);
  mesh.start_node("n0");
  fs::create_directories(mesh.files("n1"));
  const auto first = mesh.get("n1", {"--tracker", mesh.tracker(), "--name", "n1", "--linger", "60", "x"});
  CHECK(first.status == 0);
  CHECK(first.err.empty());
  CHECK((read_file(mesh.files("n1") / "x") == bytes));
  // It lives on: the source may go, and another node still gets the file.
  mesh.stop_node("n0", SIGTERM);
  mesh.start_node("n2");
  CHECK(mesh.get("n2", {"x"}).status == 0);
  CHECK((read_file(mesh.files("n2") / "x") == bytes));
  // Without --linger it is gone at once.
  write_file(mesh.files("n2") / "y", "y");
  CHECK(mesh.get("n3", {"--tracker", mesh.tracker(), "--name", "n3", "--linger", "0", "x"}).status == 0);
  CHECK(eventually([&] { return mesh.file("n3", {"status"}).status == 4; }));
}

TEST_CASE("a meshseed takes over from the node that a meshget left behind, and not from another meshseed") {
  Mesh mesh;
  write_file(mesh.files("n0") / "x", noise(2 * mb, 1));
  mesh.start_node("n0");
  CHECK(mesh.get("n1", {"--tracker", mesh.tracker(), "--name", "n1", "--linger", "600", "x"}).status == 0);
  CHECK(mesh.file("n1", {"status"}).status == 0);
  mesh.start_node("n1");
  CHECK(mesh.log("n1").find("registered") != std::string::npos);
  const auto second = mesh.run({program("meshseed"), "--files", mesh.files("n1").string()});
  CHECK(second.status == 1);
  CHECK(second.err.find("another node runs here already") != std::string::npos);
}

TEST_CASE("the tracker dies in mid-get: the get finishes") {
  Mesh mesh;
  const auto bytes = noise(200 * mb, 1);
  write_file(mesh.files("n0") / "x", bytes);
  mesh.start_node("n0");
  mesh.start_node("n1");
  auto get = mesh.start({program("meshget"), "--files", mesh.files("n1").string(), "x"}, "get");
  REQUIRE(eventually([&] {
    return mesh.file("n1", {"status"}).out.find("downloading") != std::string::npos ||
           fs::exists(mesh.files("n1") / "x");
  }));
  mesh.stop_tracker(SIGKILL);
  CHECK(get->wait(seconds(60)) == 0);
  CHECK((read_file(mesh.files("n1") / "x") == bytes));
}

TEST_CASE("a full disk: status 1 with the sizes, and --wait goes on when there is room") {
  Mesh mesh;
  const auto small = mesh.files("n1");
  fs::create_directories(small);
  if (::geteuid() != 0 || ::mount("tmpfs", small.c_str(), "tmpfs", 0, "size=12m") != 0) {
    WARN("SKIPPED: needs root and a mount of its own to fill a disk");
    return;
  }
  const auto bytes = noise(8 * mb, 1);
  write_file(mesh.files("n0") / "x", bytes);
  mesh.start_node("n0");
  mesh.start_node("n1");
  write_file(small / "filler", noise(6 * mb, 2));
  const auto full = mesh.get("n1", {"x"});
  CHECK(full.status == 1);
  CHECK(full.err.find("8.39 MB needed") != std::string::npos);
  CHECK(full.err.find("free") != std::string::npos);
  CHECK_FALSE(fs::exists(small / "x"));
  auto get = mesh.start({program("meshget"), "--files", small.string(), "--wait", "x"}, "get");
  REQUIRE(eventually([&] { return mesh.file("n1", {"status"}).out.find("paused") != std::string::npos; }));
  fs::remove(small / "filler");
  CHECK(get->wait(seconds(30)) == 0);
  CHECK((read_file(small / "x") == bytes));
  mesh.stop_node("n1", SIGTERM);
  ::umount2(small.c_str(), MNT_DETACH);
}

TEST_CASE("where inotify runs out of watches, the tree is scanned again, and the log says so") {
  Mesh mesh;
  // Limits are per user and cannot be lowered for one process; a node that may open only a few directories is the same.
  write_file(mesh.files("n0") / "a/b/c", "x");
  mesh.start_node("n0");
  mesh.start_node("n1");
  fs::create_directories(mesh.files("n0") / "new/deep");
  write_file(mesh.files("n0") / "new/deep/file", "y");
  CHECK(eventually([&] { return mesh.file("n1", {"list", "new/deep"}).out.find("file") != std::string::npos; }));
  fs::remove_all(mesh.files("n0") / "new");
  CHECK(eventually([&] { return mesh.file("n1", {"list", "new/deep"}).status == 3; }));
  fs::rename(mesh.files("n0") / "a", mesh.files("n0") / "z");
  CHECK(eventually([&] { return mesh.file("n1", {"list", "z/b"}).out.find("c") != std::string::npos; }));
  CHECK(mesh.file("n1", {"list", "a/b"}).status == 3);
}

TEST_CASE("aria2 downloads from the mesh by meshfile torrent") {
  Mesh mesh;
  const auto bytes = noise(5 * mb, 1);
  write_file(mesh.files("n0") / "x.img", bytes);
  mesh.start_node("n0");
  const auto torrent = mesh.file("n0", {"torrent", "x.img", "-o", (mesh.root() / "x.torrent").string()});
  REQUIRE(torrent.status == 0);
  CHECK(torrent.out == (mesh.root() / "x.torrent").string() + "\n");
  CHECK(torrent.err.find("--index-out=1=x.img") != std::string::npos);
  const auto ran = mesh.run({"aria2c", "-q", "--no-conf", "--seed-time=0", "--enable-dht=false",
                             "--listen-port=" + std::to_string(31000 + ::getpid() % 1000), "-d", mesh.root().string(),
                             "--index-out=1=x.img", (mesh.root() / "x.torrent").string()});
  CHECK(ran.status == 0);
  CHECK((read_file(mesh.root() / "x.img") == bytes));
}

TEST_CASE("other clients are given more of a file's holders than the one that made the torrent") {
  Mesh mesh;
  const auto bytes = noise(5 * mb, 1);
  write_file(mesh.files("n0") / "x.img", bytes);
  mesh.start_node("n0");
  mesh.start_node("n1");
  mesh.start_node("n2");
  REQUIRE(mesh.get("n1", {"x.img"}).status == 0);
  REQUIRE(mesh.get("n2", {"x.img"}).status == 0);
  const auto torrent = nlohmann::json::parse(mesh.file("n0", {"torrent", "x.img", "--json"}).out);
  const auto infohash = torrent.at("infohash").get<std::string>();
  const auto seeds = [&](const char* node) {
    const auto status = mesh.file(node, {"status", "--json"}).out;
    return status.find(infohash) != std::string::npos;
  };
  const std::vector<const char*> nodes = {"n0", "n1", "n2"};
  REQUIRE(std::ranges::count_if(nodes, seeds) == 1);
  const char* const maker = *std::ranges::find_if(nodes, seeds);
  std::string quoted;
  for (std::size_t i = 0; i < infohash.size(); i += 2) quoted += "%" + infohash.substr(i, 2);
  const auto announced = mesh.run({"curl", "-s",
                                   "http://" + mesh.tracker() + "/announce?info_hash=" + quoted +
                                       "&port=1&left=5000000&event=started&compact=1&peer_id=" + std::string(20, 'x')});
  CHECK(announced.out.find("5:peers") != std::string::npos);
  CHECK(eventually([&] { return std::ranges::all_of(nodes, seeds); }));
  // The maker may go: the others have the torrent, and whoever asks for the file anew gets the same one.
  mesh.stop_node(maker, SIGTERM);
  const auto ran = mesh.run({"aria2c", "-q", "--no-conf", "--seed-time=0", "--enable-dht=false",
                             "--listen-port=" + std::to_string(32000 + ::getpid() % 1000), "-d", mesh.root().string(),
                             "--index-out=1=y.img", torrent.at("torrent").get<std::string>()});
  CHECK(ran.status == 0);
  CHECK((read_file(mesh.root() / "y.img") == bytes));
  const auto* const other = maker == nodes[0] ? nodes[1] : nodes[0];
  const auto again = nlohmann::json::parse(mesh.file(other, {"torrent", "x.img", "--json"}).out);
  CHECK(again.at("infohash").get<std::string>() == infohash);
}

TEST_CASE("an announce is answered, and counted once, however it is sent") {
  Mesh mesh;
  write_file(mesh.files("n0") / "x.img", noise(mb, 1));
  mesh.start_node("n0");
  REQUIRE(mesh.file("n0", {"torrent", "x.img", "-o", (mesh.root() / "x.torrent").string()}).status == 0);
  write_file(mesh.root() / "announce.py", R"py(
import hashlib, socket, sys, urllib.parse
torrent = open(sys.argv[1], "rb").read()
infohash = urllib.parse.quote(hashlib.sha1(torrent[torrent.index(b"4:info") + 6:-1]).digest())
host, port = sys.argv[2].split(":")
def ask(parts, at_once=True):
    s = socket.create_connection((host, int(port)))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.settimeout(20)
    for part in parts:
        s.sendall(part)
        if not at_once:
            import time; time.sleep(0.05)  # so that it arrives in pieces
    s.shutdown(socket.SHUT_WR)
    got = b""
    while more := s.recv(65536):
        got += more
    return got
def announce(more, version="1.1", header="Connection: close\r\n"):
    return (f"GET /announce?info_hash={infohash}&port={more} HTTP/{version}\r\nHost: localhost\r\n{header}\r\n").encode()
done = "&left=0&event=completed"
whole = announce(f"1001{done}")
for name, got, count in (
        ("whole", ask([whole]), 1),
        ("in pieces", ask([announce(f"1002{done}")[:40], announce(f"1002{done}")[40:]], False), 1),
        ("HTTP/1.0", ask([announce(f"1003{done}", "1.0", "")]), 1),
        ("two on one connection", ask([announce(f"1004{done}", header="") + announce("1004&left=0")]), 2),
        ("not compact", ask([announce(f"1005{done}&compact=0&numwant=200")]), 1)):
    if got.count(b"HTTP/1.1 200 OK") != count or got.count(b"8:interval") != count:
        sys.exit(f"{name}: {got!r}")
scrape = ask([f"GET /scrape?info_hash={infohash} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()])
if b"8:completei6e10:downloadedi5e10:incompletei0e" not in scrape:
    sys.exit(f"counts: {scrape!r}")
unknown = ask([whole.replace(infohash.encode(), b"x" * 20)])
if b"not in the mesh" not in unknown:
    sys.exit(f"unknown: {unknown!r}")
for bad in (b"GET /announce?info_hash=1 HTTP/1.1\r\nConnection: close\r\n\r\n", b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
            b"POST /announce HTTP/1.1\r\nConnection: close\r\n\r\n", b"\r\n\r\n\r\n", b"GET\0/ HTTP/1.1\r\n\r\n"):
    ask([bad])
if b"\r\n\r\nok nodes=1 " not in ask([b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"]):
    sys.exit("healthz")
)py");
  const auto ran = mesh.run(
      {"python3", (mesh.root() / "announce.py").string(), (mesh.root() / "x.torrent").string(), mesh.tracker()});
  INFO(ran.out + ran.err);
  CHECK(ran.status == 0);
}

TEST_CASE("transmission downloads from the mesh by meshfile torrent") {
  // It refuses peers on loopback, so this mesh has a network namespace and an address of its own.
  if (!Mesh::can_have_namespace()) {
    WARN("SKIPPED: needs root, ip(8) and network namespaces");
    return;
  }
  Mesh mesh("10.77.0.1");
  const auto bytes = noise(5 * mb, 1);
  write_file(mesh.files("n0") / "x.img", bytes);
  mesh.start_node("n0");
  const auto torrent = nlohmann::json::parse(mesh.file("n0", {"torrent", "x.img", "--json"}).out);
  fs::create_directories(mesh.root() / "config");
  write_file(mesh.root() / "done", "#!/bin/sh\ntouch " + (mesh.root() / "finished").string() + "\n");
  ::chmod((mesh.root() / "done").c_str(), 0755);
  auto client = mesh.start({"transmission-cli", "-g", (mesh.root() / "config").string(), "-w", mesh.root().string(),
                            "-M", "-f", (mesh.root() / "done").string(), torrent.at("torrent").get<std::string>()},
                           "transmission");
  CHECK(eventually([&] { return fs::exists(mesh.root() / "finished"); }, seconds(60)));
  CHECK((read_file(mesh.root() / torrent.at("content_id").get<std::string>()) == bytes));
}

TEST_CASE("two nodes cannot share a files directory") {
  Mesh mesh;
  mesh.start_node("n0");
  const auto second =
      mesh.run({program("meshseed"), "--files", mesh.files("n0").string(), "--tracker", mesh.tracker()});
  CHECK(second.status == 1);
  CHECK(second.err.find("another node runs here already") != std::string::npos);
}

TEST_CASE("without --open nothing leaves loopback") {
  Mesh mesh;
  CHECK(mesh.run({program("meshtracker"), "--listen", "0.0.0.0:0"}).status == 2);
  CHECK(mesh.run({program("meshseed"), "--files", mesh.files("x").string(), "--listen", "0.0.0.0:0"}).status == 2);
  CHECK(mesh.run({program("meshseed"), "--files", mesh.files("x").string(), "--tracker", "10.0.0.1:6969"}).status == 2);
  CHECK(mesh.run({program("meshget"), "--files", mesh.files("x").string(), "--tracker", "10.0.0.1:6969", "x"}).status ==
        2);
}

TEST_CASE("a corrupted state database is set aside, and costs nobody a file") {
  Mesh mesh;
  write_file(mesh.files("n0") / "x", noise(200'000, 1));
  mesh.start_node("n0");
  mesh.start_node("n1");
  REQUIRE(mesh.get("n1", {"x"}).status == 0);
  mesh.stop_node("n1", SIGTERM);
  write_file(mesh.files("n1") / ".mesh/state.db", noise(20'000, 3));
  mesh.start_node("n1");
  CHECK((read_file(mesh.files("n1") / "x") == noise(200'000, 1)));
  CHECK(mesh.get("n1", {"x"}).status == 0);
}

TEST_CASE("what a node has forgotten of a file, or keeps wrong, is hashed again when somebody wants it") {
  Mesh mesh;
  const auto bytes = noise(300'000, 1);
  const std::string roots_of = R"(
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
if len(sys.argv) > 2:
    db.execute(sys.argv[2])
    db.commit()
print(*[len(roots) for (roots,) in db.execute("SELECT roots FROM roots")])
)";
  const auto state = [&](const char* node) { return (mesh.files(node) / ".mesh/state.db").string(); };
  write_file(mesh.files("n0") / "x", bytes);
  mesh.start_node("n0");
  mesh.start_node("n1");
  // Older than what a node does not remember by its stamp, or it is hashed anew.
  const auto written = fs::last_write_time(mesh.files("n0") / "x");
  REQUIRE(eventually([&] { return fs::file_time_type::clock::now() - written > std::chrono::milliseconds(2100); }));
  REQUIRE(mesh.file("n0", {"torrent", "x", "-o", "/dev/null"}).status == 0);
  mesh.stop_node("n0", SIGTERM);
  CHECK(mesh.run({"python3", "-c", roots_of, state("n0")}).out == "160\n");
  CHECK(mesh.run({"python3", "-c", roots_of, state("n0"), "DELETE FROM roots"}).out == "\n");
  mesh.start_node("n0");
  REQUIRE(mesh.get("n1", {"x"}).status == 0);
  CHECK((read_file(mesh.files("n1") / "x") == bytes));
  CHECK(mesh.run({"python3", "-c", roots_of, state("n1")}).out == "160\n");
  CHECK(mesh.run({"python3", "-c", roots_of, state("n0")}).out == "160\n");
  // And wrong ones are as good as none.
  mesh.stop_node("n0", SIGTERM);
  CHECK(mesh.run({"python3", "-c", roots_of, state("n0"),
                  "REPLACE INTO roots SELECT id, zeroblob(160) FROM foreign_torrents"})
            .out == "160\n");
  mesh.stop_node("n1", SIGTERM);
  mesh.start_node("n0");
  mesh.start_node("n2");
  REQUIRE(mesh.get("n2", {"x"}).status == 0);
  CHECK((read_file(mesh.files("n2") / "x") == bytes));
  CHECK(mesh.run({"python3", "-c", roots_of, state("n2")}).out == "160\n");
}
