// Whose a state directory may be, and what a cleaner of /tmp may take from it.
#include "disk/state_dir.h"
#include "disk/directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include <fstream>

#include <cstdlib>
#include <filesystem>

#include "core/error.h"
#include "library/path_gate.h"
#include "library/state_db.h"
#include "process.h"
#include "test.h"

using namespace mesh;
namespace fs = std::filesystem;

namespace {

class Place {
 public:
  Place() {
    std::string name = (fs::temp_directory_path() / "meshswarm-state-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    root = name;
  }
  ~Place() {
    std::error_code ec;
    fs::remove_all(root, ec);
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  fs::path root;
};

Status refusal(const fs::path& state) {
  try {
    const StateDir dir(state, {});
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find("--state") != std::string::npos);
    return error.status();
  }
  return Status::ok;
}

}  // namespace

TEST_CASE("a state directory that others could change, or put something in place of, is refused") {
  const Place place;
  fs::create_directories(place.root / "files");
  const auto state = place.root / "files/.mesh";
  CHECK(refusal(state) == Status::ok);
  struct stat s {};
  REQUIRE(::stat(state.c_str(), &s) == 0);
  CHECK((s.st_mode & 07777) == 0700);
  for (const mode_t mode : {0777U, 0775U, 01777U}) {
    REQUIRE(::chmod(state.c_str(), mode) == 0);
    CHECK(refusal(state) == Status::usage);
  }
  REQUIRE(::chmod(state.c_str(), 0755) == 0);
  for (const mode_t mode : {0777U, 0775U}) {
    REQUIRE(::chmod((place.root / "files").c_str(), mode) == 0);
    CHECK(refusal(state) == Status::usage);
  }
  REQUIRE(::chmod((place.root / "files").c_str(), 01777) == 0);  // as /tmp
  CHECK(refusal(state) == Status::ok);
  fs::remove_all(state);
  fs::create_directories(place.root / "elsewhere/parts");
  fs::create_directory_symlink(place.root / "elsewhere", state);
  CHECK(refusal(state) == Status::usage);
  fs::remove(state);
  fs::create_directories(state);
  fs::create_directory_symlink(place.root / "elsewhere", state / "parts");
  CHECK(refusal(state) == Status::usage);
  if (::geteuid() != 0) {
    WARN("skipped: what belongs to others needs root");
    return;
  }
  fs::remove(state / "parts");
  CHECK(refusal(state) == Status::ok);
  REQUIRE(::chown(state.c_str(), 65534, 65534) == 0);
  CHECK(refusal(state) == Status::usage);
  REQUIRE(::chown(state.c_str(), 0, 0) == 0);
  REQUIRE(::chown((place.root / "files").c_str(), 65534, 65534) == 0);
  CHECK(refusal(state) == Status::usage);
  // A link of somebody else's in a directory like /tmp; root's own is followed.
  REQUIRE(::chown((place.root / "files").c_str(), 0, 0) == 0);
  fs::create_directory_symlink(place.root / "elsewhere", place.root / "files/link");
  CHECK(refusal(place.root / "files/link/.mesh") == Status::ok);
  REQUIRE(::lchown((place.root / "files/link").c_str(), 65534, 65534) == 0);
  CHECK(refusal(place.root / "files/link/.mesh") == Status::usage);
}

TEST_CASE("at its start a node removes what it made itself, and nothing else") {
  const Place place;
  const StateDir state(place.root / "s", {});
  const auto parts = place.root / "s/parts";
  const std::string kept(64, 'a');
  const std::string lost(64, 'b');
  for (const auto& name : {kept, lost, lost + ".copy", "url-" + lost, std::string("small-12-7"),
                           std::string("thesis.tex"), std::string("small-talk"), std::string(63, 'c')})
    test::write_file(parts / name, "x");
  fs::create_directories(parts / std::string(64, 'd'));
  test::write_file(place.root / "victim", "x");
  fs::create_symlink(place.root / "victim", parts / std::string(64, 'e'));
  sweep_parts(state, [&](std::string_view id) { return id == kept; });
  for (const auto& name : {lost, lost + ".copy", "url-" + lost, std::string("small-12-7")})
    CHECK_FALSE(fs::exists(parts / name));
  for (const auto& name :
       {kept, std::string("thesis.tex"), std::string("small-talk"), std::string(63, 'c'), std::string(64, 'd')})
    CHECK(fs::exists(parts / name));
  CHECK(fs::is_symlink(parts / std::string(64, 'e')));
  CHECK(fs::exists(place.root / "victim"));
}

TEST_CASE("what was reached by a state directory is reached when it was taken away and is made anew") {
  const Place place;
  StateDir state(place.root / "s", {});
  REQUIRE(state.lock());
  StateDb db(state.handle() / "state.db");
  db.put_note("what", "is remembered");
  CHECK(state.look_after().empty());
  // Where it is now does not matter to what is open, and what lies in its place is not touched.
  fs::rename(place.root / "s", place.root / "moved");
  test::write_file(state.handle() / "mark", "x");
  CHECK(fs::exists(place.root / "moved/mark"));
  CHECK(state.look_after() == "the state directory, its partial downloads, its lock");
  test::write_file(state.handle() / "mark", "y");
  CHECK(test::read_file(place.root / "s/mark") == "y");
  CHECK(test::read_file(place.root / "moved/mark") == "x");
  fs::remove_all(place.root / "moved");
  CHECK(db.look_after());
  CHECK_FALSE(db.look_after());
  CHECK(StateDb(place.root / "s/state.db").find_note("what") == "is remembered");
  fs::remove(place.root / "s/lock");
  CHECK(state.look_after() == "its lock");
}

TEST_CASE("a node's secret is made once, for it alone, and is never another's") {
  const Place place;
  const StateDir state(place.root / "s", {});
  Digest<32> made;
  made.bytes.fill('x');
  CHECK(state.secret("identity", [&] { return made; }) == made);
  CHECK(state.secret("identity", [] { return Digest<32>{}; }) == made);
  struct stat s {};
  REQUIRE(::stat((place.root / "s/identity").c_str(), &s) == 0);
  CHECK((s.st_mode & 07777) == 0600);
  test::write_file(place.root / "s/identity", "torn");
  CHECK_THROWS_AS(state.secret("identity", [&] { return made; }), Error);
  test::write_file(place.root / "theirs", made.hex());
  fs::remove(place.root / "s/identity");
  fs::create_symlink(place.root / "theirs", place.root / "s/identity");
  CHECK_THROWS_AS(state.secret("identity", [&] { return made; }), Error);
}

TEST_CASE("others are given what is offered, wherever a link leads: by where the opened file lies") {
  const Place place;
  const auto files = place.root / "files";
  fs::create_directories(files / "own-state/parts");
  fs::create_directories(files / "tree/etc");
  fs::create_directories(place.root / "follow/private");
  for (const auto& file : {files / "plain", files / "secret.key", files / "own-state/state.db",
                           files / "tree/etc/shadow", place.root / "follow/open", place.root / "follow/private/closed"})
    test::write_file(file, "x");
  fs::create_symlink("plain", files / "to-plain");
  fs::create_symlink("secret.key", files / "to-secret");
  fs::create_symlink("own-state/state.db", files / "to-state");
  fs::create_directory_symlink("own-state", files / "to-state-dir");
  fs::create_symlink("tree/etc/shadow", files / "to-tree");
  fs::create_directory_symlink(place.root / "follow", files / "far");
  const Fd state(::open((files / "own-state").c_str(), O_RDONLY | O_DIRECTORY));
  PathGate gate(files, state.get(), {place.root / "follow"});
  gate.never_offer([&](int at, const std::string& path) {
    struct stat s {};
    struct stat tree {};
    REQUIRE(::stat((files / "tree").c_str(), &tree) == 0);
    return path.ends_with(".key") || path.ends_with("private") ||
           (::fstatat(at, path.c_str(), &s, AT_SYMLINK_NOFOLLOW) == 0 && s.st_ino == tree.st_ino);
  });
  for (const char* path : {"plain", "to-plain", "far/open"}) CHECK(gate.open_offered(path).local.entry.size == 1);
  for (const char* path : {"secret.key", "to-secret", "own-state/state.db", "to-state", "to-state-dir/state.db",
                           "tree/etc/shadow", "to-tree", "far/private/closed"}) {
    INFO(path);
    CHECK_NOTHROW(gate.open_file(path));
    try {
      static_cast<void>(gate.open_offered(path));
      FAIL("is offered");
    } catch (const Error& error) {
      CHECK(error.status() == Status::not_found);
    }
  }
  // A FIFO or device is looked at before it is opened, which would wait for a writer, or do something to it.
  REQUIRE(::mkfifo((files / "fifo").c_str(), 0600) == 0);
  CHECK_THROWS_WITH(gate.open_file("fifo"), Catch::Contains("no regular file"));
}

TEST_CASE("names are exchanged without the kernel's help, and nothing is lost where somebody takes one meanwhile") {
  std::string root = (fs::temp_directory_path() / "meshswarm-names-XXXXXX").string();
  REQUIRE(::mkdtemp(root.data()) != nullptr);
  const Fd dir(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const auto put = [&](const char* name, const char* text) { std::ofstream(fs::path(root) / name) << text; };
  const auto read = [&](const std::string& name) {
    std::ifstream in(fs::path(root) / name);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  std::string kept;
  put("new", "new");
  put("old", "old");
  CHECK(exchange_by_moves(dir.get(), "new", dir.get(), "old", kept) == 0);
  CHECK(read("old") == "new");
  CHECK(read("new") == "old");
  CHECK(kept.empty());
  // There is nothing to put in its place: what was there is there again.
  CHECK(exchange_by_moves(dir.get(), "missing", dir.get(), "old", kept) != 0);
  CHECK(kept.empty());
  CHECK(read("old") == "new");
  CHECK(move_by_link(dir.get(), "new", dir.get(), "old") != 0);
  CHECK(errno == EEXIST);
  CHECK(move_by_link(dir.get(), "new", dir.get(), "free") == 0);
  CHECK(read("free") == "old");
  fs::create_directories(fs::path(root) / "d/x");
  CHECK(move_by_link(dir.get(), "d", dir.get(), "e") == 0);
  CHECK(fs::exists(fs::path(root) / "e/x"));
  fs::create_directory(fs::path(root) / "d");
  CHECK(move_by_link(dir.get(), "e", dir.get(), "d") != 0);
  CHECK_FALSE(put_back(dir.get(), "free", dir.get(), "old"));
  CHECK(put_back(dir.get(), "free", dir.get(), "gone"));
  fs::remove_all(root);
}
