#include "get/getter.h"

#include <algorithm>

#include "core/format.h"
#include "core/piece_plan.h"
#include "core/qcow2.h"
#include "library/maker.h"
#include "transfer/origin.h"
#include "transfer/url_fetch.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr auto tick = milliseconds(100);
constexpr int most_attempts = 5;
constexpr auto holder_may_be_back = seconds(30);
constexpr int longest_chain = 64;  // of backing files, and of links

bool is_large(const FileEntry& entry) { return entry.kind == Kind::file && entry.size > small_file_bytes; }

/// Whether all of what `what` names was cancelled.
bool is_dropped(const GetTask& task, const What& what) {
  return task.cancelled || std::ranges::any_of(task.except, [&](const What& except) {
           return except.pattern.empty() || (except.pattern == what.pattern && except.is_glob == what.is_glob) ||
                  (!what.is_glob && names(except, what.pattern));
         });
}

}  // namespace

Getter::Getter(Workers& workers, Options options, Log log, Library& library, TrackerLinks& links, Transfers& transfers,
               const Pacer& from_nodes, const Handlers& handlers)
    : workers_(workers),
      options_(std::move(options)),
      log_(std::move(log)),
      library_(library),
      links_(links),
      transfers_(transfers),
      small_(workers, options_.access, log_, library, links, from_nodes, handlers, rules_) {}

GetOutcome Getter::outcome(const Planned& planned) const {
  GetOutcome out;
  out.mesh_path = planned.file.entry.path;
  out.path = library_.gate().absolute(out.mesh_path);
  out.what = planned.what;
  out.size = std::max<std::int64_t>(planned.file.entry.size, 0);
  out.id = planned.file.entry.id;
  out.print = planned.print;
  return out;
}

/// A file that is here already must have the SHA-256 that was asked for, too. Blocks.
void Getter::check_sha256(const Planned& planned) const {
  if (planned.sha256.empty() || planned.before.verdict != LocalState::Verdict::same) return;
  const auto& path = planned.file.entry.path;
  const auto found = sha256_of(library_.gate().open_file(path).get(), workers_.stopping());
  if (found == planned.sha256) return;
  throw Error(Status::failed, "it is what the mesh has, and has SHA-256 " + found + ", not " + planned.sha256 +
                                  " (--refresh asks the origin for another one)");
}

/// Waits; false when the get was cancelled.
Task<bool> Getter::pause(GetTaskPtr task, std::string why, milliseconds time) {
  task->enter(GetTask::Phase::waiting, std::move(why));
  const auto until = Clock::now() + time;
  while (!task->cancelled && Clock::now() < until) co_await sleep_for(std::min(tick, time));
  task->enter(GetTask::Phase::none);
  co_return !task->cancelled;
}

// --- resolving -----------------------------------------------------------------------------------------------------

Task<void> Getter::resolve_one(const Get& asked, int index, What what, Plan& plan, bool print, GetTaskPtr task) {
  Resolve question;
  question.pattern = what.pattern;
  question.glob = what.is_glob;
  question.from = asked.from;
  question.strict = asked.strict;
  do {
    const Resolved reply = co_await links_.ask(question, tracker_limit, question_limit);
    for (const auto& node : reply.nodes) {
      plan.nodes[node.key] = node;
      rules_.learn(node);
    }
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
      const bool named = print && (what.is_glob ? file.entry.kind != Kind::directory : file.entry.path == what.pattern);
      Planned planned;
      planned.file = file;
      keep_mode(planned.file.entry);
      planned.what = index;
      planned.print = named;
      plan.files.try_emplace(file.entry.path, std::move(planned));
    }
    question.after = reply.next;
  } while (!question.after.empty() && !(task && task->cancelled));
}

Task<void> Getter::resolve(GetTaskPtr task, int index, Plan& plan, Results& results) {
  const auto& text = task->request.whats[static_cast<std::size_t>(index)];
  const auto shown = without_secrets(text);
  for (bool again = true; again;) {
    again = false;
    Error trouble(Status::ok, "");
    bool dropped = false;
    try {
      const What what = parse_what(text, library_.gate().files_dir().string());
      dropped = is_dropped(*task, what);
      if (!dropped && !what.url.empty()) {
        co_await resolve_url(task, index, what, plan);
        co_return;
      }
      if (!dropped) {
        co_await resolve_one(task->request, index, what, plan, true, task);
        if (what.pattern.empty()) {
          // The root is in no inventory; that it was asked for is answered all the same.
          GetOutcome root;
          root.path = library_.gate().files_dir().string();
          root.mesh_path = "/";
          root.what = index;
          root.print = true;
          results.push_back(std::move(root));
        }
        if (what.is_glob || what.pattern.empty()) co_return;
        // A link that was asked for by name is of little use without what it leads to.
        std::string path = what.pattern;
        for (int depth = 0; depth < longest_chain; ++depth) {
          const auto it = plan.files.find(path);
          if (it == plan.files.end() || it->second.file.entry.kind != Kind::link) break;
          path = link_destination(path, it->second.file.entry.target);
          if (path.empty() || plan.files.contains(path)) break;
          const What target{path, path, false};
          try {
            co_await resolve_one(task->request, index, target, plan, false, task);
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
      again = co_await pause(task, std::string("waiting: ") + trouble.what(), seconds(1));
      if (again) continue;
    }
    GetOutcome failed;
    failed.what = index;
    failed.mesh_path = shown;
    failed.status = static_cast<int>(task->cancelled || dropped ? Status::interrupted : trouble.status());
    failed.error = dropped ? printable(shown) + ": stopped by meshfile cancel" : trouble.what();
    results.push_back(std::move(failed));
  }
}

/// What the mesh has under the URL's path, or, where it has nothing or something older, the URL itself.
Task<void> Getter::resolve_url(GetTaskPtr task, int index, What what, Plan& plan) {
  const auto url = parse_url(what.url);
  UrlSource source;
  source.url = url;
  source.ca = task->request.ca;
  source.timeout = task->request.timeout;
  source.ordered = task->request.ordered;
  source.local = options_.local_urls;
  source.limit = task->pacer.limit();
  bool found = false;
  Plan of_mesh;
  try {
    co_await resolve_one(task->request, index, what, of_mesh, true, task);
    found = true;
  } catch (const Error& error) {
    if (error.status() != Status::not_found || !task->request.from.empty()) throw;
  }
  const auto it = of_mesh.files.find(url.path);
  if (found && (it == of_mesh.files.end() || it->second.file.entry.kind != Kind::file))
    throw Error(Status::failed,
                printable(url.path) + ": is a " +
                    (it != of_mesh.files.end() && it->second.file.entry.kind == Kind::link ? "link" : "directory") +
                    " in the mesh, which is in the way of " + printable(url.shown));
  plan.nodes.merge(of_mesh.nodes);
  plan.above.merge(of_mesh.above);
  bool current = found;
  if (found && task->request.refresh) current = co_await is_current(task, source, it->second.file.entry);
  Planned planned;
  if (current) {
    planned = std::move(it->second);
  } else {
    planned.file.entry.path = url.path;
    planned.file.entry.size = -1;
    planned.what = index;
    planned.print = true;
    planned.url = source;
  }
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

/// Whether the origin still has what the mesh has.
Task<bool> Getter::is_current(GetTaskPtr task, UrlSource source, FileEntry entry) {
  task->enter(GetTask::Phase::asking, "asking " + printable(source.url.shown));
  const auto ask = [this, task, source, entry] {
    auto options = origin_options(source);
    options.stopped = [this, task] { return task->cancelled || workers_.stopping(); };
    const auto validator = entry.id.is_set() ? library_.db().find_note("origin " + entry.id.hex()) : std::string();
    const auto etag = validator.starts_with('"') ? validator : std::string();
    try {
      const auto head = Origin(std::move(options)).ask(etag, entry.mtime);
      if (head.code == 304) return true;
      if (!etag.empty() && !head.etag.empty()) return etag == head.etag;
      return head.mtime != 0 && head.mtime == entry.mtime && head.size == entry.size;
    } catch (const OriginError& error) {
      // It does not answer that sort of question: then it is asked for the file.
      if (error.status() == Status::failed && !error.is_transient()) return false;
      throw;
    }
  };
  co_return co_await run_on(workers_.origins(), ask);
}

Task<Getter::Chosen> Getter::choose(std::string path, std::string from, bool strict) {
  Get asked;
  asked.from = std::move(from);
  asked.strict = strict;
  for (int depth = 0; depth < longest_chain; ++depth) {
    Plan plan;
    const What what{path, path, false};
    co_await resolve_one(asked, 0, what, plan, false, nullptr);
    const auto it = plan.files.find(path);
    if (it == plan.files.end()) throw Error(Status::not_found, printable(path) + ": not found");
    const auto& file = it->second.file;
    if (!file.problem.empty()) throw Error(Status::failed, printable(path) + ": " + file.problem);
    if (file.entry.kind == Kind::link) {
      const auto link = std::exchange(path, link_destination(path, file.entry.target));
      if (path.empty()) throw Error(Status::failed, printable(link) + ": is a link out of the files directory");
      continue;
    }
    if (file.entry.kind != Kind::file) throw Error(Status::usage, printable(path) + ": is a directory, not a file");
    Chosen out;
    out.file = file;
    out.nodes = std::move(plan.nodes);
    co_return out;
  }
  throw Error(Status::failed, printable(path) + ": its links lead in a circle");
}

// --- one get -------------------------------------------------------------------------------------------------------

Task<std::vector<GetOutcome>> Getter::run(GetTaskPtr task) {
  tasks_.insert(task);
  task->pacer = Pacer(task->request.max_down);
  task->settled_bytes = task->total_bytes = 0;
  task->files_done = task->files_total = 0;
  Results results;
  Plan plan;
  try {
    task->enter(GetTask::Phase::asking, "asking the tracker");
    for (int i = 0; i < static_cast<int>(task->request.whats.size()) && !task->cancelled; ++i)
      co_await resolve(task, i, plan, results);
    task->running = true;
    co_await fulfil(task, plan, results);
    if (!task->request.no_backing) co_await get_backing(task, plan, results);
  } catch (const std::exception& error) {
    GetOutcome failed;
    failed.status = static_cast<int>(Status::failed);
    failed.error = error.what();
    results.push_back(std::move(failed));
  }
  task->running = false;
  task->enter(GetTask::Phase::none);
  if (task->cancelled) {
    GetOutcome stopped;
    stopped.status = static_cast<int>(Status::interrupted);
    results.push_back(std::move(stopped));
  }
  std::ranges::stable_sort(results, {}, [](const GetOutcome& o) { return std::pair(o.what, o.mesh_path); });
  tasks_.erase(task);
  co_return results;
}

/// Brings what is planned: directories first, parents before children; then links; then what has bytes.
Task<void> Getter::fulfil(GetTaskPtr task, Plan& plan, Results& results) {
  const auto fail = [&](const Planned& planned, const Error& error) {
    auto failed = outcome(planned);
    failed.status = static_cast<int>(error.status());
    failed.error = error.what();
    failed.print = false;
    results.push_back(std::move(failed));
    ++task->files_done;
  };
  const auto settle = [&](const Planned& planned, bool kept) {
    auto done = outcome(planned);
    done.kept = kept;
    results.push_back(std::move(done));
    ++task->files_done;
    if (planned.file.entry.kind == Kind::file) task->settled_bytes += planned.file.entry.size;
  };
  task->enter(GetTask::Phase::comparing, "comparing with what is here");
  for (const auto& [path, planned] : plan.files)
    if (planned.file.entry.kind == Kind::file && planned.file.problem.empty() && !planned.url)
      task->total_bytes += planned.file.entry.size;
  task->files_total += static_cast<int>(plan.files.size());
  const auto compare = [&] {
    for (auto& [path, planned] : plan.files) {
      if (!planned.file.problem.empty() || planned.file.entry.kind != Kind::file || task->cancelled) continue;
      try {
        planned.before = library_.installer().examine(planned.file.entry, workers_.stopping());
        check_sha256(planned);
      } catch (const Error& error) {
        planned.file.problem =
            planned.sha256.empty() ? std::string("the local file cannot be compared: ") + error.what() : error.what();
      }
    }
  };
  co_await run_on(workers_.reading(), compare);
  task->enter(GetTask::Phase::none);
  std::vector<Planned*> small;
  std::vector<Planned*> large;
  std::vector<Planned*> directories;
  std::vector<std::shared_ptr<void>> filling;
  for (auto& [path, planned] : plan.files) {
    const auto& wanted = planned.file.entry;
    const auto& before = planned.before;
    if (task->excludes(path)) continue;
    if (!planned.file.problem.empty()) {
      fail(planned, Error(Status::failed, printable(path) + ": " + planned.file.problem));
      continue;
    }
    try {
      if (wanted.kind == Kind::directory) {
        filling.push_back(library_.fill(wanted));
        library_.installer().make_directory(wanted);
        directories.push_back(&planned);
        settle(planned, false);
      } else if (wanted.kind == Kind::link) {
        settle(planned, library_.installer().make_link(wanted, task->request.force));
      } else if (rules_.keeps(planned, task->request.force)) {
        if (before.verdict == LocalState::Verdict::same && before.received)
          library_.installer().refresh_attributes(wanted, before);
        settle(planned, true);
      } else {
        (is_large(wanted) || planned.url ? large : small).push_back(&planned);
      }
    } catch (const Error& error) {
      fail(planned, error);
    }
  }
  Together work(workers_.loop());
  if (!small.empty()) work.add(get_small(task, plan, std::move(small), results));
  const auto at_once = static_cast<std::size_t>(
      task->request.max_active > 0 ? std::min(task->request.max_active, options_.max_active) : options_.max_active);
  Together downloads(workers_.loop());
  for (auto* planned : large) {
    co_await downloads.fewer_than(at_once);
    if (task->cancelled) break;
    downloads.add(get_large(task, *planned, results, 0));
  }
  co_await downloads.all();
  co_await work.all();
  // One line for each WHAT of which something was cancelled.
  std::set<int> dropped;
  std::set<std::string_view> settled;
  for (const auto& one : results)
    if (one.status == 0) settled.insert(one.mesh_path);
  for (const auto& [path, planned] : plan.files)
    if (!task->cancelled && task->excludes(path) && !settled.contains(path)) dropped.insert(planned.what);
  for (const int what : dropped) {
    GetOutcome stopped;
    stopped.what = what;
    stopped.mesh_path = without_secrets(task->request.whats.at(static_cast<std::size_t>(what)));
    stopped.status = static_cast<int>(Status::interrupted);
    stopped.error = printable(stopped.mesh_path) + ": stopped by meshfile cancel";
    std::erase_if(results, [&](const GetOutcome& one) { return one.what == what && one.error == stopped.error; });
    results.push_back(std::move(stopped));
  }
  // Those that were asked for, and those that had to be there: what lies deeper comes first.
  std::map<std::string, std::pair<FileEntry, bool>> finished;
  for (const auto& [path, planned] : plan.files)
    for (auto up = parent_path(path); !up.empty(); up = parent_path(up)) {
      const auto known = plan.above.find(std::string(up));
      FileEntry plain;
      plain.path = up;
      plain.mode = 0755;
      if (!finished.try_emplace(std::string(up), known == plan.above.end() ? plain : known->second, true).second) break;
    }
  for (const auto* planned : directories) finished[planned->file.entry.path] = {planned->file.entry, false};
  const auto finish_directories = [&] {
    for (auto it = finished.rbegin(); it != finished.rend(); ++it) {
      try {
        library_.installer().finish_directory(it->second.first, it->second.second);
      } catch (const Error& error) {
        log_(error.what());
      }
    }
  };
  co_await run_on(workers_.brief(), finish_directories);
}

Task<void> Getter::get_small(GetTaskPtr task, Plan& plan, std::vector<Planned*> files, Results& results) {
  const SmallFiles::Finish finish = [&](const Planned& planned, Status status, const std::string& error, bool kept) {
    auto one = outcome(planned);
    one.status = static_cast<int>(status);
    one.error = error;
    one.kept = kept;
    if (status == Status::ok && !kept) one.from_sources = one.size;
    one.print = one.print && status == Status::ok;
    results.push_back(std::move(one));
    ++task->files_done;
    if (status == Status::ok) task->settled_bytes += planned.file.entry.size;
  };
  const SmallFiles::Again again = [&](Planned& planned, SmallFiles::Nodes& nodes) -> Task<bool> {
    Plan fresh;
    const auto path = planned.file.entry.path;
    const What what{path, path, false};
    co_await resolve_one(task->request, planned.what, what, fresh, planned.print, task);
    const auto it = fresh.files.find(path);
    if (it == fresh.files.end()) co_return false;
    const auto& file = it->second.file;
    if (!file.problem.empty() || file.entry.kind != Kind::file || is_large(file.entry)) co_return false;
    for (auto& [key, node] : fresh.nodes) nodes[key] = node;
    task->total_bytes += file.entry.size - planned.file.entry.size;
    planned.file = file;
    co_return true;
  };
  co_await small_.get(task, plan.nodes, std::move(files), finish, again);
}

/// The download of one large file, when it is over. Where another one to its path came before, what is here is looked
/// at again.
Task<DownloadPtr> Getter::bring(GetTaskPtr task, Planned& planned) {
  const AskerPtr asker = task;
  for (;;) {
    FileOrder order;
    order.wanted = planned.file.entry;
    order.holders = planned.file.holders;
    order.before = planned.before;
    order.url = planned.url;
    order.sha256 = planned.sha256;
    order.force = task->request.force;
    auto download = co_await transfers_.get(asker, order);
    // What is to be had of a URL by now is for the mesh to say.
    if (!download || planned.url || download->outcome().end != Download::End::look_again) co_return download;
    const auto look = [this, entry = planned.file.entry] {
      return library_.installer().examine(entry, workers_.stopping());
    };
    planned.before = co_await run_on(workers_.reading(), look);
    if (rules_.keeps(planned, task->request.force)) {
      download->end({Download::End::kept, Status::ok, {}});
      co_return download;
    }
  }
}

Task<void> Getter::get_large(GetTaskPtr task, Planned& planned, Results& results, int attempt) {
  const auto path = planned.file.entry.path;
  auto size = planned.url ? 0 : planned.file.entry.size;
  DownloadPtr download;
  std::optional<Error> refused;
  try {
    download = co_await bring(task, planned);
  } catch (const Error& e) {
    refused = e;
  }
  if (refused) {
    auto failed = outcome(planned);
    failed.status = static_cast<int>(refused->status());
    failed.error = refused->what();
    failed.print = false;
    results.push_back(std::move(failed));
    ++task->files_done;
    co_return;
  }
  using End = Download::End;
  if (!download || !download->is_over() || download->outcome().end == End::interrupted) {
    if (!task->cancelled && task->excludes(path)) co_return;  // fulfil says so for all of its WHAT
    auto stopped = outcome(planned);
    stopped.status = static_cast<int>(Status::interrupted);
    if (download) stopped.error = download->outcome().error;
    stopped.print = false;
    results.push_back(std::move(stopped));
    co_return;
  }
  auto [end, status, error] = download->outcome();
  if (end == End::in_the_way) {
    status = Status::failed;
    error = rules_.conflict(download->wanted(), planned.before, planned.file.holders);
  }
  if ((end == End::version_gone || end == End::look_again) && attempt < most_attempts && !task->cancelled) {
    std::string trouble;
    const auto named = error.starts_with(printable(path)) ? error : printable(path) + ": " + error;
    try {
      const bool from_url = planned.url.has_value();
      const bool has_url = planned.origin.has_value();
      if (!from_url || attempt > 0)
        co_await pause(task, named + "; looking for another version", milliseconds(300 * (attempt + 1)));
      Plan fresh;
      const What what{path, path, false};
      bool gone = false;
      for (const auto begun = Clock::now();;) {
        try {
          co_await resolve_one(task->request, planned.what, what, fresh, planned.print, task);
          break;
        } catch (const Error& e) {
          if (e.status() != Status::not_found) throw;
          if (!has_url && (task->cancelled || Clock::now() - begun > holder_may_be_back)) throw;
        }
        gone = has_url;  // whoever had it from the origin has left again
        if (gone) break;
        co_await pause(task, named + "; it may be back", milliseconds(1000));
      }
      const auto it = fresh.files.find(path);
      const bool found =
          it != fresh.files.end() && it->second.file.problem.empty() && it->second.file.entry.kind == Kind::file;
      if (gone || (found && (from_url || is_large(it->second.file.entry)))) {
        if (gone) {
          task->total_bytes -= size;
          planned.url = planned.origin;
          planned.file = {};
          planned.file.entry.path = path;
          planned.file.entry.size = -1;
        } else {
          planned.url.reset();
          task->total_bytes += it->second.file.entry.size - size;
          planned.file = it->second.file;
          const auto look_again = [this, &planned] {
            planned.before = library_.installer().examine(planned.file.entry, workers_.stopping());
            check_sha256(planned);
          };
          co_await run_on(workers_.reading(), look_again);
          if (rules_.keeps(planned, task->request.force)) {
            auto kept = outcome(planned);
            kept.kept = true;
            results.push_back(std::move(kept));
            ++task->files_done;
            co_return;
          }
        }
        if (gone || is_large(planned.file.entry)) {
          co_await get_large(task, planned, results, attempt + 1);
        } else {
          std::vector<Planned*> one{&planned};
          co_await get_small(task, fresh, std::move(one), results);
        }
        co_return;
      }
    } catch (const Error& e) {
      trouble = e.what();
    }
    if (!trouble.empty()) error += "; " + trouble;
  }
  const bool well = status == Status::ok;
  if (planned.url && well) {
    planned.file.entry = download->wanted();
    size = download->wanted().size;
    task->total_bytes += size;
  }
  auto one = outcome(planned);
  one.status = static_cast<int>(status);
  one.error = error;
  one.kept = end == End::kept;
  one.id = download->wanted().id;
  one.from_sources = download->info().from_sources;
  one.from_getters = download->info().from_getters;
  one.from_origin = download->info().from_origin;
  one.print = one.print && well;
  results.push_back(std::move(one));
  ++task->files_done;
  if (well) task->settled_bytes += size;
}

/// One file, and what its links lead to; no directory, nothing below one.
Task<void> Getter::resolve_file(Get asked, int index, std::string path, Plan& plan, GetTaskPtr task) {
  for (int depth = 0; depth < longest_chain && !plan.files.contains(path); ++depth) {
    Plan found;
    const What what{path, path, false};
    co_await resolve_one(asked, index, what, found, false, task);
    const auto it = found.files.find(path);
    if (it == found.files.end() || it->second.file.entry.kind == Kind::directory)
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
}

/// The backing files of the disk images that are here now, and theirs, down the chain.
Task<void> Getter::get_backing(GetTaskPtr task, Plan& plan, Results& results) {
  struct Needed {
    std::string image;
    int what = 0;
    Backing backing;
  };
  std::set<std::string> known;
  for (const auto& [path, planned] : plan.files) known.insert(path);
  std::vector<const Planned*> fresh;
  for (const auto& [path, planned] : plan.files) fresh.push_back(&planned);
  std::vector<std::unique_ptr<Plan>> plans;  // `fresh` points into them
  for (int depth = 0; depth < longest_chain && !fresh.empty() && !task->cancelled; ++depth) {
    const auto read_headers = [&] {
      std::vector<Needed> out;
      for (const auto* planned : fresh) {
        const auto& entry = planned->file.entry;
        if (entry.kind != Kind::file || entry.size < std::int64_t{qcow2_head_bytes} || planned->no_image ||
            !planned->file.problem.empty())
          continue;
        try {
          const Fd fd = library_.gate().open_file(entry.path);
          std::string head(qcow2_head_bytes, '\0');
          if (::pread(fd.get(), head.data(), head.size(), 0) != static_cast<ssize_t>(head.size())) continue;
          const auto where = find_backing_name(head);
          if (!where) continue;
          std::string name(where->size, '\0');
          if (::pread(fd.get(), name.data(), name.size(), static_cast<off_t>(where->offset)) !=
              static_cast<ssize_t>(name.size()))
            continue;
          Needed needed;
          needed.image = entry.path;
          needed.what = planned->what;
          needed.backing = locate_backing(entry.path, name, library_.gate().files_dir().string());
          if (needed.backing.path.empty())
            needed.backing.fault =
                printable(name.substr(0, 80)) + (name.size() > 80 ? "..." : "") + " " + needed.backing.fault;
          out.push_back(std::move(needed));
        } catch (const Error&) {
          // It did not arrive; why is said already.
        }
      }
      return out;
    };
    const auto needed = co_await run_on(workers_.brief(), read_headers);
    fresh.clear();
    for (const auto& one : needed) {
      GetOutcome trouble;
      trouble.what = one.what;
      trouble.mesh_path = one.image;
      if (one.backing.path.empty()) {
        trouble.error = printable(one.image) + ": its backing file " + one.backing.fault + "; it is not fetched";
        results.push_back(std::move(trouble));
        continue;
      }
      if (task->excludes(one.backing.path) || !known.insert(one.backing.path).second) continue;
      auto more = std::make_unique<Plan>();
      std::optional<Error> failed;
      // The node that an image is wanted from may have its backing file from elsewhere.
      for (bool any_node = task->request.from.empty();; any_node = true) {
        failed.reset();
        more->files.clear();
        Get asked = task->request;
        if (any_node) asked.from.clear();
        try {
          co_await resolve_file(asked, one.what, one.backing.path, *more, task);
        } catch (const Error& error) {
          failed = error;
        }
        if (!failed || any_node || failed->status() != Status::not_found) break;
      }
      if (failed) {
        trouble.status = static_cast<int>(failed->status());
        trouble.error = printable(one.image) + ": its backing file: " + failed->what();
        results.push_back(std::move(trouble));
        continue;
      }
      co_await fulfil(task, *more, results);
      for (const auto& [path, planned] : more->files) {
        known.insert(path);
        fresh.push_back(&planned);
      }
      plans.push_back(std::move(more));
    }
  }
}

void Getter::cancel(const GetTaskPtr& task) {
  task->cancelled = true;
  transfers_.wake();
}

Progress Getter::progress(const GetTask& task) const {
  Progress out;
  out.done = task.settled_bytes;
  out.total = task.total_bytes;
  out.files_done = task.files_done;
  out.files_total = task.files_total;
  out.phase = task.phase_text;
  for (const auto& download : task.downloads) {
    if (download->is_over()) continue;
    const auto& info = download->info();
    out.active.push_back(info);
    if (download->order().url) out.total += info.total;
    out.done += info.done;
    out.rate += info.down_rate;
    out.peers += info.peers;
  }
  return out;
}

}  // namespace mesh
