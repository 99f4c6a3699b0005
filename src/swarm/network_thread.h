// The thread that libtorrent's session runs on: its io_context, in rounds with pauses between them (core/coalescing.h).
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <libtorrent/io_context.hpp>
#include <mutex>
#include <thread>

#include "swarm/tls_batch.h"

namespace mesh {

namespace lt = libtorrent;

class NetworkThread {
 public:
  /// For the session's constructor.
  [[nodiscard]] lt::io_context& io() { return io_; }
  /// Bytes that the session's disk took and gave; for the loop's thread alone.
  [[nodiscard]] std::int64_t& moved() { return moved_; }

  /// While one lives, there are no pauses: for calls of libtorrent's that wait for its thread, and for times at which
  /// each round trip counts. Any thread.
  class NoPause {
   public:
    explicit NoPause(NetworkThread& loop);
    ~NoPause();
    NoPause(const NoPause&) = delete;
    NoPause& operator=(const NoPause&) = delete;

   private:
    NetworkThread& loop_;
  };

  /// Connections to peers; for the loop's thread alone.
  [[nodiscard]] int& connections() { return connections_; }

  /// For its connections with TLS; for the loop's thread alone.
  [[nodiscard]] TlsBatch& tls() { return tls_; }

  /// Call once the session is there. `on_ramp_up` is called on the loop's thread when much begins to flow, and when
  /// libtorrent has had the time to notice or it has ended (WakeupCoalescing::is_ramping_up).
  void start(std::function<void(bool)> on_ramp_up);
  /// Returns when the session has nothing more to do, which it has after session::abort().
  void join();

 private:
  void run(const std::function<void(bool)>& on_ramp_up);
  void pause(std::chrono::steady_clock::duration time);

  TlsBatch tls_;
  lt::io_context io_{1};
  std::int64_t moved_ = 0;
  int connections_ = 0;
  std::mutex mutex_;
  std::condition_variable wanted_;
  int attention_ = 0;
  std::thread thread_;
};

}  // namespace mesh
