// A mesh with a key, on whole swarms of real processes on loopback: who has it is a member, and everybody else gets
// nothing. The attackers are openssl, curl and aria2, a program of other keys, and raw sockets.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>

#include "process.h"
#include "test.h"

using namespace mesh::test;
using nlohmann::json;
using std::chrono::seconds;

namespace {

constexpr std::size_t mb = 1 << 20;

class Key {
 public:
  Key(const Mesh& mesh, const std::string& name) : path_(mesh.root() / name) {
    const auto ran = mesh.run({"/bin/sh", "-c", "\"$0\" new > \"$1\"", program("meshkey"), path_.string()});
    REQUIRE(ran.status == 0);
    REQUIRE((fs::status(path_).permissions() & fs::perms::others_all) == fs::perms::none);
  }
  [[nodiscard]] std::string path() const { return path_.string(); }
  [[nodiscard]] std::string line() const { return read_file(path_); }

 private:
  fs::path path_;
};

/// Sends `bytes` to a port on loopback and returns what comes back until the other side closes or is silent.
std::string exchange(const std::string& at, const std::string& bytes, std::chrono::milliseconds silence) {
  const auto colon = at.find(':');
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(at.substr(colon + 1))));
  ::inet_pton(AF_INET, at.substr(0, colon).c_str(), &to.sin_addr);
  std::string out;
  if (::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0) {
    static_cast<void>(!::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL));
    char buffer[4096];
    pollfd waits{fd, POLLIN, 0};
    while (::poll(&waits, 1, static_cast<int>(silence.count())) > 0) {
      const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
      if (n <= 0) break;
      out.append(buffer, static_cast<std::size_t>(n));
    }
  }
  ::close(fd);
  return out;
}

std::string unhex(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    out.push_back(static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return out;
}

std::string next_port(const std::string& at) {
  const auto colon = at.find(':');
  return at.substr(0, colon + 1) + std::to_string(std::stoi(at.substr(colon + 1)) + 1);
}

/// Of the torrent that this node has loaded.
std::string infohash_at(const Mesh& mesh, const std::string& node) {
  const auto transfers = json::parse(mesh.file(node, {"status", "--json"}).out).at(0).at("transfers");
  return transfers.empty() ? std::string() : transfers.at(0).at("infohash").get<std::string>();
}

}  // namespace

TEST_CASE("a closed mesh does all that an open one does") {
  Mesh mesh;
  const Key key(mesh, "mesh.key");
  mesh.close(key.path());
  const auto bytes = noise(6 * mb, 1);
  write_file(mesh.files("n0") / "x", bytes);
  write_file(mesh.files("n0") / "dir/small", "small");
  REQUIRE(
      mesh.run({"tar", "-C", mesh.files("n0").string(), "-czf", (mesh.files("n0") / "t.tgz").string(), "dir"}).status ==
      0);
  for (const char* node : {"n0", "n1", "n2"}) mesh.start_node(node);
  CHECK(mesh.get("n1", {"x", "dir"}).status == 0);
  CHECK((read_file(mesh.files("n1") / "x") == bytes));
  CHECK(read_file(mesh.files("n1") / "dir/small") == "small");
  CHECK((mesh.file("n2", {"stream", "x"}).out == bytes));
  CHECK(mesh.get("n2", {"tar:t.tgz"}).status == 0);
  CHECK(read_file(mesh.files("n2") / "dir/small") == "small");
  CHECK(mesh.file("n2", {"get", "--on", "n1", "t.tgz"}).status == 0);
  CHECK(eventually([&] { return fs::exists(mesh.files("n1") / "t.tgz"); }));
  CHECK(json::parse(mesh.file("n2", {"status", "--mesh", "--json"}).out).size() == 3);
  CHECK(mesh.file("n2", {"delete", "--mesh", "dir"}).status == 0);
  CHECK_FALSE(fs::exists(mesh.files("n0") / "dir/small"));
  // Without its tracker as well.
  REQUIRE(eventually([&] {
    return json::parse(mesh.file("n2", {"status", "--json"}).out).at(0).at("members_known") >= 2;
  }));
  mesh.stop_tracker(SIGKILL);
  CHECK(mesh.get("n2", {"x"}).status == 0);
  CHECK((read_file(mesh.files("n2") / "x") == bytes));
}

TEST_CASE("an outsider gets no byte, no name and no list of members") {
  Mesh mesh;
  const Key key(mesh, "mesh.key");
  const Key other(mesh, "other.key");
  mesh.close(key.path());
  const auto bytes = noise(16 * mb, 1);
  write_file(mesh.files("n0") / "secret.img", bytes);
  mesh.start_node("n0", {"--max-up", megabytes_a_second(4)});
  mesh.start_node("n1");
  auto get = mesh.start(
      {program("meshget"), "--key", key.path(), "--files", mesh.files("n1").string(), "--quiet", "secret.img"}, "get");
  // A live swarm, whose infohash the outsider knows.
  std::string infohash;
  REQUIRE(eventually([&] { return !(infohash = infohash_at(mesh, "n0")).empty(); }));
  const auto peer = mesh.listen("n0");
  const auto channel = next_port(peer);

  SECTION("with this project's programs") {
    mesh.use_key("");
    const auto nowhere = (mesh.root() / "nowhere").string();
    for (const std::vector<std::string>& keyed : {std::vector<std::string>{}, {"--key", other.path()}}) {
      auto argv = std::vector<std::string>{program("meshfile"), "--files", nowhere, "--tracker", mesh.tracker()};
      argv.insert(argv.end(), keyed.begin(), keyed.end());
      for (const std::vector<std::string>& what :
           {std::vector<std::string>{"list"}, {"status", "--mesh"}, {"delete", "--mesh", "secret.img"}}) {
        auto line = argv;
        line.insert(line.end(), what.begin(), what.end());
        const auto ran = mesh.run(line);
        INFO(ran.out + ran.err);
        CHECK(ran.status == 4);
        CHECK(ran.out.find("secret") == std::string::npos);
        CHECK(ran.err.find("key") != std::string::npos);
      }
    }
    mesh.use_key(other.path());
    mesh.start_node_with("thief", {"--tracker", mesh.tracker(), "--peer", peer}, "not of this mesh");
    CHECK(json::parse(mesh.run({program("meshfile"), "--key", key.path(), "--files", mesh.files("n1").string(),
                                "status", "--mesh", "--json"})
                          .out)
              .size() == 2);
  }
  SECTION("with HTTP and WebSocket") {
    for (const auto& at : {mesh.tracker(), channel})
      for (const char* path : {"/control", "/node", "/announce?info_hash=x", "/scrape", "/x/announce", "//announce"}) {
        const auto plain = mesh.run({"curl", "-s", "-i", "-m", "5", "http://" + at + path}).out;
        INFO(at + path + ": " + plain);
        // A node's /announce is its guests', of whom there are none.
        CHECK((plain.find("HTTP/1.1 40") == 0 || plain.find("failure reason") != std::string::npos));
        const auto upgrade = mesh.run({"curl", "-s", "-i", "-m", "5", "-H", "Connection: Upgrade", "-H",
                                       "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13", "-H",
                                       "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "http://" + at + path})
                                 .out;
        CHECK(upgrade.find("HTTP/1.1 403") == 0);
      }
    CHECK(mesh.run({"curl", "-s", "http://" + mesh.tracker() + "/healthz"}).out == "ok\n");
  }
  SECTION("with TLS") {
    for (const auto& at : {mesh.tracker(), channel}) {
      const std::vector<std::vector<std::string>> tries = {
          {"-tls1_3"},
          {"-tls1_2"},
          {"-tls1_3", "-psk", std::string(64, '0'), "-psk_identity", "Client_identity"},
          {"-tls1_2", "-psk", std::string(64, '0'), "-cipher", "PSK"}};
      for (const auto& one : tries) {
        std::string line = "echo | openssl s_client -connect " + at;
        for (const auto& word : one) line += " " + word;
        const auto ran = mesh.run({"/bin/sh", "-c", line});
        INFO(line + "\n" + ran.out);
        CHECK(ran.out.find("Cipher is (NONE)") != std::string::npos);
      }
    }
    // The peers' port, by the swarm's name: without a certificate, and with one of the outsider's own.
    REQUIRE(mesh.run({"openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=mesh", "-addext",
                      "subjectAltName=DNS:*", "-keyout", "thief.pem", "-out", "thief.crt"})
                .status == 0);
    for (const std::string& with : {std::string(), std::string(" -cert thief.crt -key thief.pem")}) {
      const auto ran =
          mesh.run({"/bin/sh", "-c",
                    "(printf '\\023BitTorrent protocol\\0\\0\\0\\0\\0\\0\\0\\0'; sleep 1) | openssl s_client -quiet "
                    "-connect " +
                        peer + " -servername " + infohash + with});
      INFO(ran.out + ran.err);
      CHECK(ran.out.find("BitTorrent") == std::string::npos);
      CHECK(ran.err.find("alert") != std::string::npos);
    }
  }
  SECTION("with BitTorrent") {
    // A handshake in plain text, with the right infohash.
    CHECK(exchange(peer,
                   "\x13"
                   "BitTorrent protocol" +
                       std::string(8, '\0') + unhex(infohash) + std::string(20, 'x'),
                   std::chrono::milliseconds(3000))
              .find("BitTorrent") == std::string::npos);
    const auto aria = mesh.run({"timeout", "8", "aria2c", "-d", mesh.root().string(), "--enable-dht=false",
                                "--bt-stop-timeout=4", "magnet:?xt=urn:btih:" + infohash + "&x.pe=" + peer});
    CHECK(aria.status != 0);
  }
  SECTION("with many connections that say nothing") {
    std::vector<int> idle;
    for (int i = 0; i < 300; ++i) {
      const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_in to{};
      to.sin_family = AF_INET;
      to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(peer.substr(peer.find(':') + 1))));
      to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      CHECK(::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
      idle.push_back(fd);
    }
    CHECK(eventually([&] { return mesh.log("n0").find("did not prove the mesh key") != std::string::npos; }));
    CHECK(eventually([&] {
      return std::ranges::all_of(idle, [](int fd) {
        char byte = 0;
        return ::recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
      });
    }));
    for (const int fd : idle) ::close(fd);
  }
  SECTION("with noise, and with what a member said before") {
    // What members say, recorded on its way to the tracker.
    const auto recorded = mesh.root() / "recorded";
    const int port = std::stoi(mesh.listen("proxy").substr(10));
    auto proxy = mesh.start({"python3", "-c",
                             "import socket,sys,threading\n"
                             "s=socket.socket(); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1); "
                             "s.bind(('127.0.0.1',int(sys.argv[1]))); s.listen()\n"
                             "print('ready',flush=True)\n"
                             "c,_=s.accept(); h,p=sys.argv[2].split(':'); t=socket.create_connection((h,int(p)))\n"
                             "f=open(sys.argv[3],'wb')\n"
                             "def back():\n"
                             " while d:=t.recv(65536): c.sendall(d)\n"
                             "threading.Thread(target=back,daemon=True).start()\n"
                             "while d:=c.recv(65536): f.write(d); f.flush(); t.sendall(d)\n",
                             std::to_string(port), mesh.tracker(), recorded.string()},
                            "proxy");
    REQUIRE(eventually([&] { return mesh.log("proxy").find("ready") != std::string::npos; }));
    const auto listed =
        mesh.run({program("meshfile"), "--key", key.path(), "--files", (mesh.root() / "nobody").string(), "--tracker",
                  "127.0.0.1:" + std::to_string(port), "list"});
    REQUIRE(listed.out.find("secret.img") != std::string::npos);
    const auto said = read_file(recorded);
    REQUIRE(said.size() > 300);
    CHECK(said.find("secret") == std::string::npos);
    const auto again = exchange(mesh.tracker(), said, std::chrono::milliseconds(1000));
    CHECK(again.find("secret") == std::string::npos);
    // An answer to the hello, encrypted for whom it was, and an alert; not the list.
    CHECK(again.size() < 400);
    std::mt19937 random(1);
    for (int i = 0; i < 300; ++i) {
      auto bad = said.substr(0, 1 + random() % said.size());
      for (int flips = 0; flips < 3; ++flips) bad[random() % bad.size()] = static_cast<char>(random());
      for (const auto& at : {mesh.tracker(), channel, peer})
        static_cast<void>(exchange(at, bad, std::chrono::milliseconds(0)));
    }
  }
  // Nothing of it harmed anybody.
  CHECK(get->wait(seconds(60)) == 0);
  CHECK((read_file(mesh.files("n1") / "secret.img") == bytes));
  CHECK((read_file(mesh.files("n0") / "secret.img") == bytes));
}

TEST_CASE("a node whose clock stands at 1970 gets large files as any other does") {
  Mesh mesh;
  const Key key(mesh, "key");
  mesh.close(key.path());
  write_file(mesh.files("n0") / "x", noise(3 * mb, 1));
  mesh.start_node("n0");
  mesh.set_environment("n1", {std::string("LD_PRELOAD=") + MESH_FAULT_SHIM, "ASAN_OPTIONS=verify_asan_link_order=0",
                              "MESH_FAULT_CLOCK=86400"});
  mesh.start_node("n1");
  CHECK(mesh.get("n1", {"x"}).status == 0);
  CHECK((read_file(mesh.files("n1") / "x") == noise(3 * mb, 1)));
}

TEST_CASE("keys are changed one node at a time, and gets go on meanwhile") {
  Mesh mesh;
  const Key before(mesh, "before");
  const Key after(mesh, "after");
  const auto write_keys = [&](const std::string& name, const std::string& lines) {
    const auto path = mesh.root() / name;
    write_file(path, lines);
    fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
    return path.string();
  };
  const auto add = write_keys("add", before.line() + after.line());
  const auto swap = write_keys("swap", after.line() + before.line());
  mesh.close(add);
  // One node in each state of the change, with a tracker in the middle of it.
  std::vector<std::pair<std::string, std::string>> nodes = {
      {"n0", before.path()}, {"n1", add}, {"n2", swap}, {"n3", add}, {"n4", swap}};
  for (const auto& [node, keys] : nodes) {
    write_file(mesh.files(node) / ("of-" + node), noise(2 * mb, std::stoul(node.substr(1))));
    mesh.use_key(keys);
    mesh.start_node(node);
  }
  for (const auto& [node, keys] : nodes) {
    mesh.use_key(keys);
    for (const auto& [from, ignored] : nodes) {
      if (from == node) continue;
      // Who has the old key alone does not get what began under the new one.
      const bool apart = (node == "n0" && (from == "n2" || from == "n4"));
      if (apart) continue;
      INFO(node + " from " + from);
      const auto ran = mesh.get(node, {"of-" + from});
      INFO(ran.err);
      CHECK(ran.status == 0);
      CHECK((read_file(mesh.files(node) / ("of-" + from)) == read_file(mesh.files(from) / ("of-" + from))));
    }
  }
}

TEST_CASE("guest torrents: other clients get that file from that node, for that time, and nothing else") {
  Mesh mesh;
  const Key key(mesh, "mesh.key");
  mesh.close(key.path());
  const auto bytes = noise(3 * mb, 1);
  write_file(mesh.files("n0") / "vm/disk.img", bytes);
  mesh.start_node("n0");
  mesh.start_node("n1");
  const auto torrent = mesh.root() / "guest.torrent";
  CHECK(mesh.file("n0", {"torrent", "vm/disk.img"}).status == 5);
  CHECK(mesh.file("n1", {"torrent", "--for", "1h", "vm/disk.img"}).status == 3);
  CHECK(mesh.file("n0", {"torrent", "--for", "soon", "vm/disk.img"}).status == 2);
  CHECK(mesh.file("n0", {"torrent", "--for", "40d", "vm/disk.img"}).status == 2);
  const auto issued = mesh.file("n0", {"torrent", "--for", "1h", "-o", torrent.string(), "vm/disk.img"});
  INFO(issued.err);
  CHECK(issued.status == 0);
  write_file(mesh.files("n0") / "new", "what else happens here does not end it");
  REQUIRE(mesh.lists("n1", "new", 38));
  const auto download = [&](const std::string& to) {
    return mesh.run({"timeout", "20", "aria2c", "-d", (mesh.root() / to).string(), "--seed-time=0",
                     "--enable-dht=false", "--bt-stop-timeout=8", torrent.string()});
  };
  CHECK(download("outside").status == 0);
  CHECK((read_file(mesh.root() / "outside/disk.img") == bytes));
  // Members have it by the mesh's own swarm meanwhile.
  CHECK(mesh.get("n1", {"vm/disk.img"}).status == 0);
  CHECK((read_file(mesh.files("n1") / "vm/disk.img") == bytes));
  // One whose time is up is gone, from announces and from the swarm.
  CHECK(mesh.file("n0", {"torrent", "--for", "1s", "-o", torrent.string(), "vm/disk.img"}).status == 0);
  REQUIRE(eventually([&] { return mesh.log("n0").find("has ended") != std::string::npos; }));
  CHECK(download("late").status != 0);
}
