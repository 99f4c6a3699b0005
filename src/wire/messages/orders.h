// What is asked of other nodes by way of a tracker, and of this one: deleting, getting, cancelling. A part of the
// vocabulary in wire/messages.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/format.h"
#include "wire/messages/gets.h"

namespace mesh {

struct Deleted {
  static constexpr const char* name = "deleted";
  std::vector<std::string> paths;  ///< of what was deleted, the first `page_entries`; directories end with '/'
  std::int64_t count = 0;          ///< of all
  std::int64_t bytes = 0;
  std::vector<std::string> errors;
  std::vector<std::string> missing;  ///< WHATs of which nothing was there
  Status status = Status::ok;        ///< of the errors
  template <class V>
  void describe(V& v) {
    v("paths", paths), v("count", count), v("bytes", bytes), v("errors", errors), v("missing", missing),
        v("status", status);
  }
};

/// Delete what these WHATs name from this node's files dir.
struct Delete {
  static constexpr const char* name = "delete";
  using Reply = Deleted;
  std::vector<std::string> whats;
  bool force = false;  ///< what somebody has open for writing, too
  /// Of this request alone, in hex: it is sent again where the connection was lost, and done once. Empty: it is not.
  std::string once;
  template <class V>
  void describe(V& v) {
    v("whats", whats), v("force", force), v("once", once);
  }
};

/// A note: the answer to the request of that `once` has been heard, and need not be kept.
struct Heard {
  static constexpr const char* name = "heard";
  std::string once;
  template <class V>
  void describe(V& v) {
    v("once", once);
  }
};

/// 32 hexadecimal digits.
[[nodiscard]] inline bool is_once(std::string_view text) { return is_hex(text, 32); }

struct Ordered {
  static constexpr const char* name = "ordered";
  std::string body;  ///< the bencoded reply
  template <class V>
  void describe(V& v) {
    v("body", body);
  }
};

/// To a node, from another by way of the tracker: do this as if a command of your own had asked. The node may refuse by
/// its configuration.
struct Order {
  static constexpr const char* name = "order";
  using Reply = Ordered;
  std::string kind;   ///< the name of the request: get, wait, cancel, delete
  std::string body;   ///< the bencoded request
  std::string asker;  ///< the name of the node that asks, for the log
  template <class V>
  void describe(V& v) {
    v("kind", kind), v("body", body), v("asker", asker);
  }
};

struct Relayed {
  static constexpr const char* name = "relayed";
  struct Answer {
    std::string node;
    std::string body;
    Status status = Status::ok;
    std::string error;
    template <class V>
    void describe(V& v) {
      v("node", node), v("body", body), v("status", status), v("error", error);
    }
  };
  std::vector<Answer> answers;
  /// Nodes that were in the mesh since the tracker began and are not now.
  std::vector<std::string> absent;
  template <class V>
  void describe(V& v) {
    v("answers", answers), v("absent", absent);
  }
};

/// To the tracker: pass an order on to these nodes (none: to all), and say what each answered.
struct Relay {
  static constexpr const char* name = "relay";
  using Reply = Relayed;
  std::vector<std::string> nodes;  ///< empty: all
  bool spare_asker = false;        ///< all others
  Order order;
  template <class V>
  void describe(V& v) {
    v("nodes", nodes), v("spare", spare_asker), v("order", order);
  }
};

}  // namespace mesh
