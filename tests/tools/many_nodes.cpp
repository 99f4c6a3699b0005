// A large mesh without its machines, for what shows one: many_nodes TRACKER NODES FILES [ACTIVE]
//
// So many nodes register at the tracker with so many files each, say ready, and stay until they are killed. All answer
// glances; the first ACTIVE of them get one large file, half of it now and never more.
#include <utility>  // Boost 1.74's awaitable.hpp needs it and does not include it

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "wire/channel.h"
#include "wire/flow.h"
#include "wire/identity.h"
#include "wire/server.h"

namespace {

using namespace mesh;

struct Nodes {
  std::string tracker;
  int files = 0;
  int active = 0;
  int registering = 0;
  int ready = 0;
  std::string trouble;
};

std::string number(int value) { return std::to_string(10'000 + value).substr(1); }

Glance glance_of(int node, bool is_active) {
  Glance out;
  out.version = "0.0.1";
  out.clock = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
                  .count();
  out.space = std::int64_t{100} << 30;
  out.free = std::int64_t{60} << 30;
  out.hour.received.assign(Glance::minutes, 1'000'000 + node);
  out.hour.from_sources.assign(Glance::minutes, 100'000);
  if (!is_active) return out;
  Moving file;
  file.path = "images/base.img";
  file.state = TransferState::downloading;
  file.total = 4'000'000'000;
  file.done = 2'000'000'000;
  file.rate = 6'000'000;
  file.eta = 333;
  file.peers = 20;
  file.have = std::string(Glance::parts, '5');
  file.givers = {{"n0000", 1'000'000'000}, {"n0001", 1'000'000'000}};
  out.rate = file.rate;
  out.moving.push_back(file);
  return out;
}

Task<void> be(Nodes* nodes, int node, Handlers* handlers) {
  try {
    // A thousand handshakes at once would time each other out on a slow machine.
    while (nodes->registering >= 16) co_await sleep_for(std::chrono::milliseconds(20));
    ++nodes->registering;
    handlers->on<GlanceAsk>([nodes, node](ChannelPtr, GlanceAsk) -> Task<Glances> {
      Glances out;
      out.nodes.push_back(glance_of(node, node < nodes->active));
      co_return out;
    });
    const auto channel =
        co_await connect_channel(nodes->tracker, "/control", std::chrono::seconds(30), Access{nullptr, true, {}});
    spawn(channel->executor(), channel->run(*handlers));
    Hello hello;
    hello.version = protocol_version;
    const Identity identity(random_secret());
    hello.instance = identity.instance();
    hello.public_key = identity.public_key();
    hello.proof = identity.prove(Hello::name, channel->binding());
    hello.node = "n" + number(node);
    hello.addresses = {"127.0.0.1"};
    hello.peer_port = 6881;
    hello.channel_port = 6882;
    co_await channel->request(hello, std::chrono::seconds(60));
    InventoryDelta all;
    all.begin = all.end = true;
    for (const auto& directory : {std::string("images"), "images/n" + number(node)}) {
      FileEntry entry;
      entry.path = directory;
      entry.kind = Kind::directory;
      entry.mode = 0755;
      all.put.push_back(entry);
    }
    for (int i = 0; i < nodes->files; ++i) {
      FileEntry entry;
      entry.path = "images/n" + number(node) + "/file-" + number(i) + ".qcow2";
      entry.size = 1'000'000 + i;
      entry.mtime = std::int64_t{1'700'000'000} * 1'000'000'000;
      entry.mode = 0644;
      all.put.push_back(entry);
    }
    channel->note(all);
    co_await channel->drained();
    --nodes->registering;
    ++nodes->ready;
    while (channel->is_open()) co_await sleep_for(std::chrono::seconds(1));
    nodes->trouble = "the tracker has hung up";
  } catch (const std::exception& error) {
    nodes->trouble = error.what();
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fputs("usage: many_nodes TRACKER NODES FILES [ACTIVE]\n", stderr);
    return 2;
  }
  raise_descriptor_limit();
  asio::io_context io(1);
  const int count = std::atoi(argv[2]);
  Nodes nodes;
  nodes.tracker = argv[1];
  nodes.files = std::atoi(argv[3]);
  nodes.active = argc > 4 ? std::atoi(argv[4]) : 0;
  std::vector<Handlers> handlers(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) spawn(io, be(&nodes, i, &handlers[static_cast<std::size_t>(i)]));
  for (bool said = false; nodes.trouble.empty();) {
    io.run_for(std::chrono::milliseconds(100));
    if (said || nodes.ready < count) continue;
    std::puts("ready");
    std::fflush(stdout);
    said = true;
  }
  std::fprintf(stderr, "many_nodes: %s\n", nodes.trouble.c_str());
  return 1;
}
