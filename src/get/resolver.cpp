#include "get/resolver.h"

#include <algorithm>
#include <utility>

#include "core/format.h"
#include "core/mesh_path.h"
#include "wire/flow.h"

namespace mesh {
namespace {

constexpr int longest_chain = 64;  // of links

/// Whether all of what `what` names was cancelled.
bool is_dropped(const GetTask& task, const What& what) {
  return task.cancelled || std::ranges::any_of(task.except, [&](const What& except) {
           return except.pattern.empty() || (except.pattern == what.pattern && except.is_glob == what.is_glob) ||
                  (!what.is_glob && names(except, what.pattern));
         });
}

}  // namespace

Resolver::IsDirectory::IsDirectory(std::string directory)
    : Error(Status::usage, printable(directory) + ": is a directory, not a file",
            std::make_error_code(std::errc::is_a_directory)),
      path(std::move(directory)) {}

Task<bool> Resolver::resolve_what(const Get& asked, int index, What what, Plan& plan, bool print, GetTaskPtr task,
                                  bool is_one) {
  Resolve question;
  question.pattern = what.pattern;
  question.glob = what.is_glob;
  question.from = asked.from;
  question.strict = asked.strict;
  question.id = what.id;
  do {
    const Resolved reply = co_await ask_(question);
    for (const auto& node : reply.nodes) {
      plan.nodes[node.key] = node;
      rules_.learn(node);
    }
    if (reply.literal) what.is_glob = question.glob = false;
    const auto keep_mode = [&](FileEntry& entry) {
      if (asked.no_preserve_modes) entry.mode &= ~022U;
    };
    for (auto entry : reply.above) {
      if (!is_mesh_path(entry.path) || entry.kind != Kind::directory) continue;
      keep_mode(entry);
      plan.above.try_emplace(entry.path, entry);
    }
    for (const auto& file : reply.files) {
      if (!is_mesh_path(file.entry.path) || (file.problem.empty() && !entry_fault(file.entry).empty())) continue;
      if (what.id.is_set() && file.entry.id != what.id) continue;
      const bool named = print && (what.is_glob       ? file.entry.kind != Kind::directory
                                   : what.id.is_set() ? true
                                                      : file.entry.path == what.pattern);
      Planned planned;
      planned.file = file;
      keep_mode(planned.file.entry);
      planned.what = index;
      planned.print = named;
      planned.by_id = what.id;
      plan.files.try_emplace(file.entry.path, std::move(planned));
    }
    question.after = reply.next;
  } while (!question.after.empty() && !(task && task->cancelled) && !is_one);
  co_return what.is_glob;
}

Task<void> Resolver::resolve(GetTaskPtr task, int index, Plan& plan, Results& results) {
  const auto& text = task->request.whats[static_cast<std::size_t>(index)];
  const auto shown = without_secrets(text);
  for (bool again = true; again;) {
    again = false;
    Error trouble(Status::ok, "");
    bool dropped = false;
    try {
      What what = parse_what(text, options_.files);
      dropped = is_dropped(*task, what);
      if (!dropped && !what.url.empty()) {
        auto url = parse_url(what.url, options_.url_ignore);
        if (url.is_pattern())
          co_await resolve_objects(task, index, what, std::move(url), plan, results);
        else
          co_await resolve_url(task, index, what, plan);
        co_return;
      }
      if (!dropped) {
        what.is_glob = co_await resolve_what(task->request, index, what, plan, true, task);
        if (!what.is_glob && std::cmp_less(index, task->wanted.size()))
          task->wanted[static_cast<std::size_t>(index)].is_glob = false;
        if (what.pattern.empty()) {
          // The root is in no inventory; that it was asked for is answered all the same.
          GetOutcome root;
          root.path = options_.files.given;
          root.mesh_path = "/";
          root.what = index;
          root.print = true;
          results.push_back(std::move(root));
        }
        if (what.is_glob || what.pattern.empty() || what.id.is_set()) co_return;
        // A link that was asked for by name is of little use without what it leads to.
        std::string path = what.pattern;
        for (int depth = 0; depth < longest_chain; ++depth) {
          const auto it = plan.files.find(path);
          if (it == plan.files.end() || it->second.file.entry.kind != Kind::link) break;
          path = link_destination(path, it->second.file.entry.target);
          if (path.empty() || plan.files.contains(path)) break;
          const What target{path, path, false};
          try {
            co_await resolve_what(task->request, index, target, plan, false, task);
          } catch (const Error& error) {
            if (error.status() != Status::not_found) throw;  // a link into nowhere arrives as one
          }
        }
        co_return;
      }
    } catch (const Error& error) {
      trouble = error;
    }
    const bool may_come = trouble.status() == Status::not_found || trouble.status() == Status::unreachable;
    if (!dropped && task->request.wait && may_come) {
      again = co_await pause(task, std::string("waiting: ") + trouble.what(), options_.ask_again);
      if (again) continue;
    }
    GetOutcome failed;
    failed.what = index;
    failed.mesh_path = shown;
    failed.status = task->cancelled || dropped ? Status::interrupted : trouble.status();
    failed.error = dropped ? printable(shown) + ": stopped by meshfile cancel" : trouble.what();
    results.push_back(std::move(failed));
  }
}

UrlSource Resolver::source_of(const GetTask& task, Url url) const {
  UrlSource out;
  out.url = std::move(url);
  out.ca = task.request.ca;
  out.timeout = task.request.timeout;
  out.ordered = task.request.ordered;
  out.local = options_.local_urls;
  out.limit = task.pacer.limit();
  return out;
}

Task<Plan> Resolver::find_in_mesh(GetTaskPtr task, int index, What what, Url url) {
  Plan out;
  bool is_alone = false;
  try {
    co_await resolve_what(task->request, index, what, out, true, task);
    co_return out;
  } catch (const Error& error) {
    // Where no tracker is, this node is on its own, and the origin is there all the same.
    is_alone = error.status() == Status::unreachable;
    if ((error.status() != Status::not_found && !is_alone) || !task->request.from.empty()) throw;
  }
  if (const auto own = is_alone && options_.own ? options_.own(url.path) : std::nullopt) {
    auto& planned = out.files[url.path];
    planned.file.entry = *own;
    planned.what = index;
    planned.print = true;
  }
  co_return out;
}

/// What the mesh has under the URL's path, or, where it has nothing or something older, the URL itself.
Task<void> Resolver::resolve_url(GetTaskPtr task, int index, What what, Plan& plan) {
  auto url = parse_url(what.url, options_.url_ignore);
  // Matters where the mesh does not have it.
  std::optional<Error> no_store;
  std::shared_ptr<ObjectAccess> object;
  if (url.is_object() && options_.stores) try {
      url.set_store(options_.stores->name_of(url));
      object = options_.stores->open(url, task->request.ordered);
    } catch (const Error& error) {
      no_store = error;
    }
  auto source = source_of(*task, url);
  source.object = object;
  Plan of_mesh = co_await find_in_mesh(task, index, what, url);
  if (no_store && (task->request.refresh || !of_mesh.files.contains(url.path))) throw Error(*no_store);
  const std::string untold;
  co_await add_url(task, index, source, untold, of_mesh, plan);
}

Task<void> Resolver::add_url(GetTaskPtr task, int index, UrlSource source, std::string etag, Plan& of_mesh,
                             Plan& plan) {
  const auto& url = source.url;
  const auto it = of_mesh.files.find(url.path);
  const bool found = it != of_mesh.files.end();
  const auto below = of_mesh.files.lower_bound(url.path + "/");
  const bool is_in_the_way = found ? it->second.file.entry.kind != Kind::file
                                   : below != of_mesh.files.end() && is_below(below->first, url.path);
  if (is_in_the_way)
    throw Error(Status::failed, printable(url.path) + ": is a " +
                                    (found && it->second.file.entry.kind == Kind::link ? "link" : "directory") +
                                    " in the mesh, which is in the way of " + printable(url.shown));
  // What others have counts only where what is here is not newer.
  const auto own = found && it->second.file.own_wins && options_.own ? options_.own(url.path) : std::nullopt;
  const FileEntry newest = own ? *own : found ? it->second.file.entry : FileEntry();
  const auto& known = newest.origin;
  const bool is_others = !known.empty() && known != url.origin();
  // Whose bytes it says itself may be from wherever they are.
  if (is_others && !task->request.refresh && url.sha256.empty())
    throw Error(Status::refused, printable(url.path) + ": is from " + printable(known) + "; --refresh brings that of " +
                                     printable(url.shown) + " in its place");
  bool current = found;
  if (found && task->request.refresh) current = !is_others && co_await is_current_(task, source, newest, etag);
  for (const auto& [key, node] : of_mesh.nodes) plan.nodes.try_emplace(key, node);
  for (const auto& [path, entry] : of_mesh.above)
    if (is_below(url.path, path)) plan.above.try_emplace(path, entry);
  Planned planned;
  if (current) {
    planned = it->second;
  } else {
    planned.file.entry.path = url.path;
    planned.file.entry.size = -1;
    planned.file.entry.origin = url.origin();
    planned.what = index;
    planned.url = source;
  }
  planned.print = true;
  planned.origin = source;
  planned.sha256 = url.sha256;
  const auto [there, fresh] = plan.files.try_emplace(url.path, planned);
  if (fresh) co_return;
  // Another WHAT names the same path.
  auto& other = there->second;
  const bool same_source = !planned.url || (other.url && other.url->url.identity == planned.url->url.identity);
  if (!same_source || (!other.sha256.empty() && !url.sha256.empty() && other.sha256 != url.sha256))
    throw Error(Status::usage, printable(url.shown) + ": another WHAT brings another file to " + printable(url.path));
  if (other.sha256.empty()) other.sha256 = url.sha256;
}

/// What a store has of a glob or a prefix. What one of its objects is in the way of is its own trouble.
Task<void> Resolver::resolve_objects(GetTaskPtr task, int index, What what, Url url, Plan& plan, Results& results) {
  constexpr std::size_t most_objects = 200'000;
  constexpr int most_pages = 10'000;  // of a store that never ends
  int pages = 0;
  const auto shown = printable(url.shown);
  if (!options_.stores) throw Error(Status::usage, shown + ": this node has no stores");
  url.set_store(options_.stores->name_of(url));
  const auto store = options_.stores->find(url);
  if (store == nullptr)
    throw Error(Status::usage, shown + ": this node has no store of that name ([store.NAME] in its mesh.conf), and " +
                                   "cannot list it; an object that is named whole may be had from other nodes");
  const auto prefix = url.literal_prefix();
  if (task->request.ordered) options_.stores->check_shared(url, prefix, true);
  task->enter(GetTask::Phase::asking, "listing " + shown);
  std::map<std::string, std::pair<Url, StoredObject>> objects;
  std::size_t nameless = 0;
  std::string first_nameless;
  for (std::string after;;) {
    const ObjectPage page = co_await list_objects_(task, store, url, prefix, after);
    for (const auto& object : page.objects) {
      // What consoles make of a directory.
      if (object.key.ends_with('/')) continue;
      const auto path = url.bucket + "/" + object.key;
      if (is_mesh_path(path)) {
        if (names(what, path)) objects.try_emplace(path, url.object(object.key), object);
      } else if (object.key.starts_with(prefix)) {
        if (nameless++ == 0) first_nameless = object.key;
      }
    }
    if (objects.size() > most_objects)
      throw Error(Status::failed,
                  shown + ": more than " + std::to_string(most_objects) + " objects; name some of them");
    if (page.next.empty() || page.next == after || ++pages >= most_pages || task->cancelled) break;
    after = page.next;
  }
  const auto fail = [&](const std::string& path, const Error& error) {
    GetOutcome failed;
    failed.what = index;
    failed.mesh_path = path;
    failed.status = error.status();
    failed.error = error.what();
    results.push_back(std::move(failed));
  };
  if (nameless > 0)
    fail(shown, Error(Status::failed, shown + ": " + std::to_string(nameless) +
                                          (nameless == 1 ? " key that is" : " keys that are") + " no path, as " +
                                          printable(first_nameless) + ": each has to be named whole"));
  if (objects.empty() && nameless == 0) throw Error(Status::not_found, shown + ": not found in the store");
  Plan of_mesh = co_await find_in_mesh(task, index, what, url);
  for (const auto& [path, object] : objects) {
    if (task->cancelled) co_return;
    std::optional<Error> trouble;
    try {
      auto source = source_of(*task, object.first);
      source.object = options_.stores->open(source.url, task->request.ordered);
      const auto etag = object.second.etag.empty() ? std::string() : "\"" + object.second.etag + "\"";
      co_await add_url(task, index, source, etag, of_mesh, plan);
    } catch (const Error& error) {
      trouble = error;
    }
    if (trouble) fail(path, *trouble);
  }
}

Task<void> Resolver::resolve_file(Get asked, int index, std::string path, Plan& plan, GetTaskPtr task) {
  for (int depth = 0; depth < longest_chain && !plan.files.contains(path); ++depth) {
    Plan found;
    const What what{path, path, false};
    co_await resolve_what(asked, index, what, found, false, task);
    const auto it = found.files.find(path);
    if (it == found.files.end()) throw Error(Status::not_found, printable(path) + ": not found");
    if (it->second.file.entry.kind == Kind::directory)
      throw Error(Status::failed, printable(path) + ": is a directory in the mesh");
    plan.nodes.merge(found.nodes);
    plan.above.merge(found.above);
    const auto entry = it->second.file.entry;
    plan.files.insert(found.files.extract(it));
    if (entry.kind != Kind::link) co_return;
    path = link_destination(path, entry.target);
    if (path.empty())
      throw Error(Status::failed,
                  printable(entry.path) + ": is a link out of the files directory, to " + printable(entry.target));
  }
  if (!plan.files.contains(path)) throw Error(Status::failed, printable(path) + ": its links lead too far");
}

Task<Resolver::Chosen> Resolver::choose(std::string path, std::string from, bool strict) {
  Get asked;
  asked.from = std::move(from);
  asked.strict = strict;
  for (int depth = 0; depth < longest_chain; ++depth) {
    Plan plan;
    const What what{path, path, false};
    co_await resolve_what(asked, 0, what, plan, false, nullptr, true);
    const auto it = plan.files.find(path);
    const bool is_above = std::ranges::any_of(plan.files, [&](const auto& pair) { return is_below(pair.first, path); });
    if (it == plan.files.end() && is_above) throw IsDirectory(path);
    if (it == plan.files.end()) throw Error(Status::not_found, printable(path) + ": not found");
    const auto& file = it->second.file;
    if (!file.problem.empty()) throw Error(Status::failed, printable(path) + ": " + file.problem);
    if (file.entry.kind == Kind::link) {
      const auto link = std::exchange(path, link_destination(path, file.entry.target));
      if (path.empty()) throw Error(Status::failed, printable(link) + ": is a link out of the files directory");
      continue;
    }
    if (file.entry.kind != Kind::file) throw IsDirectory(path);
    Chosen out;
    out.file = file;
    out.nodes = std::move(plan.nodes);
    co_return out;
  }
  throw Error(Status::failed, printable(path) + ": its links lead in a circle");
}

}  // namespace mesh
