#include "service.h"

#include <systemd/sd-daemon.h>

#include <algorithm>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <csignal>
#include <memory>

namespace mesh {

namespace asio = boost::asio;

namespace {

class Watchdog {
 public:
  Watchdog(asio::io_context& io, std::chrono::microseconds every) : state_(std::make_shared<State>(io, every)) {
    state_->signals.async_wait([state = state_](const boost::system::error_code& ec, int) {
      if (!ec) ::sd_notify(0, "STOPPING=1");
    });
    if (every.count() > 0) pat(state_);
  }
  ~Watchdog() {
    state_->signals.cancel();
    state_->timer.cancel();
  }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  struct State {
    State(asio::io_context& io, std::chrono::microseconds time)
        : signals(io, SIGTERM, SIGINT), timer(io), every(time) {}
    asio::signal_set signals;
    asio::steady_timer timer;
    std::chrono::microseconds every;
  };
  static void pat(const std::shared_ptr<State>& state) {
    ::sd_notify(0, "WATCHDOG=1");
    state->timer.expires_after(state->every);
    state->timer.async_wait([state](const boost::system::error_code& ec) {
      if (!ec) pat(state);
    });
  }
  std::shared_ptr<State> state_;
};

}  // namespace

std::shared_ptr<void> tell_service_manager(asio::io_context& io, const std::string& status) {
  if (::sd_notify(0, ("READY=1\nSTATUS=" + status).c_str()) <= 0) return nullptr;
  std::uint64_t limit = 0;
  const bool watched = ::sd_watchdog_enabled(0, &limit) > 0;
  return std::make_shared<Watchdog>(io,
                                    std::chrono::microseconds(watched ? std::max<std::uint64_t>(limit / 2, 1000) : 0));
}

}  // namespace mesh
