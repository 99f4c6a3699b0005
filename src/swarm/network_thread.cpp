#include "swarm/network_thread.h"

#include <pthread.h>

#include "core/moderation.h"

namespace mesh {
namespace {

constexpr int most_in_a_round = 256;

}

void NetworkThread::start(std::function<void(bool)> on_surge) {
  thread_ = std::thread([this, on_surge = std::move(on_surge)] { run(on_surge); });
  ::pthread_setname_np(thread_.native_handle(), "swarm");
}

void NetworkThread::join() {
  if (thread_.joinable()) thread_.join();
}

void NetworkThread::run(const std::function<void(bool)>& on_surge) {
  Moderation moderation;
  bool is_surge = false;
  while (io_.run_one() > 0) {
    // What flows fast is ready again before a round is over: it would never end.
    int ran = 1;
    while (ran < most_in_a_round && io_.poll_one() > 0) ++ran;
    const auto now = Moderation::Clock::now();
    Moderation::Clock::duration time{};
    if (ran < most_in_a_round)
      time = moderation.pause(moved_, now);
    else
      moderation.measure(moved_, now);
    if (moderation.is_surge() != is_surge && !io_.stopped()) on_surge(is_surge = moderation.is_surge());
    if (time > Moderation::Clock::duration::zero()) pause(time);
  }
}

void NetworkThread::pause(std::chrono::steady_clock::duration time) {
  std::unique_lock lock(mutex_);
  wanted_.wait_for(lock, time, [this] { return attention_ > 0; });
}

NetworkThread::Attention::Attention(NetworkThread& loop) : loop_(loop) {
  const std::lock_guard lock(loop_.mutex_);
  if (++loop_.attention_ == 1) loop_.wanted_.notify_one();
}

NetworkThread::Attention::~Attention() {
  const std::lock_guard lock(loop_.mutex_);
  --loop_.attention_;
}

}  // namespace mesh
