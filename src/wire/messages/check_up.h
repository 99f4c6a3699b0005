// What `meshfile doctor` asks: a node of its place in the mesh, and that one the others. A part of the vocabulary in
// wire/messages.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mesh {

struct CheckUpTold {
  static constexpr const char* name = "check-up-told";
  std::string version;
  std::int64_t clock = 0;   ///< milliseconds since the epoch
  bool has_dialed = false;  ///< it has tried to reach the asker, where it is seen
  bool reaches_channel = false;
  bool reaches_peers = false;
  template <class V>
  void describe(V& v) {
    v("version", version), v("clock", clock), v("dialed", has_dialed), v("channel", reaches_channel),
        v("peers", reaches_peers);
  }
};

/// Which version are you of, how late is it, and do you reach these ports of mine? A node is asked by another.
struct CheckUpAsk {
  static constexpr const char* name = "check-up";
  using Reply = CheckUpTold;
  std::uint16_t peer_port = 0;
  std::uint16_t channel_port = 0;
  template <class V>
  void describe(V& v) {
    v("peer", peer_port), v("chan", channel_port);
  }
};

/// Another node, as it was found.
struct NodeChecked {
  std::string node;
  std::string trouble;  ///< it could not be asked; empty: it was
  bool is_old = false;  ///< it does not know the question
  CheckUpTold told{};
  std::int64_t clock_off = 0;  ///< milliseconds that its clock is ahead of this node's
  template <class V>
  void describe(V& v) {
    v("node", node), v("trouble", trouble), v("old", is_old), v("told", told), v("off", clock_off);
  }
};

struct TrackerChecked {
  std::string tracker;
  std::string trouble;  ///< empty: this node is registered there
  template <class V>
  void describe(V& v) {
    v("tracker", tracker), v("trouble", trouble);
  }
};

struct MeshChecked {
  static constexpr const char* name = "mesh-checked";
  std::string node;
  std::string version;
  std::vector<TrackerChecked> trackers;
  std::string no_view;             ///< why nobody says what the mesh has; empty: somebody does
  int members = 0;                 ///< other nodes that are known
  std::vector<NodeChecked> nodes;  ///< those that were asked
  std::uint16_t peer_port = 0;
  std::uint16_t channel_port = 0;
  bool is_on_network = false;
  template <class V>
  void describe(V& v) {
    v("node", node), v("version", version), v("trackers", trackers), v("noview", no_view), v("members", members),
        v("nodes", nodes), v("peer", peer_port), v("chan", channel_port), v("net", is_on_network);
  }
};

/// A command to its node: how does the mesh look from there?
struct MeshCheckAsk {
  static constexpr const char* name = "mesh-check";
  using Reply = MeshChecked;
  template <class V>
  void describe(V&) {}
};

}  // namespace mesh
