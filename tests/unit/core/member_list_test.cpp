#include "core/member_list.h"

#include "test.h"

using mesh::Member;
using mesh::MemberList;
using std::chrono::hours;
using std::chrono::seconds;

namespace {

MemberList::Time at(int s) { return MemberList::Time(hours(1000) + seconds(s)); }

Member member(int n, std::int64_t age = 0, const std::string& address = "10.0.0.1") {
  Member out;
  out.instance = std::string(30, '0') + (n < 10 ? "0" : "") + std::to_string(n);
  out.node = "n" + std::to_string(n);
  out.addresses = {address};
  out.peer_port = 6881;
  out.channel_port = 6882;
  out.age = age;
  return out;
}

}  // namespace

TEST_CASE("members: the later word about a member counts, and its own more than a rumour") {
  MemberList list(member(0).instance);
  CHECK(list.hear(member(1), at(100)));
  CHECK_FALSE(list.hear(member(1), at(101)));                  // the same again is no news
  CHECK(list.hear(member(1, 0, "10.0.0.2"), at(102)));         // it moved
  CHECK_FALSE(list.hear(member(1, 50, "10.0.0.3"), at(103)));  // somebody had heard otherwise before
  CHECK(list.tell(10, false, at(104)).at(0).addresses.at(0) == "10.0.0.2");
  CHECK(list.tell(10, false, at(104)).at(0).age == 2);
  CHECK_FALSE(list.hear(member(0), at(105)));  // oneself
  CHECK(list.size() == 1);
  // What it said itself is not undone by others, unless it is not to be found there.
  CHECK_FALSE(list.hear(member(1, 1, "10.0.0.4"), at(110)));
  CHECK(list.tell(10, false, at(110)).at(0).addresses.at(0) == "10.0.0.2");
  list.missed(member(1).instance);
  CHECK(list.hear(member(1, 1, "10.0.0.4"), at(111)));
  CHECK(list.tell(10, false, at(112)).at(0).addresses.at(0) == "10.0.0.4");
}

TEST_CASE("members: who does not answer is not told of, and asked last, until it speaks again") {
  MemberList list(member(0).instance);
  std::mt19937 random(1);
  list.hear(member(1), at(0));
  list.hear(member(2), at(0));
  list.missed(member(1).instance);
  REQUIRE(list.tell(10, false, at(1)).size() == 1);
  CHECK(list.tell(10, false, at(1)).at(0).instance == member(2).instance);
  REQUIRE(list.choose(1, random).size() == 1);
  CHECK(list.choose(1, random).at(0).instance == member(2).instance);
  CHECK(list.choose(10, random).size() == 1);
  CHECK(list.choose(10, random, MemberList::Which::missed).at(0).instance == member(1).instance);
  list.hear(member(1, 1), at(5));  // a rumour
  CHECK(list.tell(10, false, at(6)).size() == 1);
  list.hear(member(1), at(7));
  CHECK(list.tell(10, false, at(8)).size() == 2);
  list.missed(member(1).instance);
  list.reached(member(1).instance);
  CHECK(list.tell(10, false, at(8)).size() == 2);
}

TEST_CASE("members: what is of use on this machine alone is not told to others") {
  MemberList list(member(0).instance);
  list.hear(member(1, 0, "127.0.0.1"), at(0));
  CHECK(list.tell(10, false, at(0)).empty());
  CHECK(list.tell(10, true, at(0)).size() == 1);
}

TEST_CASE("members: nonsense is passed over, the list stays bounded, and old members are forgotten") {
  MemberList list(member(0).instance);
  auto bad = member(1);
  bad.instance = "short";
  CHECK_FALSE(list.hear(bad, at(0)));
  bad = member(1, 0, "not an address");
  CHECK_FALSE(list.hear(bad, at(0)));
  bad = member(1);
  bad.addresses.assign(33, "10.0.0.1");
  CHECK_FALSE(list.hear(bad, at(0)));
  bad = member(1);
  bad.addresses.clear();
  CHECK_FALSE(list.hear(bad, at(0)));
  bad = member(1);
  bad.channel_port = 0;
  CHECK_FALSE(list.hear(bad, at(0)));
  bad = member(1, 0, std::string("10.0.0.1\0and more", 17));
  CHECK_FALSE(list.hear(bad, at(0)));
  bad = member(1, 0, "0.0.0.0");
  CHECK_FALSE(list.hear(bad, at(0)));
  bad = member(1, 0, "fe80::1%" + std::string(100, 'x'));
  CHECK_FALSE(list.hear(bad, at(0)));
  bad = member(1);
  bad.node = std::string(300, 'x');
  CHECK_FALSE(list.hear(bad, at(0)));
  CHECK_FALSE(list.hear(member(1, 90'000), at(0)));  // of more than a day ago
  CHECK(list.hear(member(1, -5), at(0)));            // from the future: now
  list.expire(at(60));
  CHECK(list.size() == 1);
  list.expire(at(90'000));
  CHECK(list.size() == 0);
  for (int i = 0; i < 10'100; ++i) {
    auto one = member(1, i);
    one.instance = std::to_string(1'000'000 + i) + std::string(25, 'a');
    list.hear(one, at(0));
  }
  CHECK(list.size() == 10'000);
}
