#include "node/swarm_loop.h"

#include <pthread.h>

#include "core/moderation.h"

namespace mesh {

void SwarmLoop::start(std::function<void(bool)> on_fast) {
  thread_ = std::thread([this, on_fast = std::move(on_fast)] { run(on_fast); });
  ::pthread_setname_np(thread_.native_handle(), "swarm");
}

void SwarmLoop::join() {
  if (thread_.joinable()) thread_.join();
}

void SwarmLoop::run(const std::function<void(bool)>& on_fast) {
  Moderation moderation;
  bool is_fast = false;
  while (io_.run_one() > 0) {
    io_.poll();
    const auto time = moderation.pause(moved_, Moderation::Clock::now());
    if (moderation.is_fast() != is_fast) on_fast(is_fast = moderation.is_fast());
    if (time > Moderation::Clock::duration::zero()) pause(time);
  }
}

void SwarmLoop::pause(std::chrono::steady_clock::duration time) {
  std::unique_lock lock(mutex_);
  wanted_.wait_for(lock, time, [this] { return attention_ > 0; });
}

SwarmLoop::Attention::Attention(SwarmLoop& loop) : loop_(loop) {
  const std::lock_guard lock(loop_.mutex_);
  if (++loop_.attention_ == 1) loop_.wanted_.notify_one();
}

SwarmLoop::Attention::~Attention() {
  const std::lock_guard lock(loop_.mutex_);
  --loop_.attention_;
}

}  // namespace mesh
