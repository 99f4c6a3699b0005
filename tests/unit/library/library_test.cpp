// The library over a real directory, with its watcher.
#include "library/library.h"

#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "disk/state_dir.h"
#include "test.h"

using namespace mesh;
namespace fs = std::filesystem;

namespace {

struct Place {
  Place() {
    std::string name = (fs::temp_directory_path() / "mesh-library-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    root = name;
    fs::create_directory(root / "files");
    state = std::make_unique<StateDir>(root / "files/.mesh", Trust{});
    options.files = root / "files";
  }
  ~Place() { fs::remove_all(root); }
  void write(const std::string& path, const std::string& text) const {
    fs::create_directories((root / "files" / path).parent_path());
    std::ofstream(root / "files" / path) << text;
  }
  /// A library that has been scanned, and keeps what it says in `said`.
  Library& open() {
    library = std::make_unique<Library>(io, *state, options, [this](const LogLine& line) { log += line.text + '\n'; });
    library->on_change = [this](const Library::Change& change) { said.push_back(change); };
    library->on_scanned = [this] { scanned = true; };
    library->watch();
    run_until([this] { return scanned; });
    return *library;
  }
  bool run_until(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!done()) {
      if (std::chrono::steady_clock::now() >= deadline) return false;
      io.restart();
      io.run_for(std::chrono::milliseconds(10));
    }
    return true;
  }
  asio::io_context io{1};
  fs::path root;
  std::unique_ptr<StateDir> state;
  Library::Options options;
  std::unique_ptr<Library> library;
  std::vector<Library::Change> said;
  std::string log;
  bool scanned = false;
};

}  // namespace

TEST_CASE("library: what is there is told once the first scan is over, and so is what changes then") {
  Place place;
  place.write("a", "1");
  place.write("d/b", "2");
  auto& library = place.open();
  CHECK(library.inventory().find("a") != nullptr);
  CHECK(library.inventory().find("d/b") != nullptr);
  CHECK(library.inventory().find(".mesh") == nullptr);
  CHECK(place.log.find("files directory scanned: 3 entries") != std::string::npos);
  place.write("c", "3");
  CHECK(place.run_until([&] { return library.inventory().find("c") != nullptr; }));
  fs::remove(place.root / "files/a");
  CHECK(place.run_until([&] { return library.inventory().find("a") == nullptr; }));
  REQUIRE_FALSE(place.said.empty());
  CHECK(place.said.back().delta.removed == std::vector<std::string>{"a"});
}

TEST_CASE("library: nothing is said of what is known already") {
  Place place;
  place.write("a", "1");
  auto& library = place.open();
  const auto known = library.gate().look("a");
  REQUIRE(known);
  const auto before = place.said.size();
  library.put(*known);
  library.remove({"none"});
  library.put(std::vector<LocalEntry>{});
  CHECK(place.said.size() == before);
}

TEST_CASE("library: withdrawing says whose bytes they were, and what is there now is a new candidate") {
  Place place;
  place.write("a", "1");
  auto& library = place.open();
  auto entry = *library.gate().look("a");
  entry.entry.id.bytes[0] = 7;
  library.put(entry);
  place.said.clear();
  library.withdraw("a", "its bytes are others");
  REQUIRE(place.said.size() == 2);
  CHECK(place.said[0].is_withdrawn);
  CHECK(place.said[0].withdrawn == entry.entry.id);
  CHECK(place.said[0].delta.removed == std::vector<std::string>{"a"});
  REQUIRE(place.said[1].delta.put.size() == 1);
  CHECK_FALSE(place.said[1].delta.put[0].id.is_set());
  CHECK(place.log.find("a: is not offered any more: its bytes are others") != std::string::npos);
  // Of a path that nobody knows, whoever reads has to look all the same.
  place.said.clear();
  library.withdraw("none", "it is gone");
  REQUIRE(place.said.size() == 1);
  CHECK(place.said[0].is_withdrawn);
  CHECK_FALSE(place.said[0].withdrawn.is_set());
}

TEST_CASE("library: partial files without a record go at the start, those with one stay") {
  Place place;
  ContentId kept;
  kept.bytes.fill('k');
  {
    StateDb db(fs::path(place.state->handle()) / "state.db");
    db.put_part({kept, "\1", "", "x"});
  }
  const auto parts = place.root / "files/.mesh/parts";
  fs::create_directories(parts);
  std::ofstream(parts / kept.hex()) << "half";
  std::ofstream(parts / std::string(64, 'a')) << "nobody's";
  const auto& library = place.open();
  CHECK(fs::exists(parts / kept.hex()));
  CHECK_FALSE(fs::exists(parts / std::string(64, 'a')));
  CHECK(library.part_file(kept).filename() == kept.hex());
}

TEST_CASE("library: the state directory must be where renames reach the files") {
  if (!fs::exists("/dev/shm")) {
    WARN("SKIPPED: no other file system");
    return;
  }
  Place place;
  std::string name = "/dev/shm/mesh-library-XXXXXX";
  REQUIRE(::mkdtemp(name.data()) != nullptr);
  place.state = std::make_unique<StateDir>(fs::path(name) / "state", Trust{});
  CHECK_THROWS_AS(Library(place.io, *place.state, place.options, [](const LogLine&) {}), Error);
  fs::remove_all(name);
}
