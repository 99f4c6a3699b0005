// Bytes of a content, for who reads it before it has it (docs/decisions/0026). A part of the vocabulary in
// wire/messages.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/digest.h"
#include "wire/messages/common.h"

namespace mesh {

/// What a demand read is rounded to: the first multiple of a block that a guest's own reads are mostly smaller than.
inline constexpr std::int64_t grain_bytes = 64 * 1024;
inline constexpr std::int64_t most_range_bytes = std::int64_t{1} << 20;
inline constexpr std::size_t most_range_pieces = most_range_bytes / grain_bytes;
inline constexpr std::size_t most_readers_told = 64;

struct RangeTold {
  static constexpr const char* name = "range-told";
  std::string data;                 ///< from the offset that was asked for; may be less than asked for
  std::vector<std::string> leaves;  ///< of the pieces asked for, 32 bytes each
  std::string roots;                ///< as in Torrent
  std::int64_t readers_stamp = 0;   ///< another number: others read it
  std::vector<NodeRef> readers;     ///< who reads it, where the asker's stamp was another one
  std::int64_t ctime = 0;           ///< of a candidate
  ContentId id{};                   ///< and what its content is, where that is known by now
  template <class V>
  void describe(V& v) {
    v("data", data), v("leaves", leaves), v("roots", roots), v("stamp", readers_stamp), v("readers", readers),
        v("ctime", ctime), v("id", id);
  }
};

/// Bytes of a content, with what proves them; or of a candidate that nobody has hashed, as it was listed.
struct RangeAsk {
  static constexpr const char* name = "range";
  using Reply = RangeTold;
  ContentId id{};
  std::int64_t size = 0;
  std::int64_t offset = 0;
  std::int64_t length = 0;
  std::vector<std::uint32_t> pieces;  ///< whose leaves are wanted
  bool roots = false;                 ///< so are the pieces' roots
  bool bring = false;                 ///< who reads it, too, and has not these bytes, is to fetch them
  NodeRef self{};                     ///< the asker, where it answers other readers; at which address is seen
  std::int64_t readers_stamp = 0;     ///< that it was told last by this node
  std::string path{};                 ///< of a candidate
  std::int64_t mtime = 0;
  std::int64_t ctime = 0;  ///< 0: not known yet
  template <class V>
  void describe(V& v) {
    v("id", id), v("size", size), v("offset", offset), v("length", length), v("pieces", pieces), v("roots", roots),
        v("bring", bring), v("self", self), v("stamp", readers_stamp), v("path", path), v("mtime", mtime),
        v("ctime", ctime);
  }
};

/// What is read first of a content (core/read_profile.h), as far as the node that is asked knows; empty: it does not.
struct ProfileTold {
  static constexpr const char* name = "profile-told";
  std::string profile;
  template <class V>
  void describe(V& v) {
    v("profile", profile);
  }
};

struct ProfileAsk {
  static constexpr const char* name = "profile";
  using Reply = ProfileTold;
  ContentId id{};
  std::int64_t size = 0;
  std::string news;  ///< what has just been read at the asker's, for a holder to keep and tell others; may be empty
  template <class V>
  void describe(V& v) {
    v("id", id), v("size", size), v("news", news);
  }
};

/// A command to its node: what is there for readers alone?
struct CacheUsage {
  static constexpr const char* name = "cache-usage";
  std::int64_t bytes = 0;       ///< on the disk
  std::int64_t most_bytes = 0;  ///< that there may be (--cache)
  int contents = 0;
  int open = 0;     ///< that are being read, or were a moment ago
  int unsaved = 0;  ///< of which something is not written down yet
  template <class V>
  void describe(V& v) {
    v("bytes", bytes), v("most", most_bytes), v("contents", contents), v("open", open), v("unsaved", unsaved);
  }
};

struct CacheAsk {
  static constexpr const char* name = "cache";
  using Reply = CacheUsage;
  bool drop = false;  ///< what nobody reads at the moment is dropped before
  template <class V>
  void describe(V& v) {
    v("drop", drop);
  }
};

}  // namespace mesh
