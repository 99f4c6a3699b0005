#include <unistd.h>
#include <cerrno>

#include "meshfile/commands.h"
#include "meshfile/shared.h"

namespace mesh::meshfile {

void write_out(const std::string& data) {
  for (std::size_t at = 0; at < data.size();) {
    const auto n = ::write(STDOUT_FILENO, data.data() + at, data.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      say("meshfile", "stdout: cannot be written: " + std::generic_category().message(errno));
      std::_Exit(static_cast<int>(Status::failed));
    }
    at += static_cast<std::size_t>(n);
  }
}

Task<Status> stream(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  const auto channel = co_await channel_for(node, handlers, true);
  Stream request = asked.stream;
  request.path = asked.path;
  const StreamEnd end = co_await channel->request(request, std::chrono::hours(24 * 365));
  if (asked.as_json) {
    const json out = {{"size", end.size}, {"from_sources", end.from_sources}, {"from_getters", end.from_getters}};
    std::fprintf(stderr, "%s\n", out.dump().c_str());
  }
  co_return Status::ok;
}

}  // namespace mesh::meshfile
