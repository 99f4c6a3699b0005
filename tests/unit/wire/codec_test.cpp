#include "wire/codec.h"

#include "core/entry.h"
#include "core/error.h"

#include "test.h"
#include "wire/messages.h"

using namespace mesh;

TEST_CASE("codec: a status is always said, and one of a later version is a failure") {
  GetReply reply;
  CHECK(to_bencode(reply).find("6:status") != std::string::npos);
  reply.status = Status::not_found;
  CHECK(from_bencode<GetReply>(to_bencode(reply)).status == Status::not_found);
  auto later = to_bencode(reply);
  const auto at = later.find("i3e");
  REQUIRE(at != std::string::npos);
  later.replace(at, 3, "i77e");
  CHECK(from_bencode<GetReply>(later).status == Status::failed);
}

TEST_CASE("messages: what is written is read") {
  Resolved m;
  m.next = "n";
  m.files.push_back(
      {{"p\n\xc3\xa4", Kind::link, 5, -1, 0777, "t", *ContentId::from(std::string(32, 'c'))}, {1, 2}, "x"});
  m.nodes.push_back({7, "node", {"1.2.3.4", "::1"}, 6881, 6882, "0123"});
  const auto back = from_bencode<Resolved>(to_bencode(m));
  CHECK(back.next == m.next);
  REQUIRE(back.files.size() == 1);
  CHECK(back.files[0].entry == m.files[0].entry);
  CHECK(back.files[0].holders == m.files[0].holders);
  CHECK(back.nodes == m.nodes);
  UrlFacts facts;  // of an empty file: not the same as what is not known
  facts.size = 0;
  CHECK(from_bencode<UrlFacts>(to_bencode(facts)).size == 0);
  UrlMembers plan;
  plan.getters = {~std::uint64_t{0}, 1};
  CHECK(from_bencode<UrlMembers>(to_bencode(plan)).getters == plan.getters);
}

TEST_CASE("messages: what is not of the shape is refused") {
  CHECK_THROWS_AS(from_bencode<Resolved>("garbage"), CodecError);
  CHECK_THROWS_AS(from_bencode<Resolved>("le"), CodecError);
  CHECK_THROWS_AS(from_bencode<Resolved>("d5:filesi1ee"), CodecError);
  CHECK_THROWS_AS(from_bencode<Seed>("d2:id3:abce"), CodecError);
  CHECK_THROWS_AS(from_bencode<NodeRef>("d4:peeri70000ee"), CodecError);
  CHECK_THROWS_AS(from_bencode<Resolved>(std::string(100, 'l') + std::string(100, 'e')), CodecError);
  CHECK(from_bencode<Seed>("d7:unknowni1ee").id == ContentId{});
}

TEST_CASE("messages: entries from the network are checked") {
  CHECK(entry_fault({"a", Kind::file, 1, 1, 0644, {}, {}}).empty());
  CHECK_FALSE(entry_fault({"../a", Kind::file, 1, 1, 0644, {}, {}}).empty());
  CHECK_FALSE(entry_fault({"a", Kind::file, -1, 1, 0644, {}, {}}).empty());
  CHECK_FALSE(entry_fault({"a", static_cast<Kind>(9), 1, 1, 0644, {}, {}}).empty());
  CHECK_FALSE(entry_fault({"a", Kind::link, 0, 1, 0777, "/etc/passwd", {}}).empty());
  CHECK_FALSE(entry_fault({"d/a", Kind::link, 0, 1, 0777, "../../x", {}}).empty());
  CHECK(entry_fault({"d/a", Kind::link, 0, 1, 0777, "../x", {}}).empty());
}

TEST_CASE("messages: an error's status is a known one and never 0, and no enum has a value that is none") {
  for (const std::int64_t number : {0, -1, 6, 131, 1 << 20}) CHECK(known_status(number) == Status::failed);
  for (const auto status :
       {Status::failed, Status::usage, Status::not_found, Status::unreachable, Status::refused, Status::interrupted})
    CHECK(known_status(static_cast<int>(status)) == status);
  CHECK(known_result(0) == Status::ok);
  CHECK(known_result(77) == Status::failed);
  FileEntry entry;
  entry.path = "x";
  entry.kind = Kind::outside;
  CHECK(from_bencode<FileEntry>(to_bencode(entry)) == entry);
  entry.kind = static_cast<Kind>(4);
  CHECK_THROWS_AS(from_bencode<FileEntry>(to_bencode(entry)), CodecError);
}

TEST_CASE("a delta of any length goes out in pages, nothing lost and removals first") {
  InventoryDelta delta;
  for (int i = 0; i < 250'000; ++i) delta.removed.push_back("gone/" + std::to_string(i));
  for (int i = 0; i < 4'100; ++i) {
    FileEntry entry;
    entry.path = "here/" + std::to_string(i);
    delta.put.push_back(entry);
  }
  std::vector<std::string> removed;
  std::vector<FileEntry> put;
  for (const auto& page : in_pages(delta)) {
    CHECK(page.removed.size() + page.put.size() <= page_entries);
    CHECK((page.removed.empty() || put.empty()));
    CHECK_NOTHROW(from_bencode<InventoryDelta>(to_bencode(page)));
    removed.insert(removed.end(), page.removed.begin(), page.removed.end());
    put.insert(put.end(), page.put.begin(), page.put.end());
  }
  CHECK(removed == delta.removed);
  CHECK(put == delta.put);
  CHECK(in_pages({}).empty());
}
