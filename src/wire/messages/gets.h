// Gets and streams: between a command and its node. A part of the vocabulary in wire/messages.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/digest.h"
#include "core/error.h"
#include "core/states.h"

namespace mesh {

struct TransferInfo {
  std::string path;
  TransferState state = TransferState::unknown;
  std::int64_t done = 0;
  std::int64_t total = 0;
  std::int64_t down_rate = 0;  ///< bytes per second
  std::int64_t up_rate = 0;
  std::int64_t sent = 0;          ///< payload bytes sent to others
  std::int64_t from_sources = 0;  ///< payload bytes from peers that had the whole file when they connected
  std::int64_t from_getters = 0;
  std::int64_t from_origin = 0;  ///< bytes that this node had from the URL's own server
  std::int64_t reused = 0;       ///< bytes that were here already, in other files
  int peers = 0;
  std::int64_t eta = -1;  ///< seconds; -1: unknown
  bool queued = false;
  std::string detail;
  std::string infohash;  ///< hex; empty where no torrent is loaded
  template <class V>
  void describe(V& v) {
    v("infohash", infohash), v("path", path), v("st", state), v("done", done), v("total", total), v("down", down_rate),
        v("up", up_rate), v("sent", sent), v("src", from_sources), v("get", from_getters), v("org", from_origin),
        v("reused", reused), v("peers", peers), v("eta", eta), v("queued", queued), v("detail", detail);
  }
};

/// A note to the asker of a Get, a few times a second.
inline constexpr std::size_t most_active_told = 32;
struct Progress {
  static constexpr const char* name = "progress";
  std::vector<TransferInfo> active;  ///< those that will take longest, `most_active_told` of them at most
  int more_active = 0;               ///< that are not among these
  std::int64_t done = 0;
  std::int64_t total = 0;
  std::int64_t rate = 0;
  int files_done = 0;
  int files_total = 0;
  int peers = 0;
  std::string phase;  ///< what is being waited for when nothing moves
  template <class V>
  void describe(V& v) {
    v("active", active), v("more", more_active), v("done", done), v("total", total), v("rate", rate),
        v("fdone", files_done), v("ftotal", files_total), v("peers", peers), v("phase", phase);
  }
};

struct GetOutcome {
  std::string path;  ///< absolute local path
  std::string mesh_path;
  int what = 0;  ///< index into the request's whats
  Status status = Status::ok;
  std::string error;
  bool kept = false;  ///< it was there already; of one that failed: something else is there, and stays
  std::int64_t size = 0;
  bool print = false;             ///< one of the lines for stdout
  std::int64_t from_sources = 0;  ///< bytes that came from nodes that had the whole file
  std::int64_t from_getters = 0;  ///< and from those that were getting it too
  std::int64_t from_origin = 0;   ///< and from the URL's own server
  std::int64_t reused = 0;        ///< and that were here already, in other files
  std::int64_t left_out = 0;      ///< of a directory: names in it that are there and not offered
  ContentId id;                   ///< of a file whose bytes are known
  template <class V>
  void describe(V& v) {
    v("path", path), v("mesh", mesh_path), v("what", what), v("status", status), v("error", error), v("kept", kept),
        v("size", size), v("print", print), v("src", from_sources), v("get", from_getters), v("org", from_origin),
        v("reused", reused), v("left", left_out), v("id", id);
  }
};

/// Notes to the asker of a Get, before its reply: what became of each file, a page at a time.
struct Outcomes {
  static constexpr const char* name = "outcomes";
  std::vector<GetOutcome> outcomes;
  template <class V>
  void describe(V& v) {
    v("outcomes", outcomes);
  }
};

struct GetReply {
  static constexpr const char* name = "get-reply";
  Status status = Status::ok;
  bool running = false;               ///< the time of a Wait was up before its gets were over
  std::vector<std::int64_t> numbers;  ///< then: of the gets that it is about
  std::vector<std::string> errors;    ///< of a detached one that has failed already, the first few
  std::vector<int> whats;             ///< of each of these: of which WHAT, where that is known
  template <class V>
  void describe(V& v) {
    v("status", status), v("running", running), v("numbers", numbers), v("errors", errors), v("whats", whats);
  }
};

/// Put files into this node's files dir. Ends when all are there or have failed (`detach`: as soon as it is noted
/// down). When the asker's connection closes first, a get that is not detached is stopped; partials stay.
struct Get {
  static constexpr const char* name = "get";
  using Reply = GetReply;
  std::vector<std::string> whats;
  std::string from;
  bool strict = false;
  bool force = false;
  bool wait = false;
  bool detach = false;
  bool no_backing = false;          ///< leave out the backing files of disk images
  std::int64_t max_down = 0;        ///< bytes per second; 0: as fast as it goes
  std::int64_t max_up = 0;          ///< the same, for what it sends meanwhile
  int max_active = 0;               ///< large files at once; 0: as many as the node allows
  std::vector<std::string> except;  ///< patterns that were cancelled since
  /// The bytes of the one file that it names come as StreamData notes while they arrive, in order: each time that they
  /// begin, a StreamBegin comes first. No more than a help: what is in place in the end is what counts, and a file that
  /// was here already, or is small, comes without them. Its pieces are wanted in order, in a wide window.
  bool pipe = false;
  bool refresh = false;            ///< of URLs: ask the origin whether the mesh's copy is still what it has
  std::string ca;                  ///< certificates to trust, as PEM, in place of the system's
  int timeout = 0;                 ///< seconds that an origin may be silent; 0: the default
  bool ordered = false;            ///< by another node, as the one that is asked notes down
  bool no_preserve_modes = false;  ///< leave out the group's right to write as well
  std::vector<std::string> seeds;  ///< paths of files here that may have some of the bytes
  bool no_seed = false;            ///< all bytes come from others
  std::string once;                ///< as Delete's
  template <class V>
  void describe(V& v) {
    v("ordered", ordered), v("nomodes", no_preserve_modes), v("seeds", seeds), v("noseed", no_seed), v("once", once),
        v("whats", whats), v("from", from), v("strict", strict), v("force", force), v("wait", wait),
        v("detach", detach), v("nobacking", no_backing), v("maxdown", max_down), v("maxup", max_up),
        v("maxactive", max_active), v("except", except), v("pipe", pipe), v("refresh", refresh), v("ca", ca),
        v("timeout", timeout);
  }
};

/// Until the gets of these WHATs, or without any all gets of this node, have ended. Notes of Progress and Outcomes come
/// before the reply. A get that ended before is answered from memory; without WHATs only those nobody has heard of.
struct Wait {
  static constexpr const char* name = "wait";
  using Reply = GetReply;
  std::vector<std::string> whats;
  int seconds = 0;                    ///< answer after so long, whatever the state; 0: wait to the end
  std::vector<std::int64_t> numbers;  ///< of the gets that an earlier answer named: these, whatever the WHATs say
  template <class V>
  void describe(V& v) {
    v("whats", whats), v("seconds", seconds), v("numbers", numbers);
  }
};

struct Cancelled {
  static constexpr const char* name = "cancelled";
  std::vector<std::string> stopped;    ///< what was under way and is not any more
  std::vector<std::string> discarded;  ///< paths whose partial was dropped
  template <class V>
  void describe(V& v) {
    v("stopped", stopped), v("discarded", discarded);
  }
};

/// Stop getting what these WHATs name, in every get of this node.
struct Cancel {
  static constexpr const char* name = "cancel";
  using Reply = Cancelled;
  std::vector<std::string> whats;
  bool discard = false;
  std::string once;  ///< as Delete's
  template <class V>
  void describe(V& v) {
    v("whats", whats), v("discard", discard), v("once", once);
  }
};

struct StreamEnd {
  static constexpr const char* name = "stream-end";
  std::int64_t size = 0;
  std::int64_t from_sources = 0;
  std::int64_t from_getters = 0;
  template <class V>
  void describe(V& v) {
    v("size", size), v("src", from_sources), v("get", from_getters);
  }
};

/// A note to the asker of a piped Get: what follows are the bytes of this file, from its beginning. To that of a
/// Stream, once: from where it asked for them.
struct StreamBegin {
  static constexpr const char* name = "stream-begin";
  std::string path;
  std::int64_t size = 0;
  ContentId id;
  template <class V>
  void describe(V& v) {
    v("path", path), v("size", size), v("id", id);
  }
};

/// A note to the asker of a Stream, or of a piped Get: the next bytes.
struct StreamData {
  static constexpr const char* name = "stream-data";
  std::string data;
  template <class V>
  void describe(V& v) {
    v("data", data);
  }
};

/// The bytes of one file, in order, as StreamData notes before the reply, without putting it into the files dir.
struct Stream {
  static constexpr const char* name = "stream";
  using Reply = StreamEnd;
  std::string path;
  std::string from;
  bool strict = false;
  std::int64_t spool = 0;   ///< bytes kept in the state directory at once; 0: the whole file
  std::int64_t offset = 0;  ///< where an earlier one of it ended, as the node did
  ContentId id{};           ///< and what that was of; unset: it had not been said
  template <class V>
  void describe(V& v) {
    v("path", path), v("from", from), v("strict", strict), v("spool", spool), v("offset", offset), v("id", id);
  }
};

}  // namespace mesh
