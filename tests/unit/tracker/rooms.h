// The tracker's rooms over channels to nodes that do as a test tells them.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/address.hpp>

#include "bittorrent.h"
#include "core/format.h"
#include "fan_out.h"
#include "lookup.h"
#include "members.h"
#include "swarms.h"
#include "test.h"
#include "wire/identity.h"

namespace mesh::test {

inline constexpr std::int64_t size_of_file = 10'000;  // one piece: its root is its id

inline Digest<32> seed(char first) {
  Digest<32> out;
  out.bytes.fill(first);
  return out;
}
inline ContentId content(char first) { return seed(first); }
inline InfoHash infohash(char first) {
  InfoHash out;
  out.bytes.fill(first);
  return out;
}

inline FileEntry file(const std::string& path, char id = 0, std::int64_t size = size_of_file) {
  FileEntry out;
  out.path = path;
  out.size = size;
  out.mtime = 1'700'000'000'000'000'000;
  out.mode = 0644;
  if (id != 0) out.id = content(id);
  return out;
}

/// One that is in the mesh: this end of its channel, and the tracker's.
struct FakeNode {
  explicit FakeNode(char first) : identity(seed(first)) {}
  [[nodiscard]] Hello hello(const std::string& name) const {
    Hello out;
    out.version = protocol_version;
    out.instance = identity.instance();
    out.public_key = identity.public_key();
    out.proof = identity.prove(Hello::name, own->binding());
    out.node = name;
    out.addresses = {"10.0.0." + std::to_string(static_cast<int>(name.back()))};
    out.advertised = true;
    out.peer_port = 6881;
    out.channel_port = 6882;
    return out;
  }
  Identity identity;
  Handlers handlers;  ///< what it answers
  ChannelPtr own;
  ChannelPtr tracker;
  NodeKey key = 0;
};
using Files = std::vector<FileEntry>;
using FakeNodePtr = std::shared_ptr<FakeNode>;

struct Rooms {
  explicit Rooms(std::size_t max_paths = 1000) : lookup(io, members, max_paths) {
    members.on_left = [this](NodeKey node) {
      left.push_back(node);
      lookup.forget(node);
      swarms.leave_all(node);
    };
    lookup.on_hashed = [this](const ContentId& id) { swarms.tell_members_soon(id); };
  }
  /// Runs `work` to its end.
  void run(const std::function<Task<void>()>& work) {
    io.restart();
    static_cast<void>(run_to_end<int>(io, finished(work)));
  }
  static Task<int> finished(const std::function<Task<void>()>& work) {
    co_await work();
    co_return 0;
  }
  Task<FakeNodePtr> open(char first) {
    auto node = std::make_shared<FakeNode>(first);
    const auto ends = co_await make_channel_pair("the tracker", "a node");
    node->tracker = ends.near;
    node->own = ends.far;
    auto serve = [](FakeNodePtr who) -> Task<void> { co_await who->own->run(who->handlers); };
    auto ask = [](FakeNodePtr who, const Handlers& nothing) -> Task<void> { co_await who->tracker->run(nothing); };
    spawn(io, serve(node));
    spawn(io, ask(node, none));
    members.opened(node->tracker);
    co_return node;
  }
  Task<FakeNodePtr> join(char first, const std::string& name, std::vector<FileEntry> files = {}) {
    auto node = co_await open(first);
    node->key = members.enlist(node->tracker, node->hello(name)).key;
    InventoryDelta delta;
    delta.put = std::move(files);
    delta.end = true;
    lookup.take_inventory(node->tracker, delta);
    nodes.push_back(node);
    co_return node;
  }
  void leave(const FakeNodePtr& node) {
    members.closed(node->tracker);
    node->tracker->close();
    node->own->close();
  }
  ~Rooms() {
    for (const auto& node : nodes) {
      node->tracker->close();
      node->own->close();
    }
    io.restart();
    io.run_for(std::chrono::milliseconds(50));
  }

  asio::io_context io{1};
  Handlers none;
  std::vector<FakeNodePtr> nodes;
  std::vector<NodeKey> left;
  Members members{io, nullptr, Members::Role::view};
  Lookup lookup;
  AnnouncedPeers announced{1000, std::chrono::minutes(4)};
  Swarms swarms{io, members, lookup, announced};
  BitTorrent bittorrent{members, lookup, swarms, announced, 2};
  FanOut fan_out{io, members, nullptr};
};

template <class Work>
Status status_of(Work work) {
  try {
    work();
  } catch (const Error& error) {
    return error.status();
  }
  return Status::ok;
}

/// What a task throws, in words; empty where it throws nothing.
template <class T>
Task<std::string> trouble_of(Task<T> task) {
  std::string out;
  try {
    static_cast<void>(co_await std::move(task));
  } catch (const Error& error) {
    out = std::to_string(static_cast<int>(error.status())) + " " + error.what();
  }
  co_return out;
}

/// Returns when it is so, or fails.
inline Task<void> until(std::function<bool()> done) {
  for (int i = 0; i < 4000 && !done(); ++i) co_await sleep_for(std::chrono::milliseconds(5));
  CHECK(done());
}

inline Resolve resolve_of(const std::string& path) {
  Resolve out;
  out.pattern = path;
  return out;
}

inline Torrent torrent_of(const ContentId& id) {
  Torrent out;
  out.id = id;
  out.infohash = infohash('i');
  out.size = size_of_file;
  return out;
}

}  // namespace mesh::test
