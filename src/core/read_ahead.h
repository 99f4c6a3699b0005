// How far ahead of a reader to fetch. What it has said that it will read: a MiB, and more the longer it has gone on.
// Beyond that nothing while it jumps about, as a boot does, and half as far as it has gone on without a jump once that
// is some way: what is fetched in vain is a third of all at most. Pure; one thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

namespace mesh {

class ReadAhead {
 public:
  static constexpr std::int64_t some_way = std::int64_t{2} << 20;
  static constexpr std::int64_t at_first = std::int64_t{1} << 20;
  static constexpr std::int64_t most_bytes = std::int64_t{4} << 20;
  /// What a kernel's or a client's own read-ahead has out of order is no jump.
  static constexpr std::int64_t slack = 256 * 1024;

  explicit ReadAhead(std::int64_t given_slack = slack) : slack_(given_slack) {}

  /// Bytes [offset, offset + length) are read now, and all up to `sure` will be. Up to where (a byte's number) they and
  /// what follows should be on their way: `most` bytes beyond them at most.
  [[nodiscard]] std::int64_t read(std::int64_t offset, std::int64_t length, std::int64_t sure,
                                  std::int64_t most = most_bytes) {
    const auto end = offset + length;
    const bool is_first = !std::exchange(begun_, true);
    if (is_first || !is_near(offset)) {
      gone_on_ = length;
      next_ = end;
    } else if (end > next_) {
      // What was passed over counts against it: who jumps about in a small place does not go on.
      const auto gap = std::max<std::int64_t>(offset - next_, 0);
      gone_on_ = std::max<std::int64_t>(gone_on_ - gap, 0) + std::min(length, end - next_);
      next_ = end;
    } else if (end < next_ && next_ - offset <= 4 * length) {
      gone_on_ += length;  // a gap that the last one left; the last one itself, asked for again, ends where it ended
    }
    const auto will_be = std::min(sure, next_ + std::min(at_first + gone_on_, most));
    const auto may_be = gone_on_ > some_way ? next_ + std::min(gone_on_ / 2, most) : end;
    return std::max(will_be, may_be);
  }
  /// A read there is no jump.
  [[nodiscard]] bool is_near(std::int64_t offset) const { return offset <= next_ + slack_ && offset >= next_ - slack_; }

 private:
  std::int64_t slack_;
  bool begun_ = false;
  std::int64_t next_ = 0;     ///< where the last read ended
  std::int64_t gone_on_ = 0;  ///< bytes that were read without a jump
};

}  // namespace mesh
