// The same work for many numbers, on a few threads at once.
#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace mesh {

/// Calls `work(i, state)` for each i below `count`, on up to `threads` threads, the calling one among them; each has a
/// `state` of its own, from `make_state`. Returns when all are over; where some threw, no more are begun, and what one
/// of them threw is thrown here.
template <class MakeState, class Work>
void for_each_index(int count, unsigned threads, const MakeState& make_state, const Work& work) {
  std::atomic<int> next = 0;
  std::mutex mutex;
  std::exception_ptr trouble;
  const auto run = [&] {
    try {
      auto state = make_state();
      for (int i = next++; i < count; i = next++) work(i, state);
    } catch (...) {
      const std::lock_guard lock(mutex);
      trouble = std::current_exception();
      next = count;
    }
  };
  std::vector<std::jthread> helpers;
  for (unsigned i = 1; i < std::min(threads, static_cast<unsigned>(std::max(count, 0))); ++i) helpers.emplace_back(run);
  run();
  helpers.clear();
  if (trouble) std::rethrow_exception(trouble);
}

/// As many as the machine runs at once.
[[nodiscard]] inline unsigned all_threads() { return std::max(1U, std::thread::hardware_concurrency()); }

}  // namespace mesh
