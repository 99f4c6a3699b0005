// What users of tools that do the same job have reported of them, and what a real minimega does beside a mesh:
// identities that were copied, directories that were moved away, odd names, outputs that cannot be written. Whole
// swarms of real processes on loopback.
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "process.h"
#include "test.h"

using namespace mesh::test;
using nlohmann::json;
using std::chrono::seconds;

namespace {

constexpr std::size_t mb = 1 << 20;

bool says(const std::string& text, const std::string& what) { return text.find(what) != std::string::npos; }
bool says(const Ran& ran, const std::string& what) { return says(ran.out + ran.err, what); }

void set_time(const fs::path& file, std::int64_t when) {
  const timespec times[2] = {{when, 0}, {when, 0}};
  REQUIRE(::utimensat(AT_FDCWD, file.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0);
}

std::string shell(const std::string& text) { return "'" + text + "'"; }

/// A copy of a stopped node's directory, as a clone of the whole machine has it, whose directory has the same number on
/// a machine with the same id.
void clone(const Mesh& mesh, const std::string& node, const std::string& to) {
  REQUIRE(mesh.run({"cp", "-a", mesh.files(node).string(), mesh.files(to).string()}).status == 0);
  fs::remove(mesh.files(to) / ".mesh/identity-place");
}

/// The names of the nodes that the tracker knows.
std::string nodes_of(const Mesh& mesh) { return mesh.run({"curl", "-s", "http://" + mesh.tracker() + "/healthz"}).out; }

}  // namespace

TEST_CASE("a copied state directory: the copy gets an identity of its own at its start") {
  Mesh mesh;
  write_file(mesh.files("n0") / "x", noise(300'000, 1));
  mesh.start_node("n0");
  mesh.stop_node("n0", SIGTERM);
  REQUIRE(mesh.run({"cp", "-a", mesh.files("n0").string(), mesh.files("n1").string()}).status == 0);
  const auto copied = read_file(mesh.files("n1") / ".mesh/identity");
  mesh.start_node("n0");
  mesh.start_node("n1");
  CHECK(says(mesh.log("n1"), "is a copy of another node's state directory"));
  CHECK(read_file(mesh.files("n1") / ".mesh/identity") != copied);
  CHECK(read_file(mesh.files("n0") / ".mesh/identity") == copied);
  CHECK(says(nodes_of(mesh), "nodes=2 "));
  // One that is moved, or started again, is the same.
  mesh.stop_node("n1", SIGTERM);
  const auto own = read_file(mesh.files("n1") / ".mesh/identity");
  fs::rename(mesh.files("n1"), mesh.files("n2"));
  mesh.start_node("n2");
  CHECK(read_file(mesh.files("n2") / ".mesh/identity") == own);
}

TEST_CASE("two live nodes of one identity are told apart: the later one takes a new one, and says so once") {
  Mesh mesh;
  write_file(mesh.files("n0") / "x", noise(300'000, 1));
  mesh.start_node("n0");
  mesh.stop_node("n0", SIGTERM);
  clone(mesh, "n0", "n1");
  write_file(mesh.files("n1") / "y", noise(200'000, 2));
  mesh.start_node("n0");
  const auto first = read_file(mesh.files("n0") / ".mesh/identity");
  mesh.start_node("n1");
  CHECK(says(mesh.log("n1"), "another node is in the mesh by this one's identity"));
  CHECK(read_file(mesh.files("n1") / ".mesh/identity") != first);
  CHECK(read_file(mesh.files("n0") / ".mesh/identity") == first);
  CHECK_FALSE(says(mesh.log("n0"), "another node is in the mesh"));
  CHECK(says(nodes_of(mesh), "nodes=2 "));
  CHECK(mesh.get("n0", {"y"}).status == 0);
  // The same program by two names of one tracker is no other node.
  mesh.stop_node("n1", SIGTERM);
  const auto port = mesh.tracker().substr(mesh.tracker().rfind(':'));
  mesh.start_node("n1", {"--tracker", "localhost" + port});
  const auto same = "is the tracker " + mesh.tracker() + " by another name";
  const auto other = "is the tracker localhost" + port + " by another name";
  const auto said = [&] { return says(mesh.log("n1"), same) || says(mesh.log("n1"), other); };
  CHECK(eventually(said));
  CHECK(says(nodes_of(mesh), "nodes=2 "));
  CHECK(mesh.get("n0", {"y"}).status == 0);
  // Once, and it is not tried again every moment.
  const auto lines = [&] {
    const auto log = mesh.log("n1");
    std::size_t count = 0;
    for (auto at = log.find("by another name"); at != std::string::npos; at = log.find("by another name", at + 1))
      ++count;
    return count;
  };
  CHECK_FALSE(eventually([&] { return lines() > 1; }, seconds(4)));
}

TEST_CASE("copies of a node that come to a tracker in the wrong order: the later one yields, and only that one") {
  Mesh mesh;
  const auto second = mesh.start_second();
  write_file(mesh.files("n0") / "x", noise(300'000, 1));
  mesh.start_node("n0");
  mesh.stop_node("n0", SIGTERM);
  clone(mesh, "n0", "n1");
  const auto own = read_file(mesh.files("n0") / ".mesh/identity");
  // The earlier one comes to a tracker at which the later one is already.
  mesh.stop_tracker(SIGTERM);
  mesh.start_node_with("n1", {"--tracker", second, "--tracker", mesh.tracker()}, second + ": registered");
  mesh.node("n1").signal(SIGSTOP);
  mesh.start_tracker();
  mesh.start_node("n0");
  CHECK(read_file(mesh.files("n0") / ".mesh/identity") == own);
  mesh.node("n1").signal(SIGCONT);
  CHECK(eventually([&] { return says(mesh.log("n0"), "another node is in the mesh by this one's identity"); }));
  CHECK(read_file(mesh.files("n1") / ".mesh/identity") == own);
  CHECK(read_file(mesh.files("n0") / ".mesh/identity") != own);
  CHECK_FALSE(says(mesh.log("n1"), "another node is in the mesh"));
}

TEST_CASE("copies of a node without any tracker are told apart by whom they greet") {
  Mesh mesh;
  write_file(mesh.files("n1") / "x", noise(300'000, 1));
  mesh.start_node("n1");
  mesh.stop_node("n1", SIGTERM);
  clone(mesh, "n1", "n2");
  const auto own = read_file(mesh.files("n1") / ".mesh/identity");
  mesh.start_node_with("n0", {}, "node channel on port");
  for (const char* node : {"n1", "n2"})
    mesh.start_node_with(node, {"--peer", mesh.listen("n0")}, "node channel on port");
  const auto renewed = [&](const char* node) {
    return says(mesh.log(node), "another node is in the mesh by this one's");
  };
  CHECK(eventually([&] { return renewed("n1") || renewed("n2"); }, seconds(60)));
  const auto another = [&](const char* node) { return read_file(mesh.files(node) / ".mesh/identity") != own; };
  CHECK(another("n1") + another("n2") == 1);
}

TEST_CASE("a node that has another identity by now keeps what its user changed") {
  Mesh mesh;
  write_file(mesh.files("n1") / "p", noise(300'000, 1));
  set_time(mesh.files("n1") / "p", 1'500'000'000);
  mesh.start_node("n1", {"--hash", "eager"});
  write_file(mesh.files("n0") / "p", noise(310'000, 2));
  mesh.start_node("n0", {"--hash", "eager"});
  CHECK(says(mesh.get("n1", {"p"}), "was made or changed here"));
  // As after a restore from a backup.
  mesh.stop_node("n1", SIGTERM);
  REQUIRE(mesh.run({"cp", "-a", mesh.files("n1").string(), mesh.files("copy").string()}).status == 0);
  fs::remove_all(mesh.files("n1"));
  fs::rename(mesh.files("copy"), mesh.files("n1"));
  mesh.start_node("n1", {"--hash", "eager"});
  CHECK(says(mesh.log("n1"), "or was restored"));
  CHECK(says(mesh.get("n1", {"p"}), "was made or changed here"));
  CHECK((read_file(mesh.files("n1") / "p") == noise(300'000, 1)));
}

TEST_CASE("a files directory that is moved away or deleted is noticed; the node goes on with what is there") {
  Mesh mesh;
  write_file(mesh.files("n0") / "x", noise(300'000, 1));
  write_file(mesh.files("n1") / "old", noise(300'000, 2));
  mesh.start_node("n0");
  mesh.start_node("n1");
  fs::rename(mesh.files("n1"), mesh.root() / "n1.old");
  REQUIRE(eventually([&] { return says(mesh.log("n1"), "the files directory was moved away or deleted"); }));
  REQUIRE(eventually([&] { return mesh.get("n1", {"x"}).status == 0; }));
  CHECK(fs::exists(mesh.files("n1") / "x"));
  CHECK(mesh.node("n1").is_running());
  CHECK(fs::exists(mesh.root() / "n1.old/old"));
  // Another one in its place.
  write_file(mesh.root() / "fresh/new", noise(200'000, 3));
  fs::rename(mesh.files("n1"), mesh.root() / "n1.older");
  fs::rename(mesh.root() / "fresh", mesh.files("n1"));
  REQUIRE(eventually([&] { return says(mesh.log("n1"), "the node begins anew with what is there"); }));
  CHECK(eventually([&] { return mesh.get("n0", {"new"}).status == 0; }));
  const auto second = mesh.run(
      {"timeout", "20", program("meshseed"), "--files", mesh.files("n1").string(), "--tracker", mesh.tracker()});
  CHECK(second.status == 1);
  CHECK(says(second, "another node runs here already"));
  mesh.node("n1").signal(SIGTERM);
  CHECK(mesh.node("n1").wait(seconds(15)) == 0);
}

TEST_CASE(
    "a get under way when the files directory goes: its command is told, it goes on in the new one; one identity") {
  Mesh mesh;
  const auto bytes = noise(30 * mb, 1);
  write_file(mesh.files("n0") / "big", bytes);
  mesh.start_node("n0", {"--max-up", megabytes_a_second(2)});
  mesh.start_node("n1");
  const auto own = read_file(mesh.files("n1") / ".mesh/identity");
  auto waiting = mesh.start({program("meshget"), "--files", mesh.files("n1").string(), "--quiet", "big"}, "waiting");
  REQUIRE(eventually([&] { return partials(mesh, "n1") == 1; }));
  fs::rename(mesh.files("n1"), mesh.root() / "n1.old");
  CHECK(waiting->wait(seconds(60)) == 1);
  INFO(mesh.log("waiting"));
  CHECK(says(mesh.log("waiting"), "the files directory was moved, deleted or mounted over"));
  REQUIRE(eventually([&] { return mesh.file("n1", {"status"}).status == 0; }));
  CHECK(read_file(mesh.files("n1") / ".mesh/identity") == own);
  CHECK(mesh.file("n1", {"wait", "big"}).status == 0);
  CHECK((read_file(mesh.files("n1") / "big") == bytes));
  mesh.node("n1").signal(SIGTERM);
  CHECK(mesh.node("n1").wait(seconds(15)) == 0);
}

TEST_CASE("a command that comes between a directory and its node: the node waits until the command's has left") {
  Mesh mesh;
  write_file(mesh.files("n0") / "x", noise(300'000, 1));
  mesh.start_node("n0");
  mesh.start_node("n1");
  fs::rename(mesh.files("n1"), mesh.root() / "n1.old");
  CHECK(mesh.get("n1", {"--tracker", mesh.tracker(), "--linger", "30", "x"}).status == 0);
  CHECK(eventually([&] { return says(mesh.log("n1"), "begins anew with what is there"); }));
  CHECK(eventually([&] { return says(mesh.file("n1", {"status"}).out, "n1"); }));
  CHECK(mesh.node("n1").is_running());
  CHECK(mesh.get("n1", {"x"}).status == 0);
}

TEST_CASE("a private node begins anew as well, and writes its log there") {
  Mesh mesh;
  write_file(mesh.files("n0") / "x", noise(300'000, 1));
  write_file(mesh.files("n0") / "y", noise(300'000, 2));
  mesh.start_node("n0");
  CHECK(mesh.get("n1", {"--tracker", mesh.tracker(), "--linger", "60", "x"}).status == 0);
  fs::rename(mesh.files("n1"), mesh.root() / "n1.old");
  CHECK(eventually(
      [&] { return says(read_file(mesh.files("n1") / ".mesh/meshget.log"), ": files " + mesh.files("n1").string()); }));
  CHECK(says(read_file(mesh.root() / "n1.old/.mesh/meshget.log"), "the files directory was moved away"));
  CHECK(mesh.get("n1", {"--tracker", mesh.tracker(), "y"}).status == 0);
  CHECK(fs::exists(mesh.files("n1") / "y"));
}

TEST_CASE("a holder that nobody can reach connects to who wants its files: small ones and large ones") {
  Mesh mesh;
  const auto large = noise(3 * mb, 1);
  write_file(mesh.files("n0") / "d/large", large);
  for (std::uint64_t i = 0; i < 20; ++i) write_file(mesh.files("n0") / "d" / std::to_string(i), noise(1000, 100 + i));
  // It is told to everybody as being where it does not listen, as one behind a router is.
  mesh.start_node("n0", {"--advertise", "127.0.0.2"});
  mesh.start_node("n1");
  const auto got = mesh.get("n1", {"d"});
  INFO(got.err);
  CHECK(got.status == 0);
  CHECK((read_file(mesh.files("n1") / "d/large") == large));
  CHECK(read_file(mesh.files("n1") / "d/7") == noise(1000, 107));
  // Where neither can, that is said.
  write_file(mesh.files("n0") / "e", "e");
  mesh.start_node("n2", {"--advertise", "127.0.0.3"});
  const auto none = mesh.get("n2", {"e"});
  CHECK(none.status != 0);
  CHECK(says(none, "cannot be reached at 127.0.0.2"));
  CHECK(says(none, "nor does it reach this node"));
}

TEST_CASE("a files directory that is a symbolic link: both spellings count, and the given one is printed") {
  Mesh mesh;
  write_file(mesh.files("n0") / "x", "bytes");
  mesh.start_node("n0");
  fs::create_directories(mesh.root() / "data/files");
  fs::create_directory_symlink(mesh.root() / "data/files", mesh.files("n1"));
  mesh.start_node("n1");
  const auto given = (mesh.files("n1") / "x").string();
  const auto real = (mesh.root() / "data/files/x").string();
  const auto got = mesh.get("n1", {given});
  CHECK(got.status == 0);
  CHECK(got.out == given + "\n");
  CHECK(mesh.get("n1", {real}).out == given + "\n");
  CHECK(mesh.file("n1", {"info", real}).status == 0);
  CHECK(mesh.file("n1", {"delete", real}).status == 0);
  CHECK_FALSE(fs::exists(real));
}

TEST_CASE("a get that meets a private node that is just leaving starts one again") {
  Mesh mesh;
  write_file(mesh.files("n0") / "x", noise(200'000, 1));
  mesh.start_node("n0");
  for (int i = 0; i < 12; ++i) {
    fs::remove(mesh.files("p") / "x");
    const auto ran = mesh.get("p", {"--tracker", mesh.tracker(), "x"});
    INFO(ran.err);
    CHECK(ran.status == 0);
  }
}

TEST_CASE("obstacles are found before anything is fetched: a file for a directory, a link, too small a mount") {
  Mesh mesh;
  write_file(mesh.files("n0") / "d/x", noise(12 * mb, 1));
  // It could not be fetched within the test.
  mesh.start_node("n0", {"--max-up", "20K"});
  for (const char* node : {"n1", "n2", "n3"}) fs::create_directories(mesh.files(node));
  write_file(mesh.files("n1") / "d", "a file");
  fs::create_directory_symlink(mesh.root(), mesh.files("n2") / "d");
  for (const char* node : {"n1", "n2", "n3"}) mesh.start_node(node);
  CHECK(says(mesh.get("n1", {"d/x"}), "no directory here"));
  CHECK(says(mesh.get("n2", {"d/x"}), "symbolic link"));
  if (::geteuid() != 0) {
    WARN("SKIPPED: a mount needs root");
    return;
  }
  fs::create_directories(mesh.files("n3") / "d");
  if (::mount("none", (mesh.files("n3") / "d").c_str(), "tmpfs", 0, "size=8m") != 0) {
    WARN("SKIPPED: no file system can be mounted here");
    return;
  }
  const auto ran = mesh.get("n3", {"d/x"});
  ::umount2((mesh.files("n3") / "d").c_str(), MNT_DETACH);
  INFO(ran.err);
  CHECK(ran.status == 1);
  CHECK(says(ran, "d has no room: 12.6 MB needed, 8.39 MB free"));
}

TEST_CASE("files go to another mount within the files directory: large and small ones, links, in place of others") {
  if (::geteuid() != 0) {
    WARN("SKIPPED: a mount needs root");
    return;
  }
  Mesh mesh;
  const auto from = mesh.files("n0") / "d", to = mesh.files("n1") / "d";
  const auto sparse = noise(2 * mb, 1) + std::string(3 * mb, '\0') + noise(mb, 2);
  write_file(from / "deep/large", sparse);
  write_file(from / "small", "one");
  write_file(from / "other", noise(300'000, 3));
  fs::create_symlink("small", from / "link");
  fs::create_directories(to);
  if (::mount("none", to.c_str(), "tmpfs", 0, "size=64m") != 0) {
    WARN("SKIPPED: no file system can be mounted here");
    return;
  }
  const std::shared_ptr<void> unmounted(nullptr, [&](void*) { ::umount2(to.c_str(), MNT_DETACH); });
  mesh.start_node("n0");
  mesh.start_node("n1");
  const auto ran = mesh.get("n1", {"d"});
  INFO(ran.err);
  REQUIRE(ran.status == 0);
  CHECK((read_file(to / "deep/large") == sparse));
  CHECK(read_file(to / "small") == "one");
  CHECK((read_file(to / "other") == noise(300'000, 3)));
  CHECK(fs::read_symlink(to / "link") == "small");
  // A file system that has no more room for all than for each: told before the first is fetched.
  for (const char* name : {"a", "b", "c"}) write_file(mesh.files("n0") / "more" / name, noise(3 * mb, 9));
  fs::create_directories(mesh.files("n1") / "more");
  const auto more = mesh.files("n1") / "more";
  REQUIRE(::mount("none", more.c_str(), "tmpfs", 0, "size=7m") == 0);
  const std::shared_ptr<void> more_unmounted(nullptr, [&](void*) { ::umount2(more.c_str(), MNT_DETACH); });
  const auto some = mesh.get("n1", {"more"});
  CHECK(some.status == 1);
  CHECK(says(some, "more/c: cannot be put in place: more has no room: 9.44 MB needed"));
  // Who waits gets it when there is; what has room does not wait for that.
  write_file(mesh.files("n0") / "beside", noise(300'000, 11));
  REQUIRE(mesh.lists("n1", "beside", 300'000));
  auto waiting = mesh.start(
      {program("meshget"), "--files", mesh.files("n1").string(), "--wait", "--quiet", "more", "beside"}, "w");
  CHECK(eventually([&] { return says(mesh.file("n1", {"status"}), "more has no room"); }));
  CHECK(eventually([&] { return fs::exists(mesh.files("n1") / "beside"); }));
  REQUIRE(::mount("none", more.c_str(), "tmpfs", MS_REMOUNT, "size=32m") == 0);
  CHECK(waiting->wait(seconds(30)) == 0);
  CHECK(fs::file_size(more / "c") == 3 * mb);
  // Newer versions take their places.
  write_file(from / "small", "two2");
  write_file(from / "other", noise(310'000, 4));
  fs::remove(from / "link");
  fs::create_symlink("other", from / "link");
  REQUIRE(mesh.lists("n1", "d/other", 310'000));
  REQUIRE(mesh.lists("n1", "d/small", 4));
  CHECK(eventually([&] { return mesh.get("n1", {"d"}).status == 0 && fs::read_symlink(to / "link") == "other"; }));
  CHECK(read_file(to / "small") == "two2");
  CHECK((read_file(to / "other") == noise(310'000, 4)));
  // They are this node's to give, and nothing is left behind.
  mesh.stop_node("n0", SIGTERM);
  mesh.start_node("n2");
  CHECK(mesh.get("n2", {"d/other", "d/deep/large", "d/small"}).status == 0);
  CHECK(partials(mesh, "n1") == 0);
  for (const auto& item : fs::directory_iterator(to))
    CHECK_FALSE(item.path().filename().string().starts_with(".mesh-"));
}

TEST_CASE("what is mounted below the files directory while a node runs is served, and what was there before is not") {
  if (::geteuid() != 0) {
    WARN("SKIPPED: a mount needs root");
    return;
  }
  Mesh mesh;
  write_file(mesh.files("n0") / "d/under", "u");
  mesh.start_node("n0");
  const auto at = mesh.files("n0") / "d";
  if (::mount("none", at.c_str(), "tmpfs", 0, "size=8m") != 0) {
    WARN("SKIPPED: no file system can be mounted here");
    return;
  }
  const std::shared_ptr<void> unmounted(nullptr, [&](void*) { ::umount2(at.c_str(), MNT_DETACH); });
  const auto listed = [&](const char* name) { return says(mesh.file("n0", {"list", "d"}).out, name); };
  CHECK(eventually([&] { return !listed("under"); }));
  write_file(at / "new", "n");
  CHECK(eventually([&] { return listed("new"); }));
  REQUIRE(::umount2(at.c_str(), MNT_DETACH) == 0);
  CHECK(eventually([&] { return listed("under") && !listed("new"); }));
}

TEST_CASE("a change of metadata alone stops nobody who gets the file") {
  Mesh mesh;
  const auto bytes = noise(12 * mb, 1);
  write_file(mesh.files("n0") / "x", bytes);
  mesh.start_node("n0", {"--max-up", megabytes_a_second(3)});
  mesh.start_node("n1");
  auto get = mesh.start({program("meshget"), "--files", mesh.files("n1").string(), "x"}, "get");
  REQUIRE(eventually([&] { return says(mesh.file("n0", {"status"}).out, "seeding"); }));
  const auto file = mesh.files("n0") / "x";
  // Of the other names no event tells.
  int changes = 0;
  REQUIRE(eventually([&] {
    if (!get->is_running()) return true;
    ++changes;
    static_cast<void>(::chmod(file.c_str(), changes % 2 == 0 ? 0600 : 0644));
    fs::create_hard_link(file, mesh.root() / ("link" + std::to_string(changes)));
    return false;
  }));
  CHECK(changes > 20);
  CHECK(get->wait(seconds(1)) == 0);
  CHECK((read_file(mesh.files("n1") / "x") == bytes));
  CHECK_FALSE(says(mesh.log("n0"), "is not offered any more"));
  // Its content is proved anew, and another one with the same time is found out.
  struct stat s {};
  REQUIRE(::stat(file.c_str(), &s) == 0);
  auto other = bytes;
  other[0] ^= 1;
  const int fd = ::open(file.c_str(), O_WRONLY | O_CLOEXEC);
  REQUIRE(::pwrite(fd, other.data(), 1, 0) == 1);
  const timespec times[2] = {s.st_atim, s.st_mtim};
  REQUIRE(::futimens(fd, times) == 0);
  ::close(fd);
  mesh.start_node("n2");
  CHECK(eventually([&] {
    fs::remove(mesh.files("n2") / "x");
    return mesh.get("n2", {"--from", "n0", "x"}).status == 0 && read_file(mesh.files("n2") / "x") == other;
  }));
}

TEST_CASE("a path that exists wins over the glob that it spells: get, list, delete here and everywhere") {
  Mesh mesh;
  for (const char* node : {"n0", "n1"})
    for (const char* name : {"disk[1].img", "disk1.img", "back\\slash", "dir[a]/x", "dira/x"})
      if (node != std::string("n1") || name != std::string("disk[1].img"))
        write_file(mesh.files(node) / name, std::string(node) + name);
  mesh.start_node("n0");
  mesh.start_node("n1");
  mesh.start_node("n2");
  CHECK(mesh.get("n2", {"disk[1].img"}).status == 0);
  CHECK(read_file(mesh.files("n2") / "disk[1].img") == "n0disk[1].img");
  CHECK_FALSE(fs::exists(mesh.files("n2") / "disk1.img"));
  CHECK(mesh.get("n2", {"back\\slash"}).status == 0);
  CHECK(fs::exists(mesh.files("n2") / "back\\slash"));
  const auto directory = mesh.get("n2", {"dir[a]"});
  CHECK(directory.out == (mesh.files("n2") / "dir[a]").string() + "\n");
  CHECK(fs::exists(mesh.files("n2") / "dir[a]/x"));
  CHECK_FALSE(fs::exists(mesh.files("n2") / "dira"));
  CHECK(mesh.get("n2", {"disk?.img"}).status == 0);
  CHECK(fs::exists(mesh.files("n2") / "disk1.img"));
  CHECK_FALSE(says(mesh.file("n2", {"list", "dir[a]"}), "dira"));
  const auto bytes =
      mesh.run({"sh", "-c",
                shell(program("meshfile")) + " --files " + shell(mesh.files("n2").string()) + " stream 'disk[1].img'"});
  CHECK(bytes.out == "n0disk[1].img");
  // What a shell's quoting would make of it is another file's name, wherever there is one.
  write_file(mesh.files("n1") / "disk\\[1\\].img", "escaped");
  // Here, where both are.
  CHECK(mesh.file("n2", {"delete", "disk[1].img"}).status == 0);
  CHECK_FALSE(fs::exists(mesh.files("n2") / "disk[1].img"));
  CHECK(fs::exists(mesh.files("n2") / "disk1.img"));
  // n1 has only what the glob would match.
  CHECK(mesh.file("n2", {"delete", "--mesh", "disk[1].img"}).status == 0);
  CHECK_FALSE(fs::exists(mesh.files("n0") / "disk[1].img"));
  for (const char* node : {"n0", "n1", "n2"}) CHECK(fs::exists(mesh.files(node) / "disk1.img"));
  CHECK(fs::exists(mesh.files("n1") / "disk\\[1\\].img"));
  // A directory that is there begins a glob, here and on the others.
  CHECK(mesh.get("n2", {"dir[a]/*"}).status == 0);
  CHECK_FALSE(fs::exists(mesh.files("n2") / "dira"));
  CHECK(mesh.get("n2", {"dira"}).status == 0);
  fs::remove_all(mesh.files("n1") / "dir[a]");
  REQUIRE(eventually([&] { return !says(mesh.file("n1", {"list", "--local", "-r"}), "dir[a]"); }));
  CHECK(mesh.file("n1", {"delete", "dir[a]/*"}).status == 3);  // it has the other one alone
  CHECK(mesh.file("n2", {"delete", "--mesh", "dir[a]/*"}).status == 0);
  CHECK_FALSE(fs::exists(mesh.files("n2") / "dir[a]/x"));
  for (const char* node : {"n0", "n1", "n2"}) CHECK(fs::exists(mesh.files(node) / "dira/x"));
  CHECK(mesh.file("n1", {"delete", "path:disk?.img"}).status == 3);
  CHECK(mesh.file("n1", {"delete", "path:disk1.img"}).status == 0);
  CHECK_FALSE(fs::exists(mesh.files("n1") / "disk1.img"));
}

TEST_CASE("what is left out of a directory is counted for who gets it") {
  Mesh mesh;
  write_file(mesh.files("n0") / "d/good", "x");
  write_file(mesh.files("n0") / "d/\xff\xfe", "x");
  REQUIRE(::mkfifo((mesh.files("n0") / "d/fifo").c_str(), 0600) == 0);
  write_file(mesh.files("n0") / "d/transfer_rates.csv", "x");
  write_file(mesh.files("n0") / "d/transfer_dir/x", "x");
  mesh.start_node("n0");
  mesh.start_node("n1");
  const auto got = mesh.get("n1", {"--json", "d"});
  CHECK(got.status == 0);
  CHECK(says(got.err, "d: 2 names in it are not offered"));
  std::int64_t left_out = 0;
  const auto said = json::parse(got.out);
  for (const auto& file : said.at("files")) left_out += file.at("left_out").get<std::int64_t>();
  CHECK(left_out == 2);
  CHECK(fs::exists(mesh.files("n1") / "d/transfer_rates.csv"));
  CHECK(fs::exists(mesh.files("n1") / "d/transfer_dir/x"));
}

TEST_CASE("links are versions as files are: replaced where meshget brought them, kept where they are newest here") {
  Mesh mesh;
  write_file(mesh.files("n0") / "v1", "one");
  write_file(mesh.files("n0") / "v2", "two");
  fs::create_symlink("v1", mesh.files("n0") / "latest");
  mesh.start_node("n0");
  mesh.start_node("n1");
  CHECK(mesh.get("n1", {"latest"}).status == 0);
  CHECK(fs::read_symlink(mesh.files("n1") / "latest") == "v1");
  const auto change = [&](const std::function<void()>& make) {
    fs::remove(mesh.files("n0") / "latest");
    make();
  };
  change([&] { fs::create_symlink("v2", mesh.files("n0") / "latest"); });
  CHECK(eventually(
      [&] { return mesh.get("n1", {"latest"}).status == 0 && fs::read_symlink(mesh.files("n1") / "latest") == "v2"; }));
  change([&] { write_file(mesh.files("n0") / "latest", "a file"); });
  CHECK(eventually([&] {
    return mesh.get("n1", {"latest"}).status == 0 && !fs::is_symlink(mesh.files("n1") / "latest") &&
           read_file(mesh.files("n1") / "latest") == "a file";
  }));
  change([&] { fs::create_symlink("v1", mesh.files("n0") / "latest"); });
  CHECK(eventually(
      [&] { return mesh.get("n1", {"latest"}).status == 0 && fs::is_symlink(mesh.files("n1") / "latest"); }));
  // One's own newest link against an older file elsewhere.
  write_file(mesh.files("n0") / "other", "old");
  set_time(mesh.files("n0") / "other", 1'500'000'000);
  fs::create_symlink("v1", mesh.files("n1") / "other");
  REQUIRE(eventually([&] { return says(mesh.file("n1", {"list", "--local", "other"}), "link"); }));
  const auto kept = mesh.get("n1", {"other"});
  INFO(kept.err);
  CHECK(kept.status == 0);
  CHECK(fs::is_symlink(mesh.files("n1") / "other"));
}

TEST_CASE("a file that another program brought is nobody's edit: a newer version takes its place") {
  Mesh mesh;
  const auto old = noise(300'000, 1), fresh = noise(310'000, 2);
  write_file(mesh.files("n0") / "x", old);
  mesh.start_node("n0", {"--hash", "eager"});
  REQUIRE(eventually([&] { return says(mesh.file("n0", {"info", "x", "--json"}).out, "content_id"); }));
  // As minimega brings it: with the time of the copy.
  fs::create_directories(mesh.files("n1"));
  write_file(mesh.files("n1") / "x", old);
  write_file(mesh.files("n2") / "x", noise(300'000, 3));
  for (const char* node : {"n1", "n2"}) set_time(mesh.files(node) / "x", 1'500'000'000);
  mesh.start_node("n1");
  mesh.start_node("n2");
  write_file(mesh.files("n0") / "x", fresh);
  REQUIRE(mesh.lists("n1", "x", fresh.size()));
  const auto got = mesh.get("n1", {"x"});
  INFO(got.err);
  CHECK(got.status == 0);
  CHECK((read_file(mesh.files("n1") / "x") == fresh));
  // What somebody made here is his, of whatever size.
  CHECK(mesh.get("n2", {"x"}).status == 1);
  CHECK((read_file(mesh.files("n2") / "x") == noise(300'000, 3)));
}

TEST_CASE("the disk of a running VM is not deleted without --force; --on names nodes, and others spares this one") {
  Mesh mesh;
  for (const char* node : {"n1", "n2", "n3"}) {
    write_file(mesh.files(node) / "disk", noise(200'000, 1));
    mesh.start_node(node);
  }
  {
    const int vm = ::open((mesh.files("n1") / "disk").c_str(), O_RDWR | O_CLOEXEC);
    REQUIRE(vm >= 0);
    const auto kept = mesh.file("n1", {"delete", "disk"});
    CHECK(kept.status == 1);
    CHECK(says(kept, "open for writing"));
    CHECK(fs::exists(mesh.files("n1") / "disk"));
    CHECK(mesh.file("n1", {"delete", "--force", "disk"}).status == 0);
    CHECK_FALSE(fs::exists(mesh.files("n1") / "disk"));
    ::close(vm);
  }
  write_file(mesh.files("n1") / "disk", noise(200'000, 1));
  CHECK(mesh.file("n1", {"delete", "--on", "n[2-2,3]", "disk"}).status == 0);
  CHECK(fs::exists(mesh.files("n1") / "disk"));
  for (const char* node : {"n2", "n3"}) {
    CHECK_FALSE(fs::exists(mesh.files(node) / "disk"));
    write_file(mesh.files(node) / "disk", noise(200'000, 1));
  }
  CHECK(mesh.file("n1", {"delete", "--on", "others", "disk"}).status == 0);
  CHECK(fs::exists(mesh.files("n1") / "disk"));
  CHECK_FALSE(fs::exists(mesh.files("n2") / "disk"));
  CHECK(mesh.file("n1", {"get", "--on", "n[2-", "disk"}).status == 2);
}

TEST_CASE("output that cannot be written is a failure; closed standard streams are nobody's file") {
  Mesh mesh;
  write_file(mesh.files("n0") / "x", noise(300'000, 1));
  mesh.start_node("n0");
  mesh.start_node("n1");
  const auto key = (mesh.root() / "key").string();
  REQUIRE(mesh.run({"sh", "-c", shell(program("meshkey")) + " new > " + key}).status == 0);
  const auto at = " --files " + shell(mesh.files("n1").string()) + " ";
  const auto meshfile = shell(program("meshfile")) + at;
  for (const std::string& command :
       {shell(program("meshget")) + at + "--quiet x", meshfile + "list", meshfile + "list --json", meshfile + "info x",
        meshfile + "status", meshfile + "status --json", meshfile + "torrent -o - x", meshfile + "stream x",
        shell(program("meshkey")) + " show " + key, shell(program("meshkey")) + " new",
        shell(program("meshfile")) + " --help", shell(program("meshget")) + " --version"}) {
    INFO(command);
    const auto full = mesh.run({"sh", "-c", command + " > /dev/full"});
    CHECK(full.status == 1);
    CHECK(says(full.err, "stdout: cannot be written"));
    const auto closed = mesh.run({"sh", "-c", command + " >&-"});
    CHECK(closed.status == 1);
  }
  // With none of the three: the get works, and nothing is written into files.
  CHECK(mesh.run({"sh", "-c",
                  "rm -f " + shell((mesh.files("n1") / "x").string()) + "; " + shell(program("meshget")) + at +
                      "--quiet x <&- 2>&-"})
            .status == 0);
  CHECK((read_file(mesh.files("n1") / "x") == read_file(mesh.files("n0") / "x")));
  auto bare = mesh.start({"sh", "-c",
                          "exec " + shell(program("meshseed")) + " --files " + shell(mesh.files("n2").string()) +
                              " --tracker " + mesh.tracker() + " --name n2 <&- >&- 2>&-"},
                         "bare");
  CHECK(eventually([&] { return says(nodes_of(mesh), "registered=3 "); }));
  CHECK(read_file(mesh.files("n2") / ".mesh/lock") == (mesh.files("n2") / ".mesh/control").string() + "\n");
  bare->signal(SIGTERM);
  CHECK(bare->wait(seconds(15)) == 0);
}

TEST_CASE("small things: a pipe for a key, a byte order mark, words of one") {
  Mesh mesh;
  const auto key = (mesh.root() / "key").string();
  REQUIRE(mesh.run({"sh", "-c", shell(program("meshkey")) + " new > " + key}).status == 0);
  mesh.close(key);
  write_file(mesh.files("n0") / "x", "bytes");
  mesh.start_node("n0");
  mesh.start_node("n1");
  CHECK(mesh.run({"bash", "-c",
                  shell(program("meshget")) + " --files " + shell(mesh.files("n1").string()) +
                      " --key <(sleep 0.3; cat " + key + ") --quiet x"})
            .status == 0);
  const auto conf = mesh.root() / "mesh.conf";
  write_file(conf,
             "\xef\xbb\xbf"
             "files = \"" +
                 mesh.files("n1").string() + "\"\nkey = \"" + key + "\"\n");
  const auto listed = mesh.run({program("meshfile"), "--config", conf.string(), "list"});
  INFO(listed.err);
  CHECK(listed.status == 0);
  CHECK(says(listed, "x"));
}

TEST_CASE(
    "--keep: what matches comes by itself, and newer versions; edits and deletions here hold; --keep-max bounds it") {
  Mesh mesh;
  write_file(mesh.files("n0") / "images/a", noise(200'000, 1));
  write_file(mesh.files("n0") / "images/d/b", noise(20'000, 2));
  write_file(mesh.files("n0") / "other", "o");
  mesh.start_node("n0");
  mesh.set_environment("n1", {"MESH_TEST_KEEP_MS=300"});
  mesh.start_node("n1", {"--keep", "images/**", "--keep-max", "600K"});
  const auto at = mesh.files("n1") / "images";
  const auto becomes = [&](const fs::path& file, const std::string& bytes) {
    return eventually([&] { return fs::exists(file) && read_file(file) == bytes; });
  };
  CHECK(becomes(at / "a", noise(200'000, 1)));
  CHECK(becomes(at / "d/b", noise(20'000, 2)));
  CHECK_FALSE(fs::exists(mesh.files("n1") / "other"));
  write_file(mesh.files("n0") / "images/a", noise(210'000, 3));
  CHECK(becomes(at / "a", noise(210'000, 3)));
  // Deleted here: until there is a new version. Another file shows that the node has looked again.
  CHECK(mesh.file("n1", {"delete", "images/a"}).status == 0);
  write_file(mesh.files("n0") / "images/c", "one");
  CHECK(becomes(at / "c", "one"));
  CHECK_FALSE(fs::exists(at / "a"));
  mesh.stop_node("n1", SIGTERM);
  mesh.start_node("n1", {"--keep", "images/**", "--keep-max", "600K"});
  write_file(mesh.files("n0") / "images/e", "two");
  CHECK(becomes(at / "e", "two"));
  CHECK_FALSE(fs::exists(at / "a"));
  write_file(mesh.files("n0") / "images/a", noise(220'000, 4));
  CHECK(becomes(at / "a", noise(220'000, 4)));
  // Deleted at the source, edited here.
  fs::remove(mesh.files("n0") / "images/c");
  write_file(at / "d/b", "mine");
  set_time(at / "d/b", 1'500'000'000);
  write_file(mesh.files("n0") / "images/d/b", noise(21'000, 5));
  write_file(mesh.files("n0") / "images/f", "three");
  CHECK(becomes(at / "f", "three"));
  CHECK(read_file(at / "c") == "one");
  CHECK(read_file(at / "d/b") == "mine");
  // More than it may be.
  write_file(mesh.files("n0") / "images/huge", noise(2 * mb, 6));
  CHECK(eventually([&] { return says(mesh.log("n1"), "images/huge: is not kept here"); }));
  CHECK_FALSE(fs::exists(at / "huge"));
  CHECK(mesh.run({program("meshseed"), "--files", at.string(), "--keep", "../x"}).status == 2);
}

TEST_CASE("--keep: what nobody can give holds up nothing; what is deleted on its way stays away; no way back") {
  Mesh mesh;
  const auto images = [&](const char* node) { return mesh.files(node) / "images"; };
  write_file(images("n0") / "slow", noise(40 * mb, 1));
  write_file(images("n0") / "v", noise(300'000, 2));
  set_time(images("n0") / "v", 1'500'000'000);
  write_file(images("n2") / "stuck", noise(2 * mb, 3));
  write_file(images("n2") / "v", noise(310'000, 4));
  mesh.start_node("n0", {"--max-up", megabytes_a_second(2)});
  mesh.start_node("n2", {"--hash", "eager"});
  REQUIRE(eventually([&] { return says(mesh.file("n0", {"info", "images/stuck"}), "n2"); }));
  mesh.node("n2").signal(SIGSTOP);
  mesh.set_environment("n1", {"MESH_TEST_KEEP_MS=300"});
  mesh.start_node("n1", {"--keep", "images/**"});
  REQUIRE(eventually([&] { return partials(mesh, "n1") > 0; }));
  write_file(images("n0") / "quick", "q");
  CHECK(eventually([&] { return fs::exists(images("n1") / "quick"); }));
  // On its way, and not wanted.
  REQUIRE(eventually([&] { return says(mesh.file("n1", {"status"}), "images/slow"); }));
  CHECK(mesh.file("n1", {"delete", "images/slow"}).status == 0);
  write_file(images("n0") / "quick2", "q");
  CHECK(eventually([&] { return fs::exists(images("n1") / "quick2"); }));
  CHECK_FALSE(says(mesh.file("n1", {"status"}), "images/slow"));
  mesh.node("n2").signal(SIGCONT);
  CHECK(eventually([&] { return fs::exists(images("n1") / "stuck"); }, seconds(60)));
  CHECK(eventually([&] { return fs::exists(images("n1") / "v") && fs::file_size(images("n1") / "v") == 310'000; }));
  // Deleted here; then who has the newer version goes, and the older one is no news.
  CHECK(mesh.file("n1", {"delete", "images/v"}).status == 0);
  mesh.stop_node("n2", SIGTERM);
  REQUIRE(mesh.lists("n1", "images/v", 300'000));
  write_file(images("n0") / "quick3", "q");
  CHECK(eventually([&] { return fs::exists(images("n1") / "quick3"); }));
  CHECK_FALSE(fs::exists(images("n1") / "v"));
}

TEST_CASE(
    "--keep-max: backing files count, a larger successor of a kept file does by what it adds, and nothing slips out") {
  Mesh mesh;
  const auto images = [&](const char* node) { return mesh.files(node) / "images"; };
  write_file(images("n0") / "first", noise(2 * mb, 1));
  mesh.start_node("n0");
  mesh.set_environment("n1", {"MESH_TEST_KEEP_MS=300"});
  mesh.start_node("n1", {"--keep", (mesh.files("n1") / "images/**").string(), "--keep-max", "3M"});
  const auto has = [&](const char* name, std::size_t size) {
    std::error_code ec;
    return eventually([&] { return fs::file_size(images("n1") / name, ec) == size; });
  };
  CHECK(has("first", 2 * mb));
  write_file(images("n0") / "first", noise(2 * mb + 5, 2));
  CHECK(has("first", 2 * mb + 5));
  // Gone at the source, and a directory by now: here it still is, and counts.
  fs::remove(images("n0") / "first");
  write_file(images("n0") / "first/second", noise(2 * mb, 3));
  write_file(images("n0") / "little", noise(100'000, 4));
  CHECK(has("little", 100'000));
  CHECK(eventually([&] { return says(mesh.log("n1"), "is not kept here"); }));
  CHECK(has("first", 2 * mb + 5));
  // What is on its way counts, and goes when the mesh has it no more.
  mesh.stop_node("n0", SIGTERM);
  mesh.start_node("n0", {"--max-up", "64K"});
  write_file(images("n0") / "half", noise(700'000, 7));
  REQUIRE(eventually([&] { return partials(mesh, "n1") == 1; }));
  fs::remove(images("n0") / "half");
  CHECK(eventually([&] { return partials(mesh, "n1") == 0; }, seconds(60)));
  // An image whose base lies elsewhere and does not fit.
  write_file(mesh.files("n0") / "base", noise(4 * mb, 5));
  write_file(images("n0") / "image.qcow2", image("../base", 200'000, 6));
  CHECK(eventually([&] { return says(mesh.log("n1"), "base: 4.19 MB is more than --keep-max has left"); }));
  CHECK_FALSE(fs::exists(mesh.files("n1") / "base"));
}

TEST_CASE("origins whose answers are right in their own way are used; the others are read whole") {
  Mesh mesh;
  const auto bytes = noise(5 * mb + 321, 1);
  write_file(mesh.root() / "x", bytes);
  const auto at = mesh.listen("origin");
  const auto port = at.substr(at.rfind(':') + 1);
  auto origin = mesh.start(
      {"python3", std::string(MESH_SOURCE_DIR) + "/tests/process/odd_origin.py", port, (mesh.root() / "x").string()},
      "origin");
  REQUIRE(eventually([&] {
    return mesh.run({"curl", "-sf", "-o", "/dev/null", "http://" + at + "/plain/x"}).status == 0;
  }));
  mesh.start_node("n0");
  mesh.start_node("n1");
  for (const char* kind :
       {"plain", "star", "case", "early", "late", "short", "after", "parts", "turns", "busy", "fickle", "scanty"}) {
    INFO(kind);
    const auto url = "http://" + at + "/" + kind + "/x";
    auto other = mesh.start({program("meshget"), "--files", mesh.files("n1").string(), "--quiet", url}, "other");
    const auto got = mesh.get("n0", {url});
    INFO(got.err);
    CHECK(got.status == 0);
    CHECK((read_file(mesh.files("n0") / kind / "x") == bytes));
    CHECK(other->wait(seconds(60)) == 0);
    CHECK((read_file(mesh.files("n1") / kind / "x") == bytes));
  }
  // Signed anew by each node, and one file all the same.
  const auto asked = [&] { return mesh.log("origin").size(); };
  CHECK(mesh.get("n0", {"http://" + at + "/signed/x?X-Amz-Signature=1&X-Amz-Date=2"}).status == 0);
  const auto before = asked();
  CHECK(mesh.get("n1", {"http://" + at + "/signed/x?X-Amz-Signature=3&X-Amz-Date=4"}).status == 0);
  CHECK(asked() == before);
}

TEST_CASE("a lone node without any tracker asks the origin itself") {
  Mesh mesh;
  const auto bytes = noise(5 * mb + 321, 1);
  write_file(mesh.root() / "x", bytes);
  const auto at = mesh.listen("origin");
  auto origin = mesh.start({"python3", std::string(MESH_SOURCE_DIR) + "/tests/process/odd_origin.py",
                            at.substr(at.rfind(':') + 1), (mesh.root() / "x").string()},
                           "origin");
  REQUIRE(eventually([&] {
    return mesh.run({"curl", "-sf", "-o", "/dev/null", "http://" + at + "/plain/x"}).status == 0;
  }));
  for (const char* kind : {"plain", "after", "star"}) {
    const auto got = mesh.get("alone", {"http://" + at + "/" + kind + "/x"});
    INFO(got.err);
    CHECK(got.status == 0);
    CHECK((read_file(mesh.files("alone") / kind / "x") == bytes));
  }  // An archive, too.
  write_file(mesh.root() / "in/x/file", bytes);
  REQUIRE(mesh.run({"tar", "-C", (mesh.root() / "in").string(), "-cf", (mesh.root() / "x").string(), "x"}).status == 0);
  const auto archives = mesh.listen("archives");
  auto other = mesh.start({"python3", std::string(MESH_SOURCE_DIR) + "/tests/process/odd_origin.py",
                           archives.substr(archives.rfind(':') + 1), (mesh.root() / "x").string()},
                          "archives");
  REQUIRE(eventually([&] {
    return mesh.run({"curl", "-sf", "-o", "/dev/null", "http://" + archives + "/plain/x.tar"}).status == 0;
  }));
  const auto unpacked = mesh.get("second", {"tar:http://" + archives + "/plain/x.tar"});
  INFO(unpacked.err);
  CHECK(unpacked.status == 0);
  CHECK((read_file(mesh.files("second") / "plain/x/file") == bytes));
}
