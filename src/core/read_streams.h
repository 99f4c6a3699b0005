// The sequential readers of one open file, told apart by where their reads are: each has its own read-ahead, so that
// two programs that read a file at two places, or a kernel that asks for several ranges at once, do not look like one
// that jumps about. Pure; one thread.
#pragma once

#include <array>
#include <cstdint>

#include "core/read_ahead.h"

namespace mesh {

class ReadStreams {
 public:
  static constexpr std::size_t most = 8;
  /// What a kernel has under way at once, out of order.
  static constexpr std::int64_t slack = std::int64_t{1} << 20;

  /// The read-ahead of the reader that goes on at `offset`; else a new one, in place of the one that was used longest
  /// ago.
  [[nodiscard]] ReadAhead& at(std::int64_t offset) {
    Stream* best = nullptr;
    for (auto& stream : streams_)
      if (stream.used != 0 && stream.ahead.is_near(offset) && (best == nullptr || stream.used > best->used))
        best = &stream;
    if (best == nullptr) {
      best = streams_.data();
      for (auto& stream : streams_)
        if (stream.used < best->used) best = &stream;
      best->ahead = ReadAhead(slack);
    }
    best->used = ++uses_;
    return best->ahead;
  }

 private:
  struct Stream {
    ReadAhead ahead{slack};
    std::uint64_t used = 0;
  };
  std::array<Stream, most> streams_;
  std::uint64_t uses_ = 0;
};

}  // namespace mesh
