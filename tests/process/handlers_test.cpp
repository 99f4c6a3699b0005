// tar: and URLs, as a user types them: whole swarms of real processes on loopback, nginx for an origin.
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "process.h"
#include "test.h"

using namespace mesh::test;
using nlohmann::json;
using std::chrono::seconds;

namespace {

constexpr std::size_t mb = 1 << 20;

bool says(const Ran& ran, const std::string& text) { return (ran.out + ran.err).find(text) != std::string::npos; }

bool holds_nothing(const fs::path& directory) {
  std::error_code ec;
  return !fs::exists(directory) || fs::directory_iterator(directory, ec) == fs::directory_iterator();
}

/// Packs directory `name` in `from` into `archive`, and waits until it can be offered.
void pack(const Mesh& mesh, const fs::path& from, const std::string& name, const fs::path& archive) {
  fs::create_directories(archive.parent_path());
  const auto fresh = mesh.root() / "fresh.tar.gz";
  REQUIRE(mesh.run({"tar", "-C", from.string(), "-czf", fresh.string(), name}).status == 0);
  fs::rename(fresh, archive);
}

struct Request {
  std::string method, status, range;
  std::int64_t bytes = 0;
};

int free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&at), size) == 0);
  REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size) == 0);
  ::close(fd);
  return ntohs(at.sin_port);
}

/// nginx in front of a directory.
class Nginx {
 public:
  explicit Nginx(Mesh& mesh, const std::string& scheme = "http", const std::string& how = "",
                 const std::string& extra = "")
      : mesh_(mesh), root_(mesh.root() / "origin"), scheme_(scheme) {
    fs::create_directories(root_ / "www");
    fs::create_directories(root_ / "tmp");
    for (int tries = 0; tries < 20; ++tries) {
      port_ = free_port();
      std::ofstream out(root_ / "nginx.conf");
      const auto tmp = (root_ / "tmp/").string();
      out << "daemon off; master_process off; pid " << (root_ / "pid").string() << "; error_log "
          << (root_ / "error.log").string() << ";\n"
          << (::geteuid() == 0 ? "user root;\n" : "") << "events { worker_connections 200; }\nhttp {\n"
          << "log_format f '$request_method $status $body_bytes_sent $http_range'; access_log "
          << (root_ / "access.log").string() << " f;\n";
      for (const auto* kind : {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"})
        out << kind << "_temp_path " << tmp << kind << ";\n";
      out << "server { listen 127.0.0.1:" << port_ << " " << how << "; root " << (root_ / "www").string() << "; "
          << extra << "\nlocation /whole/ { alias " << (root_ / "www/").string() << "; max_ranges 0; }\n"
          << "location /slow/ { alias " << (root_ / "www/").string() << "; limit_rate " << megabytes_a_second(2)
          << "; }\n"
          << "location /there/ { return 302 /a/x.img; }\nlocation /loop/ { return 302 /loop/x; }\n"
          << "location /passwd/ { return 302 file:///etc/passwd; }\n} }\n";
      out.close();
      start();
      if (eventually([&] {
            return mesh_.run({"curl", "-s", "-k", url("/")}).status == 0 || !process_->is_running();
          }) &&
          process_->is_running())
        return;
    }
    FAIL("nginx does not start: " + read_file(root_ / "error.log"));
  }
  void start() {
    process_ = mesh_.start({"/usr/sbin/nginx", "-c", (root_ / "nginx.conf").string(), "-e",
                            (root_ / "error.log").string(), "-p", root_.string()},
                           "nginx");
  }
  void kill() {
    process_->signal(SIGKILL);
    process_->wait(seconds(5));
  }
  [[nodiscard]] std::string url(const std::string& path) const {
    return scheme_ + "://127.0.0.1:" + std::to_string(port_) + path;
  }
  [[nodiscard]] int port() const { return port_; }
  [[nodiscard]] fs::path www() const { return root_ / "www"; }
  [[nodiscard]] std::vector<Request> log() const {
    std::vector<Request> out;
    std::istringstream lines(read_file(root_ / "access.log"));
    for (std::string line; std::getline(lines, line);) {
      std::istringstream in(line);
      Request one;
      in >> one.method >> one.status >> one.bytes >> one.range;
      if (one.range != "-" || one.bytes > 1000) out.push_back(one);
    }
    return out;
  }
  [[nodiscard]] std::int64_t body_bytes() const {
    std::int64_t sum = 0;
    for (const auto& one : log()) sum += one.bytes;
    return sum;
  }

 private:
  Mesh& mesh_;
  fs::path root_;
  std::string scheme_;
  int port_ = 0;
  std::unique_ptr<Process> process_;
};

}  // namespace

TEST_CASE("tar: unpacks what the mesh has, once; a new version replaces it; a changed tree is kept") {
  Mesh mesh;
  const auto work = mesh.root() / "work";
  write_file(work / "cfs/etc/hosts", "one");
  write_file(work / "cfs/blob", noise(3 * mb, 1));
  fs::create_symlink("/etc/hosts", work / "cfs/abs");
  pack(mesh, work, "cfs", mesh.files("n0") / "images/cfs.tar.gz");
  mesh.start_node("n0");
  mesh.start_node("n1");
  const auto tree = mesh.files("n1") / "images/cfs";
  const auto first = mesh.get("n1", {"tar:images/cfs.tar.gz"});
  INFO(first.err);
  REQUIRE(first.status == 0);
  CHECK(first.out == tree.string() + "\n");
  CHECK(mesh.run({"diff", "-r", "--no-dereference", (work / "cfs").string(), tree.string()}).status == 0);
  CHECK(fs::exists(mesh.files("n1") / "images/cfs.tar.gz"));
  const auto again = mesh.get("n1", {"tar:file:/images/cfs.tar.gz"});
  CHECK(again.out == first.out);
  CHECK(holds_nothing(mesh.files("n1") / ".mesh/unpack"));

  // The tree is nobody else's business, also after a restart.
  CHECK(mesh.get("n0", {"images/cfs/etc/hosts"}).status == 3);
  CHECK_FALSE(says(mesh.file("n1", {"list", "-r", "--local"}), "hosts"));
  mesh.stop_node("n1", SIGTERM);
  mesh.start_node("n1");
  CHECK_FALSE(says(mesh.file("n1", {"list", "-r", "--local"}), "hosts"));

  write_file(work / "cfs/etc/hosts", "two");
  pack(mesh, work, "cfs", mesh.files("n0") / "images/cfs.tar.gz");
  const auto replaced = [&](const Ran& ran) { return ran.status == 0 && says(ran, "an older one was replaced"); };
  REQUIRE(eventually([&] { return replaced(mesh.get("n1", {"tar:images/cfs.tar.gz"})); }));
  CHECK(read_file(tree / "etc/hosts") == "two");

  write_file(tree / "etc/mine", "mine");
  write_file(work / "cfs/etc/hosts", "three");
  pack(mesh, work, "cfs", mesh.files("n0") / "images/cfs.tar.gz");
  CHECK(eventually([&] {
    const auto kept = mesh.get("n1", {"tar:images/cfs.tar.gz"});
    return kept.status == 1 && says(kept, "changed here since it was unpacked");
  }));
  CHECK(read_file(tree / "etc/hosts") == "two");
  CHECK(mesh.get("n1", {"--force", "tar:images/cfs.tar.gz"}).status == 0);
  CHECK(read_file(tree / "etc/hosts") == "three");
  CHECK_FALSE(fs::exists(tree / "etc/mine"));
  CHECK(holds_nothing(mesh.files("n1") / ".mesh/unpack"));

  // Several WHATs, one of them wrong: the others still finish.
  const auto several = mesh.get("n1", {"tar:none.tar", "tar:images/cfs.tar.gz", "images/cfs.tar.gz", "--json"});
  CHECK(several.status == 3);
  std::map<std::string, std::string> paths;
  const auto parsed = json::parse(several.out);
  for (const auto& one : parsed.at("files")) paths[one.at("what")] = one.at("path");
  CHECK(paths.at("tar:images/cfs.tar.gz") == tree.string());
  CHECK(paths.at("images/cfs.tar.gz") == tree.string() + ".tar.gz");
}

TEST_CASE("tar: a small archive, one outside the files directory, and what is no use of it") {
  Mesh mesh;
  const auto work = mesh.root() / "work";
  write_file(work / "t/x", "x");
  pack(mesh, work, "t", mesh.files("n0") / "t.tgz");
  pack(mesh, work, "t", mesh.root() / "elsewhere/t.tgz");
  mesh.start_node("n0");
  mesh.start_node("n1");
  const auto small = mesh.get("n1", {"tar:t.tgz"});
  CHECK(small.out == (mesh.files("n1") / "t").string() + "\n");
  CHECK(read_file(mesh.files("n1") / "t/x") == "x");
  // No node is needed for one that is here anyway.
  const auto outside = "tar:" + (mesh.root() / "elsewhere/t.tgz").string();
  const auto alone = mesh.run({program("meshget"), "--files", (mesh.root() / "nobody").string(), outside});
  INFO(alone.err);
  CHECK(alone.out == (mesh.root() / "elsewhere/t").string() + "\n");
  CHECK(read_file(mesh.root() / "elsewhere/t/x") == "x");
  CHECK(says(mesh.run({program("meshget"), "--files", (mesh.root() / "nobody").string(), outside}), "is here already"));
  CHECK(mesh.get("n1", {"tar:*.tgz"}).status == 2);
  CHECK(mesh.get("n1", {"tar:/"}).status == 2);
  CHECK(mesh.get("n1", {"tar:../t.tgz"}).status == 2);
  CHECK(mesh.get("n1", {"--detach", "tar:t.tgz"}).status == 2);
  CHECK(mesh.file("n1", {"get", "tar:t.tgz"}).status == 2);
  CHECK(mesh.get("n1", {"tar:none.tgz"}).status == 3);
  fs::create_directories(mesh.files("n0") / "dir");
  CHECK(eventually([&] { return mesh.get("n1", {"tar:dir"}).status == 2; }));
}

TEST_CASE("tar: a bad archive leaves an error and nothing else") {
  Mesh mesh;
  const auto work = mesh.root() / "work";
  write_file(work / "two/a/x", noise(2 * mb, 1));
  write_file(work / "two/b/y", "y");
  REQUIRE(mesh.run({"sh", "-c", "cd " + (work / "two").string() + " && tar -czf ../two.tgz a b"}).status == 0);
  fs::create_directories(mesh.files("n0"));
  fs::rename(work / "two.tgz", mesh.files("n0") / "two.tgz");
  const auto whole = read_file(mesh.files("n0") / "two.tgz");
  pack(mesh, work / "two", "a", mesh.files("n0") / "cut.tgz");
  const auto good = read_file(mesh.files("n0") / "cut.tgz");
  write_file(mesh.files("n0") / "cut.tgz", good.substr(0, good.size() - 1000));
  write_file(mesh.files("n0") / "junk.tgz", noise(1 * mb, 2));
  write_file(work / "zeros/z", std::string(200 * mb, '\0'));
  pack(mesh, work, "zeros", mesh.files("n0") / "bomb.tgz");
  mesh.start_node("n0");
  mesh.start_node("n1");
  const std::map<std::string, std::string> errors = {{"two.tgz", "more than one top-level entry: a, b"},
                                                     {"cut.tgz", "cut.tgz: "},
                                                     {"junk.tgz", "junk.tgz: "},
                                                     {"bomb.tgz", "--max-ratio"}};
  for (const auto& [name, error] : errors) {
    const auto ran = mesh.get("n1", {"tar:" + name});
    INFO(ran.err);
    CHECK(ran.status == 1);
    CHECK(ran.out.empty());
    CHECK(says(ran, error));
    CHECK(holds_nothing(mesh.files("n1") / ".mesh/unpack"));
  }
  for (const auto& item : fs::directory_iterator(mesh.files("n1")))
    CHECK((item.is_regular_file() || item.path().filename() == ".mesh"));
  CHECK(mesh.get("n1", {"--max-ratio", "5000", "tar:bomb.tgz"}).status == 0);
}

TEST_CASE("tar: a meshget that is killed half-way leaves nothing that the next one does not remove") {
  Mesh mesh;
  const auto work = mesh.root() / "work";
  for (int i = 0; i < 50; ++i)
    write_file(work / "t" / std::to_string(i), noise(200'000, static_cast<std::uint64_t>(i)));
  pack(mesh, work, "t", mesh.files("n0") / "t.tgz");
  mesh.start_node("n0", {"--max-up", megabytes_a_second(3)});
  mesh.start_node("n1");
  const auto unpack = mesh.files("n1") / ".mesh/unpack";
  const auto get = mesh.start({program("meshget"), "--files", mesh.files("n1").string(), "tar:t.tgz"}, "get");
  REQUIRE(eventually([&] {
    std::error_code ec;
    for (const auto& temp : fs::directory_iterator(unpack, ec))
      if (fs::exists(temp.path() / "t/0") || !holds_nothing(temp.path())) return true;
    return false;
  }));
  get->signal(SIGKILL);
  get->wait(seconds(5));
  CHECK_FALSE(holds_nothing(unpack));
  CHECK_FALSE(fs::exists(mesh.files("n1") / "t"));
  CHECK(mesh.get("n1", {"tar:t.tgz"}).status == 0);
  CHECK(holds_nothing(unpack));
  CHECK(mesh.run({"diff", "-r", (work / "t").string(), (mesh.files("n1") / "t").string()}).status == 0);
}

TEST_CASE("URL: many nodes at once, each byte from the origin once; then it is a file of the mesh") {
  Mesh mesh;
  Nginx origin(mesh);
  const auto bytes = noise(12 * mb + 12'345, 1);
  write_file(origin.www() / "a/x.img", bytes);
  for (const std::string prefix : {"", "/whole"}) {
    INFO(prefix);
    const auto path = prefix.empty() ? "a/x.img" : "whole/a/x.img";
    const auto before = origin.body_bytes();
    std::vector<std::unique_ptr<Process>> gets;
    for (const auto* node : {"n0", "n1", "n2", "n3"}) {
      if (prefix.empty()) mesh.start_node(node);
      gets.push_back(mesh.start(
          {program("meshget"), "--files", mesh.files(node).string(), "--json", origin.url(prefix + "/a/x.img?x=y")},
          std::string("get-") + node));
    }
    for (const auto& get : gets) CHECK(get->wait(seconds(60)) == 0);
    for (const auto* node : {"n0", "n1", "n2", "n3"}) CHECK((read_file(mesh.files(node) / path) == bytes));
    CHECK(origin.body_bytes() - before == static_cast<std::int64_t>(bytes.size()));
  }
  // From now on the origin is not asked; the time is the origin's.
  const auto requests = origin.log().size();
  mesh.start_node("n4");
  const auto later = mesh.get("n4", {"--json", origin.url("/a/x.img?x=y")});
  CHECK(later.status == 0);
  CHECK(json::parse(later.out).at("files").at(0).at("from_origin") == 0);
  CHECK(origin.log().size() == requests);
  struct stat here {};
  struct stat there {};
  REQUIRE(::stat((mesh.files("n4") / "a/x.img").c_str(), &here) == 0);
  REQUIRE(::stat((origin.www() / "a/x.img").c_str(), &there) == 0);
  CHECK(here.st_mtim.tv_sec == there.st_mtim.tv_sec);
  const auto info = mesh.file("n4", {"info", "a/x.img"});
  CHECK(says(info, "1 version"));
  for (const auto* node : {"n0", "n1", "n2", "n3", "n4"}) CHECK(says(info, node));
}

TEST_CASE("URL: the fetching node is killed half-way; another goes on where it was") {
  const auto bytes = noise(10 * mb, 1);
  for (const std::string prefix : {"/slow", "/whole"}) {
    INFO(prefix);
    Mesh mesh;
    Nginx origin(mesh);
    write_file(origin.www() / "x.img", bytes);
    const auto before = origin.body_bytes();
    std::vector<std::unique_ptr<Process>> gets;
    // All have to be on their way before the first one is done: so they run already, and take a while.
    const auto nodes = {"n0", "n1", "n2"};
    for (const auto* node : nodes) mesh.start_node(node, {"--max-down", "800K"});
    for (const auto* node : nodes) {
      gets.push_back(
          mesh.start({program("meshget"), "--files", mesh.files(node).string(), origin.url(prefix + "/x.img")},
                     std::string("get-") + node));
      // The first one asks the origin first.
      if (gets.size() == 1) REQUIRE(eventually([&] { return says(mesh.file("n0", {"status"}), "downloading"); }));
    }
    const auto some = [&](const char* node) {
      const auto status = json::parse(mesh.file(node, {"status", "--json"}).out);
      for (const auto& transfer : status.at(0).at("transfers"))
        if (transfer.at("done") > 1'000'000) return true;
      return false;
    };
    REQUIRE(eventually([&] { return some("n1") && some("n2"); }));
    mesh.stop_node("n0", SIGKILL);
    gets[0]->signal(SIGKILL);
    CHECK(gets[1]->wait(seconds(60)) == 0);
    CHECK(gets[2]->wait(seconds(60)) == 0);
    const auto path = prefix.substr(1) + "/x.img";
    CHECK((read_file(mesh.files("n1") / path) == bytes));
    CHECK((read_file(mesh.files("n2") / path) == bytes));
    // What the dead one alone had comes again, not the whole: of ranges, that is little.
    if (prefix == "/slow") CHECK(origin.body_bytes() - before < static_cast<std::int64_t>(bytes.size()) * 3 / 2);
  }
}

TEST_CASE("URL: the only node that had it leaves half-way: the origin has it still; the tracker may restart") {
  Mesh mesh;
  Nginx origin(mesh);
  const auto bytes = noise(10 * mb, 1);
  write_file(origin.www() / "x.img", bytes);
  mesh.start_node("n0", {"--max-up", megabytes_a_second(2)});
  REQUIRE(mesh.get("n0", {origin.url("/x.img")}).status == 0);
  mesh.start_node("n1");
  const auto arrives = [&](const char* what) {
    return eventually([&] {
      const auto status = json::parse(mesh.file("n1", {"status", "--json"}).out);
      for (const auto& transfer : status.at(0).at("transfers"))
        if (transfer.at("done") > 1'000'000 && transfer.at(what) > 1'000'000) return true;
      return false;
    });
  };
  CHECK(mesh.file("n1", {"get", origin.url("/x.img")}).status == 0);
  REQUIRE(arrives("from_mesh"));
  mesh.stop_node("n0", SIGKILL);
  CHECK(mesh.file("n1", {"wait"}).status == 0);
  CHECK((read_file(mesh.files("n1") / "x.img") == bytes));

  // What has arrived is told to the tracker that comes back, and comes once.
  const auto before = origin.body_bytes();
  CHECK(mesh.file("n1", {"get", origin.url("/slow/x.img")}).status == 0);
  REQUIRE(arrives("from_origin"));
  mesh.stop_tracker(SIGKILL);
  mesh.start_tracker();
  CHECK(mesh.file("n1", {"wait"}).status == 0);
  CHECK((read_file(mesh.files("n1") / "slow/x.img") == bytes));
  CHECK(origin.body_bytes() - before < static_cast<std::int64_t>(bytes.size()) * 5 / 4);
}

TEST_CASE("URL: --max-down of the node and of the get hold for the origin too") {
  Mesh mesh;
  Nginx origin(mesh);
  const auto bytes = noise(6 * mb, 1);
  write_file(origin.www() / "x.img", bytes);
  mesh.start_node("n0", {"--max-down", "3M"});
  mesh.start_node("n1");
  for (const std::string prefix : {"", "/whole"}) {
    INFO(prefix);
    const auto path = prefix.empty() ? "x.img" : "whole/x.img";
    const auto begun = std::chrono::steady_clock::now();
    CHECK(mesh.get("n0", {origin.url(prefix + "/x.img")}).status == 0);
    CHECK(mesh.file("n0", {"delete", "--mesh", path}).status == 0);
    CHECK(mesh.get("n1", {"--max-down", "3M", origin.url(prefix + "/x.img")}).status == 0);
    CHECK(std::chrono::steady_clock::now() - begun > std::chrono::milliseconds(3500));
    CHECK((read_file(mesh.files("n1") / path) == bytes));
  }
}

TEST_CASE("URL: a broken connection is resumed; a node that is restarted goes on") {
  Mesh mesh;
  Nginx origin(mesh);
  const auto bytes = noise(8 * mb, 1);
  write_file(origin.www() / "x.img", bytes);
  mesh.start_node("n0");
  const auto arrives = [&] {
    return eventually([&] {
      const auto status = json::parse(mesh.file("n0", {"status", "--json"}).out);
      for (const auto& transfer : status.at(0).at("transfers"))
        if (transfer.at("from_origin") > 1'500'000) return true;
      return false;
    });
  };
  CHECK(mesh.file("n0", {"get", origin.url("/slow/x.img")}).status == 0);
  REQUIRE(arrives());
  origin.kill();
  origin.start();
  CHECK(mesh.file("n0", {"wait"}).status == 0);
  CHECK((read_file(mesh.files("n0") / "slow/x.img") == bytes));
  bool resumed = false;
  for (const auto& one : origin.log()) resumed = resumed || (one.status == "206" && one.range.find("bytes=0-") != 0);
  CHECK(resumed);

  fs::remove(mesh.files("n0") / "slow/x.img");
  REQUIRE(eventually([&] { return mesh.file("n0", {"get", origin.url("/slow/x.img")}).status == 0 && arrives(); }));
  mesh.stop_node("n0", SIGTERM);
  const auto before = origin.body_bytes();
  mesh.start_node("n0");
  CHECK(mesh.file("n0", {"wait"}).status == 0);
  CHECK((read_file(mesh.files("n0") / "slow/x.img") == bytes));
  CHECK(origin.body_bytes() - before < static_cast<std::int64_t>(bytes.size()));
}

TEST_CASE("URL: errors, redirects, checksums, small files") {
  Mesh mesh;
  Nginx origin(mesh);
  write_file(origin.www() / "a/x.img", noise(3 * mb, 1));
  write_file(origin.www() / "small", "small");
  write_file(origin.www() / "empty", "");
  mesh.start_node("n0");
  mesh.start_node("n1");
  const auto get = [&](const std::string& path, std::vector<std::string> more = {}) {
    more.push_back(origin.url(path));
    return mesh.get("n0", more);
  };
  CHECK(get("/none").status == 3);
  CHECK(says(get("/none"), "HTTP status 404"));
  CHECK(get("/").status == 2);
  const auto loop = get("/loop/y");
  CHECK(loop.status == 1);
  CHECK(says(loop, "redirects more than 10 times"));
  const auto passwd = get("/passwd/y");
  CHECK(passwd.status == 1);
  CHECK(says(passwd, "refused"));
  CHECK(get("/there/y.img").status == 0);
  CHECK((read_file(mesh.files("n0") / "there/y.img") == noise(3 * mb, 1)));
  CHECK(get("/small").status == 0);
  CHECK(read_file(mesh.files("n0") / "small") == "small");
  CHECK(get("/empty").status == 0);
  CHECK(fs::file_size(mesh.files("n0") / "empty") == 0);
  CHECK(mesh.get("n1", {origin.url("/small"), origin.url("/empty")}).status == 0);
  CHECK(mesh.get("n0", {"http://127.0.0.1:1/x"}, seconds(30)).status == 4);

  const auto sum = mesh.run({"sha256sum", (origin.www() / "a/x.img").string()}).out.substr(0, 64);
  const std::string other(64, '0');
  const auto wrong = get("/a/x.img#sha256=" + other);
  CHECK(wrong.status == 1);
  CHECK(says(wrong, "has SHA-256 " + sum));
  CHECK_FALSE(fs::exists(mesh.files("n0") / "a/x.img"));
  CHECK(holds_nothing(mesh.files("n0") / ".mesh/parts"));
  CHECK(get("/a/x.img#sha256=" + sum).status == 0);
  CHECK(get("/a/x.img#sha256=" + sum).status == 0);
  CHECK(get("/a/x.img#sha256=" + other).status == 1);  // what is here is not that
  CHECK(mesh.get("n1", {origin.url("/a/x.img#sha256=" + other)}).status == 1);
  CHECK_FALSE(fs::exists(mesh.files("n1") / "a/x.img"));
  CHECK(mesh.get("n1", {origin.url("/small#sha256=" + other), "--force"}).status == 1);
  CHECK(mesh.get("n1", {origin.url("/a/x.img#sha256=" + sum)}).status == 0);

  // Unpacked on the way.
  write_file(mesh.root() / "work/t/x", noise(2 * mb, 3));
  pack(mesh, mesh.root() / "work", "t", origin.www() / "a/t.tgz");
  const auto unpacked = get("/a/x.img", {"tar:" + origin.url("/a/t.tgz")});
  CHECK(unpacked.status == 0);
  CHECK((read_file(mesh.files("n0") / "a/t/x") == noise(2 * mb, 3)));
}

TEST_CASE("URL: --refresh asks the origin whether it has something newer") {
  Mesh mesh;
  Nginx origin(mesh);
  const auto name = origin.www() / "x.img";
  const auto set = [&](const std::string& bytes, std::int64_t when) {
    write_file(name, bytes);
    const timespec times[2] = {{when, 0}, {when, 0}};
    REQUIRE(::utimensat(AT_FDCWD, name.c_str(), times, 0) == 0);
  };
  set(noise(3 * mb, 1), 1'700'000'000);
  mesh.start_node("n0");
  mesh.start_node("n1");
  CHECK(mesh.get("n0", {origin.url("/x.img")}).status == 0);
  const auto bytes = origin.body_bytes();
  CHECK(mesh.get("n1", {"--refresh", origin.url("/x.img")}).status == 0);
  CHECK(origin.body_bytes() == bytes);
  set(noise(3 * mb, 2), 1'700'000'100);
  CHECK(mesh.get("n1", {origin.url("/x.img")}).status == 0);
  CHECK((read_file(mesh.files("n1") / "x.img") == noise(3 * mb, 1)));
  CHECK(mesh.get("n1", {"--refresh", origin.url("/x.img")}).status == 0);
  CHECK((read_file(mesh.files("n1") / "x.img") == noise(3 * mb, 2)));
  // The newer one is what the others get now.
  CHECK(mesh.get("n0", {"x.img"}).status == 0);
  CHECK((read_file(mesh.files("n0") / "x.img") == noise(3 * mb, 2)));
  origin.kill();
  CHECK(mesh.get("n0", {origin.url("/x.img")}).status == 0);
  CHECK(mesh.get("n0", {"--refresh", origin.url("/x.img")}, seconds(30)).status == 4);
}

TEST_CASE("URL: https, with a certificate that is trusted by --cacert alone") {
  Mesh mesh;
  const auto pem = mesh.root() / "pem";
  fs::create_directories(pem);
  const auto openssl =
      "cd " + pem.string() +
      " && openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca"
      " && openssl req -newkey rsa:2048 -nodes -keyout key.pem -out csr.pem -subj /CN=127.0.0.1"
      " && printf 'subjectAltName=IP:127.0.0.1' > ext"
      " && openssl x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext"
      " -out cert.pem";
  REQUIRE(mesh.run({"sh", "-c", openssl}).status == 0);
  Nginx origin(
      mesh, "https", "ssl",
      "ssl_certificate " + (pem / "cert.pem").string() + "; ssl_certificate_key " + (pem / "key.pem").string() + ";");
  write_file(origin.www() / "x.img", noise(3 * mb, 1));
  mesh.start_node("n0");
  const auto refused = mesh.get("n0", {origin.url("/x.img")});
  CHECK(refused.status == 1);
  CHECK(says(refused, "--cacert"));
  CHECK(mesh.get("n0", {"--cacert", (pem / "key.pem").string(), origin.url("/x.img")}).status == 2);
  CHECK(mesh.get("n0", {"--cacert", (pem / "ca.pem").string(), origin.url("/x.img")}).status == 0);
  CHECK((read_file(mesh.files("n0") / "x.img") == noise(3 * mb, 1)));
}

TEST_CASE("URL: an origin that lies about the length, cuts off, or packs a bomb") {
  Mesh mesh;
  const auto script = mesh.root() / "liar.py";
  write_file(script, R"(
import gzip, socket, sys
files = {"/short": (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n" + b"x" * 5000),
         "/none": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 5000),
         "/part": (b"HTTP/1.1 206 P\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\nConnection: close\r\n\r\n12345"),
         "/lies": (b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-9/10\r\nContent-Length: 5\r\nConnection: close\r\n\r\n12345"),
         "/busy": (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
         "/junk": b"\0\1\2" * 1000}
bomb = gzip.compress(b"\0" * 1000000)
files["/bomb"] = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(bomb) + bomb
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
while True:
    client, _ = server.accept()
    try:
        path = client.recv(65536).split(b" ")[1].decode()
        client.sendall(files.get(path, b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"))
        client.shutdown(socket.SHUT_WR)
        client.recv(1)
    except OSError: pass
    except IndexError: pass
    client.close()
)");
  const auto liar = mesh.start({"python3", script.string()}, "liar");
  REQUIRE(eventually([&] { return !mesh.log("liar").empty(); }));
  const auto base = "http://127.0.0.1:" + std::to_string(std::stoi(mesh.log("liar")));
  mesh.start_node("n0");
  for (const auto* path : {"/short", "/part", "/lies", "/busy", "/junk"}) {
    const auto ran = mesh.get("n0", {base + path});
    INFO(path);
    INFO(ran.err);
    CHECK(ran.status == 1);
    CHECK_FALSE(fs::exists(mesh.files("n0") / (path + 1)));
  }
  CHECK(mesh.get("n0", {base + "/none"}).status == 0);  // the end of the connection is the end of the file
  CHECK(fs::file_size(mesh.files("n0") / "none") == 5000);
  CHECK(mesh.get("n0", {base + "/bomb"}).status == 0);
  CHECK(fs::file_size(mesh.files("n0") / "bomb") < 10'000);
  CHECK(holds_nothing(mesh.files("n0") / ".mesh/parts"));
}
