#include "meshfile/commands.h"
#include "meshfile/shared.h"

namespace mesh::meshfile {

Task<Status> cancel(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  Cancel request;
  request.whats = asked.whats;
  request.discard = asked.discard;
  request.once = new_once();
  if (!asked.on.empty()) {
    request.whats = portable(request.whats, node);
    const Relayed reply = co_await relay(node, handlers, request, asked.on);
    co_return print_answers(reply, asked, "stopped");
  }
  const Cancelled reply = co_await ask(node, handlers, true, request, std::chrono::minutes(1));
  if (asked.as_json) print({{"stopped", reply.stopped}, {"discarded", reply.discarded}});
  co_return Status::ok;
}

}  // namespace mesh::meshfile
