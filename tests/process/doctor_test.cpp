// meshfile doctor: things broken one by one, each named, and mended by what it says; and the way to a first mesh.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "process.h"
#include "test.h"

using namespace mesh::test;
using nlohmann::json;
using std::chrono::seconds;

namespace {

struct Finding {
  std::string level;
  std::string what;
  std::string mend;
};

struct Clinic : Mesh {
  std::vector<std::string> flags(const std::string& node) const {
    return {"--files", files(node).string(), "--tracker", tracker()};
  }
  Ran ask(const std::string& node, std::vector<std::string> more = {}) const {
    std::vector<std::string> argv{program("meshfile")};
    for (const auto& flag : flags(node)) argv.push_back(flag);
    argv.insert(argv.end(), more.begin(), more.end());
    argv.emplace_back("doctor");
    return run(argv);
  }
  /// The worst that a check has found. Every line has its four fields.
  Finding found(const Ran& ran, const std::string& check) const {
    Finding out;
    std::istringstream lines(ran.out);
    for (std::string line; std::getline(lines, line);) {
      std::vector<std::string> fields;
      std::istringstream in(line + "\t|");
      for (std::string field; std::getline(in, field, '\t');) fields.push_back(field);
      INFO(line);
      REQUIRE(fields.size() == 5);
      CHECK((fields[0] == "OK") == fields[3].empty());
      if (fields[1] != check) continue;
      const bool is_worse = out.level.empty() || fields[0] == "FAULT" || out.level == "OK";
      if (is_worse) out = {fields[0], fields[2], fields[3]};
    }
    return out;
  }
};

bool says(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("a doctor finds nothing amiss with a node of a mesh, and says so in lines and in JSON") {
  Clinic mesh;
  write_file(mesh.files("n1") / "a/b/x", "bytes");
  mesh.start_node("n1");
  mesh.start_node("n2");
  REQUIRE(mesh.lists("n2", "a/b/x", 5));
  // Who the others are gets around in a moment.
  REQUIRE(eventually([&] { return mesh.found(mesh.ask("n1"), "ports").level == "OK"; }));
  const auto ran = mesh.ask("n1");
  CHECK(ran.status == 0);
  for (const auto* check : {"configuration", "openat2", "files", "node", "tracker", "versions", "nodes", "ports",
                            "clock", "links", "inotify"}) {
    INFO(check);
    CHECK(mesh.found(ran, check).level == "OK");
  }
  CHECK(mesh.found(ran, "key").level == "WARN");  // it stays on loopback
  const auto all = json::parse(mesh.ask("n1", {"--json"}).out);
  REQUIRE(all.is_array());
  std::size_t lines = 0;
  for (const char c : ran.out) lines += c == '\n' ? 1 : 0;
  CHECK(all.size() == lines);
  for (const auto& one : all)
    for (const auto* key : {"level", "check", "what", "mend"}) CHECK(one.at(key).is_string());
}

TEST_CASE("what is broken is named, and what is said to mend it does") {
  Clinic mesh;
  const auto conf = (mesh.root() / "mesh.conf").string();
  const auto key = (mesh.root() / "mesh.key").string();
  write_file(mesh.files("n1") / "x", "bytes");
  mesh.start_node("n1");
  mesh.start_node("n2");
  // The configuration.
  write_file(conf, "fils = \"/tmp\"\n");
  auto ran = mesh.ask("n1", {"--config", conf});
  CHECK(ran.status == 1);
  CHECK(mesh.found(ran, "configuration").level == "FAULT");
  CHECK(says(mesh.found(ran, "configuration").what, "fils"));
  write_file(conf, "");
  CHECK(mesh.found(mesh.ask("n1", {"--config", conf}), "configuration").level == "OK");
  // A key that others may read, and one that is not there.
  REQUIRE(mesh.run({"sh", "-c", program("meshkey") + " new > " + key}).status == 0);
  write_file(conf, "key = \"" + key + "\"\n");
  ::chmod(key.c_str(), 0644);
  ran = mesh.ask("n3", {"--config", conf});
  CHECK(ran.status == 1);
  CHECK(mesh.found(ran, "key").level == "FAULT");
  REQUIRE(mesh.run({"sh", "-c", mesh.found(ran, "key").mend}).status == 0);  // chmod
  CHECK(mesh.found(mesh.ask("n3", {"--config", conf}), "key").level == "OK");
  fs::remove(key);
  CHECK(mesh.found(mesh.ask("n3", {"--config", conf}), "key").level == "FAULT");
  // The files directory: missing, a file, everybody's.
  ran = mesh.ask("n3");
  CHECK(mesh.found(ran, "files").level == "FAULT");
  REQUIRE(mesh.run({"sh", "-c", mesh.found(ran, "files").mend}).status == 0);  // mkdir
  CHECK(mesh.found(mesh.ask("n3"), "files").level == "OK");
  fs::remove(mesh.files("n3"));
  write_file(mesh.files("n3"), "");
  CHECK(says(mesh.found(mesh.ask("n3"), "files").what, "no directory"));
  fs::remove(mesh.files("n3"));
  fs::create_directories(mesh.files("n3") / ".mesh");
  fs::permissions(mesh.files("n3") / ".mesh", fs::perms::all);
  ran = mesh.ask("n3");
  CHECK(mesh.found(ran, "files").level == "FAULT");
  for (int i = 0; i < 2; ++i) {  // others first, then the group
    const auto mend = mesh.found(mesh.ask("n3"), "files").mend;
    REQUIRE(mesh.run({"sh", "-c", mend.substr(0, mend.find(';'))}).status == 0);  // chmod
  }
  CHECK(mesh.found(mesh.ask("n3"), "files").level == "OK");
  // No node; nothing else is wrong.
  ran = mesh.ask("n3");
  CHECK(ran.status == 4);
  CHECK(mesh.found(ran, "node").level == "FAULT");
  // A user that there is not.
  if (::geteuid() == 0) {
    write_file(conf, "user = \"nobody-of-that-name\"\n");
    CHECK(mesh.found(mesh.ask("n1", {"--config", conf}), "user").level == "FAULT");
  }
  // Links that lead out; of one that lies in a directory that is followed nothing is said.
  fs::create_symlink("/etc/hostname", mesh.files("n1") / "out");
  fs::create_symlink("x", mesh.files("n1") / "in");
  CHECK(says(mesh.found(mesh.ask("n1"), "links").what, "out: "));
  CHECK(mesh.found(mesh.ask("n1", {"--follow", "/etc"}), "links").level == "OK");
  // Another node that is gone.
  REQUIRE(eventually([&] { return mesh.found(mesh.ask("n1"), "nodes").level == "OK"; }));
  mesh.stop_node("n2", SIGKILL);
  ran = mesh.ask("n1");
  CHECK(ran.status == 1);
  CHECK(mesh.found(ran, "nodes").level == "FAULT");
  mesh.start_node("n2");
  CHECK(eventually([&] { return mesh.found(mesh.ask("n1"), "nodes").level == "OK"; }));
  // The tracker.
  mesh.stop_tracker(SIGKILL);
  REQUIRE(eventually([&] { return mesh.found(mesh.ask("n1"), "tracker").level == "FAULT"; }));
  CHECK(mesh.ask("n1").status == 1);
  mesh.start_tracker();
  CHECK(eventually([&] { return mesh.found(mesh.ask("n1"), "tracker").level == "OK"; }));
  // A node that hangs.
  ::kill(mesh.node("n1").pid(), SIGSTOP);
  ran = mesh.ask("n1");
  ::kill(mesh.node("n1").pid(), SIGCONT);
  CHECK(ran.status == 1);
  CHECK(says(mesh.found(ran, "node").what, "does not answer"));
  CHECK(mesh.found(mesh.ask("n1"), "node").level == "OK");
}

TEST_CASE("meshkey init makes what a mesh takes, and leaves what is there") {
  Mesh mesh;
  const auto dir = (mesh.root() / "etc").string();
  const auto init = [&](std::vector<std::string> more = {}) {
    std::vector<std::string> argv{program("meshkey"), "init", "--dir", dir};
    argv.insert(argv.end(), more.begin(), more.end());
    return mesh.run(argv);
  };
  auto ran = init({"--tracker", "head:7000"});
  REQUIRE(ran.status == 0);
  struct stat s {};
  REQUIRE(::stat((dir + "/mesh.key").c_str(), &s) == 0);
  CHECK((s.st_mode & 0777) == 0600);
  const auto key = read_file(dir + "/mesh.key");
  const auto conf = read_file(dir + "/mesh.conf");
  CHECK(says(conf, "tracker = \"head:7000\"\nkey = \"" + dir + "/mesh.key\"\n"));
  CHECK(says(ran.out, "mesh-rollout"));
  CHECK_FALSE(says(ran.out, key.substr(key.find(' ') + 1, 64)));  // no secret is printed
  // Again: all stays.
  ran = init();
  CHECK(ran.status == 0);
  CHECK(read_file(dir + "/mesh.key") == key);
  CHECK(read_file(dir + "/mesh.conf") == conf);
  CHECK(init({"--tracker", "other:7000"}).status == 2);
  // What else a configuration says stays as it is.
  fs::remove(dir + "/mesh.key");
  write_file(dir + "/mesh.conf", "# mine\nname = \"n1\"  # no newline at the end");
  ran = init({"--tracker", "[::1]:7000"});
  CHECK(ran.status == 0);
  CHECK(read_file(dir + "/mesh.conf").starts_with("# mine\nname = \"n1\"  # no newline at the end\n\n"));
  CHECK(mesh.run({program("meshseed"), "--files", (mesh.root() / "f").string(), "--config", dir + "/mesh.conf",
                  "--print-identity"})
            .status == 0);
  // A section stays at the end.
  write_file(dir + "/mesh.conf", "name = \"n1\"\n\n[volumes]\ntype = \"auto\"\nlocation = \"/srv\"\n");
  ran = init({"--tracker", "[::1]:7000"});
  CHECK(ran.status == 0);
  CHECK(read_file(dir + "/mesh.conf").ends_with("mesh.key\"\n\n[volumes]\ntype = \"auto\"\nlocation = \"/srv\"\n\n"));
  CHECK(mesh.run({program("meshseed"), "--files", (mesh.root() / "f").string(), "--config", dir + "/mesh.conf",
                  "--print-identity"})
            .status == 0);
  for (const auto* other : {"open = true\n", "key = \"/elsewhere\"\n"}) {
    INFO(other);
    write_file(dir + "/mesh.conf", other);
    CHECK(init().status == 2);
    CHECK(read_file(dir + "/mesh.conf") == other);
  }
  fs::remove(dir + "/mesh.conf");
  ::chmod((dir + "/mesh.key").c_str(), 0644);
  CHECK(init().status == 2);
}

TEST_CASE("a log is lines for people, or objects for programs, of what is bad enough") {
  Clinic mesh;
  write_file(mesh.files("n1") / "x", "bytes");
  mesh.start_node("n1", {"--log-format", "json"});
  fs::create_directories(mesh.files("n2"));
  const auto quiet = mesh.start({program("meshseed"), "--files", mesh.files("n2").string(), "--tracker", mesh.tracker(),
                                 "--name", "n2", "--listen", mesh.listen("n2"), "--log-level", "warning"},
                                "n2");
  REQUIRE(eventually([&] { return mesh.file("n2", {"status"}).status == 0; }));
  mesh.start_tracker({"--log-format", "json"});
  write_file(mesh.files("n1") / "large", noise(6 << 20, 3));
  REQUIRE(mesh.lists("n2", "large", 6 << 20));
  REQUIRE(mesh.get("n2", {"large"}).status == 0);
  REQUIRE(mesh.file("n2", {"delete", "--mesh", "large"}).status == 0);
  std::set<std::string> events;
  std::istringstream lines(mesh.log("n1"));
  for (std::string line; std::getline(lines, line);) {
    INFO(line);
    const auto one = json::parse(line);
    CHECK(one.at("program") == "meshseed");
    CHECK(one.at("time").get<std::string>().size() == std::string("2026-01-31T12:00:05.123Z").size());
    CHECK((one.at("level") == "info" || one.at("level") == "warning"));
    CHECK_FALSE(one.at("message").get<std::string>().empty());
    if (one.contains("event")) events.insert(one["event"].get<std::string>());
    if (one.contains("event") && one["event"] == "deleted") CHECK(one.at("size") == 6 << 20);
  }
  CHECK(events.contains("scanned"));
  CHECK(events.contains("tracker-registered"));
  CHECK(events.contains("order"));
  CHECK(events.contains("deleted"));
  // That the tracker was restarted is a warning, that it is there again none; nor is a file that has come.
  CHECK(says(mesh.log("n2"), "trying again"));
  CHECK_FALSE(says(mesh.log("n2"), "registered"));
  CHECK_FALSE(says(mesh.log("n2"), ": here; "));
  CHECK(mesh.run({program("meshfile"), "--files", mesh.files("n3").string(), "status"}).err.find("meshfile doctor") !=
        std::string::npos);
}
