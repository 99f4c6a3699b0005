// What a mount asks of the node of its machine: entries of the mesh's tree, and ranges of files that are here, on their
// way, or neither (docs/decisions/0031). On the local socket alone. A part of the vocabulary in wire/messages.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/digest.h"
#include "core/entry.h"

namespace mesh {

/// In one answer; the rest is to be asked for again.
inline constexpr std::int64_t most_mount_read_bytes = std::int64_t{1} << 20;
/// Of one mount, at once.
inline constexpr std::size_t most_mount_opens = 65'536;
/// Of a node, at once.
inline constexpr std::size_t most_mounts = 64;

struct MountTold {
  static constexpr const char* name = "mount-told";
  std::string node;
  /// A second connection to the local socket, at the path "/descriptors/" and this, is sent descriptors
  /// (wire/descriptors.h).
  std::string session;
  bool is_ready = false;  ///< that connection is there
  template <class V>
  void describe(V& v) {
    v("node", node), v("session", session), v("ready", is_ready);
  }
};

/// Before all else: this connection is a mount's.
struct MountAsk {
  static constexpr const char* name = "mount";
  using Reply = MountTold;
  template <class V>
  void describe(V&) {}
};

struct EntryTold {
  static constexpr const char* name = "entry-told";
  std::vector<FileEntry> entry;  ///< none or one
  template <class V>
  void describe(V& v) {
    v("entry", entry);
  }
};

/// What is at a path, links not followed; of several versions the one that a get would bring, as far as that is known
/// without hashing.
struct EntryAsk {
  static constexpr const char* name = "entry";
  using Reply = EntryTold;
  std::string path;
  template <class V>
  void describe(V& v) {
    v("path", path);
  }
};

struct OpenTold {
  static constexpr const char* name = "open-told";
  bool is_open = false;  ///< else it is another version by now: `entry`
  FileEntry entry;
  bool is_all = false;          ///< `data` is all of it
  bool has_descriptor = false;  ///< it was sent, under the handle's number, before this answer
  std::int64_t ctime = 0;       ///< with a descriptor: of the file, nanoseconds, when its size and mtime were `entry`'s
  std::string data;
  template <class V>
  void describe(V& v) {
    v("open", is_open), v("entry", entry), v("all", is_all), v("fd", has_descriptor), v("ctime", ctime),
        v("data", data);
  }
};

/// A version of a file, to be read.
struct OpenAsk {
  static constexpr const char* name = "open";
  using Reply = OpenTold;
  std::int64_t handle = 0;     ///< by which it is read and closed: never the same twice on a connection, above 0
  FileEntry entry;             ///< as it was told
  bool is_again = false;       ///< it was open before: that version or none
  bool no_descriptor = false;  ///< what came by one could not be read, or none could be taken
  std::string prefetch;        ///< as the gateway's
  int patience = 0;            ///< seconds that an answer about it may take
  template <class V>
  void describe(V& v) {
    v("handle", handle), v("entry", entry), v("again", is_again), v("nofd", no_descriptor), v("prefetch", prefetch),
        v("patience", patience);
  }
};

struct ReadTold {
  static constexpr const char* name = "read-told";
  std::string data;        ///< at least a byte
  bool is_proven = false;  ///< these are bytes of the content that `id` names
  bool is_here = false;    ///< all of it is, by now: to open it again brings a descriptor
  ContentId id{};          ///< unset: nobody has hashed it yet
  template <class V>
  void describe(V& v) {
    v("data", data), v("proven", is_proven), v("here", is_here), v("id", id);
  }
};

struct ReadAsk {
  static constexpr const char* name = "read";
  using Reply = ReadTold;
  std::int64_t handle = 0;
  std::int64_t offset = 0;
  std::int64_t length = 0;
  template <class V>
  void describe(V& v) {
    v("handle", handle), v("offset", offset), v("length", length);
  }
};

/// A note: it is read no more, or is not to be opened any more.
struct CloseNote {
  static constexpr const char* name = "close";
  std::int64_t handle = 0;
  template <class V>
  void describe(V& v) {
    v("handle", handle);
  }
};

/// One change of who is in the mesh, as a node saw it.
struct MembershipChange {
  std::int64_t time = 0;  ///< milliseconds since the epoch
  std::string node;
  std::string what;  ///< joined, gone, back
  template <class V>
  void describe(V& v) {
    v("time", time), v("node", node), v("what", what);
  }
};

struct ClusterTold {
  static constexpr const char* name = "cluster-told";
  std::string node;                       ///< who tells
  std::vector<std::string> trackers;      ///< as they are named
  std::vector<std::string> troubles;      ///< of each of these; empty: this node is registered there
  std::vector<MembershipChange> changes;  ///< the last ones, the latest first
  template <class V>
  void describe(V& v) {
    v("node", node), v("trackers", trackers), v("troubles", troubles), v("changes", changes);
  }
};

struct ClusterAsk {
  static constexpr const char* name = "cluster";
  using Reply = ClusterTold;
  template <class V>
  void describe(V&) {}
};

/// These are the node's trackers until it ends. Answered as ClusterAsk.
struct SetTrackers {
  static constexpr const char* name = "set-trackers";
  using Reply = ClusterTold;
  std::vector<std::string> trackers;
  template <class V>
  void describe(V& v) {
    v("trackers", trackers);
  }
};

}  // namespace mesh
