// How a node is. A part of the vocabulary in wire/messages.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/states.h"
#include "wire/messages/gets.h"

namespace mesh {

/// One get of a node, as `meshfile status` shows it.
struct GetInfo {
  std::int64_t number = 0;
  std::vector<std::string> whats;
  GetState state = GetState::unknown;
  std::string detail;
  bool detached = false;
  int files_done = 0;
  int files_total = 0;
  std::int64_t done = 0;
  std::int64_t total = 0;
  std::int64_t rate = 0;            ///< bytes per second
  Status status = Status::ok;       ///< of one that has ended
  std::vector<std::string> errors;  ///< of one that has ended, the first few
  bool reported = false;            ///< somebody has heard how it ended
  std::int64_t ended = 0;           ///< counts up with each get that ends
  std::string once;                 ///< of its request
  template <class V>
  void describe(V& v) {
    v("number", number), v("whats", whats), v("st", state), v("detail", detail), v("detached", detached),
        v("fdone", files_done), v("ftotal", files_total), v("done", done), v("total", total), v("rate", rate),
        v("status", status), v("errors", errors), v("reported", reported), v("ended", ended), v("once", once);
  }
};

struct NodeStatus {
  std::string node;
  std::string error;
  bool tracker_connected = false;
  bool has_no_tracker = false;  ///< no tracker is named
  int files = 0;
  int torrents_loaded = 0;
  std::int64_t cached = 0;  ///< bytes on the disk that readers alone wanted
  int members = 0;          ///< other nodes that it knows of, for when no tracker answers
  std::string version;      ///< of its program
  std::int64_t space = 0;   ///< bytes of the file system of its files directory
  std::int64_t free = 0;    ///< of which these are free
  std::vector<GetInfo> gets;
  std::vector<TransferInfo> transfers;
  template <class V>
  void describe(V& v) {
    v("node", node), v("error", error), v("tracker", tracker_connected), v("no-tracker", has_no_tracker),
        v("files", files), v("loaded", torrents_loaded), v("members", members), v("cached", cached),
        v("version", version), v("space", space), v("free", free), v("gets", gets), v("transfers", transfers);
  }
};

struct StatusReply {
  static constexpr const char* name = "status-reply";
  std::vector<NodeStatus> nodes;
  std::string view;  ///< as in Listed
  template <class V>
  void describe(V& v) {
    v("nodes", nodes), v("view", view);
  }
};

struct StatusAsk {
  static constexpr const char* name = "status";
  using Reply = StatusReply;
  bool mesh = false;
  template <class V>
  void describe(V& v) {
    v("mesh", mesh);
  }
};

}  // namespace mesh
