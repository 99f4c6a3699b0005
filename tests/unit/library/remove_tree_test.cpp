#include "library/remove_tree.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdio>
#include <thread>

#include "core/error.h"
#include "process.h"
#include "test.h"

using namespace mesh;
using namespace mesh::test;

namespace {

struct Tree {
  Tree() {
    char name[] = "/tmp/mesh-remove-XXXXXX";
    root = ::mkdtemp(name);
    fs::create_directories(root / "files/.mesh");
  }
  ~Tree() { fs::remove_all(root); }
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;

  /// What was removed; errors begin with '!'.
  std::vector<std::string> remove(const std::string& what) const {
    const PathGate gate(root / "files", -1, {});
    std::vector<std::string> out;
    Removal removal;
    struct stat state {};
    if (::stat((root / "files/.mesh").c_str(), &state) == 0) removal.keep = directory_id(state);
    removal.on_removed = [&](const std::string& path, bool, std::int64_t) { out.push_back(path); };
    removal.on_error = [&](const std::string& error) { out.push_back("!" + error); };
    try {
      remove_tree(gate, parse_what(what, {(root / "files").string()}), removal);
    } catch (const Error& error) {
      out.push_back(std::string("!") + error.what());
    }
    std::ranges::sort(out);
    return out;
  }

  fs::path root;
};

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("removing: a file, a tree, what a glob takes, and all but the state directory") {
  const Tree tree;
  const auto files = tree.root / "files";
  for (const char* path : {"a/b/c", "a/b/d", "a/x.img", "a/y.img", "z"}) write_file(files / path, "x");
  fs::create_symlink("/nowhere", files / "a/dangling");
  CHECK(tree.remove("a/*.img") == Names{"a/x.img", "a/y.img"});
  CHECK(tree.remove("a/b/c") == Names{"a/b/c"});
  CHECK(tree.remove("a") == Names{"a", "a/b", "a/b/d", "a/dangling"});
  CHECK(tree.remove("a") == Names{"!a: not found on this node"});
  write_file(files / "deep/er/file", "x");
  CHECK(tree.remove("**/file") == Names{"deep/er/file"});
  CHECK(tree.remove("/") == Names{"deep", "deep/er", "z"});
  CHECK(fs::exists(files / ".mesh"));
}

TEST_CASE("removing: a link goes, what it leads to stays, and nothing is reached through one") {
  const Tree tree;
  const auto files = tree.root / "files";
  write_file(tree.root / "outside/precious", "p");
  write_file(files / "real/file", "f");
  fs::create_directory_symlink(tree.root / "outside", files / "out");
  fs::create_directory_symlink("real", files / "in");
  CHECK(tree.remove("out/precious").at(0).find("symbolic link") != std::string::npos);
  CHECK(tree.remove("in/file").at(0).front() == '!');
  CHECK(tree.remove("o*") == Names{"out"});
  CHECK(tree.remove("in") == Names{"in"});
  CHECK(read_file(tree.root / "outside/precious") == "p");
  CHECK(read_file(files / "real/file") == "f");
}

TEST_CASE("removing: links that are swapped in for directories meanwhile lead nowhere") {
  const Tree tree;
  const auto files = tree.root / "files";
  write_file(tree.root / "outside/precious", "p");
  fs::create_directory_symlink(tree.root / "outside", files / "trap");
  std::atomic<bool> stop = false;
  std::thread swapper([&] {
    while (!stop) ::renameat2(AT_FDCWD, (files / "a/dir").c_str(), AT_FDCWD, (files / "trap").c_str(), RENAME_EXCHANGE);
  });
  for (int i = 0; i < 300; ++i) {
    std::error_code ec;
    fs::create_directories(files / "a/dir", ec);
    std::fclose(std::fopen((files / ("a/f" + std::to_string(i))).c_str(), "w"));
    static_cast<void>(tree.remove(i % 2 == 0 ? "a" : "a/dir/precious"));
    if (!fs::exists(fs::symlink_status(files / "trap", ec)))
      fs::create_directory_symlink(tree.root / "outside", files / "trap", ec);
  }
  stop = true;
  swapper.join();
  CHECK(read_file(tree.root / "outside/precious") == "p");
}
