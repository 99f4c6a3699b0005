#include "transfer/room.h"

#include "test.h"

using namespace mesh;

TEST_CASE("what each is to write counts for all others, until it is gone") {
  Room room;
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
  auto room = std::make_unique<Room>();
  Room::Reservation kept(*room);
  kept.set(7);
  auto claim = room->claim(ContentId{});
  room.reset();
  claim.reset();
  CHECK(kept.others() == 0);
}

TEST_CASE("a content is claimed for as long as the mark lives") {
  Room room;
  ContentId one, other;
  one.bytes[0] = 1;
  other.bytes[0] = 2;
  auto mark = room.claim(one);
  CHECK(room.is_claimed(one));
  CHECK_FALSE(room.is_claimed(other));
  CHECK(room.claimed().size() == 1);
  mark.reset();
  CHECK_FALSE(room.is_claimed(one));
}
