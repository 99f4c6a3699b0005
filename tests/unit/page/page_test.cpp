// What the page is told: bounded whatever nodes say, and what is amiss with its mend.
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/glob.h"
#include "core/history.h"
#include "core/member_list.h"
#include "node/throughput.h"
#include "page/orders.h"
#include "page/page_view.h"
#include "page/warnings.h"
#include "test.h"

using namespace mesh;
using nlohmann::json;
using std::chrono::minutes;
using std::chrono::seconds;

namespace {

constexpr std::int64_t gib = std::int64_t{1} << 30;

Glance node(const std::string& name) {
  Glance out;
  out.node = name;
  out.version = "1.2.3";
  out.clock = 1'000'000'000'000;
  out.space = 100 * gib;
  out.free = 50 * gib;
  return out;
}

Moving moving(const std::string& path, std::int64_t done) {
  Moving out;
  out.path = path;
  out.state = TransferState::downloading;
  out.done = done;
  out.total = 100;
  out.rate = 5;
  out.have = "aa50";
  out.givers = {{"n9", done}};
  return out;
}

const page_view::Facts facts{"head", "meshseed", "1.2.3", "run", {"get"}};

}  // namespace

TEST_CASE("what grew in each minute of an hour is known, and what is older is forgotten") {
  History<1> history;
  history.add({100}, minutes(1000) + seconds(59));
  history.add({130}, minutes(1001));
  history.add({120}, minutes(1001) + seconds(5));  // something was lost
  history.add({125}, minutes(1003));
  auto all = history.of(0);
  REQUIRE(all.size() == 60);
  CHECK(all[56] == 100);
  CHECK(all[57] == 30);
  CHECK(all[58] == 0);
  CHECK(all[59] == 5);
  history.add({126}, minutes(1002));  // the clock was set back
  CHECK(history.of(0)[59] == 6);
  history.add({127}, minutes(1003 + 59));
  all = history.of(0);
  CHECK(all[0] == 6);
  CHECK(all[59] == 1);
  history.add({127}, minutes(1000));
  CHECK(history.of(0) == std::vector<std::int64_t>(60, 0));
  history.add({128}, minutes(5000));
  CHECK(history.of(0) == [] {
    std::vector<std::int64_t> out(60, 0);
    out[59] = 1;
    return out;
  }());
}

TEST_CASE("what arrives is counted once: while it comes, what comes after the last look, and what starts anew") {
  Throughput throughput;
  const auto sum = [](const std::vector<std::int64_t>& all) {
    std::int64_t out = 0;
    for (const auto one : all) out += one;
    return out;
  };
  throughput.look({{"a", {10, 5, 0}}}, 0, seconds(60));
  throughput.look({{"a", {20, 5, 0}}}, 7, seconds(61));
  throughput.look({{"a", {0, 0, 0}}}, 7, seconds(62));  // it has left its swarm
  throughput.look({{"a", {4, 0, 0}}}, 7, seconds(62));  // and entered it anew
  CHECK(sum(throughput.hour().from_sources) == 24);
  throughput.arrived("a", {30, 6, 1});
  throughput.arrived("quick", {0, 50, 0});  // between two looks
  throughput.look({}, 7, seconds(63));
  const auto hour = throughput.hour();
  CHECK(sum(hour.received) == 30 + 6 + 1 + 50 + 7);
  CHECK(sum(hour.from_sources) == 30);
  CHECK(sum(hour.from_origins) == 1);
}

TEST_CASE("an address names a member where it names one alone") {
  MemberList members("self");
  const auto now = MemberList::Time{} + seconds(1000);
  const auto add = [&](const std::string& name, const std::string& address, std::uint16_t port) {
    Member one;
    one.instance = std::string(31, 'a') + name.back();
    one.node = name;
    one.addresses = {address};
    one.peer_port = port;
    one.channel_port = static_cast<std::uint16_t>(port + 1);
    REQUIRE(members.hear(one, now));
  };
  add("n1", "10.0.0.1", 6881);
  add("n2", "10.0.0.2", 6881);
  add("n3", "10.0.0.2", 7000);
  CHECK(members.name_at("10.0.0.1", 6881) == "n1");
  CHECK(members.name_at("10.0.0.1", 50'000) == "n1");  // it has connected
  CHECK(members.name_at("10.0.0.2", 7000) == "n3");
  CHECK(members.name_at("10.0.0.2", 50'000).empty());
  CHECK(members.name_at("10.0.0.3", 6881).empty());
}

TEST_CASE("what another node says of itself is cut to what a node says") {
  Glance said = node("n1");
  said.error = std::string(100'000, 'e');
  said.free = -5;
  for (int i = 0; i < 100; ++i) said.moving.push_back(moving(std::string(9000, 'p'), 1));
  said.moving[0].have = std::string(1000, 'z') + std::string(100, '5');
  said.moving[0].givers.assign(1000, {std::string(9000, 'w'), -1});
  said.gets.resize(50);
  said.gets[0].whats.assign(500, std::string(9000, 'w'));
  said.hour.received.assign(1000, INT64_MAX);
  bound(said);
  CHECK(said.error.size() == Glance::most_text);
  CHECK(said.free == 0);
  CHECK(said.moving.size() == Glance::most_moving);
  CHECK(said.more_moving == 92);
  CHECK(said.moving[0].have.find_first_not_of("0123456789a") == std::string::npos);
  CHECK(said.moving[0].givers.size() == Glance::most_givers);
  CHECK(said.moving[0].givers[0].bytes == 0);
  CHECK(said.gets.size() == Glance::most_gets);
  CHECK(said.gets[0].whats.size() == Glance::most_whats);
  CHECK(said.hour.received.size() == Glance::minutes);
  HourTold sum;
  for (int i = 0; i < 1000; ++i) add(sum, said.hour);
  CHECK(sum.received[0] > 0);
}

TEST_CASE("no answer is larger than 200 kB, of a thousand nodes with hostile names as well") {
  Glances all;
  // As many bytes as possible once they are escaped.
  const auto name = [](int i) { return std::to_string(10'000 + i) + std::string(240, '\x01'); };
  for (int i = 0; i < 1000; ++i) {
    auto one = node(name(i));
    one.error = i % 2 == 0 ? std::string(1024, '\x02') : "";
    one.version = std::string(1024, '\x80');
    for (int k = 0; k < 8; ++k) {
      auto file = moving(std::to_string(k) + std::string(3990, '\xff'), k);
      file.detail = std::string(1024, '\n');
      file.givers.assign(5, {std::string(1024, '\x1b'), 5});
      one.moving.push_back(file);
    }
    one.gets.resize(8);
    for (auto& get : one.gets) get.whats.assign(4, std::string(4000, '"')), get.state = GetState::failed;
    bound(one);
    all.nodes.push_back(one);
  }
  for (int i = 1000; i < 1500; ++i) all.absent.push_back(name(i));
  const auto live = page_view::live(all, facts);
  CHECK(live.size() <= page_view::most_answer_bytes);
  CHECK(json::parse(live).at("nodes") == 1000);
  std::string after;
  int rows = 0;
  for (;;) {
    const auto text = page_view::nodes(all, "", after);
    REQUIRE(text.size() <= page_view::most_answer_bytes);
    const auto page = json::parse(text);
    rows += static_cast<int>(page.at("rows").size());
    if (page.at("next") == "") break;
    // As it comes back.
    after = name(rows - 1);
  }
  CHECK(rows == 1500);
  const auto swarm = page_view::swarm(all, all.nodes[0].moving[0].path, "");
  CHECK(swarm.size() <= page_view::most_answer_bytes);
  Listed listed;
  for (int i = 0; i < 1000; ++i) {
    ListItem item;
    item.entry.path = std::to_string(i) + std::string(3990, '\xfe');
    listed.items.push_back(item);
  }
  const auto files = page_view::files(listed);
  CHECK(files.size() <= page_view::most_answer_bytes);
  CHECK(json::parse(files).at("next") != "");
  Versions versions;
  versions.versions.resize(1000);
  for (auto& one : versions.versions) one.nodes.assign(1000, std::string(255, '\x01'));
  CHECK(page_view::file(versions, std::string(4000, '\xfe')).size() <= page_view::most_answer_bytes);
}

TEST_CASE("the page is told of swarms, and of nodes page by page") {
  Glances all;
  for (int i = 0; i < 250; ++i) {
    auto one = node("n" + std::to_string(1000 + i));
    if (i < 30) one.moving.push_back(moving("vm/a.img", i));
    if (i == 3) one.moving.push_back(moving("vm/b.img", 1));
    one.rate = 2;
    all.nodes.push_back(one);
  }
  all.absent = {"n1100x"};
  all.nodes[0].gets.emplace_back();
  all.nodes[0].gets[0].whats = {"file:vm/a.img"};
  const auto live = json::parse(page_view::live(all, facts));
  CHECK(live.at("rate") == 500);
  CHECK(live.at("allowed") == json::array({"get"}));
  CHECK(live.at("gets")[0].at("whats") == json::array({"vm/a.img"}));
  REQUIRE(live.at("swarms").size() == 2);
  const auto& first = live.at("swarms")[0];
  CHECK(first.at("name") == "vm/a.img");
  CHECK(first.at("nodes") == 30);
  CHECK(first.at("bars").size() == 24);
  CHECK(first.at("more") == 6);
  CHECK(first.at("bars")[1].at("from")[0].at("who") == "n9");
  const auto rest = json::parse(page_view::swarm(all, "vm/a.img", "n1023"));
  CHECK(rest.at("bars").size() == 6);
  CHECK(rest.at("next") == "");
  const auto page = json::parse(page_view::nodes(all, "", ""));
  CHECK(page.at("rows").size() == page_view::page_rows);
  CHECK(page.at("next") == "n1099");
  const auto found = json::parse(page_view::nodes(all, "N1100", ""));
  REQUIRE(found.at("rows").size() == 2);
  CHECK(found.at("rows")[1].at("state") == "absent");
}

TEST_CASE("what is searched for is text: in any part, in capitals or not") {
  const auto finds = [](const std::string& text, const std::string& path) {
    return Glob(page_view::glob_for(text)).matches(path);
  };
  CHECK(finds("BASE", "vm/old/my-base.qcow2"));
  CHECK(finds("base", "BASE"));
  CHECK(finds("old/my", "vm/very-old/my-base.qcow2"));
  CHECK(finds("a*b", "x/a*b.img"));
  CHECK_FALSE(finds("a*b", "x/aXb.img"));
  CHECK_FALSE(finds("[ab]", "a"));
  CHECK(finds("[ab]", "x[ab]y"));
  CHECK(finds("\\", "a\\b"));
}

TEST_CASE("what is amiss is said with what mends it, faults first") {
  Glances all;
  all.nodes = {node("n1"), node("n2"), node("n3"), node("n4"), node("n5"), node("n6")};
  CHECK(warnings_of(all).empty());
  all.nodes[1].free = gib / 100;
  all.nodes[2].free = gib;
  all.nodes[3].error = "timed out";
  all.nodes[3].version.clear();
  all.nodes[3].clock = 0;
  all.nodes[4].clock += 90'000;
  all.nodes[5].version = "1.0";
  all.absent = {"n7"};
  GetGlance failed;
  failed.state = GetState::failed;
  failed.whats = {"vm/x"};
  failed.detail = "not found";
  all.nodes[0].gets = {failed};
  const auto found = warnings_of(all);
  std::vector<std::string> said;
  for (const auto& one : found) {
    said.push_back((one.is_fault ? "! " : "  ") + one.node + ": " + one.what.substr(0, 22));
    CHECK_FALSE(one.mend.empty());
  }
  CHECK(said == std::vector<std::string>{"! n1: a get failed: vm/x: no", "! n2: its disk is full: 10.7",
                                         "! n4: does not answer: timed", "! n5: its clock is 90 s ahea",
                                         "  n3: its disk is nearly ful", "  n6: is of version 1.0, mos",
                                         "  n7: was in the mesh, and i"});
}

TEST_CASE("an order of the page is read as it is, or refused") {
  const auto order = read_page_order(R"({"whats":["vm/*.img"],"paths":["a%20b%2A","%C3%A9"],"discard":true})");
  CHECK(order.whats == std::vector<std::string>{"vm/*.img", "path:a b*", "path:\xc3\xa9"});
  CHECK(order.discard);
  CHECK_FALSE(order.force);
  for (const std::string bad :
       {"", "[]", "7", "{", R"({"whats":7})", R"({"whats":[7]})", R"({"whats":[""]})", R"({"paths":["../x"]})",
        R"({"paths":["/x"]})", R"({"paths":["a%0"]})", R"({"paths":["a%00b"]})", R"({"force":1})",
        R"({"numbers":["1"]})", R"({"numbers":1})"}) {
    INFO(bad);
    try {
      static_cast<void>(read_page_order(bad));
      FAIL("was taken");
    } catch (const Error& error) {
      CHECK(error.status() == Status::usage);
    }
  }
  std::string many = R"({"whats":[)";
  for (int i = 0; i < 1001; ++i) many += i > 0 ? ",\"a\"" : "\"a\"";
  CHECK_THROWS_AS(read_page_order(many + "]}"), Error);
  // Deep nesting takes no stack.
  CHECK_THROWS_AS(read_page_order(std::string(60'000, '[')), Error);
}
