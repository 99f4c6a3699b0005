// What a node says about one path in its files dir. A value; travels in inventories, fetches and listings.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/digest.h"

namespace mesh {

enum class Kind : std::uint8_t {
  file = 0,
  directory = 1,
  link = 2,     ///< a symbolic link that stays inside the files dir
  outside = 3,  ///< a link that leads out of it, not served; `target` says where to
};

[[nodiscard]] constexpr bool is_known(Kind kind) { return kind <= Kind::outside; }

inline constexpr std::size_t max_origin_bytes = 2000;

struct FileEntry {
  std::string path;
  Kind kind = Kind::file;
  std::int64_t size = 0;   ///< of a directory: how many names in it are there and not offered
  std::int64_t mtime = 0;  ///< nanoseconds since the epoch
  std::uint32_t mode = 0;  ///< permission bits
  std::string target;      ///< of a link
  ContentId id;            ///< of a file that this node has hashed
  std::string origin{};    ///< of a file that came from a URL: which (Url::origin); empty: it is not known

  bool operator==(const FileEntry&) const = default;

  template <class V>
  void describe(V& v) {
    v("p", path), v("k", kind), v("s", size), v("m", mtime), v("o", mode), v("t", target), v("c", id), v("u", origin);
  }
};

}  // namespace mesh
