// What a service tells systemd (sd_notify(3)): that it is ready, that its loop turns, that it stops. Nothing where it
// was not started by systemd. On the loop's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <memory>
#include <string>

namespace mesh {

/// Says READY=1 with `status`, WATCHDOG=1 for as long as `io` runs and the result lives, and STOPPING=1 at the first
/// SIGTERM or SIGINT in that time. The result is null where nobody is to be told.
[[nodiscard]] std::shared_ptr<void> tell_service_manager(boost::asio::io_context& io, const std::string& status);

}  // namespace mesh
