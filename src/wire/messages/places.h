// Where a node is, and that it makes way for another. A part of the vocabulary in wire/messages.h.
#pragma once

#include <string>
#include <vector>

#include "core/entry.h"

namespace mesh {

struct Probed {
  static constexpr const char* name = "probed";
  std::vector<FileEntry> found;  ///< none or one
  template <class V>
  void describe(V& v) {
    v("found", found);
  }
};

/// Do you have this path, although no delta has said so yet? Or, with an id, any file of that content?
struct ProbePath {
  static constexpr const char* name = "probe";
  using Reply = Probed;
  std::string path;
  ContentId id{};
  template <class V>
  void describe(V& v) {
    v("path", path), v("id", id);
  }
};

struct NodePaths {
  static constexpr const char* name = "places";
  std::string files;  ///< absolute, as it was given
  std::string real;   ///< and what that leads to
  std::string state;
  bool leaving = false;  ///< the node ends: it takes no more orders
  template <class V>
  void describe(V& v) {
    v("files", files), v("real", real), v("state", state), v("leaving", leaving);
  }
};

/// Which directories are this node's.
struct PlacesAsk {
  static constexpr const char* name = "places-ask";
  using Reply = NodePaths;
  template <class V>
  void describe(V&) {}
};

struct WayMade {
  static constexpr const char* name = "way-made";
  bool leaves = false;
  template <class V>
  void describe(V& v) {
    v("leaves", leaves);
  }
};

/// A meshseed wants the files directory: a node that lives for a command alone leaves as soon as that has ended.
struct Handover {
  static constexpr const char* name = "make-way";
  using Reply = WayMade;
  template <class V>
  void describe(V&) {}
};

}  // namespace mesh
