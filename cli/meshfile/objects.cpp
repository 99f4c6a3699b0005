// Objects of stores: listed, put, deleted; by the node that runs here, with its credentials.
#include <cstdio>

#include "core/format.h"
#include "core/mesh_path.h"
#include "core/url.h"
#include "meshfile/commands.h"
#include "meshfile/shared.h"

namespace mesh::meshfile {

bool is_object_url(const std::string& text) { return is_url(text) && parse_url(text).is_object(); }

Task<Status> list_objects(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  Conversation conversation(node, handlers, true);
  ObjectsAsk question;
  question.url = asked.path;
  question.recursive = asked.recursive;
  json items = json::array();
  std::int64_t nameless = 0;
  std::int64_t found = 0;
  std::string first_nameless;
  do {
    const ObjectsTold page = co_await conversation.ask(question, std::chrono::seconds(600));
    for (const auto& object : page.objects) {
      ++found;
      if (asked.as_json) {
        json one = {{"url", object.url}, {"kind", object.path.empty() ? "prefix" : "object"}};
        if (!object.path.empty())
          one.update({{"path", object.path}, {"size", object.size}, {"mtime_ns", object.mtime}, {"etag", object.etag}});
        items.push_back(std::move(one));
        continue;
      }
      const auto size = object.path.empty() ? std::string("prefix") : human_bytes(object.size);
      const auto time = object.mtime > 0 ? human_time(object.mtime) : std::string();
      std::printf("%9s  %*s  %s\n", size.c_str(), static_cast<int>(human_time(0).size()), time.c_str(),
                  printable(object.url).c_str());
    }
    if (nameless == 0) first_nameless = page.first_nameless;
    nameless += page.nameless;
    question.after = page.next;
  } while (!question.after.empty());
  if (asked.as_json) print(items);
  if (nameless > 0)
    say("meshfile", std::to_string(nameless) + (nameless == 1 ? " key that is" : " keys that are") + " no path, as " +
                        printable(first_nameless) + ", not listed: each has to be named whole");
  if (found == 0 && nameless == 0) throw Error(Status::not_found, printable(asked.path) + ": not found in the store");
  co_return Status::ok;
}

Task<Status> put(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  Put request;
  request.path = path_named(asked.path, node);
  request.url = asked.url;
  request.force = asked.force;
  request.once = new_once();
  const PutDone done = co_await ask(node, handlers, true, request, std::chrono::hours(24 * 365));
  if (done.is_raced)
    say("meshfile", printable(done.url) +
                        ": the store does not know If-None-Match: another writer at the same time "
                        "would not have been noticed");
  if (asked.as_json)
    print({{"url", done.url}, {"size", done.size}, {"etag", done.etag}, {"may_have_raced", done.is_raced}});
  else
    std::printf("%s\n", printable(done.url).c_str());
  co_return Status::ok;
}

Task<Status> delete_objects(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  Conversation conversation(node, handlers, true);
  Status status = Status::ok;
  json items = json::array();
  for (const auto& url : asked.whats) {
    ObjectDelete request;
    request.url = url;
    request.once = new_once();
    std::optional<Error> trouble;
    try {
      const ObjectDeleted done = co_await conversation.ask(request, std::chrono::seconds(600));
      if (asked.as_json)
        items.push_back({{"url", done.url}, {"size", done.size}});
      else
        std::printf("deleted %s, %s\n", printable(done.url).c_str(), human_bytes(done.size).c_str());
    } catch (const Error& error) {
      trouble = error;
    }
    if (!trouble) continue;
    say("meshfile", trouble->what());
    status = worst(status, trouble->status());
  }
  if (asked.as_json) print({{"deleted", items}});
  co_return status;
}

}  // namespace mesh::meshfile
