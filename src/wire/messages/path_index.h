// The path index: what nodes tell the keepers of their directories, and what keepers answer (docs/decisions/0024). A
// part of the vocabulary in wire/messages.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/entry.h"
#include "core/member.h"
#include "wire/messages/common.h"

namespace mesh {

/// Directories that one question asks about, at most.
inline constexpr std::size_t most_index_questions = 500;
/// Nodes that an answer names for one version, of all that have it.
inline constexpr std::size_t most_index_holders = 16;

/// A directory of a node, as of the node's own count: with another number than before, it is another.
struct DirectoryStamp {
  std::string directory;
  std::int64_t stamp = 0;
  template <class V>
  void describe(V& v) {
    v("d", directory), v("s", stamp);
  }
};

/// What a node has directly in a directory: all of it, from `begin` to `end`, or, without both, what changed in it.
struct DirectoryPart {
  std::string directory;
  std::int64_t stamp = 0;  ///< as it is after this
  bool begin = false;      ///< what was told of it before does not count
  bool end = false;
  std::vector<FileEntry> put;
  std::vector<std::string> removed;  ///< paths
  template <class V>
  void describe(V& v) {
    v("d", directory), v("s", stamp), v("begin", begin), v("end", end), v("put", put), v("del", removed);
  }
};

struct IndexTold {
  static constexpr const char* name = "index-told";
  std::vector<std::string> wanted;  ///< directories of `have` to be told anew
  bool is_full = false;             ///< something was left out: there is no room for it
  bool hang_up = false;             ///< the keeper has many channels; what was told stands without this one
  template <class V>
  void describe(V& v) {
    v("want", wanted), v("full", is_full), v("up", hang_up);
  }
};

/// A node that has said hello to one that keeps directories of its.
struct IndexTell {
  static constexpr const char* name = "index-tell";
  using Reply = IndexTold;
  std::vector<DirectoryStamp> have;  ///< what the keeper should know already
  std::vector<std::string> forget;   ///< directories that the node has not any more, or that others keep
  std::vector<DirectoryPart> parts;
  template <class V>
  void describe(V& v) {
    v("have", have), v("forget", forget), v("parts", parts);
  }
};

/// Before a node hangs up: what it told stands for a while.
struct IndexRest {
  static constexpr const char* name = "index-rest";
  struct Reply {
    static constexpr const char* name = "index-rest-reply";
    template <class V>
    void describe(V&) {}
  };
  template <class V>
  void describe(V&) {}
};

/// What is directly in a directory.
struct DirectoryQuestion {
  std::string directory;
  std::string only;   ///< the name of the one entry that is asked for, or a glob; empty: all
  bool glob = false;  ///< what `only` is; a name that it spells is meant as well
  std::string after;  ///< go on behind this path
  bool operator==(const DirectoryQuestion&) const = default;
  template <class V>
  void describe(V& v) {
    v("d", directory), v("only", only), v("glob", glob), v("after", after);
  }
};

struct IndexedNode {
  NodeRef node;
  bool head = false;
  template <class V>
  void describe(V& v) {
    v("n", node), v("h", head);
  }
};

/// Copies that are alike in all that is known of them.
struct IndexedVersion {
  FileEntry entry;
  std::int64_t count = 0;            ///< nodes that have it
  std::vector<std::uint32_t> nodes;  ///< some of them, by their place in `Indexed::nodes`
  template <class V>
  void describe(V& v) {
    v("e", entry), v("c", count), v("n", nodes);
  }
};

struct IndexedDirectory {
  bool is_known = false;  ///< somebody has told of it
  bool is_cut = false;    ///< the keeper had no room for all of it
  std::vector<IndexedVersion> versions;
  std::string next;                    ///< there is more: ask again with `after` = next
  std::vector<std::uint32_t> tellers;  ///< of one of which nothing was found: some who have anything in it
  template <class V>
  void describe(V& v) {
    v("known", is_known), v("cut", is_cut), v("v", versions), v("next", next), v("t", tellers);
  }
};

struct Indexed {
  static constexpr const char* name = "indexed";
  std::vector<IndexedNode> nodes;             ///< that the rest mentions
  std::vector<IndexedDirectory> directories;  ///< of the first questions; the others are to be asked again
  std::int64_t age = 0;                       ///< milliseconds since the node that answers keeps anything
  std::vector<Member> keepers;                ///< of directories that it knows nothing of: who might
  template <class V>
  void describe(V& v) {
    v("nodes", nodes), v("dirs", directories), v("age", age), v("keepers", keepers);
  }
};

/// What a keeper knows of these directories.
struct IndexAsk {
  static constexpr const char* name = "index-ask";
  using Reply = Indexed;
  std::vector<DirectoryQuestion> questions;
  std::string from;  ///< a node, by name or instance, that is to be named where it has a version
  template <class V>
  void describe(V& v) {
    v("q", questions), v("from", from);
  }
};

struct Announced {
  static constexpr const char* name = "announced";
  std::string body;  ///< as over HTTP
  template <class V>
  void describe(V& v) {
    v("body", body);
  }
};

/// An announce of another BitTorrent client (BEP 3), which came to a node that does not keep its swarm.
struct AnnounceAsk {
  static constexpr const char* name = "announce-ask";
  using Reply = Announced;
  std::string query;    ///< as in its URL
  std::string address;  ///< where the client is
  template <class V>
  void describe(V& v) {
    v("query", query), v("addr", address);
  }
};

}  // namespace mesh
