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

struct Watchdog {
  explicit Watchdog(asio::io_context& io) : signals(io, SIGTERM, SIGINT), timer(io) {}
  asio::signal_set signals;
  asio::steady_timer timer;
};

void pat(const std::shared_ptr<Watchdog>& watchdog, std::chrono::microseconds every) {
  ::sd_notify(0, "WATCHDOG=1");
  watchdog->timer.expires_after(every);
  watchdog->timer.async_wait([watchdog, every](const boost::system::error_code& ec) {
    if (!ec) pat(watchdog, every);
  });
}

}  // namespace

void tell_service_manager(asio::io_context& io, const std::string& status) {
  if (::sd_notify(0, ("READY=1\nSTATUS=" + status).c_str()) <= 0) return;
  const auto watchdog = std::make_shared<Watchdog>(io);
  if (std::uint64_t limit = 0; ::sd_watchdog_enabled(0, &limit) > 0)
    pat(watchdog, std::chrono::microseconds(std::max<std::uint64_t>(limit / 2, 1000)));
  watchdog->signals.async_wait([watchdog](const boost::system::error_code& ec, int) {
    if (!ec) ::sd_notify(0, "STOPPING=1");
    watchdog->timer.cancel();
  });
}

}  // namespace mesh
