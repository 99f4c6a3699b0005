#include "library/watcher.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <mutex>

#include "library/inventory.h"
#include "process.h"
#include "test.h"

using namespace mesh;
using namespace mesh::test;

namespace {

/// A files dir, its watcher, and the holdings that come of it.
class Watched {
 public:
  explicit Watched(Watcher::Options options = {}) : root(make()), gate(root, -1, {}) {
    watcher = std::make_unique<Watcher>(
        gate, std::move(options),
        [this](std::vector<TreeChange> changes) {
          const std::lock_guard lock(mutex);
          static_cast<void>(holdings.apply(std::move(changes)));
        },
        [this](const LogLine& line) {
          const std::lock_guard lock(mutex);
          log += line.text + "\n";
        });
  }
  ~Watched() {
    watcher.reset();
    fs::remove_all(root);
  }
  Watched(const Watched&) = delete;
  Watched& operator=(const Watched&) = delete;
  bool has(const std::string& path) {
    const std::lock_guard lock(mutex);
    return holdings.find(path) != nullptr;
  }
  bool becomes(const std::string& path, bool there) {
    return eventually([&] { return has(path) == there; });
  }
  std::string said() {
    const std::lock_guard lock(mutex);
    return log;
  }

  static fs::path make() {
    std::string name = (fs::temp_directory_path() / "meshswarm-watch-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error(name);
    return name;
  }
  fs::path root;
  PathGate gate;
  std::mutex mutex;
  Inventory holdings;
  std::string log;
  std::unique_ptr<Watcher> watcher;
};

}  // namespace

TEST_CASE("watcher: files come, change, move and go") {
  Watched w;
  write_file(w.root / "a/b/file", "x");
  CHECK(w.becomes("a/b/file", true));
  fs::rename(w.root / "a/b", w.root / "a/c");
  CHECK(w.becomes("a/c/file", true));
  CHECK(w.becomes("a/b/file", false));
  write_file(w.root / "a/c/later", "y");
  CHECK(w.becomes("a/c/later", true));
  fs::remove_all(w.root / "a");
  CHECK(w.becomes("a/c/later", false));
  CHECK(w.becomes("a", false));
}

TEST_CASE("watcher: a file that is being written to is not reported until it is closed") {
  Watched w;
  const int fd = ::open((w.root / "vm").c_str(), O_WRONLY | O_CREAT, 0644);
  REQUIRE(::write(fd, "x", 1) == 1);
  write_file(w.root / "other", "x");
  CHECK(w.becomes("other", true));
  CHECK_FALSE(w.has("vm"));
  ::close(fd);
  CHECK(w.becomes("vm", true));
  const int again = ::open((w.root / "vm").c_str(), O_WRONLY);
  REQUIRE(::write(again, "y", 1) == 1);
  CHECK(w.becomes("vm", false));
  ::close(again);
  CHECK(w.becomes("vm", true));
}

TEST_CASE("watcher: a bare change of times hides nothing") {
  Watched w;
  write_file(w.root / "d/f", "x");
  CHECK(w.becomes("d/f", true));
  const timespec times[2] = {{0, UTIME_OMIT}, {1'000'000, 0}};
  ::utimensat(AT_FDCWD, (w.root / "d/f").c_str(), times, 0);
  ::utimensat(AT_FDCWD, (w.root / "d").c_str(), times, 0);
  CHECK(eventually([&] {
    const std::lock_guard lock(w.mutex);
    const auto* file = w.holdings.find(std::string_view("d/f"));
    const auto* dir = w.holdings.find(std::string_view("d"));
    return file != nullptr && dir != nullptr && file->entry.mtime == 1'000'000'000'000'000 &&
           dir->entry.mtime == 1'000'000'000'000'000;
  }));
}

TEST_CASE("watcher: temporary names, state and special files are not reported") {
  CHECK(has_temporary_name("transfer_1234", Kind::directory));
  CHECK_FALSE(has_temporary_name("transfer_1234", Kind::file));
  CHECK_FALSE(has_temporary_name("d/transfer_1234", Kind::directory));
  CHECK_FALSE(has_temporary_name("transfer_rates.csv", Kind::file));
  CHECK_FALSE(has_temporary_name("transfer_dir", Kind::directory));
  CHECK(has_temporary_name("d/.disk.img.Xy12Za", Kind::file));
  CHECK_FALSE(has_temporary_name(".config.backup", Kind::file));
  CHECK_FALSE(has_temporary_name(".disk.tar.gz", Kind::file));
  CHECK_FALSE(has_temporary_name("disk.img", Kind::file));
  Watched w({.ignore = {"*.tmp"}, .rescan = std::chrono::seconds(1), .most_watches = SIZE_MAX});
  write_file(w.root / "transfer_1/x", "x");
  write_file(w.root / "x.tmp", "x");
  write_file(w.root / ".mesh/state", "x");
  ::mkfifo((w.root / "fifo").c_str(), 0600);
  write_file(w.root / "last", "x");
  CHECK(w.becomes("last", true));
  for (const char* path : {"transfer_1", "transfer_1/x", "x.tmp", "fifo", ".mesh", ".mesh/state"})
    CHECK_FALSE(w.has(path));
}

TEST_CASE("watcher: what only looks temporary is offered when it has not changed for a while; what is not is counted") {
  Watched w({.ignore = {}, .temporary_for = std::chrono::seconds(4)});
  const auto left_out = [&](const std::string& dir) {
    const std::lock_guard lock(w.mutex);
    const auto* item = w.holdings.find(dir);
    return item == nullptr ? -1 : item->entry.size;
  };
  fs::create_directories(w.root / "d");
  write_file(w.root / "d/.vimrc.Backup", "x");
  write_file(w.root / "d/\xff\xfe", "x");
  write_file(w.root / "d/f", "x");
  CHECK(eventually([&] { return left_out("d") == 2; }));
  CHECK(w.becomes("d/.vimrc.Backup", true));
  CHECK(eventually([&] { return left_out("d") == 1; }));
  fs::remove(w.root / "d/\xff\xfe");
  CHECK(eventually([&] { return left_out("d") == 0; }));
  {
    std::ofstream writing(w.root / "d/f", std::ios::app);
    writing << "y" << std::flush;
    CHECK(eventually([&] { return left_out("d") == 1; }));
  }
  CHECK(eventually([&] { return left_out("d") == 0; }));
}

TEST_CASE("watcher: out of watches, it scans again and says so") {
  Watched w({.ignore = {}, .rescan = std::chrono::seconds(1), .most_watches = 2});
  write_file(w.root / "a/b/c/d/file", "x");
  CHECK(w.becomes("a/b/c/d/file", true));
  CHECK(eventually([&] { return w.said().find("scanned again every") != std::string::npos; }));
  write_file(w.root / "a/b/c/d/second", "x");
  CHECK(w.becomes("a/b/c/d/second", true));
  fs::remove(w.root / "a/b/c/d/file");
  CHECK(w.becomes("a/b/c/d/file", false));
}

TEST_CASE("gate: nothing leads out of the files dir") {
  Watched w;
  write_file(w.root / "in/file", "x");
  fs::create_symlink("/etc/passwd", w.root / "absolute");
  fs::create_symlink("../../../../../../etc/passwd", w.root / "in/relative");
  fs::create_symlink("/etc", w.root / "directory");
  fs::create_symlink("in", w.root / "inside");
  for (const char* path :
       {"absolute", "in/relative", "directory/passwd", "../x", "in/../../x", "/etc/passwd", ".mesh/state.db"})
    CHECK_THROWS(w.gate.open_file(path));
  CHECK_NOTHROW(w.gate.open_file("inside/file"));
  for (const char* path : {"directory/new", "inside/new", "../new", "in/../../new"})
    CHECK_THROWS(w.gate.open_parent(path, [](const std::string&, const DirectoryId*) {}));
  CHECK_NOTHROW(w.gate.open_parent("in/new/deeper/file", [](const std::string&, const DirectoryId*) {}));
  CHECK(w.gate.look("absolute")->entry.kind == Kind::outside);
  CHECK(w.gate.look("inside")->entry.kind == Kind::link);
}
