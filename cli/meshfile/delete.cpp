#include <algorithm>

#include "core/format.h"
#include "core/glob.h"
#include "core/mesh_path.h"
#include "meshfile/commands.h"
#include "meshfile/shared.h"

namespace mesh::meshfile {
namespace {

json to_json(const Deleted& deleted) {
  return {{"deleted", deleted.paths},
          {"count", deleted.count},
          {"bytes", deleted.bytes},
          {"errors", deleted.errors},
          {"status", deleted.status}};
}

void print_deleted(const std::string& node, const Deleted& deleted) {
  for (const auto& error : deleted.errors) say("meshfile", (node.empty() ? "" : printable(node) + ": ") + error);
  if (deleted.count == 0) return;
  std::printf("%sdeleted %lld, %s", node.empty() ? "" : (printable(node) + ": ").c_str(),
              static_cast<long long>(deleted.count), human_bytes(deleted.bytes).c_str());
  if (deleted.count == static_cast<std::int64_t>(deleted.paths.size()) && deleted.count <= 20)
    for (const auto& path : deleted.paths)
      std::printf("%s%s", &path == &deleted.paths.front() ? ": " : " ", printable(path).c_str());
  std::printf("\n");
}

/// The glob, in which a path that is somewhere in the mesh is none.
Task<What> as_in_mesh(const NodeOptions& node, const Handlers& handlers, What what) {
  List question;
  question.pattern = what.pattern;
  question.glob = true;
  try {
    const Listed page = co_await ask(node, handlers, false, question, std::chrono::seconds(150));
    if (page.literal) what.is_glob = false;
    if (may_stand_for(page.pattern, what.pattern)) what.pattern = page.pattern;
  } catch (const Error& error) {
    if (error.status() != Status::not_found) throw;
  }
  co_return what;
}

}  // namespace

Task<Status> remove(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  const auto objects = std::ranges::count_if(asked.whats, is_object_url);
  if (objects > 0) {
    if (objects != std::ssize(asked.whats))
      throw Error(Status::usage, "objects of stores and files of nodes are deleted by calls of their own");
    if (asked.mesh || !asked.on.empty())
      throw Error(Status::usage, "an object is in its store once: --mesh and --on are for files of nodes");
    co_return co_await delete_objects(node, asked, handlers);
  }
  Delete request;
  request.whats = portable(asked.whats, node);
  request.force = asked.force;
  request.once = new_once();
  if (!asked.mesh && asked.on.empty()) {
    Deleted reply = co_await ask(node, handlers, true, request, std::chrono::hours(24));
    for (const auto& missing : reply.missing) {
      reply.errors.push_back(printable(missing) + ": not found on this node");
      reply.status = worst(reply.status, Status::not_found);
    }
    if (asked.as_json)
      print(to_json(reply));
    else
      print_deleted("", reply);
    co_return reply.status;
  }
  // A path that is somewhere in the mesh is no glob anywhere.
  for (auto& text : request.whats) {
    const auto what = parse_what(text, files_dir(node));
    if (what.is_glob) text = portable_text(co_await as_in_mesh(node, handlers, what));
  }
  auto to = asked.on;
  if (to.empty()) to.emplace_back("all");
  const Relayed reply = co_await relay(node, handlers, request, to);
  Status status = Status::ok;
  bool found = false;
  json nodes = json::array();
  for (const auto& answer : reply.answers) {
    Deleted deleted;
    if (answer.status == Status::ok) {
      deleted = from_bencode<Deleted>(answer.body);
    } else {
      deleted.status = answer.status;
      deleted.errors.push_back(answer.error);
    }
    // A node that has nothing of it has nothing to report.
    if (deleted.count == 0 && deleted.status == Status::ok) continue;
    found = true;
    status = worst(status, deleted.status);
    if (asked.as_json) {
      auto one = to_json(deleted);
      one["node"] = answer.node;
      nodes.push_back(std::move(one));
    } else {
      print_deleted(answer.node, deleted);
    }
  }
  if (asked.as_json) print({{"nodes", nodes}, {"absent", reply.absent}});
  for (const auto& name : reply.absent)
    say("meshfile", printable(name) + ": is not in the mesh now; what it has of this comes back with it");
  if (!found) {
    std::string whats;
    for (const auto& what : asked.whats) whats += (whats.empty() ? "" : ", ") + printable(what);
    throw Error(Status::not_found, whats + ": not found on any of " + std::to_string(reply.answers.size()) +
                                       (reply.answers.size() == 1 ? " node" : " nodes"));
  }
  co_return status;
}

}  // namespace mesh::meshfile
