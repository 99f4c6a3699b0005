#include "core/format.h"
#include "core/mesh_path.h"
#include "meshfile/commands.h"
#include "meshfile/shared.h"

namespace mesh::meshfile {
namespace {

/// What a listing says about a path of which there is not just one version.
std::string conflict_mark(const ListItem& item) {
  if (item.versions > 1)
    return "  (" + std::to_string(item.versions) + (item.unsure ? " versions or more)" : " versions)");
  return item.unsure ? "  (perhaps several versions)" : "";
}

}  // namespace

Task<Status> list(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  if (is_object_url(asked.path)) co_return co_await list_objects(node, asked, handlers);
  Conversation conversation(node, handlers, asked.local);
  const auto what = parse_what(asked.path, files_dir(node));
  List question;
  question.pattern = what.pattern;
  question.glob = what.is_glob;
  question.recursive = asked.recursive;
  question.local = asked.local;
  json items = json::array();
  do {
    const Listed page = co_await conversation.ask(question, std::chrono::seconds(150));
    if (question.after.empty()) say_view(page.view);
    for (const auto& item : page.items) {
      if (asked.as_json) {
        auto one = to_json(item.entry);
        one["holders"] = item.holders;
        one["versions"] = item.versions;
        one["versions_unsure"] = item.unsure;
        items.push_back(std::move(one));
      } else {
        const auto size = item.entry.kind == Kind::file
                              ? human_bytes(item.entry.size)
                              : std::string(item.entry.kind == Kind::directory ? "dir" : "link");
        std::printf("%9s  %s  %4d  %s%s\n", size.c_str(), human_time(item.entry.mtime).c_str(), item.holders,
                    shown_path(item.entry).c_str(), conflict_mark(item).c_str());
      }
    }
    question.after = page.next;
  } while (!question.after.empty());
  if (asked.as_json) print(items);
  co_return Status::ok;
}

}  // namespace mesh::meshfile
