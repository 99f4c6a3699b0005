#include "core/member_list.h"

#include <algorithm>
#include <map>
#include <utility>

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
  std::mt19937 random(1);
  CHECK(list.hear(member(1), at(100)));
  CHECK_FALSE(list.hear(member(1), at(101)));                  // the same again is no news
  CHECK(list.hear(member(1, 0, "10.0.0.2"), at(102)));         // it moved
  CHECK_FALSE(list.hear(member(1, 50, "10.0.0.3"), at(103)));  // somebody had heard otherwise before
  CHECK(list.tell(10, false, at(104), random).at(0).addresses.at(0) == "10.0.0.2");
  CHECK(list.tell(10, false, at(104), random).at(0).age == 2);
  CHECK_FALSE(list.hear(member(0), at(105)));  // oneself
  CHECK(list.size() == 1);
  // What it said itself is not undone by others, unless it is not to be found there.
  CHECK_FALSE(list.hear(member(1, 1, "10.0.0.4"), at(110)));
  CHECK(list.tell(10, false, at(110), random).at(0).addresses.at(0) == "10.0.0.2");
  list.missed(member(1).instance, at(110));
  CHECK(list.hear(member(1, 1, "10.0.0.4"), at(111)));
  CHECK(list.tell(10, false, at(112), random).at(0).addresses.at(0) == "10.0.0.4");
}

TEST_CASE("members: who does not answer is not told of, and asked last, until it speaks again") {
  MemberList list(member(0).instance);
  std::mt19937 random(1);
  list.hear(member(1), at(0));
  list.hear(member(2), at(0));
  list.missed(member(1).instance, at(4));
  REQUIRE(list.tell(10, false, at(1), random).size() == 1);
  CHECK(list.tell(10, false, at(1), random).at(0).instance == member(2).instance);
  REQUIRE(list.choose(1, random).size() == 1);
  CHECK(list.choose(1, random).at(0).instance == member(2).instance);
  CHECK(list.choose(10, random).size() == 1);
  CHECK(list.choose(10, random, MemberList::Which::missed).at(0).instance == member(1).instance);
  list.hear(member(1, 1), at(6));  // a rumour: it may have been before
  CHECK(list.tell(10, false, at(6), random).size() == 1);
  list.hear(member(1), at(7));
  CHECK(list.tell(10, false, at(8), random).size() == 2);
  list.missed(member(1).instance, at(8));
  list.reached(member(1).instance, at(8));
  CHECK(list.tell(10, false, at(8), random).size() == 2);
  // It has spoken to somebody since.
  list.missed(member(1).instance, at(9));
  list.hear(member(1, 2), at(20));
  CHECK(list.tell(10, false, at(20), random).size() == 2);
}

TEST_CASE("members: who keeps the index, and since when, is told with them") {
  MemberList list(member(0).instance);
  std::mt19937 random(1);
  list.hear(member(1), at(0));
  list.hear(member(2), at(0));
  // Where nobody says that it keeps, all may.
  CHECK(list.keepers(at(0)).size() == 2);
  const auto before = list.changes();
  auto keeper = member(2, 3);
  keeper.keeps = 20;
  list.hear(keeper, at(10));
  CHECK(list.changes() != before);
  REQUIRE(list.keepers(at(15)).size() == 1);
  CHECK(list.keepers(at(15)).at(0).instance == keeper.instance);
  CHECK(list.keepers(at(15)).at(0).keeps == 25);
  CHECK(list.find(keeper.instance, at(30))->keeps == 40);
  const auto told = list.tell(10, false, at(30), random);
  CHECK(std::ranges::count_if(told, [](const Member& one) { return one.keeps == 40; }) == 1);
  // One that is missed keeps nothing meanwhile.
  const auto reached = list.changes();
  list.missed(keeper.instance, at(31));
  CHECK(list.changes() != reached);
  CHECK(list.keeper_count() == 0);
  list.hear(member(2), at(40));  // it was begun anew
  CHECK(list.find(keeper.instance, at(40))->keeps == -1);
}

namespace {

/// Seconds until all of a mesh of so many nodes know each other, that start within two seconds and know one of them, by
/// the rules of mesh/gossip.cpp, and tell each other of `most_told`. Above `limit`: not by then.
double seconds_to_know_all(int count, std::size_t most_told, double limit) {
  std::mt19937 random(7);
  struct Node {
    Member self;
    MemberList list;
    double next = 0;
    int rounds = 0;
    int quiet = 0;
  };
  std::vector<Node> nodes;
  std::map<std::string, Node*> by_instance;
  nodes.reserve(static_cast<std::size_t>(count));
  for (int n = 0; n < count; ++n) {
    auto self = member(0);
    const auto digits = std::to_string(n);
    self.instance = std::string(32 - digits.size(), '0') + digits;
    self.node = "n" + digits;
    nodes.push_back({self, MemberList(self.instance), std::uniform_real_distribution<double>(0.1, 2)(random)});
    by_instance[self.instance] = &nodes.back();
  }
  const auto hear = [](Node& node, const Node& from, std::vector<Member> known, MemberList::Time now) {
    bool news = node.list.hear(from.self, now);
    for (auto& one : known) {
      ++one.age;
      news = node.list.hear(one, now) || news;
    }
    if (news || from.list.size() > node.list.size()) node.quiet = 0;
  };
  for (double time = 0; time < limit; time += 0.5) {
    const auto now = at(static_cast<int>(time));
    for (auto& node : nodes) {
      if (node.next > time) continue;
      const auto chosen = node.list.choose(1, random);
      auto& other = chosen.empty() || node.rounds == 0 ? nodes.front() : *by_instance.at(chosen[0].instance);
      if (&other != &node) {
        auto told = node.list.tell(most_told, false, now, random);
        auto answer = other.list.tell(most_told, false, now, random);
        hear(other, node, std::move(told), now);
        hear(node, other, std::move(answer), now);
      }
      const double wait = ++node.rounds > 3 && ++node.quiet > 2 ? 15 : 2;
      node.next = time + std::uniform_real_distribution<double>(wait / 2, wait)(random);
    }
    if (std::ranges::all_of(nodes, [&](const Node& node) { return node.list.size() == nodes.size() - 1; })) return time;
  }
  return limit + 1;
}

}  // namespace

TEST_CASE("members: all who know one of them know each other within a minute, though each tells of half of them") {
  CHECK(seconds_to_know_all(300, 150, 60) < 60);
}

TEST_CASE("members: 1,000 nodes that know one of them know each other within a minute", "[.long]") {
  CHECK(seconds_to_know_all(1000, 500, 60) < 60);
}

TEST_CASE("members: what is of use on this machine alone is not told to others") {
  MemberList list(member(0).instance);
  std::mt19937 random(1);
  list.hear(member(1, 0, "127.0.0.1"), at(0));
  CHECK(list.tell(10, false, at(0), random).empty());
  CHECK(list.tell(10, true, at(0), random).size() == 1);
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
  for (int i = 0; i < 20'100; ++i) {
    auto one = member(1, i);
    one.instance = std::to_string(1'000'000 + i) + std::string(25, 'a');
    list.hear(one, at(0));
  }
  CHECK(list.size() == 20'000);
}

TEST_CASE("members: who came and went last, the latest first, twenty of them") {
  MemberList list("self");
  list.hear(member(1), at(1));
  list.missed(member(1).instance, at(2));
  list.missed(member(1).instance, at(3));
  list.reached(member(1).instance, at(4));
  const auto& recent = list.recent();
  REQUIRE(recent.size() == 3);
  CHECK(recent[0].what == MemberList::What::back);
  CHECK(recent[1].what == MemberList::What::gone);
  CHECK(recent[1].when == at(2));
  CHECK(recent[2].what == MemberList::What::joined);
  CHECK(recent[2].node == member(1).node);
  for (int i = 2; i < 40; ++i) list.hear(member(i), at(i));
  CHECK(recent.size() == MemberList::most_recent);
  CHECK(recent[0].node == member(39).node);
}
