// Where work is done: the loop, threads for what blocks, and whether the node is going: what runs on them ends soon
// then.
//
// Several pools, so that what is short never waits behind a file that is being read. Any thread may ask; `join` is for
// the owner.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>

#include "wire/flow.h"
#include "wire/task.h"

namespace mesh {

class Workers {
 public:
  explicit Workers(asio::io_context& loop);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  /// The one thread of nearly everything.
  [[nodiscard]] asio::io_context& loop() { return loop_; }
  /// For what is short.
  [[nodiscard]] asio::thread_pool& brief();
  /// For what may read whole files.
  [[nodiscard]] asio::thread_pool& reading();
  /// For what goes to slow places and has others wait for nothing but a thread: copies to other mounts.
  [[nodiscard]] asio::thread_pool& copying();
  /// For origins of URLs, which are waited for.
  [[nodiscard]] asio::thread_pool& origins();

  [[nodiscard]] const std::atomic<bool>& stopping() const { return stopping_; }
  /// On the loop's thread.
  void stop();
  /// Returns when the time is up, or the node is going. On the loop.
  Task<void> rest(std::chrono::milliseconds time) {
    return stopped_.wait_for(stopping_ ? std::chrono::milliseconds(0) : time);
  }
  /// Returns when all that was given to them is done.
  void join();

 private:
  struct Pools;
  asio::io_context& loop_;
  std::unique_ptr<Pools> pools_;
  std::atomic<bool> stopping_ = false;
  Event stopped_;
};

}  // namespace mesh
