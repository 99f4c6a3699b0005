#include "swarm/network_thread.h"

#include <pthread.h>

#include "core/wakeup_coalescing.h"

namespace mesh {
namespace {

constexpr int most_in_a_round = 256;

}

void NetworkThread::start(std::function<void(bool)> on_ramp_up) {
  thread_ = std::thread([this, on_ramp_up = std::move(on_ramp_up)] { run(on_ramp_up); });
  ::pthread_setname_np(thread_.native_handle(), "swarm");
}

void NetworkThread::join() {
  if (thread_.joinable()) thread_.join();
}

void NetworkThread::run(const std::function<void(bool)>& on_ramp_up) {
  WakeupCoalescing coalescing;
  bool is_ramping_up = false;
  while (io_.run_one() > 0) {
    // What flows fast is ready again before a round is over: it would never end.
    int ran = 1;
    while (ran < most_in_a_round && io_.poll_one() > 0) ++ran;
    tls_.flush();
    const auto now = WakeupCoalescing::Clock::now();
    WakeupCoalescing::Clock::duration time{};
    if (ran < most_in_a_round)
      time = coalescing.pause(moved_, now);
    else
      coalescing.measure(moved_, now);
    if (coalescing.is_ramping_up() != is_ramping_up && !io_.stopped())
      on_ramp_up(is_ramping_up = coalescing.is_ramping_up());
    if (time > WakeupCoalescing::Clock::duration::zero() && !tls_.is_held_up()) pause(time);
  }
}

void NetworkThread::pause(std::chrono::steady_clock::duration time) {
  std::unique_lock lock(mutex_);
  wanted_.wait_for(lock, time, [this] { return attention_ > 0; });
}

NetworkThread::NoPause::NoPause(NetworkThread& loop) : loop_(loop) {
  const std::lock_guard lock(loop_.mutex_);
  if (++loop_.attention_ == 1) loop_.wanted_.notify_one();
}

NetworkThread::NoPause::~NoPause() {
  const std::lock_guard lock(loop_.mutex_);
  --loop_.attention_;
}

}  // namespace mesh
