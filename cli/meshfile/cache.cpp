#include "core/format.h"
#include "meshfile/commands.h"
#include "meshfile/shared.h"

namespace mesh::meshfile {

Task<Status> cache(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  CacheAsk question;
  question.drop = asked.drop;
  const CacheUsage usage = co_await ask(node, handlers, true, question, std::chrono::seconds(60));
  if (asked.as_json)
    print(
        {{"bytes", usage.bytes}, {"most_bytes", usage.most_bytes}, {"contents", usage.contents}, {"open", usage.open}});
  else
    std::printf("%s of at most %s, of %d %s; %d read at the moment\n", human_bytes(usage.bytes).c_str(),
                human_bytes(usage.most_bytes).c_str(), usage.contents, usage.contents == 1 ? "file" : "files",
                usage.open);
  co_return Status::ok;
}

}  // namespace mesh::meshfile
