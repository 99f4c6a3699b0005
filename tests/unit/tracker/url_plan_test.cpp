// Who fetches what of a URL: the tracker's plan, over a simulated mesh.
#include "url_plan.h"

#include <set>

#include "core/error.h"
#include "core/piece_plan.h"
#include "test.h"

using namespace mesh;
using std::chrono::seconds;

namespace {

constexpr std::int64_t size_of_file = std::int64_t{64} << 20;
const UrlFacts facts{size_of_file, 5, "\"etag\"", true};

ContentId root_of(int piece) {
  ContentId out;
  out.bytes[0] = static_cast<char>(piece & 0xff);
  out.bytes[1] = static_cast<char>(piece >> 8);
  out.bytes[2] = 1;
  return out;
}

/// A getter that does what it is told.
struct Member {
  NodeKey key = 0;
  OriginAssignment last{};
  std::string have{};
  int begin = 0, end = 0;  // being fetched
  std::set<int> told{};

  OriginReport say() {
    OriginReport out;
    out.epoch = last.epoch;
    out.facts = last.facts;
    out.known = last.known;
    out.have = have;
    out.idle = begin == end;
    for (int i = 0; i < static_cast<int>(have.size()); ++i)
      if (have[static_cast<std::size_t>(i)] != 0 && told.insert(i).second) out.pieces.push_back({i, root_of(i), 0});
    return out;
  }
  void hear(const OriginAssignment& orders) {
    if (orders.epoch != last.epoch) told.clear();
    last = orders;
    if (orders.facts.size > 0) have.resize(static_cast<std::size_t>(piece_count_for(orders.facts.size)));
    if (orders.begin < orders.end) begin = orders.begin, end = orders.end;
  }
};

struct Mesh {
  explicit Mesh(int members) {
    for (int i = 1; i <= members; ++i) all.push_back({static_cast<NodeKey>(i)});
  }
  /// One turn of everybody; each fetches one piece of its lease meanwhile.
  void round() {
    now += std::chrono::milliseconds(100);
    for (auto& member : all) {
      if (gone.contains(member.key)) continue;
      if (member.begin < member.end) {
        const auto piece = member.begin++;
        member.have[static_cast<std::size_t>(piece)] = 1;
        ++fetched[piece];
      }
      auto said = member.say();
      if (member.last.first) {
        said.facts = facts;
        member.have.resize(static_cast<std::size_t>(piece_count_for(facts.size)));
        for (int i = 0; i < url_first_bytes / piece_length_for(facts.size); ++i) {
          member.have[static_cast<std::size_t>(i)] = 1;
          ++fetched[i];
        }
        member.last.first = false;
      }
      member.hear(plan.turn(member.key, said, now));
    }
  }
  [[nodiscard]] bool all_fetched() const {
    return fetched.size() == static_cast<std::size_t>(piece_count_for(size_of_file));
  }
  UrlPlan plan{1};
  UrlPlan::TimePoint now{};
  std::vector<Member> all;
  std::set<NodeKey> gone;
  std::map<int, int> fetched;  ///< piece -> how often
};

}  // namespace

TEST_CASE("URL plan: each piece is fetched once, by few nodes, whatever their number") {
  for (const int members : {1, 2, 8, 100}) {
    INFO(members);
    Mesh mesh(members);
    for (int i = 0; i < 2000 && !mesh.all_fetched(); ++i) mesh.round();
    CHECK(mesh.all_fetched());
    for (const auto& [piece, times] : mesh.fetched) CHECK(times == 1);
    int fetchers = 0;
    for (const auto& member : mesh.all)
      if (std::ranges::any_of(member.have, [](char c) { return c != 0; })) ++fetchers;
    CHECK(fetchers <= std::max(most_url_fetchers + 4, 1));
    mesh.round();
    for (const auto& member : mesh.all) CHECK(member.last.known == piece_count_for(size_of_file));
  }
}

TEST_CASE("URL plan: what a dead fetcher was to fetch, and what it alone had, another fetches; nothing else") {
  Mesh mesh(4);
  for (int i = 0; i < 20; ++i) mesh.round();
  // Another node has one of its pieces already.
  int shared = -1;
  for (int i = 0; i < static_cast<int>(mesh.all[1].have.size()); ++i)
    if (mesh.all[1].have[static_cast<std::size_t>(i)] != 0) shared = i;
  REQUIRE(shared >= 0);
  mesh.all[2].have[static_cast<std::size_t>(shared)] = 1;
  mesh.round();
  mesh.gone.insert(mesh.all[1].key);
  mesh.plan.leave(mesh.all[1].key);
  for (int i = 0; i < 2000; ++i) mesh.round();
  CHECK(mesh.all_fetched());
  for (const auto& [piece, times] : mesh.fetched) {
    const bool lost = piece != shared && mesh.all[1].have[static_cast<std::size_t>(piece)] != 0;
    CHECK(times == (lost ? 2 : 1));
  }
}

TEST_CASE("URL plan: a silent member is taken for dead; a tracker that begins anew learns what there is") {
  Mesh mesh(3);
  for (int i = 0; i < 10; ++i) mesh.round();
  mesh.gone.insert(mesh.all[0].key);
  for (int i = 0; i < 2000; ++i) mesh.round();
  std::set<int> left;
  for (const auto& member : {mesh.all[1], mesh.all[2]})
    for (int i = 0; i < static_cast<int>(member.have.size()); ++i)
      if (member.have[static_cast<std::size_t>(i)] != 0) left.insert(i);
  CHECK(left.size() == static_cast<std::size_t>(piece_count_for(size_of_file)));

  mesh.plan = UrlPlan(5000);
  const auto before = mesh.fetched;
  for (int i = 0; i < 100; ++i) mesh.round();
  CHECK(mesh.fetched == before);
}

TEST_CASE("URL plan: nobody can fetch; the origin changes its mind; words that make no sense") {
  UrlPlan plan(1);
  UrlPlan::TimePoint now{};
  OriginReport idle;
  idle.idle = true;
  CHECK(plan.turn(1, idle, now).first);
  CHECK_FALSE(plan.turn(2, idle, now).first);
  OriginReport unable;
  unable.error = "HTTP status 404";
  unable.status = Status::not_found;
  CHECK(plan.turn(1, unable, now).error.empty());  // the other one may
  CHECK(plan.turn(2, idle, now).first);
  const auto last = plan.turn(2, unable, now);
  CHECK(last.error == "HTTP status 404");
  CHECK(last.status == Status::not_found);

  UrlPlan changing(1);
  OriginReport said;
  said.facts = facts;
  auto orders = changing.turn(1, said, now);
  for (int i = 0; i < 10 && orders.error.empty(); ++i) {
    said.epoch = orders.epoch;
    ++said.facts.size;
    said.facts.validator = "\"" + std::to_string(i) + "\"";
    orders = changing.turn(1, said, now);
  }
  CHECK(orders.error.find("something else each time") != std::string::npos);

  // Only what it calls the file: then it is read whole, by nothing that it says.
  UrlPlan fickle(1);
  said = {};
  said.facts = facts;
  orders = fickle.turn(1, said, now);
  for (int i = 0; i < 10; ++i) {
    said.epoch = orders.epoch;
    said.facts.validator = "\"" + std::to_string(i) + "\"";
    orders = fickle.turn(1, said, now);
    CHECK(orders.error.empty());
  }
  CHECK(orders.facts.validator.empty());
  CHECK_FALSE(orders.facts.ranges);

  UrlPlan plan2(1);
  OriginReport bad;
  bad.facts.size = std::int64_t{1} << 60;
  CHECK_THROWS_AS(plan2.turn(1, bad, now), Error);
  bad.facts = facts;
  bad.epoch = 1;
  bad.pieces.push_back({1 << 30, root_of(1), 0});
  CHECK_THROWS_AS(plan2.turn(1, bad, now), Error);
}

TEST_CASE("URL plan: without ranges, one fetcher; after its end one pass brings all that is missing") {
  UrlPlan plan(1);
  UrlPlan::TimePoint now{};
  auto whole = facts;
  whole.ranges = false;
  const auto count = piece_count_for(whole.size);
  OriginReport said;
  said.idle = true;
  CHECK(plan.turn(1, said, now).first);
  CHECK_FALSE(plan.turn(2, said, now).first);
  OriginReport fetched;
  fetched.epoch = 1;
  fetched.facts = whole;
  static_cast<void>(plan.turn(1, fetched, now));
  fetched.have.assign(static_cast<std::size_t>(count), '\0');
  for (int i = 0; i < 100; ++i) {
    fetched.have[static_cast<std::size_t>(i)] = 1;
    fetched.pieces.push_back({i, root_of(i), 0});
  }
  static_cast<void>(plan.turn(1, fetched, now));
  OriginReport other;
  other.epoch = 1;
  other.facts = whole;
  other.idle = true;
  other.have.assign(static_cast<std::size_t>(count), '\0');
  for (int i = 1; i < 100; i += 2) other.have[static_cast<std::size_t>(i)] = 1;
  const auto waits = plan.turn(2, other, now);
  CHECK(waits.begin == waits.end);
  plan.leave(1);
  const auto orders = plan.turn(2, other, now);
  CHECK(orders.begin == 0);
  CHECK(orders.end == count);
}

TEST_CASE("URL plan: servers that take turns with their validators: one node reads the whole file, and none counts") {
  UrlPlan plan(1);
  UrlPlan::TimePoint now{};
  OriginReport said;
  said.idle = true;
  CHECK(plan.turn(1, said, now).first);
  auto other = facts;
  other.validator = "\"of another server\"";
  for (const auto& heard : {facts, other, facts}) {
    const auto known = plan.turn(1, said, now);
    said.epoch = known.epoch;
    said.facts = heard;
    static_cast<void>(plan.turn(1, said, now));
  }
  said.facts = {};
  auto orders = plan.turn(1, said, now);
  CHECK(orders.facts.validator.empty());
  CHECK_FALSE(orders.facts.ranges);
  CHECK(orders.error.empty());
  // From then on nobody's validator begins anything anew.
  const auto epoch = orders.epoch;
  said.epoch = epoch;
  said.facts = other;
  orders = plan.turn(1, said, now);
  CHECK(orders.epoch == epoch);
  CHECK(orders.facts.validator.empty());
}
