// How far ahead of a reader to fetch: nothing while it jumps about, and twice as far with each read that goes on where
// the last one ended. Pure; one thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

namespace mesh {

class ReadAhead {
 public:
  static constexpr std::int64_t first_bytes = 128 * 1024;
  static constexpr std::int64_t most_bytes = std::int64_t{4} << 20;
  /// What a kernel's or a client's own read-ahead has out of order is no jump.
  static constexpr std::int64_t slack = 256 * 1024;

  /// `goes_on`: it is known to read all that follows.
  explicit ReadAhead(bool goes_on = false) : window_(goes_on ? std::int64_t{1} << 20 : 0) {}

  /// Bytes [offset, offset + length) are read now. Up to where (a byte's number) they and what follows should be on
  /// their way. `most`: of the window.
  [[nodiscard]] std::int64_t read(std::int64_t offset, std::int64_t length, std::int64_t most = most_bytes) {
    const auto end = offset + length;
    const bool is_first = !std::exchange(begun_, true);
    if (is_first || offset > next_ + slack || offset < next_ - slack) {
      if (!is_first) window_ = 0;
      gone_on_ = 0;
      next_ = end;
      return next_ + window_;
    }
    window_ = std::min(window_, std::max(most, first_bytes));
    if (end <= next_) return next_ + window_;
    // Small reads that follow each other are as good as a large one.
    gone_on_ += end - next_;
    next_ = end;
    if (gone_on_ >= window_ / 2) {
      window_ = std::clamp(window_ * 2, first_bytes, std::max(most, first_bytes));
      gone_on_ = 0;
    }
    return next_ + window_;
  }

 private:
  bool begun_ = false;
  std::int64_t window_ = 0;
  std::int64_t next_ = 0;     ///< where the last read ended
  std::int64_t gone_on_ = 0;  ///< bytes since the window grew
};

}  // namespace mesh
