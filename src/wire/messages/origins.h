// A file on its way from a URL. A part of the vocabulary in wire/messages.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/digest.h"
#include "core/error.h"

namespace mesh {

/// What the origin said of the file. `validator` is a strong ETag or, with `size`, the Last-Modified; a getter that
/// meets another one has met another version.
struct UrlFacts {
  std::int64_t size = -1;  ///< bytes; below 0: nothing is known yet
  std::int64_t mtime = 0;  ///< nanoseconds since the epoch
  std::string validator;
  bool ranges = false;  ///< parts of it can be asked for
  bool operator==(const UrlFacts&) const = default;
  template <class V>
  void describe(V& v) {
    v("size", size), v("mtime", mtime), v("validator", validator), v("ranges", ranges);
  }
};

/// What is wrong with facts that came from the network, in words; empty when nothing is.
[[nodiscard]] std::string url_facts_fault(const UrlFacts& facts);
/// Whether an earlier answer comes again, in place of the one since, `now`: servers of one name take turns, of which
/// each has a validator of its own. Then none counts, and one node is to read the whole.
[[nodiscard]] bool servers_take_turns(const std::vector<UrlFacts>& earlier, const UrlFacts& now, const UrlFacts& said);
/// What is left to go by then.
[[nodiscard]] UrlFacts without_validator(UrlFacts facts);

/// The first question to an origin is for so many bytes: a smaller file is whole then, and needs no swarm to arrive.
inline constexpr std::int64_t url_first_bytes = std::int64_t{1} << 20;

/// A piece that a node has from the origin, by the SHA-256 merkle root over its blocks.
struct UrlPiece {
  int index = 0;
  ContentId root;
  std::uint32_t by = 0;  ///< who fetched it, in orders
  template <class V>
  void describe(V& v) {
    v("i", index), v("r", root), v("by", by);
  }
};

/// The tracker's word to one of those who get a URL.
struct OriginAssignment {
  static constexpr const char* name = "url-orders";
  std::int64_t epoch = 0;  ///< another one than before: say and ask everything again
  UrlFacts facts;          ///< as the first fetcher found them
  bool first = false;      ///< contact the origin, and say what it says
  int begin = 0;           ///< the pieces to fetch now; none where begin == end
  int end = 0;
  std::vector<UrlPiece> pieces;  ///< news since `known`
  int known = 0;                 ///< ask with this the next time
  int pause = 0;                 ///< milliseconds until the next turn, unless there is something to say
  bool over = false;             ///< a node has the whole file under its path: it is a file of the mesh like others
  std::string error;             ///< nobody can fetch it
  Status status = Status::ok;    ///< of the error
  template <class V>
  void describe(V& v) {
    v("epoch", epoch), v("facts", facts), v("first", first), v("begin", begin), v("end", end), v("pieces", pieces),
        v("known", known), v("pause", pause), v("over", over), v("error", error), v("status", status);
  }
};

/// "I am getting this URL": said a few times a second for as long as that is so. Who is silent for long has gone.
struct OriginReport {
  static constexpr const char* name = "url-turn";
  using Reply = OriginAssignment;
  ContentId url;  ///< SHA-256 of the URL without secrets and fragment
  std::string path;
  std::int64_t epoch = 0;        ///< of the last orders; 0 at first
  UrlFacts facts;                ///< where this node has them from the origin
  std::string have;              ///< a byte a piece: 1 where this node has it
  std::vector<UrlPiece> pieces;  ///< that this node has and the tracker may not know
  int known = 0;
  bool idle = false;           ///< would fetch from the origin
  bool whole = false;          ///< has it in place
  bool leave = false;          ///< the last turn of this node
  std::string error;           ///< why it cannot fetch, for good
  Status status = Status::ok;  ///< of the error
  template <class V>
  void describe(V& v) {
    v("url", url), v("path", path), v("epoch", epoch), v("facts", facts), v("have", have), v("pieces", pieces),
        v("known", known), v("idle", idle), v("whole", whole), v("leave", leave), v("error", error),
        v("status", status);
  }
};

}  // namespace mesh
