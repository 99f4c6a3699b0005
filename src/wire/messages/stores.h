// Objects of stores: what a command asks its own node, and no other. A part of the vocabulary in wire/messages.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mesh {

struct ObjectEntry {
  std::string url;
  std::string path;        ///< where a get puts it; empty of a prefix, below which there is more
  std::int64_t size = 0;   ///< bytes
  std::int64_t mtime = 0;  ///< nanoseconds since the epoch; 0: not said
  std::string etag;
  template <class V>
  void describe(V& v) {
    v("url", url), v("path", path), v("size", size), v("mtime", mtime), v("etag", etag);
  }
};

/// A page of what is in a store.
struct ObjectsTold {
  static constexpr const char* name = "objects";
  std::vector<ObjectEntry> objects;
  std::string next;            ///< there is more: ask again with `after` = next
  std::int64_t nameless = 0;   ///< keys of this page that are no paths
  std::string first_nameless;  ///< one of them
  template <class V>
  void describe(V& v) {
    v("objects", objects), v("next", next), v("nameless", nameless), v("first", first_nameless);
  }
};
struct ObjectsAsk {
  static constexpr const char* name = "objects-ask";
  using Reply = ObjectsTold;
  std::string url;  ///< of an object, of a prefix (with '/' at its end), or a glob
  bool recursive = false;
  std::string after;
  template <class V>
  void describe(V& v) {
    v("url", url), v("recursive", recursive), v("after", after);
  }
};

/// A file of this node's is in a store. Notes of Progress come before.
struct PutDone {
  static constexpr const char* name = "put-done";
  std::string url;
  std::int64_t size = 0;
  std::string etag;
  bool is_raced = false;  ///< another writer at the same time would not have been noticed
  template <class V>
  void describe(V& v) {
    v("url", url), v("size", size), v("etag", etag), v("raced", is_raced);
  }
};
struct Put {
  static constexpr const char* name = "put";
  using Reply = PutDone;
  std::string path;  ///< a mesh path
  std::string url;   ///< with '/' at its end: below that, under the path's last part
  bool force = false;
  std::string once{};  ///< as of Delete
  template <class V>
  void describe(V& v) {
    v("path", path), v("url", url), v("force", force), v("once", once);
  }
};

struct ObjectDeleted {
  static constexpr const char* name = "object-deleted";
  std::string url;
  std::int64_t size = 0;
  template <class V>
  void describe(V& v) {
    v("url", url), v("size", size);
  }
};
struct ObjectDelete {
  static constexpr const char* name = "object-delete";
  using Reply = ObjectDeleted;
  std::string url;  ///< of one object
  std::string once{};
  template <class V>
  void describe(V& v) {
    v("url", url), v("once", once);
  }
};

}  // namespace mesh
