#include <unistd.h>

#include "core/seeds.h"
#include "meshfile/commands.h"
#include "meshfile/shared.h"

namespace mesh::meshfile {

Task<Status> get(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  Get request = asked.get;
  request.detach = true;
  request.once = new_once();
  if (asked.on.empty()) find_seeds(request);
  if (!asked.on.empty()) {
    request.whats = portable(request.whats, node);
    for (auto& seed : request.seeds) seed = read_seed(seed, files_dir(node));
    if (has_outside_seed(request.seeds, files_dir(node)))
      throw Error(Status::usage, "--seed: other nodes look into their files directories alone");
    const Relayed reply = co_await relay(node, handlers, request, asked.on);
    co_return print_answers(reply, asked, "gets it");
  }
  const GetReply reply = co_await ask(node, handlers, true, request, std::chrono::seconds(30));
  if (asked.as_json) print({{"status", reply.status}, {"detached", true}, {"errors", reply.errors}});
  for (const auto& error : reply.errors) say("meshfile", error);
  if (!asked.as_json && reply.status == Status::ok && ::isatty(STDERR_FILENO) == 1)
    say("meshfile", "under way; meshfile status shows it, meshfile wait waits for it");
  co_return reply.status;
}

}  // namespace mesh::meshfile
