// How the mesh looks at a glance, for the page in a browser: little of each node, and bounded, as a page of a thousand
// nodes asks all of them again and again. A part of the vocabulary in wire/messages.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/states.h"

namespace mesh {

/// Who sends a file, and how much of it by now.
struct Giver {
  std::string who;  ///< a node's name, where it is known, else an address
  std::int64_t bytes = 0;
  template <class V>
  void describe(V& v) {
    v("who", who), v("bytes", bytes);
  }
};

/// A large file on its way to a node.
struct Moving {
  std::string path;
  TransferState state = TransferState::unknown;
  std::int64_t done = 0;
  std::int64_t total = 0;
  std::int64_t rate = 0;  ///< bytes per second
  std::int64_t up_rate = 0;
  std::int64_t eta = -1;  ///< seconds; -1: unknown
  int peers = 0;
  std::string detail;
  std::string have;  ///< of equal parts of the file, from its beginning, how many tenths: '0' to '9', 'a' for all
  std::vector<Giver> givers;  ///< those who gave most
  template <class V>
  void describe(V& v) {
    v("path", path), v("st", state), v("done", done), v("total", total), v("rate", rate), v("up", up_rate),
        v("eta", eta), v("peers", peers), v("detail", detail), v("have", have), v("givers", givers);
  }
};

struct GetGlance {
  std::int64_t number = 0;
  std::vector<std::string> whats;  ///< the first few
  int more_whats = 0;
  GetState state = GetState::unknown;
  std::string detail;  ///< what it waits for, or how it failed
  int files_done = 0;
  int files_total = 0;
  std::int64_t done = 0;
  std::int64_t total = 0;
  std::int64_t rate = 0;
  template <class V>
  void describe(V& v) {
    v("number", number), v("whats", whats), v("more", more_whats), v("st", state), v("detail", detail),
        v("fdone", files_done), v("ftotal", files_total), v("done", done), v("total", total), v("rate", rate);
  }
};

/// Bytes that arrived in each of the last minutes, the oldest first.
struct HourTold {
  std::vector<std::int64_t> received;      ///< from anywhere
  std::vector<std::int64_t> from_sources;  ///< of these, from nodes that had the whole file
  std::vector<std::int64_t> from_origins;  ///< and from the servers of URLs
  template <class V>
  void describe(V& v) {
    v("all", received), v("src", from_sources), v("org", from_origins);
  }
};

/// One node.
struct Glance {
  static constexpr std::size_t most_gets = 8;
  static constexpr std::size_t most_moving = 8;
  static constexpr std::size_t most_whats = 4;
  static constexpr std::size_t most_givers = 5;
  static constexpr std::size_t parts = 64;  ///< of `Moving::have`, at most
  static constexpr std::size_t minutes = 60;
  static constexpr std::size_t most_text = 1024;

  std::string node;
  std::string error;    ///< why it did not say more
  bool is_old = false;  ///< it does not know the question
  std::string version;
  std::int64_t clock = 0;    ///< milliseconds since the epoch, when it answered
  bool has_no_view = false;  ///< nobody tells it what the mesh has
  int entries = 0;
  int members = 0;
  std::int64_t space = 0;  ///< bytes of the file system of its files directory
  std::int64_t free = 0;
  std::int64_t cached = 0;
  std::int64_t rate = 0;  ///< bytes per second that arrive
  std::int64_t up_rate = 0;
  std::vector<GetGlance> gets;
  int more_gets = 0;
  std::vector<Moving> moving;
  int more_moving = 0;
  HourTold hour;
  template <class V>
  void describe(V& v) {
    v("node", node), v("error", error), v("old", is_old), v("version", version), v("clock", clock),
        v("noview", has_no_view), v("files", entries), v("members", members), v("space", space), v("free", free),
        v("cached", cached), v("rate", rate), v("up", up_rate), v("gets", gets), v("mgets", more_gets),
        v("moving", moving), v("mmoving", more_moving), v("hour", hour);
  }
};

/// What another node said, cut to what a node of this version says.
void bound(Glance& glance);
void add(HourTold& to, const HourTold& one);

struct Glances {
  static constexpr const char* name = "glances";
  std::vector<Glance> nodes;        ///< by name
  std::vector<std::string> absent;  ///< nodes that were in the mesh since its tracker began, and are not now
  HourTold hour;                    ///< of all nodes that said theirs
  std::string view;                 ///< when no tracker answers: whose word this is, in words
  template <class V>
  void describe(V& v) {
    v("nodes", nodes), v("absent", absent), v("hour", hour), v("view", view);
  }
};

struct GlanceAsk {
  static constexpr const char* name = "glance";
  using Reply = Glances;
  bool mesh = false;  ///< of all nodes; else of the one that is asked
  bool hour = false;  ///< with the last hour
  template <class V>
  void describe(V& v) {
    v("mesh", mesh), v("hour", hour);
  }
};

}  // namespace mesh
