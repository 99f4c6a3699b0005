// Reads of what is not here, over HTTP: real processes on loopback, and other people's clients.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "process.h"
#include "test.h"

using namespace mesh::test;
using nlohmann::json;
using std::chrono::seconds;

namespace {

constexpr std::size_t mb = 1 << 20;

bool says(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// A source, and readers with a gateway each.
struct Gateways : Mesh {
  void has(const std::string& path, const std::string& bytes, const std::string& node = "source") const {
    fs::create_directories((files(node) / path).parent_path());
    write_file(files(node) / path, bytes);
  }
  void begin(const std::vector<std::string>& readers = {"reader"}, const std::vector<std::string>& extra = {}) {
    start_node("source");
    for (const auto& reader : readers) start_reader(reader, extra);
  }
  void start_reader(const std::string& reader, const std::vector<std::string>& extra = {}) {
    std::vector<std::string> arguments = {"--http", listen("http of " + reader)};
    arguments.insert(arguments.end(), extra.begin(), extra.end());
    start_node(reader, arguments);
  }
  [[nodiscard]] std::string url(const std::string& path, const std::string& reader = "reader") {
    return "http://" + listen("http of " + reader) + path;
  }
  Ran curl(const std::string& path, std::vector<std::string> arguments = {}, const std::string& reader = "reader") {
    arguments.insert(arguments.begin(), {"curl", "-sS", "--max-time", "60"});
    arguments.push_back(url(path, reader));
    return run(arguments, seconds(70));
  }
  /// The status and nothing else.
  std::string status(const std::string& path, std::vector<std::string> arguments = {}) {
    arguments.insert(arguments.end(), {"-o", "/dev/null", "-w", "%{http_code}"});
    return curl(path, std::move(arguments)).out;
  }
  std::string field(const std::string& path, const std::string& name, std::vector<std::string> arguments = {}) {
    arguments.emplace_back("-I");
    const auto head = curl(path, std::move(arguments)).out;
    const auto at = head.find("\n" + name + ": ");
    if (at == std::string::npos) return {};
    const auto begin = at + name.size() + 3;
    return head.substr(begin, head.find("\r\n", begin) - begin);
  }
  json stats(const std::string& reader = "reader") { return json::parse(curl("/stats", {}, reader).out); }
  /// Somebody has asked for it, so that it has been hashed.
  void hash(const std::string& path) const {
    REQUIRE(
        run({program("meshfile"), "--files", files("source").string(), "torrent", path, "-o", "/dev/null"}).status ==
        0);
  }
};

}  // namespace

TEST_CASE("a file that is elsewhere is read whole, and in parts, by its conditions") {
  Gateways mesh;
  const auto bytes = noise(6 * mb + 12345, 1);
  mesh.has("vm/disk 1.img", bytes);
  mesh.has("small.txt", "a few bytes");
  mesh.has("empty", "");
  mesh.begin();
  mesh.hash("vm/disk 1.img");
  REQUIRE(mesh.lists("reader", "vm/disk 1.img", bytes.size()));
  REQUIRE(mesh.lists("reader", "small.txt", 11));
  const std::string at = "/files/vm/disk%201.img";
  CHECK(mesh.curl(at, {"-r", "3000000-3000099"}).out == bytes.substr(3'000'000, 100));
  CHECK(mesh.curl(at, {"-r", "-100"}).out == bytes.substr(bytes.size() - 100));
  CHECK(mesh.curl(at, {"-r", "65535-65536"}).out == bytes.substr(65'535, 2));
  // Little more has come than was read.
  CHECK(mesh.stats().at("bytes_cached") <= 5 * 65'536);
  CHECK(mesh.curl(at).out == bytes);
  CHECK(mesh.curl("/files/small.txt").out == "a few bytes");
  CHECK(mesh.curl("/files/small.txt", {"-r", "2-4"}).out == "few");
  CHECK(mesh.status("/files/empty") == "200");
  const auto tag = mesh.field(at, "ETag");
  REQUIRE(tag.size() == 66);
  CHECK(mesh.field(at, "Content-Length") == std::to_string(bytes.size()));
  CHECK(mesh.field(at, "Accept-Ranges") == "bytes");
  CHECK(mesh.status(at, {"-H", "If-None-Match: " + tag}) == "304");
  CHECK(mesh.status(at, {"-H", "If-Modified-Since: " + mesh.field(at, "Last-Modified")}) == "304");
  CHECK(mesh.status(at, {"-H", "If-Match: \"another\""}) == "412");
  CHECK(mesh.status(at, {"-r", "0-9", "-H", "If-Range: " + tag}) == "206");
  CHECK(mesh.status(at, {"-r", "0-9", "-H", "If-Range: \"another\""}) == "200");
  CHECK(mesh.status(at, {"-r", "0-9,20-29"}) == "200");
  CHECK(mesh.status(at, {"-r", std::to_string(bytes.size()) + "-"}) == "416");
  CHECK(mesh.status(at, {"-X", "POST"}) == "405");
  CHECK(mesh.status(at, {"-X", "PUT", "-d", "x"}) == "400");
  // However much of it there is, the answer is heard.
  mesh.has("body", std::string(2 * mb, 'x'), "bodies");
  CHECK(mesh.status(at, {"-H", "Expect:", "--data-binary", "@" + (mesh.files("bodies") / "body").string()}) == "400");
  CHECK(mesh.status(at, {"-H", "Transfer-Encoding: gzip"}) == "400");
  CHECK(mesh.curl("/files/small.txt", {"--http1.0"}).out == "a few bytes");
  CHECK(mesh.curl("/files/small.txt", {"--request-target", "http://localhost/files/small.txt"}).out == "a few bytes");
  CHECK(mesh.status("/files/small.txt", {"--request-target", "http://evil.example/files/small.txt"}) == "403");
  CHECK(mesh.status("/files/nothing") == "404");
  CHECK(mesh.status("/files/../../etc/passwd", {"--path-as-is"}) == "404");
  CHECK(mesh.status("/files/.mesh/http-token") == "404");
  CHECK(mesh.status("/files/%00") == "400");
  CHECK(mesh.status("/elsewhere") == "404");
  CHECK(mesh.status("/files/vm") == "302");
  CHECK(mesh.status("/files/small.txt/") == "404");
  // On one connection, one after another.
  const auto two =
      mesh.run({"curl", "-sS", mesh.url("/files/small.txt"), mesh.url("/files/small.txt"), "-w", "%{num_connects}"});
  CHECK(two.out == "a few bytes1a few bytes0");
  CHECK_FALSE(fs::exists(mesh.files("reader") / "vm"));
}

TEST_CASE("what nobody has hashed is read at once; it has no tag, and becomes a content in the end") {
  Gateways mesh;
  const auto bytes = noise(5 * mb + 99, 2);
  mesh.has("disk.img", bytes);
  mesh.begin();
  REQUIRE(mesh.lists("reader", "disk.img", bytes.size()));
  CHECK(mesh.field("/files/disk.img", "ETag").empty());
  CHECK(mesh.curl("/files/disk.img", {"-r", "100000-300000"}).out == bytes.substr(100'000, 200'001));
  CHECK(mesh.curl("/files/disk.img").out == bytes);
  CHECK(eventually([&] { return !mesh.field("/files/disk.img", "ETag").empty(); }));
  CHECK(mesh.curl("/files/disk.img").out == bytes);
}

TEST_CASE("directories as pages and as JSON; what a member has put there is no page of this node's") {
  Gateways mesh;
  mesh.has("dir/a b%.txt", "1");
  mesh.has("dir/\xC3\xBC<x>.html", "<script>alert(1)</script>");
  mesh.has("dir/deep/x", "2");
  mesh.begin();
  REQUIRE(mesh.lists("reader", "dir/a b%.txt", 1));
  REQUIRE(mesh.lists("reader", "dir/deep/x", 1));
  const auto page = mesh.curl("/files/dir/").out;
  CHECK(says(page, "<a href=\"./a%20b%25.txt\">a b%.txt</a>"));
  CHECK(says(page, "<a href=\"./deep/\">deep/</a>"));
  CHECK(says(page, "&lt;x&gt;"));
  CHECK_FALSE(says(page, "<x>"));
  const auto list = json::parse(mesh.curl("/files/dir/", {"-H", "Accept: application/json"}).out);
  REQUIRE(list.at("entries").size() == 3);
  CHECK(list.at("entries").at(0).at("name") == "a b%.txt");
  CHECK(list.at("entries").at(1).at("kind") == "directory");
  CHECK(mesh.curl("/files/dir/a%20b%25.txt").out == "1");
  CHECK(mesh.curl("/files/dir", {"-L"}).out == page);
  CHECK(mesh.status("/files/none/") == "404");
  // A link to a directory leads there.
  fs::create_directory_symlink("dir", mesh.files("source") / "link");
  REQUIRE(eventually([&] { return mesh.curl("/files/link", {"-L"}).out == page; }));
  const std::string html = "/files/dir/%C3%BC%3Cx%3E.html";
  CHECK(mesh.curl(html).out == "<script>alert(1)</script>");
  CHECK(mesh.field(html, "Content-Disposition") == "attachment");
  CHECK(says(mesh.field(html, "Content-Security-Policy"), "sandbox"));
  CHECK(mesh.field(html, "X-Content-Type-Options") == "nosniff");
  CHECK(mesh.field(html, "Cross-Origin-Resource-Policy") == "same-origin");
}

TEST_CASE("directories of many entries come in pages") {
  Gateways mesh;
  for (int i = 0; i < 4500; ++i) mesh.has("many/" + std::to_string(10'000 + i), "x");
  mesh.begin();
  REQUIRE(eventually([&] { return mesh.lists("reader", "many/14499", 1); }));
  std::set<std::string> names;
  std::string next;
  for (int pages = 0; pages < 10; ++pages) {
    const auto page = json::parse(mesh.curl("/files/many/?after=" + next, {"-H", "Accept: application/json"}).out);
    for (const auto& entry : page.at("entries")) names.insert(entry.at("name"));
    next = page.at("next");
    if (next.empty()) break;
  }
  CHECK(names.size() == 4500);
  CHECK(says(mesh.curl("/files/many/").out, "?after="));
}

TEST_CASE("who is another user needs the token; a page of another origin gets nothing, whoever runs the browser") {
  Gateways mesh;
  mesh.has("x", "some bytes");
  mesh.begin();
  REQUIRE(mesh.lists("reader", "x", 10));
  CHECK(mesh.curl("/files/x").out == "some bytes");
  const auto file = mesh.files("reader") / ".mesh/http-token";
  auto token = read_file(file);
  REQUIRE(token.size() == 65);
  token.pop_back();
  CHECK((fs::status(file).permissions() & fs::perms(0777)) == fs::perms(0600));
  for (const auto* site : {"cross-site", "same-site"})
    CHECK(mesh.status("/files/x", {"-H", std::string("Sec-Fetch-Site: ") + site}) == "403");
  CHECK(mesh.status("/files/x", {"-H", "Sec-Fetch-Site: none"}) == "200");
  // Where it does not say which page it is, as at an address that is no loopback to it, a browser needs the token.
  const std::string browser = "User-Agent: Mozilla/5.0 (X11; Linux x86_64)";
  CHECK(mesh.status("/files/x", {"-H", browser}) == "401");
  CHECK(mesh.status("/files/x", {"-H", "Accept-Language: en"}) == "401");
  CHECK(mesh.status("/files/x", {"-H", "Referer: http://evil.example/"}) == "401");
  CHECK(mesh.status("/files/x", {"-H", browser, "-H", "Sec-Fetch-Site: same-origin"}) == "200");
  CHECK(mesh.status("/files/x", {"-H", "Origin: http://evil.example"}) == "403");
  CHECK(mesh.status("/files/x", {"-H", "Origin: " + mesh.url("")}) == "200");
  CHECK(mesh.status("/files/x", {"-H", "Host: evil.example"}) == "403");
  CHECK(mesh.status("/files/x", {"-H", "Host: evil.example", "-H", "Authorization: Bearer " + token}) == "403");
  CHECK(says(mesh.curl("/config").out, "\"has_key\": false"));
  CHECK_FALSE(says(mesh.curl("/config").out, token));
  CHECK_FALSE(says(mesh.log("reader"), token));
  if (::geteuid() != 0) {
    WARN("skipped: needs root, to be another user");
    return;
  }
  const auto as_nobody = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "curl",
                                         "-sS", "-o", "/dev/null", "-w", "%{http_code}", mesh.url("/files/x")});
    return mesh.run(arguments).out;
  };
  CHECK(as_nobody({}) == "401");
  CHECK(as_nobody({"-H", "Authorization: Bearer " + std::string(64, 'a')}) == "401");
  CHECK(as_nobody({"-H", "Authorization: bearer  " + token}) == "200");
  CHECK(as_nobody({"-G", "-d", "token=" + token}) == "401");
}

TEST_CASE("what is here is read where nobody else can be asked") {
  Gateways mesh;
  mesh.has("x", "hello", "reader");
  mesh.start_node_with("reader", {"--http", mesh.listen("http of reader")}, "scanned");
  CHECK(mesh.curl("/files/x").out == "hello");
  CHECK(mesh.status("/files/y") == "503");
}

TEST_CASE("--http-token: a file of one's own, made where there is none, and none that others may read") {
  Gateways mesh;
  const auto file = mesh.root() / "token";
  mesh.start_reader("reader", {"--http-token", file.string()});
  CHECK(read_file(file).size() == 65);
  mesh.stop_node("reader", SIGTERM);
  const auto refused = [&] {
    return mesh.run({"timeout", "10", program("meshseed"), "--files", mesh.files("reader").string(), "--http",
                     mesh.listen("http of reader"), "--http-token", file.string(), "--tracker", mesh.tracker()});
  };
  ::chmod(file.c_str(), 0644);
  CHECK(refused().status == 2);
  CHECK(says(refused().err, "chmod 600"));
  write_file(file, "short");
  ::chmod(file.c_str(), 0600);
  CHECK(says(refused().err, "16 to 256"));
  const auto exposed = mesh.run({"timeout", "10", program("meshseed"), "--files", mesh.files("reader").string(),
                                 "--http", "0.0.0.0:0", "--tracker", mesh.tracker()});
  CHECK(exposed.status == 2);
  CHECK(says(exposed.err, "--http 0.0.0.0:0 is not on loopback"));
}

TEST_CASE("what was read is not fetched again by a get, nor what a get has fetched by a reader") {
  Gateways mesh;
  const auto bytes = noise(8 * mb, 3);
  mesh.has("disk.img", bytes);
  mesh.begin();
  mesh.hash("disk.img");
  REQUIRE(mesh.lists("reader", "disk.img", bytes.size()));
  CHECK(mesh.curl("/files/disk.img", {"-r", "0-4194303"}).out == bytes.substr(0, 4 * mb));
  const auto read = mesh.stats("reader").at("bytes_cached").get<std::int64_t>();
  CHECK(read >= 4 * static_cast<std::int64_t>(mb));
  const auto got = mesh.get("reader", {"--json", "disk.img"});
  REQUIRE(got.status == 0);
  CHECK(json::parse(got.out).at("files").at(0).at("from_sources") <= std::ssize(bytes) - read);
  CHECK(read_file(mesh.files("reader") / "disk.img") == bytes);
  CHECK(mesh.curl("/files/disk.img").out == bytes);
  CHECK(partials(mesh, "reader") == 0);
  // And of a get that is under way, beside it.
  const auto other = noise(8 * mb, 4);
  mesh.has("other.img", other);
  mesh.hash("other.img");
  REQUIRE(mesh.lists("reader", "other.img", other.size()));
  REQUIRE(mesh.file("reader", {"get", "--max-down", megabytes_a_second(1), "other.img"}).status == 0);
  CHECK(mesh.curl("/files/other.img", {"-r", "7000000-7000999"}).out == other.substr(7'000'000, 1000));
  CHECK(mesh.curl("/files/other.img").out == other);
  CHECK(mesh.file("reader", {"wait", "other.img"}).status == 0);
  CHECK(read_file(mesh.files("reader") / "other.img") == other);
}

TEST_CASE("several readers of one file fetch from each other, and the source sends little more than one copy") {
  Gateways mesh;
  const auto bytes = noise(12 * mb, 5);
  mesh.has("disk.img", bytes);
  const std::vector<std::string> readers{"r1", "r2", "r3", "r4"};
  mesh.start_node("source", {"--max-up", megabytes_a_second(4), "--http", mesh.listen("http of source")});
  for (const auto& reader : readers) mesh.start_reader(reader);
  mesh.hash("disk.img");
  for (const auto& reader : readers) REQUIRE(mesh.lists(reader, "disk.img", bytes.size()));
  std::vector<std::string> got(readers.size());
  {
    std::vector<std::jthread> running;
    for (std::size_t i = 0; i < readers.size(); ++i)
      running.emplace_back([&, i] { got[i] = mesh.curl("/files/disk.img", {}, readers[i]).out; });
  }
  for (const auto& one : got) CHECK(one == bytes);
  CHECK(mesh.stats("source").at("ranges_sent").get<std::int64_t>() < std::ssize(bytes) * 3 / 2);
}

TEST_CASE("a holder that sends wrong bytes, and one that dies, cost time and nothing else") {
  Gateways mesh;
  const auto bytes = noise(8 * mb, 6);
  const auto marker = mesh.root() / "lies";
  mesh.has("disk.img", bytes, "liar");
  mesh.set_environment("liar", {std::string("LD_PRELOAD=") + MESH_FAULT_SHIM, "ASAN_OPTIONS=verify_asan_link_order=0",
                                "MESH_FAULT=flip", "MESH_FAULT_FILE=disk.img", "MESH_FAULT_WHILE=" + marker.string()});
  mesh.start_node("liar");
  mesh.start_node("other");
  REQUIRE(mesh.lists("other", "disk.img", bytes.size()));
  REQUIRE(mesh.get("other", {"disk.img"}).status == 0);
  mesh.start_reader("reader");
  REQUIRE(mesh.lists("reader", "disk.img", bytes.size()));
  // What its blocks are is known from then on.
  CHECK(mesh.curl("/files/disk.img").out == bytes);
  CHECK(mesh.file("reader", {"cache", "--drop"}).status == 0);
  write_file(marker, "");
  CHECK(mesh.curl("/files/disk.img").out == bytes);
  CHECK(says(mesh.log("reader"), "liar: sent wrong bytes; nothing more of it is read there"));
  CHECK(mesh.file("reader", {"cache", "--drop"}).status == 0);
  // Slowly, so that it is in the middle of it.
  mesh.stop_node("other", SIGTERM);
  mesh.start_node("other", {"--max-up", megabytes_a_second(2)});
  fs::remove(marker);
  mesh.stop_node("reader", SIGTERM);
  fs::remove_all(mesh.files("reader"));
  mesh.start_reader("reader");
  REQUIRE(mesh.lists("reader", "disk.img", bytes.size()));
  std::string got;
  std::jthread reading([&] { got = mesh.curl("/files/disk.img").out; });
  CHECK(eventually([&] { return mesh.stats().at("bytes_cached") > static_cast<std::int64_t>(mb); }));
  mesh.stop_node("other", SIGKILL);
  reading.join();
  CHECK(got == bytes);
}

TEST_CASE("an answer that cannot be ended is cut off, and a client that goes on from there has it all") {
  Gateways mesh;
  const auto bytes = noise(12 * mb, 7);
  mesh.has("disk.img", bytes);
  mesh.start_node("source", {"--max-up", megabytes_a_second(4)});
  mesh.set_environment("reader", {"MESH_TEST_READ_MS=1500"});
  mesh.start_reader("reader");
  mesh.hash("disk.img");
  REQUIRE(mesh.lists("reader", "disk.img", bytes.size()));
  const auto out = mesh.root() / "out.img";
  Ran first;
  std::jthread reading([&] { first = mesh.curl("/files/disk.img", {"-o", out.string()}); });
  CHECK(eventually([&] { return mesh.stats().at("bytes_cached") > static_cast<std::int64_t>(mb); }));
  mesh.stop_node("source", SIGKILL);
  reading.join();
  CHECK(first.status == 18);  // a part of the file
  CHECK(fs::file_size(out) < bytes.size());
  // Nobody is left to say what there is, or nobody to send it.
  CHECK((mesh.status("/files/disk.img", {"-r", "12000000-"}) == "503" ||
         mesh.status("/files/disk.img", {"-r", "12000000-"}) == "404"));
  mesh.start_node("source");
  REQUIRE(mesh.lists("reader", "disk.img", bytes.size()));
  CHECK(mesh.run({"wget", "-q", "-c", "-O", out.string(), mesh.url("/files/disk.img")}).status == 0);
  CHECK(read_file(out) == bytes);
}

TEST_CASE("a node that is killed while it is read from has what was read, and what became of it is seen") {
  Gateways mesh;
  const auto bytes = noise(8 * mb, 8);
  mesh.has("disk.img", bytes);
  mesh.begin();
  mesh.hash("disk.img");
  REQUIRE(mesh.lists("reader", "disk.img", bytes.size()));
  CHECK(mesh.curl("/files/disk.img", {"-r", "0-5999999"}).out == bytes.substr(0, 6'000'000));
  CHECK(eventually([&] { return mesh.stats().at("cache").at("unsaved") == 0; }));
  mesh.stop_node("reader", SIGKILL);
  fs::path part;
  for (const auto& entry : fs::directory_iterator(mesh.files("reader") / ".mesh/parts")) part = entry.path();
  REQUIRE_FALSE(part.empty());
  {
    std::fstream file(part, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(1'000'000);
    file << "something else";
  }
  mesh.start_reader("reader");
  mesh.start_node("source", {"--http", mesh.listen("http of source")});
  mesh.hash("disk.img");
  REQUIRE(mesh.lists("reader", "disk.img", bytes.size()));
  CHECK(mesh.curl("/files/disk.img", {"-r", "0-5999999"}).out == bytes.substr(0, 6'000'000));
  CHECK(mesh.stats("source").at("ranges_sent").get<std::int64_t>() <= 4 * 65'536);
  CHECK(mesh.curl("/files/disk.img").out == bytes);
}

TEST_CASE("--cache bounds what is kept; meshfile cache says how much, and drops it") {
  Gateways mesh;
  std::vector<std::string> all;
  for (int i = 0; i < 4; ++i) {
    all.push_back(noise(3 * mb, 20 + static_cast<std::uint64_t>(i)));
    mesh.has("d" + std::to_string(i), all.back());
  }
  const bool keeps_none = GENERATE(false, true);
  mesh.begin({"reader"}, {"--cache", keeps_none ? "0" : "4M"});
  for (int i = 0; i < 4; ++i) mesh.hash("d" + std::to_string(i));
  for (int i = 0; i < 4; ++i) REQUIRE(mesh.lists("reader", "d" + std::to_string(i), 3 * mb));
  for (int i = 0; i < 4; ++i) CHECK(mesh.curl("/files/d" + std::to_string(i)).out == all[static_cast<std::size_t>(i)]);
  const auto usage = json::parse(mesh.file("reader", {"cache", "--json"}).out);
  CHECK(usage.at("bytes").get<std::int64_t>() <= (keeps_none ? 0 : 4'500'000));
  CHECK(usage.at("most_bytes") == (keeps_none ? 0 : 4'000'000));
  CHECK(mesh.file("reader", {"cache", "--drop"}).status == 0);
  CHECK(json::parse(mesh.file("reader", {"cache", "--json"}).out).at("bytes") == 0);
  CHECK(partials(mesh, "reader") == 0);
  CHECK(mesh.curl("/files/d0").out == all[0]);
}

TEST_CASE("aria2 in eight parts, and clients that go away in the middle") {
  Gateways mesh;
  const auto bytes = noise(16 * mb, 9);
  mesh.has("disk.img", bytes);
  mesh.begin();
  mesh.hash("disk.img");
  REQUIRE(mesh.lists("reader", "disk.img", bytes.size()));
  for (int i = 0; i < 20; ++i)
    static_cast<void>(mesh.run({"curl", "-sS", "-o", "/dev/null", "--max-time", "0.05", mesh.url("/files/disk.img")}));
  const auto ran = mesh.run({"aria2c", "-q", "-x8", "-s8", "-k1M", "--no-conf", "-d", mesh.root().string(), "-o",
                             "out.img", mesh.url("/files/disk.img")});
  CHECK(ran.status == 0);
  CHECK(read_file(mesh.root() / "out.img") == bytes);
  CHECK(eventually([&] { return mesh.stats().at("http_connections") == 1; }));
}

TEST_CASE("a file that changes under an answer is cut off, and is not mixed with the new one") {
  Gateways mesh;
  const auto old = noise(64 * mb, 10);
  mesh.start_reader("reader");
  mesh.has("disk.img", old, "reader");
  REQUIRE(mesh.lists("reader", "disk.img", old.size()));
  const auto out = mesh.root() / "out.img";
  Ran ran;
  std::jthread reading([&] { ran = mesh.curl("/files/disk.img", {"--limit-rate", "20M", "-o", out.string()}); });
  REQUIRE(eventually([&] { return fs::exists(out) && fs::file_size(out) > mb; }));
  // In place: whoever has it open sees it.
  std::fstream(mesh.files("reader") / "disk.img", std::ios::in | std::ios::out | std::ios::binary) << "new";
  reading.join();
  CHECK((ran.status == 18 || ran.status == 56));  // not whole, or reset
  CHECK(fs::file_size(out) < old.size());
}

TEST_CASE("what was read first of an image is fetched ahead for the next one, and then the rest of it") {
  Gateways mesh;
  constexpr std::size_t grain = 65'536;
  const auto bytes = noise(300 * grain + 77, 9);
  mesh.has("vm.img", bytes);
  mesh.set_environment("source", {"MESH_TEST_QUIET_MS=1000"});
  mesh.set_environment("first", {"MESH_TEST_QUIET_MS=1000"});
  mesh.start_reader("source");
  mesh.start_reader("first");
  mesh.start_reader("second");
  mesh.hash("vm.img");
  for (const auto* reader : {"first", "second"}) REQUIRE(mesh.lists(reader, "vm.img", bytes.size()));
  // A copy is no profile, and nor is a look at the beginning.
  CHECK(mesh.curl("/files/vm.img", {"-r", "0-2000000"}, "second").out == bytes.substr(0, 2'000'001));
  REQUIRE(mesh.run({program("meshfile"), "--files", mesh.files("second").string(), "cache", "--drop"}).status == 0);
  std::set<std::size_t> read;
  for (std::size_t i = 0; i < 30; ++i) {
    const auto at = i == 0 ? 0 : (i * 97 % 280 + 10) * grain + 100;
    read.insert(at / grain);
    const auto range = std::to_string(at) + "-" + std::to_string(at + 999);
    REQUIRE(mesh.curl("/files/vm.img", {"-r", range}, "first").out == bytes.substr(at, 1000));
  }
  const auto knows = [&](const std::string& node) { return mesh.stats(node).at("profiles") == 1; };
  REQUIRE(eventually([&] { return knows("first") && knows("source"); }));
  CHECK(mesh.stats("second").at("profiles") == 0);
  mesh.stop_node("first", SIGTERM);

  const auto cached = [&] { return mesh.stats("second").at("bytes_cached").get<std::size_t>(); };
  CHECK(mesh.curl("/files/vm.img?prefetch=some", {"-o", "/dev/null", "-w", "%{http_code}"}, "second").out == "400");
  // It has the file open, and reads little of it.
  const auto open = [&] {
    auto where = mesh.listen("http of second");
    where.replace(where.find(':'), 1, "/");
    return mesh.start({"bash", "-c",
                       "exec 3<>/dev/tcp/" + where +
                           "; printf 'GET /files/vm.img?prefetch=boot HTTP/1.1\\r\\nHost: localhost\\r\\n"
                           "Range: bytes=0-65535\\r\\n\\r\\n' >&3; exec sleep 60"},
                      "client");
  };
  {
    const auto client = open();
    REQUIRE(eventually([&] { return cached() >= read.size() * grain; }));
    CHECK(cached() < 2 * read.size() * grain);
    CHECK(knows("second"));
  }
  mesh.stop_node("second", SIGTERM);
  mesh.set_environment("second", {"MESH_TEST_QUIET_MS=1500"});
  mesh.start_reader("second");
  {
    const auto client = open();
    REQUIRE(eventually([&] { return fs::exists(mesh.files("second") / "vm.img"); }));
  }
  CHECK(read_file(mesh.files("second") / "vm.img") == bytes);
}

TEST_CASE("a node and a tracker tell Prometheus how they are") {
  Gateways mesh;
  const auto bytes = noise(6 * mb, 4);
  mesh.has("a.img", bytes);
  mesh.has("small", "a few bytes");
  mesh.start_node("source");
  mesh.start_tracker({"--http", mesh.listen("http of tracker")});
  mesh.start_reader("reader");
  REQUIRE(mesh.lists("reader", "a.img", bytes.size()));
  REQUIRE(mesh.get("reader", {"a.img", "small"}).status == 0);
  const auto node = mesh.curl("/metrics").out;
  const auto tracker = mesh.curl("/metrics", {}, "tracker").out;
  const auto value = [](const std::string& text, const std::string& name) {
    const auto at = text.find("\n" + name + " ");
    return at == std::string::npos ? -1 : std::stod(text.substr(at + name.size() + 2));
  };
  CHECK(value(node, "meshswarm_received_bytes_total{source=\"mesh\"}") >= static_cast<double>(bytes.size()));
  CHECK(value(node, "meshswarm_files_received_total") == 2);
  CHECK(value(node, "meshswarm_mesh_reachable") == 1);
  CHECK(value(node, "meshswarm_entries") == 2);
  CHECK(value(node, "meshswarm_get_silence_seconds") == 0);
  CHECK(value(node, "meshswarm_tracker_registered{tracker=\"" + mesh.tracker() + "\"}") == 1);
  CHECK(value(node, "meshswarm_disk_free_bytes") > 0);
  CHECK(value(tracker, "meshswarm_tracker_nodes") == 2);
  CHECK(value(tracker, "meshswarm_tracker_paths") == 2);
  CHECK(eventually([&] {
    return value(mesh.curl("/metrics").out, "meshswarm_loop_latency_seconds_count") > 0 &&
           value(mesh.curl("/metrics", {}, "tracker").out, "meshswarm_request_seconds_count{request=\"resolve\"}") > 0;
  }));
  CHECK(json::parse(mesh.curl("/status.json").out).at("format") == 1);
  CHECK(json::parse(mesh.curl("/status.json", {}, "tracker").out).at("paths") == 2);
  CHECK(mesh.status("/metrics", {"-A", "Mozilla/5.0"}) == "401");
  CHECK(says(mesh.curl("/elsewhere", {}, "tracker").out, "/metrics"));
  // Every number that the dashboard and the alerts ask for is there, under that name.
  const auto contrib = fs::path(MESH_SOURCE_DIR) / "contrib";
  std::string rules = "groups: [{name: dashboard, rules: [";
  std::string asked = read_file(contrib / "prometheus-rules.yml");
  const auto dashboard = json::parse(read_file(contrib / "grafana-dashboard.json"));
  for (const auto& panel : dashboard.at("panels"))
    for (const auto& target : panel.at("targets")) {
      const auto query = target.at("expr").get<std::string>();
      rules +=
          "{record: 'a:b', labels: {n: '" + std::to_string(asked.size()) + "'}, expr: " + json(query).dump() + "}, ";
      asked += "\n" + query;
    }
  for (std::size_t at = 0; (at = asked.find("meshswarm_", at)) != std::string::npos;) {
    const auto end = asked.find_first_not_of("abcdefghijklmnopqrstuvwxyz_", at);
    auto name = asked.substr(at, end - at);
    at = end;
    if (name.ends_with("_bucket")) name.resize(name.size() - 7);
    INFO(name);
    CHECK((says(node, "# TYPE " + name + " ") || says(tracker, "# TYPE " + name + " ")));
  }
  if (mesh.run({"sh", "-c", "command -v promtool"}).status != 0) {
    WARN("SKIPPED: promtool is not installed");
    return;
  }
  write_file(mesh.root() / "dashboard.yml", rules + "]}]\n");
  write_file(mesh.root() / "metrics", node);
  write_file(mesh.root() / "metrics of tracker", tracker);
  for (const std::string& how : {"check metrics < '" + (mesh.root() / "metrics").string() + "'",
                                 "check metrics < '" + (mesh.root() / "metrics of tracker").string() + "'",
                                 "check rules '" + (mesh.root() / "dashboard.yml").string() + "' '" +
                                     (contrib / "prometheus-rules.yml").string() + "'",
                                 "test rules '" + (contrib / "prometheus-rules-test.yml").string() + "'"}) {
    const auto ran = mesh.run({"sh", "-c", "promtool " + how});
    INFO(how << "\n" << ran.out << ran.err);
    CHECK(ran.status == 0);
  }
}
