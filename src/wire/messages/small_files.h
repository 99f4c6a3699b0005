// Files too small for a torrent: who has them, and their bytes. A part of the vocabulary in wire/messages.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/digest.h"
#include "core/entry.h"
#include "wire/messages/common.h"

namespace mesh {

struct FetchedFile {
  ContentId id;
  std::string data;
  std::string error;
  template <class V>
  void describe(V& v) {
    v("id", id), v("data", data), v("error", error);
  }
};

struct Fetched {
  static constexpr const char* name = "fetched";
  std::vector<FetchedFile> files;  ///< in the order of the request; may be fewer, the rest is to be asked again
  template <class V>
  void describe(V& v) {
    v("files", files);
  }
};

/// The bytes of small files, as they were listed: a copy that has changed since is an error, not other bytes.
struct Fetch {
  static constexpr const char* name = "fetch";
  using Reply = Fetched;
  std::vector<FileEntry> files;
  template <class V>
  void describe(V& v) {
    v("files", files);
  }
};

struct Located {
  static constexpr const char* name = "located";
  struct Holders {
    std::vector<std::uint32_t> nodes;
    template <class V>
    void describe(V& v) {
      v("n", nodes);
    }
  };
  std::vector<Holders> files;  ///< as many as asked for
  std::vector<NodeRef> nodes;  ///< that `files` mention
  template <class V>
  void describe(V& v) {
    v("files", files), v("nodes", nodes);
  }
};

/// Who holds these versions under these paths by now. For small files: the getters of a moment ago serve them too.
struct Locate {
  static constexpr const char* name = "locate";
  using Reply = Located;
  std::vector<FileEntry> files;
  template <class V>
  void describe(V& v) {
    v("files", files);
  }
};

}  // namespace mesh
