// What a content's blocks are, told on node channels to who has another version of it, so that only what differs need
// come (docs/decisions/0025); and how much that is, between a command and its node. A part of the vocabulary in
// wire/messages.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/digest.h"
#include "wire/messages/common.h"

namespace mesh {

/// In one question; an answer may have fewer.
inline constexpr std::size_t most_asked_pieces = 4096;
inline constexpr std::size_t most_asked_segments = 256;

struct Leaves {
  static constexpr const char* name = "leaves-told";
  /// Of the pieces asked for, as far as the answer goes, in their order: the leaves, 32 bytes each; empty where this
  /// node does not know them. The rest is to be asked again.
  std::vector<std::string> pieces;
  template <class V>
  void describe(V& v) {
    v("pieces", pieces);
  }
};

/// The SHA-256 of the blocks of these pieces (core/merkle.h).
struct LeavesAsk {
  static constexpr const char* name = "leaves";
  using Reply = Leaves;
  ContentId id;
  std::int64_t size = 0;
  std::vector<std::uint32_t> pieces;
  template <class V>
  void describe(V& v) {
    v("id", id), v("size", size), v("pieces", pieces);
  }
};

struct SketchTold {
  static constexpr const char* name = "sketch-told";
  /// As in Leaves: each segment's chunks, as core/sketch.h tells them.
  std::vector<std::string> segments;
  template <class V>
  void describe(V& v) {
    v("segments", segments);
  }
};

/// The chunks of these segments.
struct SketchAsk {
  static constexpr const char* name = "sketch";
  using Reply = SketchTold;
  ContentId id;
  std::int64_t size = 0;
  std::vector<std::uint32_t> segments;
  template <class V>
  void describe(V& v) {
    v("id", id), v("size", size), v("segments", segments);
  }
};

struct Teller {
  static constexpr const char* name = "teller";
  std::vector<NodeRef> node;  ///< none or one
  template <class V>
  void describe(V& v) {
    v("node", node);
  }
};

/// Whom should I ask for a content's leaves and sketch: you (none), or somebody who has asked before me?
struct TellerAsk {
  static constexpr const char* name = "teller-ask";
  using Reply = Teller;
  ContentId id;
  std::int64_t size = 0;
  NodeRef self;        ///< the asker; at which address it is, who is asked sees
  std::string failed;  ///< the instance of one that it was sent to, and that has told it nothing
  template <class V>
  void describe(V& v) {
    v("id", id), v("size", size), v("self", self), v("failed", failed);
  }
};

struct Difference {
  static constexpr const char* name = "difference";
  std::string path;
  std::int64_t fetch = 0;  ///< bytes
  std::int64_t reuse = 0;
  template <class V>
  void describe(V& v) {
    v("path", path), v("fetch", fetch), v("reuse", reuse);
  }
};

/// A command to its node: how much of this file would a get fetch, and how much of it is here already?
struct DiffAsk {
  static constexpr const char* name = "diff";
  using Reply = Difference;
  std::string path;
  std::vector<std::string> seeds;  ///< as in Get
  template <class V>
  void describe(V& v) {
    v("path", path), v("seeds", seeds);
  }
};

}  // namespace mesh
