#include <cinttypes>

#include "core/format.h"
#include "core/mesh_path.h"
#include "meshfile/commands.h"
#include "meshfile/shared.h"
#include "options.h"

namespace mesh::meshfile {

Task<Status> diff(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  Get named = asked.get;
  find_seeds(named);
  DiffAsk question;
  question.path = path_named(asked.path, node);
  question.seeds = named.seeds;
  // A file that nobody has hashed is read for it.
  const Difference reply = co_await ask(node, handlers, true, question, std::chrono::hours(24));
  if (asked.as_json)
    print({{"path", reply.path}, {"fetch", reply.fetch}, {"reuse", reply.reuse}});
  else
    std::printf("%s\t%" PRId64 "\t%" PRId64 "\n", printable(reply.path).c_str(), reply.fetch, reply.reuse);
  co_return Status::ok;
}

}  // namespace mesh::meshfile
