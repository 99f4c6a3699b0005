// Who may do what, on real processes: other users of the machine, members, outsiders. What they try runs as the user
// "nobody", for which these tests need root.
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "process.h"
#include "test.h"

using namespace mesh::test;
using nlohmann::json;
using std::chrono::seconds;

namespace {

constexpr std::size_t mb = 1 << 20;

bool is_root() {
  if (::geteuid() == 0) return true;
  WARN("skipped: needs root");
  return false;
}

bool says(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// Another user's command.
Ran as_nobody(const Mesh& mesh, std::vector<std::string> argv) {
  argv.insert(argv.begin(), {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"});
  return mesh.run(argv);
}
Ran python(const Mesh& mesh, const std::string& text, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"/usr/bin/python3", "-c", text});
  return as_nobody(mesh, arguments);
}

std::string port_of(const std::string& at) { return at.substr(at.rfind(':') + 1); }

mode_t mode_of(const fs::path& path) {
  struct stat s {};
  REQUIRE(::lstat(path.c_str(), &s) == 0);
  return s.st_mode & 07777;
}

}  // namespace

TEST_CASE("another user who owns the place where root's node would work has nothing deleted by it") {
  if (!is_root()) return;
  Mesh mesh;
  const auto victim = mesh.root() / "victim";
  write_file(victim / std::string(64, 'a'), "of root");
  write_file(victim / "thesis.tex", "of root");
  const auto place = mesh.root() / "theirs/files";
  fs::create_directories(place / ".mesh");
  fs::create_directory_symlink(victim, place / ".mesh/parts");
  REQUIRE(mesh.run({"chown", "-hR", "nobody:nogroup", (mesh.root() / "theirs").string()}).status == 0);
  const std::vector<std::string> seed = {"timeout",      "10",        program("meshseed"), "--files",
                                         place.string(), "--tracker", mesh.tracker()};
  const auto refused = mesh.run(seed);
  CHECK(refused.status == 2);
  CHECK(says(refused.err, "belongs to user nobody"));
  CHECK(says(refused.err, "chown root"));
  for (const char* command : {"meshget", "meshfile"}) {
    auto argv = std::vector<std::string>{program(command), "--files", place.string(), "--tracker", mesh.tracker()};
    if (std::string(command) == "meshfile")
      argv.emplace_back("status");
    else
      argv.emplace_back("x");
    CHECK(mesh.run(argv).status == 2);
  }
  CHECK(fs::exists(victim / std::string(64, 'a')));
  CHECK(fs::exists(victim / "thesis.tex"));
}

TEST_CASE("root's commands believe nobody who listens in the place of its node") {
  if (!is_root()) return;
  Mesh mesh;
  const auto state = mesh.files("n0") / ".mesh";
  fs::create_directories(state);
  ::chmod(state.c_str(), 0700);
  // Bound by root, served by another: as after a mistake of an administrator's.
  const auto server =
      mesh.start({"/usr/bin/python3", "-c",
                  "import os,socket,sys,time\n"
                  "s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); os.chmod(sys.argv[1],0o666)\n"
                  "os.setgid(65534); os.setuid(65534); s.listen(); print('ready',flush=True); time.sleep(60)",
                  (state / "control").string()},
                 "fake");
  REQUIRE(eventually([&] { return says(mesh.log("fake"), "ready"); }));
  const auto ran = mesh.file("n0", {"status"});
  CHECK(ran.status == 5);
  CHECK(says(ran.err, "user 65534"));
  CHECK(mesh.get("n0", {"--tracker", mesh.tracker(), "tar:x.tgz"}).status == 5);
}

TEST_CASE("a configuration file of another user's says nothing to root's programs, unless it is named") {
  if (!is_root()) return;
  Mesh mesh;
  const auto config = mesh.root() / ".config/mesh.conf";
  write_file(config, "files = \"" + mesh.files("n0").string() + "\"\n");
  REQUIRE(mesh.run({"chown", "nobody", config.string()}).status == 0);
  const auto ran = mesh.run({program("meshfile"), "status"});
  CHECK(ran.status == 2);
  CHECK(says(ran.err, "belongs to user nobody"));
  CHECK(mesh.run({program("meshfile"), "--config", config.string(), "status"}).status == 4);
}

TEST_CASE("--control takes the place of a socket of its own and of nothing else") {
  Mesh mesh;
  const auto control = mesh.root() / "run/control";
  write_file(control, "somebody's file");
  const auto ran = mesh.run({"timeout", "10", program("meshseed"), "--files", mesh.files("n0").string(), "--control",
                             control.string(), "--tracker", mesh.tracker()});
  CHECK(ran.status == 1);
  CHECK(read_file(control) == "somebody's file");
  fs::remove(control);
  mesh.start_node("n0", {"--control", control.string()});
  mesh.stop_node("n0", SIGKILL);
  mesh.start_node("n0", {"--control", control.string()});
  CHECK(mesh.file("n0", {"--control", control.string(), "status"}).status == 0);
}

TEST_CASE("what a cleaner of /tmp takes from a running node comes back") {
  Mesh mesh;
  write_file(mesh.files("n0") / "x", noise(300'000, 1));
  mesh.start_node("n0");
  mesh.start_node("n1");
  const auto identity = read_file(mesh.files("n1") / ".mesh/identity");
  REQUIRE(eventually([&] {
    std::error_code busy;  // it may be looking after it in this moment
    fs::remove_all(mesh.files("n1") / ".mesh", busy);
    return !busy;
  }));
  REQUIRE(eventually([&] { return says(mesh.log("n1"), "somebody took away"); }));
  CHECK(mesh.get("n1", {"x"}).status == 0);
  CHECK(read_file(mesh.files("n1") / ".mesh/identity") == identity);
  const auto second = mesh.run(
      {"timeout", "20", program("meshseed"), "--files", mesh.files("n1").string(), "--tracker", mesh.tracker()});
  CHECK(second.status == 1);
  CHECK(says(second.err, "another node runs here already"));
}

TEST_CASE(
    "without a key another user of the machine gets no answer, no channel and no piece, even if he closes at once") {
  if (!is_root()) return;
  Mesh mesh;
  write_file(mesh.files("n0") / "x", noise(3 * mb, 1));
  ::chmod((mesh.files("n0") / "x").c_str(), 0600);
  mesh.start_node("n0");
  mesh.start_node("n1");
  CHECK(mesh.get("n1", {"x"}).status == 0);
  const auto infohash = json::parse(mesh.file("n0", {"status", "--json"}).out)
                            .at(0)
                            .at("transfers")
                            .at(0)
                            .at("infohash")
                            .get<std::string>();
  const auto tracker = "http://" + mesh.tracker();
  CHECK(mesh.run({"curl", "-sf", tracker + "/healthz"}).status == 0);
  CHECK(as_nobody(mesh, {"curl", "-sf", tracker + "/healthz"}).status == 22);
  const auto channel_port = std::to_string(std::stoi(port_of(mesh.listen("n0"))) + 1);
  const std::string upgrade = R"py(
import base64, os, socket, sys
def ask(port, path, more=""):
    s = socket.create_connection(("127.0.0.1", int(port)), 5)
    s.sendall((f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n{more}\r\n").encode())
    return s.recv(100).split(b"\r\n")[0].decode()
print(ask(sys.argv[1], sys.argv[2], sys.argv[3].replace("|", "\r\n")))
)py";
  for (const auto& [port, path] :
       {std::pair(port_of(mesh.tracker()), std::string("/control")), {channel_port, "/node"}}) {
    CHECK(says(python(mesh, upgrade, {port, path, ""}).out, " 403 "));
    CHECK(says(mesh.run({"/usr/bin/python3", "-c", upgrade, port, path, ""}).out, " 101 "));
    // A page in a browser of the same user's.
    CHECK(says(mesh.run({"/usr/bin/python3", "-c", upgrade, port, path, "Origin: http://evil.example|"}).out, " 403 "));
  }
  // A name of the page's own choice that leads here.
  CHECK(mesh.run({"curl", "-sf", "-H", "Host: evil.example:1", tracker + "/healthz"}).status == 22);
  // Sent, and closed before it can be asked whose it is.
  const std::string announce = R"py(
import socket, sys
for i in range(50):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
    s.sendall(f"GET /announce?info_hash={sys.argv[2]}&port={7000+i}&left=0&event=completed HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    s.close()
)py";
  std::string escaped;
  for (std::size_t i = 0; i < infohash.size(); i += 2) escaped += "%" + infohash.substr(i, 2);
  CHECK(python(mesh, announce, {port_of(mesh.tracker()), escaped}).status == 0);
  const auto scraped = mesh.run({"curl", "-s", tracker + "/scrape?info_hash=" + escaped}).out;
  CHECK(says(scraped, "10:downloadedi0e"));
  // As a peer.
  const std::string peer = R"py(
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
s.settimeout(5)
s.sendall(b"\x13BitTorrent protocol" + bytes(8) + bytes.fromhex(sys.argv[2]) + b"-XX0000-123456789012")
try: print(len(s.recv(1000)))
except (ConnectionError, TimeoutError): print(0)
)py";
  CHECK(python(mesh, peer, {port_of(mesh.listen("n0")), infohash}).out == "0\n");
  CHECK(mesh.run({"/usr/bin/python3", "-c", peer, port_of(mesh.listen("n0")), infohash}).out != "0\n");
}

TEST_CASE("without a key a node tells nothing to a tracker of another user's") {
  if (!is_root()) return;
  Mesh mesh;
  const auto other = mesh.run({"/usr/bin/python3", "-c",
                               "import socket; s=socket.socket(); s.bind(('127.0.0.1',0)); print(s.getsockname()[1])"})
                         .out;
  const auto at = "127.0.0.1:" + other.substr(0, other.size() - 1);
  // Nobody may not read where the programs are built, but can run what is open already.
  const auto copy = fs::temp_directory_path() / ("meshswarm-trust-" + std::to_string(::getpid()));
  fs::copy_file(program("meshtracker"), copy, fs::copy_options::overwrite_existing);
  ::chmod(copy.c_str(), 0755);
  const auto tracker = mesh.start(
      {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", copy.string(), "--open", "--listen", at},
      "theirs");
  REQUIRE(eventually([&] { return says(mesh.log("theirs"), "listening"); }));
  write_file(mesh.files("n0") / "x", "x");
  mesh.start_node_with("n0", {"--tracker", at}, "is at its other end");
  CHECK(says(mesh.run({"curl", "-s", "http://" + at + "/healthz"}).out, "nodes=0"));
  fs::remove(copy);
}

TEST_CASE(
    "directories arrive with the modes that they have, stay closed until the end, and what was here keeps its own") {
  Mesh mesh;
  write_file(mesh.files("n0") / "priv/deep/a", "a");
  write_file(mesh.files("n0") / "priv/b", "b");
  write_file(mesh.files("n0") / "open/c", "c");
  ::chmod((mesh.files("n0") / "priv").c_str(), 0700);
  ::chmod((mesh.files("n0") / "priv/deep").c_str(), 0750);
  ::chmod((mesh.files("n0") / "open").c_str(), 01777);
  ::chmod((mesh.files("n0") / "open/c").c_str(), 0666);
  for (const char* node : {"n0", "n1"}) mesh.start_node(node);
  CHECK(mesh.get("n1", {"priv/deep/a", "open"}).status == 0);
  CHECK(mode_of(mesh.files("n1") / "priv") == 0700);
  CHECK(mode_of(mesh.files("n1") / "priv/deep") == 0750);
  CHECK(mode_of(mesh.files("n1") / "open") == 01775);
  CHECK(mode_of(mesh.files("n1") / "open/c") == 0664);
  fs::create_directories(mesh.files("n2") / "priv");
  ::chmod((mesh.files("n2") / "priv").c_str(), 0711);
  mesh.start_node("n2");
  CHECK(mesh.get("n2", {"--from", "n0", "priv"}).status == 0);
  CHECK(mode_of(mesh.files("n2") / "priv") == 0711);
  CHECK(mode_of(mesh.files("n2") / "priv/deep") == 0750);
  CHECK(mesh.get("n2", {"--no-preserve-modes", "open"}).status == 0);
  CHECK(mode_of(mesh.files("n2") / "open/c") == 0644);
  // Nor does a directory that came from here come back with other modes.
  CHECK(mesh.get("n0", {"--from", "n2", "priv"}).status == 0);
  CHECK(mode_of(mesh.files("n0") / "priv") == 0700);
  // Through a link nobody's directory is touched.
  fs::create_directories(mesh.root() / "else");
  ::chmod((mesh.root() / "else").c_str(), 0700);
  fs::create_directory_symlink(mesh.root() / "else", mesh.files("n1") / "far");
  fs::create_directories(mesh.files("n0") / "far");
  REQUIRE(mesh.lists("n0", "open/c", 1));
  CHECK(mesh.get("n1", {"far"}).status == 1);
  CHECK(mode_of(mesh.root() / "else") == 0700);
}

TEST_CASE("what a node ignores, or has unpacked, is given to nobody who knows its name, nor by a link") {
  Mesh mesh;
  write_file(mesh.files("n0") / "secret.key", "secret");
  write_file(mesh.files("n0") / "big.key", noise(2 * mb, 1));
  fs::create_symlink("secret.key", mesh.files("n0") / "link");
  write_file(mesh.files("n0") / "top/etc/shadow", "secret");
  REQUIRE(
      mesh.run({"tar", "-C", mesh.files("n0").string(), "-czf", (mesh.files("n0") / "t.tgz").string(), "top"}).status ==
      0);
  fs::remove_all(mesh.files("n0") / "top");
  mesh.start_node("n0", {"--ignore", "*.key"});
  mesh.start_node("n1");
  REQUIRE(mesh.get("n0", {"tar:t.tgz"}).status == 0);
  REQUIRE(fs::exists(mesh.files("n0") / "top/etc/shadow"));
  fs::create_symlink("top/etc/shadow", mesh.files("n0") / "in-tree");
  for (const char* path : {"secret.key", "big.key", "top/etc/shadow"}) CHECK(mesh.get("n1", {path}).status == 3);
  for (const char* path : {"link", "in-tree"}) {
    static_cast<void>(mesh.get("n1", {path}));
    CHECK_FALSE(says(read_file(mesh.files("n1") / path), "secret"));
  }
}

TEST_CASE(
    "orders of other nodes: no password of this machine's, nothing that it alone reaches, no replacing where nothing "
    "is to be deleted") {
  Mesh mesh;
  write_file(mesh.files("n0") / "x", "new");
  write_file(mesh.files("n1") / "x", "made here");
  mesh.start_node("n0");
  // An origin that says what it was told.
  const auto origin = mesh.start(
      {"/usr/bin/python3", "-u", "-c",
       "import http.server\n"
       "class H(http.server.BaseHTTPRequestHandler):\n"
       "  def do_GET(self):\n"
       "    if self.path=='/away': self.send_response(302); "
       "self.send_header('Location','http://localhost:%d/there'%self.server.server_port); self.end_headers(); return\n"
       "    b=(self.headers.get('Authorization') or 'none').encode(); self.send_response(200); "
       "self.send_header('Content-Length',str(len(b))); self.end_headers(); self.wfile.write(b)\n"
       "  def log_message(self,*a): pass\n"
       "s=http.server.ThreadingHTTPServer(('127.0.0.1',0),H); print('port',s.server_port,'.'); s.serve_forever()\n"},
      "origin");
  REQUIRE(eventually([&] { return says(mesh.log("origin"), " ."); }));
  const auto said = mesh.log("origin");
  const auto at = "http://127.0.0.1:" + said.substr(5, said.find(" .") - 5);
  write_file(mesh.root() / ".netrc", "machine 127.0.0.1 login u password p\nmachine localhost login u password p\n");
  ::chmod((mesh.root() / ".netrc").c_str(), 0600);
  mesh.start_node("n1", {"--refuse", "delete"});
  // Its own user's get has the password for the host that was named, and not for the one that this led to.
  CHECK(mesh.get("n1", {at + "/own"}).status == 0);
  CHECK(says(read_file(mesh.files("n1") / "own"), "Basic"));
  CHECK(mesh.get("n1", {at + "/away"}).status == 0);
  CHECK(read_file(mesh.files("n1") / "away") == "none");
  // An order is not for what only this machine reaches.
  const auto ordered = mesh.file("n0", {"get", "--on", "n1", at + "/ordered"});
  // What fails within a second is told at once.
  const auto waited = ordered.status != 0 ? ordered : mesh.file("n0", {"wait", "--on", "n1", at + "/ordered"});
  CHECK(waited.status == 5);
  CHECK(says(waited.err, "--local-urls"));
  mesh.stop_node("n1", SIGTERM);
  mesh.start_node("n1", {"--local-urls", "--refuse", "delete"});
  CHECK(mesh.file("n0", {"get", "--on", "n1", at + "/allowed"}).status == 0);
  CHECK(mesh.file("n0", {"wait", "--on", "n1", at + "/allowed"}).status == 0);
  CHECK(read_file(mesh.files("n1") / "allowed") == "none");
  const auto forced = mesh.file("n0", {"get", "--on", "n1", "--force", "x"});
  CHECK(forced.status == 5);
  CHECK(read_file(mesh.files("n1") / "x") == "made here");
  mesh.stop_node("n1", SIGTERM);
  mesh.start_node("n1", {"--local-urls", "--refuse", "url"});
  CHECK(mesh.file("n0", {"get", "--on", "n1", at + "/refused"}).status == 5);
  // Nothing of a password stays when the get is over.
  CHECK(mesh.get("n1", {"http://user:pa55word@" + at.substr(7) + "/with"}).status == 0);
  for (const auto& item : fs::directory_iterator(mesh.files("n1") / ".mesh"))
    if (item.is_regular_file()) CHECK_FALSE(says(read_file(item.path()), "pa55word"));
}

TEST_CASE("names with control characters reach no terminal, and stdout only where that is safe") {
  Mesh mesh;
  const std::string name = "two\nlines\x1b[2J";
  write_file(mesh.files("n0") / "d" / name, "x");
  mesh.start_node("n0");
  mesh.start_node("n1");
  const auto plain = mesh.get("n1", {"d/**"});
  CHECK(plain.status == 0);
  CHECK(plain.out.empty());
  CHECK(says(plain.err, "--print0"));
  CHECK_FALSE(says(plain.err, "\x1b"));
  CHECK(mesh.get("n1", {"--print0", "d/**"}).out == (mesh.files("n1") / "d" / name).string() + '\0');
  const auto bad = mesh.run({"timeout", "10", program("meshseed"), "--files", mesh.files("n2").string(), "--tracker",
                             mesh.tracker(), "--name", "a\x1b[2Jb"});
  CHECK(bad.status == 2);
  CHECK_FALSE(says(bad.err, "\x1b"));
}

TEST_CASE("a delete stays on its file system") {
  if (!is_root()) return;
  Mesh mesh;
  write_file(mesh.root() / "other/kept", "x");
  write_file(mesh.files("n0") / "dir/gone", "x");
  fs::create_directories(mesh.files("n0") / "dir/mount");
  if (::mount((mesh.root() / "other").c_str(), (mesh.files("n0") / "dir/mount").c_str(), nullptr, MS_BIND, nullptr) !=
      0) {
    WARN("skipped: cannot mount here");
    return;
  }
  const std::shared_ptr<void> unmounted(
      nullptr, [&](void*) { ::umount2((mesh.files("n0") / "dir/mount").c_str(), MNT_DETACH); });
  mesh.start_node("n0");
  const auto ran = mesh.file("n0", {"delete", "dir"});
  CHECK(ran.status == 1);
  CHECK(says(ran.err, "something is mounted here"));
  CHECK(fs::exists(mesh.root() / "other/kept"));
  CHECK_FALSE(fs::exists(mesh.files("n0") / "dir/gone"));
}

TEST_CASE(
    "outsiders at the guests' port keep no member from its peers, and a guest's torrent is for its owner to hand on") {
  Mesh mesh;
  const auto key = (mesh.root() / "mesh.key").string();
  REQUIRE(mesh.run({"/bin/sh", "-c", "\"$0\" new > \"$1\"", program("meshkey"), key}).status == 0);
  mesh.close(key);
  const auto bytes = noise(6 * mb, 1);
  write_file(mesh.files("n0") / "private.img", bytes);
  ::chmod((mesh.files("n0") / "private.img").c_str(), 0600);
  mesh.start_node("n0", {"--max-peers", "20"});
  mesh.start_node("n1");
  const auto torrent = mesh.root() / "private.img.torrent";
  const auto issued = mesh.file("n0", {"torrent", "--for", "1h", "private.img"});
  CHECK(issued.status == 0);
  CHECK(issued.out == torrent.string() + "\n");
  CHECK(mode_of(torrent) == 0600);
  const auto status = json::parse(mesh.file("n0", {"status", "--json"}).out).at(0).at("transfers");
  REQUIRE(status.size() == 1);
  CHECK(status.at(0).at("state") == "guest");
  CHECK(status.at(0).at("infohash") == "");
  const auto log = mesh.log("n0");
  const auto mark = log.find("peers on port ", log.find("guest torrent"));
  REQUIRE(mark != std::string::npos);
  const auto port = std::to_string(std::stoi(log.substr(mark + 14)));
  const auto crowd = mesh.start({"/usr/bin/python3", "-u", "-c",
                                 "import socket,sys,time\n"
                                 "all=[socket.create_connection(('127.0.0.1',int(sys.argv[1])),5) for i in range(40)]\n"
                                 "print('connected'); time.sleep(60)",
                                 port},
                                "crowd");
  REQUIRE(eventually([&] { return says(mesh.log("crowd"), "connected"); }));
  CHECK(mesh.get("n1", {"private.img"}, seconds(40)).status == 0);
  CHECK((read_file(mesh.files("n1") / "private.img") == bytes));
  CHECK(eventually([&] { return says(mesh.log("n0"), "hung up on"); }));
}

TEST_CASE("in a mesh with a key a head is one that the key file names") {
  Mesh mesh;
  const auto key = mesh.root() / "mesh.key";
  REQUIRE(mesh.run({"/bin/sh", "-c", "\"$0\" new > \"$1\"", program("meshkey"), key.string()}).status == 0);
  fs::create_directories(mesh.files("n0"));
  const auto id = mesh.run({program("meshseed"), "--files", mesh.files("n0").string(), "--print-identity"}).out;
  REQUIRE(id.size() == 33);
  write_file(key, read_file(key) + "head = " + id);
  mesh.close(key.string());
  write_file(mesh.files("n0") / "x", "of the head");
  write_file(mesh.files("n1") / "x", "newer, of one that says that it is one");
  fs::last_write_time(mesh.files("n0") / "x", fs::file_time_type::clock::now() - std::chrono::hours(1));
  mesh.start_node("n0");
  mesh.start_node("n1", {"--head"});
  mesh.start_node("n2");
  CHECK(says(mesh.log("n1"), "--head does not count"));
  CHECK(mesh.get("n2", {"x"}).status == 0);
  CHECK(read_file(mesh.files("n2") / "x") == "of the head");
}
