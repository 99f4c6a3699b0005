// The swarms of large files: preparing one, joining it, whom to ask for which piece. A part of the vocabulary in
// wire/messages.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/digest.h"
#include "core/entry.h"
#include "core/format.h"
#include "wire/messages/common.h"

namespace mesh {

/// A torrent of the content `id`, of the mesh or standard (wire/standard_torrent.h).
struct Torrent {
  static constexpr const char* name = "torrent";
  ContentId id;
  InfoHash infohash;
  std::int64_t size = 0;
  std::string roots;  ///< of the pieces, 32 bytes each; none of a file of one piece
  std::string info;   ///< the info dictionary of a standard torrent; of the mesh's own, roots and key make it
  int holders = 0;    ///< in a reply to PrepareSwarm: nodes other than the asker that have all the bytes
  template <class V>
  void describe(V& v) {
    v("id", id), v("infohash", infohash), v("size", size), v("roots", roots), v("info", info), v("holders", holders);
  }
};

/// "I want to download this": the torrent is made where needed and loaded at holders before the reply.
struct PrepareSwarm {
  static constexpr const char* name = "join";
  using Reply = Torrent;
  FileEntry file;  ///< `file.id` unset: the candidate on node `holder` must be hashed first
  std::uint32_t holder = 0;
  template <class V>
  void describe(V& v) {
    v("file", file), v("holder", holder);
  }
};

struct Introduced {
  static constexpr const char* name = "introduced";
  std::vector<std::string> peers;      ///< "addr:port"
  std::vector<std::string> sources;    ///< those of `peers` that have all the bytes
  std::uint64_t self = 0;              ///< the asker in `getters`
  std::vector<std::uint64_t> getters;  ///< the nodes that share a URL's pieces; empty where the asker does not
  std::vector<NodeRef> nodes;          ///< whose addresses `peers` are, where a keeper answers
  template <class V>
  void describe(V& v) {
    v("peers", peers), v("sources", sources), v("self", self), v("getters", getters), v("nodes", nodes);
  }
};

/// "My torrent is loaded": the asker may be introduced from now on, and learns whom to connect to.
struct JoinSwarm {
  static constexpr const char* name = "ready";
  using Reply = Introduced;
  ContentId id;
  InfoHash infohash;
  bool shares = false;     ///< of a URL: the asker is told who shares the pieces
  bool standard = false;   ///< it seeds to other clients
  bool unreached = false;  ///< it reaches nobody: the others are to connect to it (BEP 3's clients all do)
  std::int64_t size = 0;
  bool whole = false;  ///< said by one that has all the bytes, to who cannot know it
  ContentId
      meeting{};  ///< whose keepers bring its nodes together where no tracker is; unset: those of the swarm itself
  template <class V>
  void describe(V& v) {
    v("size", size), v("id", id), v("infohash", infohash), v("shares", shares), v("foreign", standard),
        v("alone", unreached), v("whole", whole), v("meet", meeting);
  }
};

/// A note to the getters of a URL: who shares its pieces now.
struct UrlMembers {
  static constexpr const char* name = "plan";
  ContentId id;
  std::vector<std::uint64_t> getters;
  template <class V>
  void describe(V& v) {
    v("id", id), v("getters", getters);
  }
};

/// A note to nodes that seed: connect to these peers ("addr:port"), clients of another make that may not find the way
/// themselves.
struct ConnectTo {
  static constexpr const char* name = "meet";
  ContentId id;
  std::vector<std::string> peers;
  template <class V>
  void describe(V& v) {
    v("id", id), v("peers", peers);
  }
};

/// To a tracker: the node of this key cannot be reached on its node channel (it is behind NAT, or a filter); it is to
/// call the asker, whose node channel it may reach, and say the token there.
struct CallBack {
  static constexpr const char* name = "call-back";
  std::string node;   ///< its instance
  std::string token;  ///< hex
  struct Reply {
    static constexpr const char* name = "call-back-reply";
    template <class V>
    void describe(V&) {}
  };
  template <class V>
  void describe(V& v) {
    v("node", node), v("token", token);
  }
};

/// Whether it is what a CallBack may carry: it becomes a part of a request over HTTP.
[[nodiscard]] inline bool is_call_token(std::string_view text) { return is_hex(text, 64); }

/// A note of the tracker to that node: where to call, on the path /call/TOKEN.
struct Call {
  static constexpr const char* name = "call";
  std::vector<std::string> addresses;  ///< in the order in which to try them
  std::uint16_t channel_port = 0;
  std::string token;
  template <class V>
  void describe(V& v) {
    v("addr", addresses), v("port", channel_port), v("token", token);
  }
};

/// A note: this node's torrent is unloaded, nobody is to be sent to it.
struct Unloaded {
  static constexpr const char* name = "unloaded";
  ContentId id;
  template <class V>
  void describe(V& v) {
    v("id", id);
  }
};

struct Made {
  static constexpr const char* name = "made";
  std::vector<FileEntry> files;     ///< as asked, with content ids
  std::vector<std::string> errors;  ///< as many; empty where it went well
  template <class V>
  void describe(V& v) {
    v("files", files), v("errors", errors);
  }
};

/// Hash these files and say their content ids; for those above `small_file_bytes` the torrent is kept ready.
struct HashFiles {
  static constexpr const char* name = "make";
  using Reply = Made;
  std::vector<FileEntry> files;
  bool standard = false;  ///< other clients are to get them
  template <class V>
  void describe(V& v) {
    v("files", files), v("foreign", standard);
  }
};

/// Load the torrent of these bytes, named by one of the two, for seeding and say what it is. By both: in this swarm and
/// no other.
struct Seed {
  static constexpr const char* name = "load";
  using Reply = Torrent;
  ContentId id;           ///< unset: whatever standard torrent has this infohash
  InfoHash infohash;      ///< of the swarm that others are in; may be unset
  bool standard = false;  ///< the torrent for other clients
  std::string info;       ///< of that, where the asker knows it
  std::int64_t size = 0;  ///< with `id`
  template <class V>
  void describe(V& v) {
    v("size", size), v("id", id), v("infohash", infohash), v("foreign", standard), v("info", info);
  }
};

struct TorrentFile {
  static constexpr const char* name = "torrent-file";
  Torrent torrent;
  std::string file_name;              ///< what the torrent's one file is to be called
  std::vector<std::string> trackers;  ///< announce addresses, "host:port"
  bool guest = false;                 ///< of a guest torrent: named like the file, and for a time
  template <class V>
  void describe(V& v) {
    v("torrent", torrent), v("name", file_name), v("trackers", trackers), v("guest", guest);
  }
};

/// A torrent of the chosen version of `path`, for other BitTorrent clients.
struct TorrentAsk {
  static constexpr const char* name = "torrent-ask";
  using Reply = TorrentFile;
  std::string path;
  std::int64_t seconds = 0;  ///< above 0: a guest torrent, served by the node that is asked for so long
  template <class V>
  void describe(V& v) {
    v("path", path), v("seconds", seconds);
  }
};

}  // namespace mesh
