// What may take a name, and what stays under it.
#include "library/installer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "core/error.h"
#include "library/maker.h"
#include "test.h"

using namespace mesh;
namespace fs = std::filesystem;

namespace {

struct Place {
  Place() {
    std::string name = (fs::temp_directory_path() / "mesh-installer-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    root = name;
    fs::create_directories(root / "files");
    fs::create_directories(root / "parts");
    gate.emplace(root / "files", -1, std::vector<fs::path>{});
    db.emplace(root / "state.db");
    installer.emplace(*gate, *db, own, root / "parts");
  }
  ~Place() { fs::remove_all(root); }

  void write(const std::string& path, const std::string& text) const { std::ofstream(root / path) << text; }
  [[nodiscard]] std::string read(const std::string& path) const {
    std::ifstream in(root / path);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static FileEntry wanted(const std::string& path, const std::string& text) {
    FileEntry out;
    out.path = path;
    out.kind = Kind::file;
    out.size = static_cast<std::int64_t>(text.size());
    out.mtime = 1'500'000'000'000'000'000;
    out.mode = 0640;
    out.id = content_id_of_bytes(text);
    return out;
  }
  [[nodiscard]] LocalState examine(const FileEntry& entry) const { return installer->examine(entry, stop); }
  /// Puts `text` in place as a finished partial.
  LocalEntry place(const FileEntry& entry, const std::string& text, const LocalState& before) const {
    write("parts/p", text);
    const auto part = root / "parts/p";
    {
      const Fd writer(::open(part.c_str(), O_RDWR | O_CLOEXEC));
      installer->finish_file(writer.get(), entry);
    }
    Fd reader(::open(part.c_str(), O_RDONLY | O_CLOEXEC));
    return installer->place(part, reader, entry, before, entry.id, [] { return false; });
  }

  fs::path root;
  std::optional<PathGate> gate;
  std::optional<StateDb> db;
  OwnFiles own;
  std::optional<Installer> installer;
  std::atomic<bool> stop = false;
};

using Verdict = LocalState::Verdict;

}  // namespace

TEST_CASE("installer: a file takes a free name, with its time and mode, and is ours from then on") {
  Place at;
  const auto entry = Place::wanted("d/a", "first");
  CHECK(at.examine(entry).verdict == Verdict::absent);
  const auto placed = at.place(entry, "first", at.examine(entry));
  CHECK(placed.entry.id == entry.id);
  CHECK(at.read("files/d/a") == "first");
  CHECK_FALSE(fs::exists(at.root / "parts/p"));
  struct stat s {};
  REQUIRE(::stat((at.root / "files/d/a").c_str(), &s) == 0);
  CHECK((s.st_mode & 0777) == 0640);
  CHECK(s.st_mtim.tv_sec == 1'500'000'000);
  CHECK(at.examine(entry).verdict == Verdict::same);
  // Another version of what nobody changed may take its place.
  const auto next = Place::wanted("d/a", "second");
  CHECK(at.examine(next).verdict == Verdict::ours);
  at.place(next, "second", at.examine(next));
  CHECK(at.read("files/d/a") == "second");
}

TEST_CASE("installer: what a user made or changed is seen as his") {
  Place at;
  at.write("files/a", "mine");
  CHECK(at.examine(Place::wanted("a", "something")).verdict == Verdict::users);
  CHECK(at.examine(Place::wanted("a", "mine")).verdict == Verdict::same);
  // As long as the wanted one, of which nobody has said what it is: that is for its hash to say.
  auto unhashed = Place::wanted("a", "hers");
  unhashed.id = {};
  const auto unknown = at.examine(unhashed);
  CHECK(unknown.verdict == Verdict::unknown);
  CHECK(unknown.id == content_id_of_bytes("mine"));

  const auto entry = Place::wanted("b", "got");
  at.place(entry, "got", at.examine(entry));
  at.write("files/b", "got, and changed");
  const auto changed = at.examine(Place::wanted("b", "newer"));
  CHECK(changed.verdict == Verdict::users);
  CHECK(changed.received);

  fs::create_directory(at.root / "files/c");
  CHECK(at.examine(Place::wanted("c", "x")).verdict == Verdict::other_kind);
}

TEST_CASE("installer: what came under the name since it was looked at stays, and the partial too") {
  Place at;
  const auto entry = Place::wanted("a", "theirs");
  const auto before = at.examine(entry);
  at.write("files/a", "made meanwhile");
  CHECK_THROWS_AS(at.place(entry, "theirs", before), Error);
  CHECK(at.read("files/a") == "made meanwhile");
  CHECK(at.read("parts/p") == "theirs");

  // The same where something was to be replaced, and is another by now.
  const auto seen = at.examine(entry);
  CHECK(seen.verdict == Verdict::users);
  fs::remove(at.root / "files/a");
  at.write("files/a", "made after that");
  CHECK_THROWS_AS(at.place(entry, "theirs", seen), Error);
  CHECK(at.read("files/a") == "made after that");
}

TEST_CASE("installer: small files are written first and named together, each with its own error") {
  Place at;
  at.write("files/taken", "mine");
  std::vector<Installer::Small> files(3);
  const char* names[] = {"d/one", "taken", "d/two"};
  for (int i = 0; i < 3; ++i) {
    auto& small = files[static_cast<std::size_t>(i)];
    small.data = "bytes " + std::to_string(i);
    small.wanted = Place::wanted(names[i], small.data);
    small.id = small.wanted.id;
  }
  at.installer->write_small(files);
  CHECK_FALSE(fs::exists(at.root / "files/d/one"));
  const auto placed = at.installer->place_small(files);
  REQUIRE(placed.size() == 3);
  CHECK(placed[0].entry.has_value());
  CHECK_FALSE(placed[1].entry.has_value());  // `before` said that nothing is there
  CHECK(placed[1].error.find("taken") != std::string::npos);
  CHECK(placed[2].entry.has_value());
  CHECK(at.read("files/d/two") == "bytes 2");
  CHECK(at.read("files/taken") == "mine");
  CHECK(fs::is_empty(at.root / "parts"));
}

TEST_CASE("installer: links lead nowhere outside; versions.md's rules hold for them as for files") {
  Place at;
  FileEntry link;
  link.kind = Kind::link;
  link.path = "l";
  link.mtime = 1'500'000'000'000'000'000;
  link.target = "../../etc/passwd";
  CHECK_THROWS_AS(at.installer->place_link(link, {}), Error);
  link.target = "d/a";
  CHECK(at.examine(link).verdict == Verdict::absent);
  at.installer->place_link(link, at.examine(link));
  CHECK(fs::read_symlink(at.root / "files/l") == "d/a");
  CHECK(at.examine(link).verdict == Verdict::same);
  // Ours: another link may take its place, or a file, and a link a file's.
  link.target = "d/b";
  CHECK(at.examine(link).verdict == Verdict::ours);
  at.installer->place_link(link, at.examine(link));
  CHECK(fs::read_symlink(at.root / "files/l") == "d/b");
  const auto file = Place::wanted("l", "a file");
  CHECK(at.examine(file).verdict == Verdict::ours);
  at.place(file, "a file", at.examine(file));
  CHECK(at.read("files/l") == "a file");
  CHECK(at.examine(link).verdict == Verdict::ours);
  at.installer->place_link(link, at.examine(link));
  CHECK(fs::read_symlink(at.root / "files/l") == "d/b");
  // The user's: kept, also where it came since it was looked at.
  const auto before = at.examine(file);
  fs::remove(at.root / "files/l");
  fs::create_symlink("d/mine", at.root / "files/l");
  CHECK(at.examine(file).verdict == Verdict::users);
  CHECK(at.examine(link).verdict == Verdict::users);
  CHECK_THROWS_AS(at.installer->place_link(link, before), Error);
  CHECK(fs::read_symlink(at.root / "files/l") == "d/mine");
  fs::remove(at.root / "files/l");
  fs::create_directory(at.root / "files/l");
  CHECK(at.examine(link).verdict == Verdict::other_kind);
  CHECK(fs::is_empty(at.root / "parts"));
}

TEST_CASE("installer: what will be in the way is found before anything is fetched") {
  Place at;
  at.write("files/f", "a file");
  fs::create_directory(at.root / "files/real");
  fs::create_symlink("real", at.root / "files/l");
  const auto said = [&](const char* path) {
    try {
      static_cast<void>(at.installer->rehearse(Place::wanted(path, "x"), {}));
      return std::string("nothing");
    } catch (const Error& error) {
      return std::string(error.what());
    }
  };
  CHECK(said("a") == "nothing");
  CHECK(said("new/dir/a") == "nothing");
  CHECK(said("f/a").find("f is no directory here") != std::string::npos);
  CHECK(said("f/b/a").find("no directory") != std::string::npos);
  CHECK(said("l/a").find("symbolic link") != std::string::npos);
  CHECK_FALSE(fs::exists(at.root / "files/new"));
}
