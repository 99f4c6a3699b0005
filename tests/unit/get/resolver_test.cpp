// From WHATs to files, with a tracker that answers from a table; what a get may do about what is here.
#include "get/resolver.h"

#include <boost/asio/io_context.hpp>
#include <map>

#include "test.h"
#include "wire/flow.h"

using namespace mesh;

namespace {

ResolvedFile file(const std::string& path, Kind kind = Kind::file, std::int64_t size = 10) {
  ResolvedFile out;
  out.entry.path = path;
  out.entry.kind = kind;
  out.entry.size = kind == Kind::file ? size : 0;
  out.entry.mode = 0666;
  out.holders = {7};
  return out;
}

ResolvedFile link_to(const std::string& path, const std::string& target) {
  auto out = file(path, Kind::link);
  out.entry.target = target;
  return out;
}

struct Mesh {
  Mesh() {
    Resolver::Options options;
    options.files = {"/files"};
    options.ask_again = std::chrono::milliseconds(1);
    StoreOptions store;
    store.name = "store";
    store.endpoint = "https://store.example";
    store.share = {"b/shared/"};
    options.stores = std::make_shared<const Stores>(std::vector<StoreOptions>{store});
    resolver.emplace(
        options,
        [this](Resolve question) {
          asked.push_back(question.pattern);
          return answer(question);
        },
        [this](GetTaskPtr, UrlSource, FileEntry, const std::string&) { return say(is_current); },
        [this](GetTaskPtr, ObjectStorePtr, Url, const std::string& prefix, const std::string& after) {
          return page(prefix, after);
        },
        rules);
  }
  Task<Resolved> answer(Resolve question) {
    if (trouble) throw Error(*trouble);
    const auto it = answers.find(question.pattern + question.after);
    if (it == answers.end()) throw Error(Status::not_found, question.pattern + ": not found on any of 3 nodes");
    auto out = it->second;
    NodeRef node;
    node.key = 7;
    node.name = "n7";
    out.nodes = {node};
    co_return out;
  }
  Task<ObjectPage> page(std::string prefix, std::string after) {
    asked.push_back("list " + prefix + " " + after);
    co_return pages.at(after);
  }
  static Task<bool> say(bool value) { co_return value; }

  void has(const ResolvedFile& one) { answers[one.entry.path].files = {one}; }
  void ask(const std::vector<std::string>& whats) {
    task = std::make_shared<GetTask>();
    task->request.whats = whats;
    run([this]() -> Task<void> {
      for (int i = 0; i < static_cast<int>(task->request.whats.size()); ++i)
        co_await resolver->resolve(task, i, plan, results);
    });
  }
  void run(const std::function<Task<void>()>& work) {
    bool over = false;
    const auto whole = [&]() -> Task<void> {
      co_await work();
      over = true;
    };
    io.restart();
    spawn(io, whole());
    io.run();
    CHECK(over);
  }
  [[nodiscard]] std::vector<std::string> paths() const {
    std::vector<std::string> out;
    for (const auto& [path, planned] : plan.files) out.push_back(path);
    return out;
  }

  asio::io_context io{1};
  std::map<std::string, Resolved> answers;
  std::optional<Error> trouble;
  std::map<std::string, ObjectPage> pages;  ///< of the store, by what to ask with
  bool is_current = true;
  std::vector<std::string> asked;
  LocalRules rules;
  std::optional<Resolver> resolver;
  GetTaskPtr task;
  Plan plan;
  Results results;
};

using Paths = std::vector<std::string>;

}  // namespace

TEST_CASE("resolver: a path under the files directory, and what is not there") {
  Mesh mesh;
  mesh.has(file("d/a"));
  mesh.ask({"/files/d/a", "none"});
  CHECK(mesh.asked == Paths{"d/a", "none"});
  CHECK(mesh.paths() == Paths{"d/a"});
  CHECK(mesh.plan.files.at("d/a").print);
  CHECK(mesh.plan.nodes.at(7).name == "n7");
  REQUIRE(mesh.results.size() == 1);
  CHECK(mesh.results[0].status == Status::not_found);
  CHECK(mesh.results[0].what == 1);
}

TEST_CASE("resolver: an answer of several pages, and what makes no sense in it") {
  Mesh mesh;
  auto& first = mesh.answers["d"];
  first.files = {file("d/a"), file("../up"), file("d/b", Kind::file, -5)};
  first.above = {file("d", Kind::directory).entry, file("e").entry};
  first.next = "+";
  mesh.answers["d+"].files = {file("d/c")};
  mesh.ask({"d"});
  CHECK(mesh.paths() == Paths{"d/a", "d/c"});
  CHECK(mesh.plan.above.size() == 1);
  CHECK_FALSE(mesh.plan.files.at("d/a").print);  // below what was named
}

TEST_CASE("resolver: a link that is named brings what it leads to, however far, and none is followed for ever") {
  Mesh mesh;
  mesh.has(link_to("l", "d/m"));
  mesh.has(link_to("d/m", "../end"));
  mesh.has(file("end"));
  mesh.ask({"l"});
  CHECK(mesh.paths() == Paths{"d/m", "end", "l"});
  CHECK(mesh.results.empty());

  Mesh circle;
  circle.has(link_to("a", "b"));
  circle.has(link_to("b", "a"));
  circle.has(link_to("nowhere", "gone"));
  circle.ask({"a", "nowhere"});
  CHECK(circle.paths() == Paths{"a", "b", "nowhere"});
  CHECK(circle.results.empty());
  circle.run([&]() -> Task<void> {
    std::string said;
    try {
      static_cast<void>(co_await circle.resolver->choose("a", "", false));
    } catch (const Error& error) {
      said = error.what();
    }
    CHECK(said == "a: its links lead in a circle");
  });
}

TEST_CASE("resolver: one file by its path: what its links lead to, no directory, and no chain without an end") {
  Mesh mesh;
  mesh.has(link_to("l", "a"));
  mesh.has(file("a"));
  mesh.has(file("d", Kind::directory));
  for (int i = 0; i < 100; ++i) mesh.has(link_to("chain" + std::to_string(i), "chain" + std::to_string(i + 1)));
  const auto resolve = [&](std::string path) {
    std::string said;
    mesh.plan = {};
    mesh.run([&]() -> Task<void> {
      const Get asked;
      try {
        co_await mesh.resolver->resolve_file(asked, 0, path, mesh.plan, nullptr);
      } catch (const Error& error) {
        said = error.what();
      }
    });
    return said;
  };
  CHECK(resolve("l").empty());
  CHECK(mesh.paths() == Paths{"a", "l"});
  CHECK(resolve("d") == "d: is a directory in the mesh");
  CHECK(resolve("chain0") == "chain64: its links lead too far");
}

TEST_CASE("resolver: one path is chosen for a stream, and a directory is none") {
  Mesh mesh;
  mesh.has(link_to("l", "a"));
  mesh.has(file("a"));
  mesh.has(file("d", Kind::directory));
  mesh.has(link_to("out", "../../x"));
  auto broken = file("several");
  broken.problem = "two versions";
  mesh.has(broken);
  const auto choose = [&](std::string path) {
    std::string said;
    mesh.run([&]() -> Task<void> {
      try {
        const auto chosen = co_await mesh.resolver->choose(path, "", false);
        said = chosen.file.entry.path;
      } catch (const Error& error) {
        said = error.what();
      }
    });
    return said;
  };
  CHECK(choose("l") == "a");
  CHECK(choose("d") == "d: is a directory, not a file");
  CHECK(choose("out") == "out: not found");  // what makes no sense is not listened to
  CHECK(choose("several") == "several: two versions");
}

TEST_CASE("resolver: a URL is had from the mesh, or from its origin where that has something newer") {
  const std::string url = "http://origin/pub/a";
  const std::string path = parse_url(url).path;
  Mesh empty;
  empty.ask({url});
  REQUIRE(empty.paths() == Paths{path});
  CHECK(empty.plan.files.at(path).url.has_value());

  Mesh mesh;
  mesh.has(file(path));
  mesh.ask({url});
  CHECK_FALSE(mesh.plan.files.at(path).url.has_value());
  CHECK(mesh.plan.files.at(path).origin.has_value());  // should the mesh lose it

  for (const bool is_current : {true, false}) {
    Mesh refreshed;
    refreshed.has(file(path));
    refreshed.is_current = is_current;
    refreshed.task = std::make_shared<GetTask>();
    refreshed.task->request.whats = {url};
    refreshed.task->request.refresh = true;
    refreshed.run([&]() -> Task<void> {
      co_await refreshed.resolver->resolve(refreshed.task, 0, refreshed.plan, refreshed.results);
    });
    CHECK(refreshed.plan.files.at(path).url.has_value() == !is_current);
  }

  Mesh in_the_way;
  in_the_way.has(file(path, Kind::directory));
  in_the_way.ask({url});
  REQUIRE(in_the_way.results.size() == 1);
  CHECK(in_the_way.results[0].status == Status::failed);
}

TEST_CASE("resolver: a path that is from another URL is not taken for this one's") {
  const std::string url = "http://origin/pub/a";
  const auto ask = [&](const std::string& from, const std::string& asked, bool refresh) {
    auto mesh = std::make_unique<Mesh>();
    auto one = file("pub/a");
    one.entry.origin = from;
    mesh->has(one);
    mesh->task = std::make_shared<GetTask>();
    mesh->task->request.whats = {asked};
    mesh->task->request.refresh = refresh;
    mesh->run([&]() -> Task<void> { co_await mesh->resolver->resolve(mesh->task, 0, mesh->plan, mesh->results); });
    return mesh;
  };
  const auto other = ask("http://elsewhere/pub/a", url, false);
  REQUIRE(other->results.size() == 1);
  CHECK(other->results[0].status == Status::refused);
  CHECK(other->results[0].error.find("is from http://elsewhere/pub/a") != std::string::npos);
  const auto same = ask(url, url, false);
  CHECK(same->results.empty());
  CHECK_FALSE(same->plan.files.at("pub/a").url.has_value());
  // A signature is no part of where it is from, and what else a query says is told by its hash alone.
  CHECK(ask(url, "http://user:secret@origin/pub/a?X-Amz-Signature=1", false)->results.empty());
  CHECK(ask(url, url + "?v=1", false)->results.size() == 1);
  CHECK(parse_url(url + "?secret=word").origin().find("word") == std::string::npos);
  CHECK(parse_url(url + "?v=1").origin() != parse_url(url + "?v=2").origin());
  const auto refreshed = ask("http://elsewhere/pub/a", url, true);
  REQUIRE(refreshed->results.empty());
  CHECK(refreshed->plan.files.at("pub/a").url.has_value());
  CHECK(refreshed->plan.files.at("pub/a").file.entry.origin == url);
  // Bytes that are known by their hash may be from anywhere.
  CHECK(ask("http://elsewhere/pub/a", url + "#sha256=" + std::string(64, 'a'), false)->results.empty());
}

TEST_CASE("resolver: a glob or a prefix of a store is its objects, page by page") {
  const auto object = [](const std::string& key) {
    StoredObject out;
    out.key = key;
    out.etag = "e";
    return out;
  };
  Mesh mesh;
  mesh.pages[""].objects = {object("vm/"), object("vm/a.img"), object("vm/b.txt")};
  mesh.pages[""].next = "2";
  mesh.pages["2"].objects = {object("vm/c.img"), object("vm/d/e.img"), object("vm//x.img")};
  mesh.answers["b/vm/*.img"].files = {file("b/vm/a.img")};
  mesh.ask({"s3://store@b/vm/*.img"});
  CHECK(mesh.paths() == Paths{"b/vm/a.img", "b/vm/c.img"});
  CHECK_FALSE(mesh.plan.files.at("b/vm/a.img").url.has_value());
  REQUIRE(mesh.plan.files.at("b/vm/c.img").url.has_value());
  CHECK(mesh.plan.files.at("b/vm/c.img").url->url.identity == "s3://store@b/vm/c.img");
  CHECK(mesh.plan.files.at("b/vm/c.img").print);
  // What cannot be a path is not passed over in silence.
  REQUIRE(mesh.results.size() == 1);
  CHECK(mesh.results[0].error.find("1 key that is no path, as vm//x.img") != std::string::npos);
  CHECK(mesh.asked == Paths{"list vm/ ", "list vm/ 2", "b/vm/*.img"});

  Mesh below;
  below.pages = mesh.pages;
  below.pages["2"].objects.pop_back();
  below.ask({"s3://store@b/vm/"});
  CHECK(below.paths() == Paths{"b/vm/a.img", "b/vm/b.txt", "b/vm/c.img", "b/vm/d/e.img"});
  CHECK(below.results.empty());

  Mesh nothing;
  nothing.pages[""].objects = {object("vm/a.img")};
  nothing.ask({"s3://store@b/vm/x*"});
  REQUIRE(nothing.results.size() == 1);
  CHECK(nothing.results[0].status == Status::not_found);
  Mesh unknown;
  unknown.ask({"s3://other@b/vm/"});
  REQUIRE(unknown.results.size() == 1);
  CHECK(unknown.results[0].status == Status::usage);
  CHECK(unknown.asked.empty());

  // For others it lists what is shared with them, and nothing else.
  for (const auto& [what, status] :
       std::map<std::string, Status>{{"s3://store@b/shared/", Status::ok}, {"s3://store@b/sh*", Status::refused}}) {
    Mesh ordered;
    ordered.pages[""].objects = {object("shared/x")};
    ordered.task = std::make_shared<GetTask>();
    ordered.task->request.whats = {what};
    ordered.task->request.ordered = true;
    ordered.run(
        [&]() -> Task<void> { co_await ordered.resolver->resolve(ordered.task, 0, ordered.plan, ordered.results); });
    INFO(what);
    CHECK((ordered.results.empty() ? Status::ok : ordered.results[0].status) == status);
    CHECK(ordered.asked.empty() == (status == Status::refused));
  }
}

TEST_CASE("resolver: two WHATs that bring different files to one path are refused") {
  const std::string url = "http://origin/pub/a";
  Mesh mesh;
  mesh.ask({url, "http://origin/pub/a?other=1"});
  REQUIRE(parse_url(url).path == parse_url("http://origin/pub/a?other=1").path);
  CHECK(mesh.plan.files.size() == 1);
  REQUIRE(mesh.results.size() == 1);
  CHECK(mesh.results[0].status == Status::usage);
  Mesh sums;
  const std::string one(64, 'a');
  const std::string other(64, 'b');
  sums.ask({url + "#sha256=" + one, url + "#sha256=" + other});
  REQUIRE(sums.results.size() == 1);
  CHECK(sums.results[0].status == Status::usage);
}

TEST_CASE("resolver: --wait goes on asking until it is there or the get is cancelled") {
  Mesh mesh;
  mesh.task = std::make_shared<GetTask>();
  mesh.task->request.whats = {"a"};
  mesh.task->request.wait = true;
  mesh.run([&]() -> Task<void> {
    auto appear = [](Mesh* to) -> Task<void> {
      while (to->asked.size() < 3) co_await sleep_for(std::chrono::milliseconds(1));
      while (to->task->phase == GetTask::Phase::none) co_await give_way();
      CHECK(to->task->phase == GetTask::Phase::waiting);
      CHECK(to->task->phase_text == "waiting: a: not found on any of 3 nodes");
      to->has(file("a"));
    };
    spawn(mesh.io, appear(&mesh));
    co_await mesh.resolver->resolve(mesh.task, 0, mesh.plan, mesh.results);
  });
  CHECK(mesh.paths() == Paths{"a"});
  CHECK(mesh.results.empty());

  mesh.task->request.whats = {"b"};
  mesh.run([&]() -> Task<void> {
    auto cancel = [](Mesh* to) -> Task<void> {
      const auto before = to->asked.size();
      while (to->asked.size() < before + 2) co_await sleep_for(std::chrono::milliseconds(1));
      to->task->cancelled = true;
    };
    spawn(mesh.io, cancel(&mesh));
    co_await mesh.resolver->resolve(mesh.task, 0, mesh.plan, mesh.results);
  });
  REQUIRE(mesh.results.size() == 1);
  CHECK(mesh.results[0].status == Status::interrupted);
}

TEST_CASE("local rules: what is here stays unless it is ours, or the user says so") {
  using Verdict = LocalState::Verdict;
  LocalRules rules;
  NodeRef node;
  node.key = 7;
  node.name = "n7";
  rules.learn(node);
  Planned planned;
  planned.file = file("a");
  const auto keeps = [&](Verdict verdict, bool force, bool own_wins = false) {
    planned.before.verdict = verdict;
    planned.file.own_wins = own_wins;
    try {
      return std::string(rules.keeps(planned, force) ? "keeps" : "brings");
    } catch (const Error& error) {
      return std::string(error.what());
    }
  };
  CHECK(keeps(Verdict::absent, false) == "brings");
  CHECK(keeps(Verdict::same, true) == "keeps");
  CHECK(keeps(Verdict::ours, false) == "brings");
  CHECK(keeps(Verdict::ours, false, true) == "keeps");
  CHECK(keeps(Verdict::unknown, true, true) == "brings");
  CHECK(keeps(Verdict::users, true) == "brings");
  CHECK(keeps(Verdict::users, false).find("a: kept: the local file") == 0);
  CHECK(keeps(Verdict::users, false).find("on n7") != std::string::npos);
  CHECK(keeps(Verdict::users, false, true) == "keeps");
  planned.before.received = true;
  CHECK(keeps(Verdict::users, false, true) != "keeps");
  planned.before.entry.kind = Kind::directory;
  CHECK(keeps(Verdict::other_kind, true).find("here it is a directory") != std::string::npos);
  planned.before.received = false;
  planned.before.entry.kind = Kind::link;
  planned.before.entry.target = "t";
  CHECK(keeps(Verdict::users, false).find("the local link (link to t") != std::string::npos);
}
