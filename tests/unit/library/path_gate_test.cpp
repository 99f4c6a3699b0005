#include "library/path_gate.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "core/error.h"
#include "process.h"
#include "test.h"

using namespace mesh;
namespace fs = std::filesystem;

TEST_CASE("putting in place: links that are swapped in for a directory meanwhile lead nowhere") {
  std::string name = (fs::temp_directory_path() / "meshswarm-gate-XXXXXX").string();
  REQUIRE(::mkdtemp(name.data()) != nullptr);
  const fs::path root = name;
  const auto files = root / "files";
  const auto outside = root / "outside";
  fs::create_directories(files / "a/b");
  fs::create_directories(outside / "b");
  fs::create_directory_symlink(outside, root / "trap");
  const PathGate gate(files, -1, {});
  std::atomic<bool> stop = false;
  // In one step, so that the name is never free.
  std::thread swapper([&] {
    while (!stop) {
      if (::renameat2(AT_FDCWD, (root / "trap").c_str(), AT_FDCWD, (files / "a").c_str(), RENAME_EXCHANGE) != 0) return;
    }
  });
  int placed = 0;
  int refused = 0;
  for (int i = 0; i < 10'000; ++i) {
    test::write_file(root / "part", "bytes");
    try {
      const Fd parent = gate.open_parent("a/b/file", [](const std::string&, const DirectoryId*) {});
      if (::renameat(AT_FDCWD, (root / "part").c_str(), parent.get(), "file") == 0) ++placed;
    } catch (const Error&) {
      ++refused;
    }
  }
  stop = true;
  swapper.join();
  CHECK(placed > 0);
  CHECK(refused > 0);
  CHECK(placed + refused == 10'000);
  CHECK(fs::is_empty(outside / "b"));
  fs::remove_all(root);
}
