#include "core/format.h"
#include "core/mesh_path.h"
#include "meshfile/commands.h"
#include "meshfile/shared.h"

namespace mesh::meshfile {

Task<Status> info(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  Info question;
  question.path = path_named(asked.path, node);
  const Versions reply = co_await ask(node, handlers, false, question, std::chrono::seconds(150));
  if (asked.as_json) {
    json versions = json::array();
    for (const auto& version : reply.versions) {
      auto one = to_json(version.entry);
      one["chosen"] = version.chosen;
      one["candidate"] = version.entry.kind == Kind::file && !version.entry.id.is_set();
      one["holders"] = version.nodes;
      versions.push_back(std::move(one));
    }
    print({{"path", question.path}, {"versions", versions}});
    co_return Status::ok;
  }
  std::printf("%s: %zu %s\n", printable(question.path).c_str(), reply.versions.size(),
              reply.versions.size() == 1 ? "version" : "versions");
  for (const auto& version : reply.versions) {
    std::string nodes;
    for (const auto& name : version.nodes) nodes += (nodes.empty() ? "" : ", ") + printable(name);
    const auto& e = version.entry;
    std::printf("%s %s  %s  mode %04o  %s\n    %s: %s\n", version.chosen ? "*" : " ",
                e.kind == Kind::file ? human_bytes(e.size).c_str() : shown_path(e).c_str(), human_time(e.mtime).c_str(),
                e.mode,
                e.id.is_set()          ? e.id.hex().c_str()
                : e.kind == Kind::file ? "candidate: not hashed yet"
                                       : kind_name(e.kind),
                e.id.is_set() || e.kind != Kind::file ? "holders" : "on", nodes.c_str());
    if (!e.origin.empty()) std::printf("    from: %s\n", printable(e.origin).c_str());
  }
  co_return Status::ok;
}

}  // namespace mesh::meshfile
