// Loads a tracker as a large mesh would: tracker_load MESHTRACKER OPENTRACKER
//
// First announces over HTTP (BEP 3), one new connection each, to both in turn, by 60,000 peers in 100 swarms; then,
// over real control channels, 1,000 nodes with 1,000 files each that register, look-ups while their inventories change,
// and 1,000 getters of one file at once. Both trackers and the load share this machine, so a server's figure is what it
// does in a second of its own CPU time.
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <utility>  // Boost 1.74's awaitable.hpp needs it and does not include it

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "process.h"
#include "wire/channel.h"
#include "wire/flow.h"
#include "wire/identity.h"
#include "wire/standard_torrent.h"

namespace {

using namespace mesh;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begun) { return std::chrono::duration<double>(Clock::now() - begun).count(); }

bool answers(std::uint16_t port) {
  asio::io_context io;
  asio::ip::tcp::socket socket(io);
  boost::system::error_code ec;
  socket.connect({asio::ip::address_v4::loopback(), port}, ec);
  return !ec;
}

/// A tracker that listens; killed at the end.
class Server {
 public:
  Server(std::vector<std::string> command, std::uint16_t port)
      : process_(std::move(command), "/", "/dev/null"), pid_(process_.pid()) {
    if (!test::eventually([port] { return answers(port); })) throw std::runtime_error("a tracker does not listen");
  }

  [[nodiscard]] double cpu() const {
    std::ifstream in("/proc/" + std::to_string(pid_) + "/stat");
    std::string text((std::istreambuf_iterator<char>(in)), {});
    long user = 0, system = 0;
    std::sscanf(text.substr(text.rfind(')') + 2).c_str(), "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld", &user,
                &system);
    return static_cast<double>(user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
  }
  [[nodiscard]] double resident() const {
    std::ifstream in("/proc/" + std::to_string(pid_) + "/status");
    for (std::string line; std::getline(in, line);)
      if (line.starts_with("VmRSS:")) return std::atof(line.c_str() + 6) * 1024;
    return 0;
  }

 private:
  test::Process process_;
  pid_t pid_;
};

// --- announces -------------------------------------------------------------------------------------------------------

struct Announces {
  long done = 0;
  long failed = 0;
  bool stop = false;
};

constexpr unsigned swarm_count = 100;
constexpr std::int64_t torrent_size = 200'000;
constexpr unsigned peer_count = 60'000;  ///< each in one swarm, where it announces again and again

/// Of a swarm's content the id is its number, over and over.
const std::vector<mesh::StandardTorrent>& torrents() {
  static const std::vector<mesh::StandardTorrent> all = [] {
    std::vector<mesh::StandardTorrent> out;
    for (unsigned swarm = 0; swarm < swarm_count; ++swarm) {
      mesh::ContentId id;
      id.bytes.fill(static_cast<char>(swarm));
      const auto info = mesh::encode_info(id, torrent_size, std::vector<mesh::lt::sha1_hash>(4));
      out.push_back(*mesh::read_standard_torrent(info, id, torrent_size));
    }
    return out;
  }();
  return all;
}

std::string quoted(const InfoHash& infohash) {
  std::string out;
  for (const char c : infohash.bytes) {
    char digits[4];
    std::snprintf(digits, sizeof digits, "%%%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
    out += digits;
  }
  return out;
}

Hello hello_of(const Channel& channel, std::string name) {
  Hello out;
  out.version = protocol_version;
  const Identity identity(random_secret());
  out.instance = identity.instance();
  out.public_key = identity.public_key();
  out.proof = identity.prove(Hello::name, channel.binding());
  out.node = std::move(name);
  out.addresses = {"127.0.0.1"};
  out.peer_port = 6881;
  out.channel_port = 6882;
  return out;
}

/// Has all of the swarms' torrents, and meets their peers as any node does.
Task<void> seed(const Announces& count, std::string tracker) {
  const auto channel =
      co_await connect_channel(tracker, "/control", std::chrono::seconds(30), Access{nullptr, true, {}});
  Handlers handlers;
  handlers.on<mesh::Seed>([](const ChannelPtr&, mesh::Seed asked) -> Task<Torrent> {
    Torrent out;
    for (const auto& torrent : torrents())
      if (torrent.infohash == asked.infohash) {
        out.id.bytes.fill(static_cast<char>(&torrent - torrents().data()));
        out.infohash = torrent.infohash;
        out.size = torrent_size;
        out.info = torrent.info;
      }
    co_return out;
  });
  handlers.on_note<ConnectTo>([](const ChannelPtr&, const ConnectTo&) {});
  spawn(co_await asio::this_coro::executor, channel->run(handlers));
  co_await channel->request(hello_of(*channel, "seed"), std::chrono::seconds(60));
  InventoryDelta nothing;
  nothing.begin = nothing.end = true;
  channel->note(nothing);
  while (!count.stop) co_await sleep_for(std::chrono::milliseconds(20));
  channel->close();
}

/// Not every tracker closes after its answer.
bool is_whole(std::string_view answer) {
  const auto end = answer.find("\r\n\r\n");
  constexpr std::string_view field = "Content-Length: ";
  const auto at = answer.find(field);
  if (end == std::string_view::npos || at == std::string_view::npos || at > end) return false;
  return answer.size() - end - 4 >= static_cast<std::size_t>(std::atoll(answer.data() + at + field.size()));
}

Task<void> announce(Announces& count, asio::ip::tcp::endpoint server, unsigned me) {
  auto io = co_await asio::this_coro::executor;
  std::minstd_rand random(me);
  std::string answer(4096, '\0');
  std::vector<std::string> hashes;
  for (const auto& torrent : torrents()) hashes.push_back(quoted(torrent.infohash));
  while (!count.stop) {
    try {
      asio::ip::tcp::socket socket(io);
      socket.open(asio::ip::tcp::v4());
      socket.set_option(asio::ip::tcp::no_delay(true));
      socket.set_option(asio::socket_base::reuse_address(true));
      // Many source addresses: else ports run out.
      const auto peer = static_cast<unsigned>(random() % peer_count);
      socket.bind({asio::ip::address_v4(0x7f000000U + 2 + peer), 0});
      co_await socket.async_connect(server, asio::use_awaitable);
      char request[512];
      const auto size = std::snprintf(request, sizeof request,
                                      "GET /announce?info_hash=%s&peer_id=-LOAD00-%012u&port=6881"
                                      "&uploaded=0&downloaded=0&left=1&compact=1 HTTP/1.1\r\nHost: tracker\r\n"
                                      "Connection: close\r\n\r\n",
                                      hashes[peer % swarm_count].c_str(), peer);
      co_await asio::async_write(socket, asio::buffer(request, static_cast<std::size_t>(size)), asio::use_awaitable);
      std::size_t got = 0;
      for (;;) {
        boost::system::error_code ec;
        got += co_await socket.async_read_some(asio::buffer(answer.data() + got, answer.size() - got),
                                               asio::redirect_error(asio::use_awaitable, ec));
        if (ec || got == answer.size() || is_whole({answer.data(), got})) break;
      }
      const std::string_view text(answer.data(), got);
      const bool good = text.substr(0, 5) == "HTTP/" && text.substr(8, 4) == " 200" &&
                        text.find("8:intervali") != std::string_view::npos;
      good ? ++count.done : ++count.failed;
    } catch (const std::exception&) {
      ++count.failed;
    }
  }
}

double announces(const char* name, const Server& server, std::uint16_t port, bool has_nodes) {
  asio::io_context io;
  Announces count;
  const asio::ip::tcp::endpoint at(asio::ip::address_v4::loopback(), port);
  if (has_nodes) {
    asio::co_spawn(io, seed(count, "127.0.0.1:" + std::to_string(port)), [](const std::exception_ptr& error) {
      if (error) std::fputs("tracker_load: the seed could not register\n", stderr);
    });
    io.run_for(std::chrono::milliseconds(500));
  }
  for (unsigned i = 0; i < 64; ++i) spawn(io, announce(count, at, i + 1));
  const auto run = [&](double limit) {
    const auto begun = Clock::now();
    while (seconds_since(begun) < limit) io.run_for(std::chrono::milliseconds(50));
  };
  run(1);
  const double cpu = server.cpu();
  const long before = count.done;
  const auto begun = Clock::now();
  run(6);
  const double took = seconds_since(begun);
  const double used = server.cpu() - cpu;
  const auto done = static_cast<double>(count.done - before);
  count.stop = true;
  io.run_for(std::chrono::seconds(2));
  std::printf("%-12s  %8.0f  %10.0f  %6ld\n", name, done / took, done / used, count.failed);
  std::fflush(stdout);
  return done / used;
}

// --- control channels ------------------------------------------------------------------------------------------------

constexpr int node_count = 1000;
constexpr int files_each = 1000;

std::string path_of(int node, int file) {
  char text[64];
  std::snprintf(text, sizeof text, "images/node-%04d/file-%04d-%012d.qcow2", node, file, node * files_each + file);
  return std::string(text).substr(0, 40);
}

FileEntry entry_of(int node, int file, std::int64_t mtime) {
  FileEntry out;
  out.path = path_of(node, file);
  out.size = 1'000'000 + file;
  out.mtime = mtime;
  out.mode = 0644;
  return out;
}

struct Load {
  explicit Load(asio::io_context& context) : io(context) {}
  asio::io_context& io;
  std::string tracker;
  Handlers handlers;
  std::vector<ChannelPtr> channels;
  int registered = 0;
  int introduced = 0;
  bool changing = false;
  std::string trouble;
};

Task<void> enter(Load& load, int node) {
  try {
    const auto channel =
        co_await connect_channel(load.tracker, "/control", std::chrono::seconds(30), Access{nullptr, true, {}});
    spawn(load.io, channel->run(load.handlers));
    load.channels[static_cast<std::size_t>(node)] = channel;
    co_await channel->request(hello_of(*channel, "n" + std::to_string(node)), std::chrono::seconds(60));
    InventoryDelta page;
    page.begin = page.end = true;
    for (int file = 0; file < files_each; ++file) page.put.push_back(entry_of(node, file, 1));
    channel->note(page);
    co_await channel->drained();
    // The answer comes after the inventory was taken in.
    Resolve last;
    last.pattern = path_of(node, files_each - 1);
    try {
      co_await channel->request(last, std::chrono::seconds(120));
    } catch (const Error& error) {
      if (error.status() == Status::unreachable) throw;
    }
    ++load.registered;
  } catch (const std::exception& error) {
    load.trouble = error.what();
  }
}

/// 1,000 deltas of one file a second.
Task<void> change(Load& load) {
  std::minstd_rand random(7);
  std::int64_t time = 2;
  while (load.changing) {
    for (int i = 0; i < 10; ++i) {
      const int node = static_cast<int>(random() % node_count);
      InventoryDelta delta;
      delta.put.push_back(entry_of(node, static_cast<int>(random() % files_each), ++time));
      load.channels[static_cast<std::size_t>(node)]->note(delta);
    }
    co_await sleep_for(std::chrono::milliseconds(10));
  }
}

Task<void> look_up(Load& load) {
  std::minstd_rand random(11);
  for (const bool glob : {false, true}) {
    std::vector<double> took;
    for (int i = 0; i < (glob ? 300 : 3000); ++i) {
      const int node = static_cast<int>(random() % node_count);
      Resolve question;
      question.pattern = path_of(node, static_cast<int>(random() % files_each));
      question.glob = glob;
      // A glob over a directory of 1,000 files that names ten of them.
      if (glob) question.pattern = question.pattern.substr(0, question.pattern.find("file-") + 8) + "?-*";
      const auto begun = Clock::now();
      const Resolved answer = co_await load.channels[static_cast<std::size_t>((node + 1) % node_count)]->request(
          question, std::chrono::seconds(10));
      took.push_back(seconds_since(begun) * 1000);
      if (answer.files.size() != (glob ? 10U : 1U))
        load.trouble = "a look-up found " + std::to_string(answer.files.size()) + " files";
    }
    std::ranges::sort(took);
    std::printf("%-34s  median %.3f ms, 99%% %.3f ms\n",
                glob ? "glob over a directory, 1,000 deltas/s" : "exact path, 1,000 deltas/s", took[took.size() / 2],
                took[took.size() * 99 / 100]);
  }
  load.changing = false;
}

Task<void> join(Load& load, int node, std::vector<double>& took, Clock::time_point begun) {
  try {
    JoinSwarm ready;
    ready.id.bytes.fill(7);
    ready.infohash.bytes.fill(9);
    const auto introduced =
        co_await load.channels[static_cast<std::size_t>(node)]->request(ready, std::chrono::seconds(60));
    took.push_back(seconds_since(begun) * 1000);
    (void)introduced;
  } catch (const std::exception& error) {
    load.trouble = error.what();
  }
}

int control(const Server& server, std::uint16_t port) {
  asio::io_context io;
  Load load(io);
  load.tracker = "127.0.0.1:" + std::to_string(port);
  load.channels.resize(node_count);
  load.handlers.on_note<UrlMembers>([](const ChannelPtr&, UrlMembers) {});
  const double empty = server.resident();
  double cpu = server.cpu();
  auto begun = Clock::now();
  for (int node = 0; node < node_count; ++node) spawn(io, enter(load, node));
  while (load.registered < node_count && load.trouble.empty() && seconds_since(begun) < 120)
    io.run_for(std::chrono::milliseconds(5));
  const double took = seconds_since(begun);
  const double grown = server.resident() - empty;
  std::printf("%-34s  %d in %.1f s, %.1f s of the tracker's CPU\n", "nodes registered, 1,000 files each",
              load.registered, took, server.cpu() - cpu);
  std::printf("%-34s  %.0f bytes (channels included)\n", "resident per node and path", grown / node_count / files_each);
  load.changing = true;
  spawn(io, change(load));
  asio::co_spawn(io, look_up(load), [&](const std::exception_ptr& error) {
    load.changing = false;
    if (error) load.trouble = "a look-up failed";
  });
  while (load.changing) io.run_for(std::chrono::milliseconds(5));
  std::vector<double> joined;
  cpu = server.cpu();
  begun = Clock::now();
  for (int node = 0; node < node_count; ++node) spawn(io, join(load, node, joined, begun));
  while (joined.size() < node_count && load.trouble.empty() && seconds_since(begun) < 60)
    io.run_for(std::chrono::milliseconds(1));
  std::ranges::sort(joined);
  if (!joined.empty())
    std::printf("%-34s  median %.0f ms, last of %zu %.0f ms, %.2f s of the tracker's CPU\n",
                "1,000 getters of one file have peers", joined[joined.size() / 2], joined.size(), joined.back(),
                server.cpu() - cpu);
  if (!load.trouble.empty()) std::fprintf(stderr, "tracker_load: %s\n", load.trouble.c_str());
  const bool good = load.trouble.empty() && joined.size() == node_count;
  for (const auto& channel : load.channels)
    if (channel) channel->close();
  io.run_for(std::chrono::seconds(1));
  return good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: tracker_load MESHTRACKER OPENTRACKER\n", stderr);
    return 2;
  }
  ::signal(SIGPIPE, SIG_IGN);
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  std::puts("announces     a second  per CPU s   failed");
  double ours = 0, theirs = 0;
  for (int run = 0; run < 2; ++run) {
    {
      const Server server({test::fs::absolute(argv[1]).string(), "--listen", "127.0.0.1:6970"}, 6970);
      ours = announces("meshtracker", server, 6970, true);
    }
    {
      // Debian's build serves what its whitelist names, and gives up root's rights first.
      const std::string list = "tracker_load.whitelist." + std::to_string(::getpid());
      std::ofstream out("/tmp/" + list);
      for (unsigned i = 0; i < swarm_count; ++i) {
        out << torrents()[i].infohash.hex() << '\n';
      }
      out.close();
      const Server server({test::fs::absolute(argv[2]).string(), "-i", "127.0.0.1", "-p", "6971", "-P", "6971", "-d",
                           "/tmp", "-w", list},
                          6971);
      theirs = announces("opentracker", server, 6971, false);
      ::unlink(("/tmp/" + list).c_str());
    }
  }
  std::printf("meshtracker / opentracker, per CPU second: %.2f\n\n", ours / theirs);
  const Server server({test::fs::absolute(argv[1]).string(), "--listen", "127.0.0.1:6970"}, 6970);
  return control(server, 6970);
}
