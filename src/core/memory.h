// The heap after a burst.
#pragma once

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <fstream>

namespace mesh {

/// Gives memory that is free inside the heap back to the system, which glibc does by itself only at the heap's end.
/// With a large heap that takes a while, so where it brings little, the next time is twice as far away. For one thread.
class Trimmer {
 public:
  /// Call it once a minute.
  void give_back() {
    const auto before = resident();
    if (before > left_ + much) wait_ = 1;
    if (++waited_ < wait_) return;
    waited_ = 0;
    ::malloc_trim(0);
    left_ = resident();
    wait_ = before > left_ + much ? 1 : std::min(2 * wait_, longest_wait);
  }

 private:
  static constexpr std::size_t much = std::size_t{16} << 20;
  static constexpr int longest_wait = 64;

  static std::size_t resident() {
    std::ifstream in("/proc/self/statm");
    std::size_t all = 0, pages = 0;
    in >> all >> pages;
    return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  }

  std::size_t left_ = 0;
  int wait_ = 1, waited_ = 0;
};

}  // namespace mesh
