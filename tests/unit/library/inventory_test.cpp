#include "library/inventory.h"

#include "core/error.h"
#include "test.h"

using namespace mesh;

namespace {

LocalEntry file(const std::string& path, std::uint64_t inode, char id = 0) {
  LocalEntry out;
  out.entry.path = path;
  out.entry.size = 10;
  out.entry.mtime = 5;
  out.entry.id.bytes[0] = id;
  out.stamp.inode = inode;
  out.stamp.size = 10;
  out.stamp.mtime = 5;
  return out;
}

TreeChange change(TreeChange::Kind kind) {
  TreeChange out;
  out.kind = kind;
  return out;
}
TreeChange put(LocalEntry entry) {
  auto out = change(TreeChange::Kind::put);
  out.path = entry.entry.path;
  out.entry = std::move(entry);
  return out;
}
TreeChange gone(const std::string& path) {
  auto out = change(TreeChange::Kind::gone);
  out.path = path;
  return out;
}

/// One scan that finds these.
InventoryDelta scan(Inventory& inventory, std::vector<LocalEntry> found) {
  std::vector<TreeChange> changes{change(TreeChange::Kind::scan_begins)};
  for (auto& one : found) changes.push_back(put(std::move(one)));
  changes.push_back(change(TreeChange::Kind::scan_ends));
  return inventory.apply(std::move(changes));
}

std::vector<std::string> paths(const std::vector<FileEntry>& entries) {
  std::vector<std::string> out;
  for (const auto& entry : entries) out.push_back(entry.path);
  return out;
}

using Paths = std::vector<std::string>;

}  // namespace

TEST_CASE("a scan is everything: what it does not meet again is gone, what is as it was is not told twice") {
  Inventory inventory;
  CHECK_FALSE(inventory.is_complete());
  CHECK(paths(scan(inventory, {file("a", 1), file("b", 2)}).put) == Paths{"a", "b"});
  CHECK(inventory.is_complete());
  const auto again = scan(inventory, {file("b", 2), file("c", 3)});
  CHECK(paths(again.put) == Paths{"c"});
  CHECK(again.removed == Paths{"a"});
  CHECK(inventory.size() == 2);
}

TEST_CASE("a directory that is gone takes all below it, and nothing that is called alike") {
  Inventory inventory;
  static_cast<void>(scan(inventory, {file("d", 1), file("d/x", 2), file("d/y/z", 3), file("d.txt", 4), file("dd", 5)}));
  CHECK(inventory.apply({gone("d")}).removed == Paths{"d", "d/x", "d/y/z"});
  CHECK(inventory.find("d.txt") != nullptr);
  CHECK(inventory.size() == 2);
}

TEST_CASE("a path that goes and comes within a batch is there, and one that comes and goes is not") {
  Inventory inventory;
  static_cast<void>(scan(inventory, {file("a", 1)}));
  const auto delta = inventory.apply({gone("a"), put(file("a", 2)), put(file("b", 3)), gone("b")});
  CHECK(paths(delta.put) == Paths{"a"});
  CHECK(delta.removed.empty() == false);
  CHECK(delta.removed == Paths{"b"});
}

TEST_CASE("a file that is as it was keeps its content id; one that changed loses it") {
  Inventory inventory;
  static_cast<void>(inventory.set(file("a", 1, 'x')));
  const ContentId id = file("a", 1, 'x').entry.id;
  CHECK(inventory.apply({put(file("a", 1))}).put.empty());
  REQUIRE(inventory.find(id, 10) != nullptr);
  CHECK(inventory.apply({put(file("a", 2))}).put.size() == 1);
  CHECK(inventory.find(id, 10) == nullptr);
  CHECK_FALSE(inventory.find("a")->entry.id.is_set());
}

TEST_CASE("bytes are found by id and size under any of their paths, until the last is withdrawn") {
  Inventory inventory;
  static_cast<void>(inventory.set(file("a", 1, 'x')));
  static_cast<void>(inventory.set(file("b", 2, 'x')));
  const ContentId id = file("a", 1, 'x').entry.id;
  CHECK(inventory.find(id, 11) == nullptr);
  CHECK(inventory.withdraw("a").removed == Paths{"a"});
  REQUIRE(inventory.find(id, 10) != nullptr);
  CHECK(inventory.find(id, 10)->entry.path == "b");
  CHECK(inventory.withdraw("a").removed.empty());
  static_cast<void>(inventory.withdraw("b"));
  CHECK(inventory.find(id, 10) == nullptr);
}

TEST_CASE("while a get fills a directory its time is told as what it will be") {
  Inventory inventory;
  auto directory = file("d", 1);
  directory.entry.kind = Kind::directory;
  auto wanted = directory.entry;
  wanted.mtime = 77;
  {
    const auto filling = inventory.fill(wanted);
    CHECK(inventory.set(directory).put.at(0).mtime == 77);
    directory.entry.mtime = 6;
    directory.stamp.mtime = 6;
    CHECK(inventory.set(directory).put.empty());
  }
  directory.entry.mtime = 8;
  directory.stamp.mtime = 8;
  CHECK(inventory.set(directory).put.at(0).mtime == 8);
}

TEST_CASE("pages go on behind where the last one ended; a name that is not there is an error") {
  Inventory inventory;
  static_cast<void>(scan(inventory, {file("a", 1), file("b", 2), file("c", 3)}));
  CHECK(paths(inventory.page("", 2)) == Paths{"a", "b"});
  CHECK(paths(inventory.page("b", 2)) == Paths{"c"});
  List question;
  question.pattern = "none";
  CHECK_THROWS_AS(inventory.list(question), Error);
  question.pattern = "b";
  CHECK(inventory.list(question).items.size() == 1);
}
