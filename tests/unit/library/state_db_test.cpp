#include "library/state_db.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "test.h"

using namespace mesh;
namespace fs = std::filesystem;

namespace {

/// A directory that goes with this.
struct Directory {
  Directory() {
    std::string name = (fs::temp_directory_path() / "mesh-state-db-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Directory() { fs::remove_all(path); }
  fs::path path;
};

ContentId id_of(char first) {
  ContentId out;
  out.bytes[0] = first;
  return out;
}
FileStamp stamp_of(std::uint64_t inode) {
  FileStamp out;
  out.device = 1;
  out.inode = inode;
  out.size = 10;
  out.mtime = 20;
  out.ctime = 30;
  return out;
}

}  // namespace

TEST_CASE("what was written is there after a restart") {
  const Directory dir;
  {
    StateDb db(dir.path / "state.db");
    db.put_hash(stamp_of(1), id_of('a'));
    db.put_received("x/y", stamp_of(2), id_of('b'));
    db.put_received("from", stamp_of(3), id_of('c'), "http://x/from");
    db.put_received("was", stamp_of(4), id_of('d'), "http://x/was");
    db.put_received("was", stamp_of(5), id_of('d'));
    db.put_received("gone", stamp_of(6), id_of('d'), "http://x/gone");
    db.remove_received("gone");
    db.put_part({id_of('c'), "\1\0\1", "roots", "x/z"});
    db.put_note("key", "text");
    db.add_get("request");
  }
  StateDb db(dir.path / "state.db");
  CHECK(db.find_origin("from", stamp_of(3)) == "http://x/from");
  CHECK(db.find_origin("from", stamp_of(4)).empty());
  CHECK(db.find_origin("was", stamp_of(5)).empty());
  CHECK(db.find_origin("gone", stamp_of(6)).empty());
  CHECK(db.find_hash(stamp_of(1)) == id_of('a'));
  CHECK(db.find_note("key") == "text");
  CHECK(db.parts_of("x/z") == std::vector<ContentId>{id_of('c')});
  REQUIRE(db.gets().size() == 1);
  CHECK(db.gets()[0].second == "request");
  const auto received = db.find_received("x/y", stamp_of(2));
  REQUIRE(received);
  CHECK(received->unchanged);
  CHECK(received->id == id_of('b'));
}

TEST_CASE("a hash is of the file as it was: any other stamp has none") {
  const Directory dir;
  StateDb db(dir.path / "state.db");
  db.put_hash(stamp_of(1), id_of('a'));
  for (auto change : {&FileStamp::size, &FileStamp::mtime, &FileStamp::ctime}) {
    auto other = stamp_of(1);
    ++(other.*change);
    CHECK_FALSE(db.find_hash(other));
  }
  auto other = stamp_of(1);
  ++other.device;
  CHECK_FALSE(db.find_hash(other));
}

TEST_CASE("what a user changed is not what meshget wrote") {
  const Directory dir;
  StateDb db(dir.path / "state.db");
  db.put_received("x", stamp_of(1), id_of('a'));
  auto changed = stamp_of(1);
  ++changed.mtime;
  REQUIRE(db.find_received("x", changed));
  CHECK_FALSE(db.find_received("x", changed)->unchanged);
  db.remove_received("x");
  CHECK_FALSE(db.find_received("x", stamp_of(1)));
}

TEST_CASE("a part that is removed is gone, and with it what is known by its path") {
  const Directory dir;
  StateDb db(dir.path / "state.db");
  db.put_part({id_of('a'), "\1", "r", "x"});
  db.put_part({id_of('a'), "\1\1", "rr", "y"});
  REQUIRE(db.find_part(id_of('a')));
  CHECK(db.find_part(id_of('a'))->have == "\1\1");
  CHECK(db.parts_of("x").empty());
  db.remove_part(id_of('a'));
  CHECK_FALSE(db.find_part(id_of('a')));
  CHECK(db.parts().empty());
}

TEST_CASE("a directory that was about to be made leaves what is known of one that was") {
  const Directory dir;
  StateDb db(dir.path / "state.db");
  const DirectoryId made{3, 4};
  db.put_made("d", made);
  db.put_made("d", {});
  CHECK(db.is_made("d", made));
  db.forget_unmade("d");
  CHECK(db.is_made("d", made));
  db.put_made("e", {});
  db.forget_unmade("e");
  CHECK(db.made() == std::vector<std::string>{"d"});
  db.remove_made("d");
  CHECK(db.made().empty());
}

TEST_CASE("gets and their ends: changed, removed, and numbered apart") {
  const Directory dir;
  StateDb db(dir.path / "state.db");
  const auto first = db.add_get("one");
  const auto second = db.add_get("two");
  CHECK(first != second);
  db.change_get(first, "one, changed");
  db.remove_get(second);
  REQUIRE(db.gets().size() == 1);
  CHECK(db.gets()[0] == std::pair<std::int64_t, std::string>(first, "one, changed"));
  db.put_ended(first, "well");
  CHECK(db.ended() == std::vector<std::string>{"well"});
  db.remove_ended(first);
  CHECK(db.ended().empty());
}

TEST_CASE("a database that cannot be read is set aside and begun anew") {
  const Directory dir;
  std::ofstream(dir.path / "state.db") << std::string(8192, 'x');
  StateDb db(dir.path / "state.db");
  db.put_note("key", "text");
  CHECK(db.find_note("key") == "text");
}

TEST_CASE("a database that is taken away from a running node comes back with all that it had") {
  const Directory dir;
  StateDb db(dir.path / "state.db");
  db.put_note("key", "text");
  CHECK_FALSE(db.look_after());
  for (const auto& item : fs::directory_iterator(dir.path)) fs::remove(item);
  CHECK(db.look_after());
  CHECK(db.find_note("key") == "text");
  db.put_note("other", "more");
  StateDb again(dir.path / "state.db");
  CHECK(again.find_note("key") == "text");
  CHECK(again.find_note("other") == "more");
}

TEST_CASE("a batch is written as a whole, and seen meanwhile") {
  const Directory dir;
  {
    StateDb db(dir.path / "state.db");
    const StateDb::Batch batch(db);
    for (std::uint64_t i = 0; i < 1000; ++i) db.put_hash(stamp_of(i), id_of('a'));
    CHECK(db.find_hash(stamp_of(999)));
  }
  StateDb db(dir.path / "state.db");
  CHECK(db.find_hash(stamp_of(999)));
}
