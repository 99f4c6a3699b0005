#include "transfer/room.h"

#include "test.h"

using namespace mesh;

TEST_CASE("what each is to write counts for all others, until it is gone") {
  Room room([] { return std::int64_t{100}; });
  Room::Reservation a(room);
  a.set(100);
  CHECK(a.others() == 0);
  {
    Room::Reservation b(room);
    CHECK(b.others() == 100);
    b.set(50);
    b.set(30);
    CHECK(a.others() == 30);
  }
  CHECK(a.others() == 0);
  Room::Reservation c(room);
  CHECK(c.others() == 100);
}

TEST_CASE("a reservation and a claim may outlive the room") {
  auto room = std::make_unique<Room>([] { return std::int64_t{100}; });
  Room::Reservation kept(*room);
  kept.set(7);
  auto claim = room->claim(ContentId{});
  room.reset();
  claim.release();
  CHECK(kept.others() == 0);
}

TEST_CASE("a content is claimed once, for as long as the claim lives, wherever it is moved") {
  Room room([] { return std::int64_t{100}; });
  ContentId one, other;
  one.bytes[0] = 1;
  other.bytes[0] = 2;
  auto claim = room.claim(one);
  CHECK(room.is_claimed(one));
  CHECK_FALSE(room.is_claimed(other));
  CHECK(room.claimed().size() == 1);
  CHECK_THROWS(room.claim(one));
  CHECK(room.is_claimed(one));
  Room::Claim moved = std::move(claim);
  claim.release();
  CHECK(moved.is_of(one));
  CHECK(room.is_claimed(one));
  moved = room.claim(other);
  CHECK_FALSE(room.is_claimed(one));
  CHECK(room.is_claimed(other));
  moved.release();
  CHECK_FALSE(room.is_claimed(other));
}
