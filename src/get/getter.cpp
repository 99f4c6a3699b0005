#include "get/getter.h"

#include <unistd.h>

#include <algorithm>

#include "core/format.h"
#include "core/pack.h"
#include "core/piece_plan.h"
#include "library/maker.h"
#include "transfer/origin.h"
#include "transfer/url_fetch.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr int most_attempts = 5;
constexpr auto holder_may_be_back = seconds(30);

Error too_large(const FileEntry& entry) {
  return Error(Status::failed,
               printable(entry.path) + ": " + human_bytes(entry.size) + " is more than --keep-max has left");
}

/// A content that was asked for by its id may be found under another path by now: it goes where it was to go.
void take_other_path(Plan& fresh, const Planned& planned) {
  const auto& path = planned.file.entry.path;
  if (!planned.by_id.is_set() || fresh.files.contains(path) || fresh.files.empty()) return;
  auto other = fresh.files.extract(fresh.files.begin());
  other.key() = path;
  other.mapped().file.entry.path = path;
  fresh.files.insert(std::move(other));
}

bool is_large(const FileEntry& entry) { return entry.kind == Kind::file && entry.size > small_file_bytes; }

}  // namespace

Getter::Getter(Workers& workers, Options options, Log log, Library& library, TrackerLinks& links,
               NodeChannels& channels, Transfers& transfers, Spools& spools, const Pacer& from_nodes)
    : workers_(workers),
      options_(std::move(options)),
      log_(std::move(log)),
      library_(library),
      transfers_(transfers),
      spools_(spools),
      resolver_(
          {options_.url_ignore, library.gate().files_dir(), options_.local_urls,
           [&library](const std::string& path) -> std::optional<FileEntry> {
             const auto* item = library.inventory().find(std::string_view(path));
             return item == nullptr ? std::nullopt : std::optional(item->entry);
           },
           options_.stores},
          [&links](Resolve question) { return links.ask(question, tracker_limit, question_limit); },
          [this](GetTaskPtr task, UrlSource source, FileEntry entry, std::string told) {
            return is_current(task, source, entry, told);
          },
          [this](GetTaskPtr task, ObjectStorePtr store, Url url, std::string prefix, std::string after) {
            return list_objects(task, store, url, prefix, after);
          },
          rules_),
      small_(workers, log_, library, links, channels, spools, from_nodes, rules_),
      backing_(workers, library, resolver_,
               [this](GetTaskPtr task, Plan& plan, Results& results) { return fulfil(task, plan, results); }) {}

GetOutcome Getter::outcome(const Planned& planned) const {
  GetOutcome out;
  out.mesh_path = planned.file.entry.path;
  out.path = library_.gate().absolute(out.mesh_path);
  out.what = planned.what;
  const auto& entry = planned.file.entry;
  (entry.kind == Kind::directory ? out.left_out : out.size) = std::max<std::int64_t>(entry.size, 0);
  out.id = planned.file.entry.id;
  out.print = planned.print;
  return out;
}

/// What is here, and what a get may do about it. Blocks.
LocalState Getter::examine(const ResolvedFile& file) const {
  const auto& installer = library_.installer();
  auto out = installer.examine(file.entry, workers_.stopping());
  // Another program brought it, minimega say: it is nobody's edit, as the mesh knows these bytes from elsewhere.
  using Verdict = LocalState::Verdict;
  const bool open = out.verdict == Verdict::users || out.verdict == Verdict::unknown;
  if (!open || !file.own_known.is_set() || out.entry.kind != Kind::file) return out;
  const auto id = out.id.is_set() ? out.id : installer.identify({out.entry, out.stamp}, workers_.stopping());
  out.replaceable = out.replaceable || id == file.own_known;
  if (out.verdict == Verdict::users && out.replaceable) out.verdict = Verdict::ours;
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

/// Whether the origin still has what the mesh has.
Task<ObjectPage> Getter::list_objects(GetTaskPtr task, ObjectStorePtr store, Url url, std::string prefix,
                                      std::string after) {
  StoreCall call;
  call.shown = url.shown;
  if (task->request.timeout > 0) call.timeout_seconds = task->request.timeout;
  call.stopped = [this, task] { return task->cancelled || workers_.stopping(); };
  const auto list = [store, bucket = url.bucket, prefix, after, call] {
    return store->list(bucket, prefix, {}, after, call);
  };
  co_return co_await run_on(workers_.origins(), list);
}

Task<bool> Getter::is_current(GetTaskPtr task, UrlSource source, FileEntry entry, std::string told) {
  task->enter(GetTask::Phase::asking, "asking " + printable(source.url.shown));
  const auto ask = [this, task, source, entry, told] {
    auto options = origin_options(source);
    options.stopped = [this, task] { return task->cancelled || workers_.stopping(); };
    const auto validator = entry.id.is_set() ? library_.db().find_note("origin " + entry.id.hex()) : std::string();
    const auto etag = validator.starts_with('"') ? validator : std::string();
    if (!told.empty() && told == etag) return true;
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
      co_await resolver_.resolve(task, i, plan, results);
    task->unresolved = results;
    task->running = true;
    co_await fulfil(task, plan, results);
    if (!task->request.no_backing) co_await backing_.get(task, plan, results);
  } catch (const std::exception& error) {
    GetOutcome failed;
    failed.status = Status::failed;
    failed.error = error.what();
    results.push_back(std::move(failed));
  }
  task->running = false;
  task->enter(GetTask::Phase::none);
  if (task->cancelled) {
    GetOutcome stopped;
    stopped.status = Status::interrupted;
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
    failed.status = error.status();
    failed.error = error.what();
    failed.print = false;
    failed.kept = error.code() == std::errc::file_exists;
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
      if (!planned.file.problem.empty() || planned.file.entry.kind == Kind::directory || task->cancelled) continue;
      try {
        planned.before = examine(planned.file);
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
      } else if (rules_.keeps(planned, task->request.force)) {
        if (before.verdict == LocalState::Verdict::same && before.received)
          library_.installer().refresh_attributes(wanted, before);
        settle(planned, true);
      } else if (wanted.kind == Kind::link) {
        library_.installer().place_link(wanted, before);
        settle(planned, false);
      } else if (!planned.url && !task->spend(wanted.size)) {
        fail(planned, too_large(wanted));
      } else {
        (may_come_in_a_pack(*task, planned) ? small : large).push_back(&planned);
      }
    } catch (const Error& error) {
      fail(planned, error);
    }
  }
  // What will be in the way, before anything is fetched.
  std::map<const Planned*, Error> in_the_way;
  std::map<const Planned*, std::string> without_room;  // on another mount
  std::set<const Planned*> elsewhere;                  // the same, and there is room
  const auto rehearse = [&] {
    in_the_way.clear();
    without_room.clear();
    std::map<std::string_view, std::optional<OtherMount>> free;  // directories in which there is nothing in the way
    std::map<std::uint64_t, std::pair<std::int64_t, std::int64_t>> needed;  // bytes and inodes, by device
    for (const auto* list : {&small, &large})
      for (const auto* planned : *list) {
        const auto& wanted = planned->file.entry;
        const auto dir = parent_path(wanted.path);
        const bool absent = planned->before.verdict == LocalState::Verdict::absent;
        try {
          const auto known = absent ? free.find(dir) : free.end();
          const auto mount =
              known != free.end() ? known->second : library_.installer().rehearse(wanted, planned->before);
          if (absent) free.emplace(dir, mount);
          if (!mount || planned->url) continue;
          auto& [bytes, inodes] = needed[mount->device];
          if (bytes + wanted.size <= mount->free_bytes && inodes < mount->free_inodes) {
            bytes += wanted.size;
            ++inodes;
            elsewhere.insert(planned);
            continue;
          }
          without_room.emplace(
              planned, printable(wanted.path) + ": cannot be put in place: " + printable(mount->directory) +
                           " has no " +
                           (inodes < mount->free_inodes ? "room: " + human_bytes(bytes + wanted.size) + " needed, " +
                                                              human_bytes(mount->free_bytes) + " free"
                                                        : "inode left for another file"));
        } catch (const Error& error) {
          in_the_way.emplace(planned, error);
        }
      }
  };
  for (bool again = true; again;) {
    co_await run_on(workers_.brief(), rehearse);
    const bool waits = task->waits_for_room();
    for (const auto& [planned, error] : in_the_way) fail(*planned, error);
    std::vector<Planned*> waiting;  // what fits does not wait for what does not
    for (auto* list : {&small, &large})
      std::erase_if(*list, [&](Planned* one) {
        const auto lacks = without_room.find(one);
        if (lacks != without_room.end() && waits) waiting.push_back(one);
        if (lacks != without_room.end() && !waits) fail(*one, Error(Status::failed, lacks->second));
        return lacks != without_room.end() || in_the_way.contains(one);
      });
    // What is copied into its place takes its time, which small files have not.
    const auto slow = std::ranges::stable_partition(
        small, [&](const Planned* one) { return !is_large(one->file.entry) || !elsewhere.contains(one); });
    large.insert(large.end(), slow.begin(), slow.end());
    small.erase(slow.begin(), slow.end());
    Together work(workers_.loop());
    Together downloads(workers_.loop());
    if (!small.empty()) work.add(get_packed(task, plan, std::exchange(small, {}), downloads, results));
    if (!large.empty()) work.add(get_all_large(task, std::exchange(large, {}), downloads, results));
    co_await work.all();
    co_await downloads.all();
    again = !waiting.empty() && !task->cancelled && !workers_.stopping();
    if (!again) continue;
    task->enter(GetTask::Phase::paused, "paused: " + without_room.at(waiting.front()));
    co_await workers_.rest(milliseconds(500));
    task->enter(GetTask::Phase::none);
    for (auto* one : waiting)
      if (!task->excludes(one->file.entry.path)) (may_come_in_a_pack(*task, *one) ? small : large).push_back(one);
    again = !small.empty() || !large.empty();
  }
  // One line for each WHAT of which something was cancelled.
  std::set<int> dropped;
  std::set<std::string_view> settled;
  for (const auto& one : results)
    if (one.status == Status::ok) settled.insert(one.mesh_path);
  for (const auto& [path, planned] : plan.files)
    if (!task->cancelled && task->excludes(path) && !settled.contains(path)) dropped.insert(planned.what);
  for (const int what : dropped) {
    GetOutcome stopped;
    stopped.what = what;
    stopped.mesh_path = without_secrets(task->request.whats.at(static_cast<std::size_t>(what)));
    stopped.status = Status::interrupted;
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
        log_(failure(error.what()));
      }
    }
  };
  co_await run_on(workers_.brief(), finish_directories);
}

/// Of those that could have a swarm of their own: not what is read as it comes, nor what is here under another path or
/// in part.
bool Getter::may_come_in_a_pack(const GetTask& task, const Planned& planned) const {
  const auto& wanted = planned.file.entry;
  if (planned.url || wanted.size > packed_file_bytes) return false;
  if (!is_large(wanted)) return true;
  if (task.request.pipe || planned.before.verdict == LocalState::Verdict::unknown) return false;
  // Which of the nodes that list the same is asked for would not be known.
  if (!wanted.id.is_set() && !task.request.from.empty()) return false;
  return !wanted.id.is_set() || (library_.inventory().find(wanted.id, wanted.size) == nullptr &&
                                 ::access(library_.part_file(wanted.id).c_str(), F_OK) != 0);
}

/// Packs first; what does not come by them, otherwise.
Task<void> Getter::get_packed(GetTaskPtr task, Plan& plan, std::vector<Planned*> files, Together& downloads,
                              Results& results) {
  const auto finish = finish_into(task, results);
  auto rest = co_await small_.get_packed(task, std::move(files), most_at_once(*task), finish);
  const auto middle = std::ranges::stable_partition(rest, [](const Planned* p) { return !is_large(p->file.entry); });
  std::vector<Planned*> large(middle.begin(), middle.end());
  rest.erase(middle.begin(), middle.end());
  Together work(workers_.loop());
  if (!large.empty()) work.add(get_all_large(task, std::move(large), downloads, results));
  if (!rest.empty()) work.add(get_small(task, plan, std::move(rest), results));
  co_await work.all();
}

std::size_t Getter::most_at_once(const GetTask& task) const {
  const int own = task.request.max_active;
  return static_cast<std::size_t>(own > 0 ? std::min(own, options_.max_active) : options_.max_active);
}

/// Begins them all, so many of `downloads` at once.
Task<void> Getter::get_all_large(GetTaskPtr task, std::vector<Planned*> files, Together& downloads, Results& results) {
  for (auto* planned : files) {
    co_await downloads.fewer_than(most_at_once(*task));
    if (task->cancelled) break;
    downloads.add(get_large(task, *planned, results, 0));
  }
}

SmallFiles::Finish Getter::finish_into(GetTaskPtr task, Results& results) const {
  return [this, task, &results](const Planned& planned, Status status, const std::string& error, bool kept) {
    auto one = outcome(planned);
    one.status = status;
    one.error = error;
    one.kept = kept;
    if (status == Status::ok && !kept) (planned.from_getter ? one.from_getters : one.from_sources) = one.size;
    one.print = one.print && status == Status::ok;
    results.push_back(std::move(one));
    ++task->files_done;
    if (status == Status::ok) task->settled_bytes += planned.file.entry.size;
    if (planned.pack) planned.pack->placed += planned.file.entry.size;
  };
}

Task<void> Getter::get_small(GetTaskPtr task, Plan& plan, std::vector<Planned*> files, Results& results) {
  const auto finish = finish_into(task, results);
  const SmallFiles::Again again = [&](Planned& planned, SmallFiles::Nodes& nodes) -> Task<bool> {
    Plan fresh;
    const auto path = planned.file.entry.path;
    const What what = what_names(planned);
    co_await resolver_.resolve_what(task->request, planned.what, what, fresh, planned.print, task);
    const auto it = fresh.files.find(path);
    if (it == fresh.files.end()) co_return false;  // nor under another path: small files are fetched by it
    const auto& file = it->second.file;
    if (!file.problem.empty() || file.entry.kind != Kind::file || is_large(file.entry)) co_return false;
    if (!task->spend(file.entry.size - planned.file.entry.size)) throw too_large(file.entry);
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
    if (!task->request.no_seed) order.seeds = transfers_.delta().choose(order.wanted, task->seeds);
    auto download = co_await transfers_.get(asker, order);
    // What is to be had of a URL by now is for the mesh to say.
    if (!download || planned.url || download->outcome().end != Download::End::look_again) co_return download;
    const auto look = [this, file = planned.file] { return examine(file); };
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
    failed.status = refused->status();
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
    stopped.status = Status::interrupted;
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
    const auto named = about(path, error);
    try {
      const bool from_url = planned.url.has_value();
      const bool has_url = planned.origin.has_value();
      if (!from_url || attempt > 0)
        co_await pause(task, named + "; looking for another version", milliseconds(300 * (attempt + 1)));
      Plan fresh;
      const What what = what_names(planned);
      bool gone = false;
      for (const auto begun = Clock::now();;) {
        try {
          co_await resolver_.resolve_what(task->request, planned.what, what, fresh, planned.print, task);
          break;
        } catch (const Error& e) {
          if (e.status() != Status::not_found) throw;
          if (!has_url && (task->cancelled || Clock::now() - begun > holder_may_be_back)) throw;
        }
        gone = has_url;  // whoever had it from the origin has left again
        if (gone) break;
        co_await pause(task, named + "; it may be back", milliseconds(1000));
      }
      take_other_path(fresh, planned);
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
          planned.file.entry.origin = planned.origin->url.origin();
        } else {
          if (!task->spend(it->second.file.entry.size - size)) throw too_large(it->second.file.entry);
          planned.url.reset();
          task->total_bytes += it->second.file.entry.size - size;
          planned.file = it->second.file;
          const auto look_again = [this, &planned] {
            planned.before = examine(planned.file);
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
  one.status = status;
  one.error = error;
  one.kept = end == End::kept || end == End::in_the_way;
  one.id = download->wanted().id;
  one.from_sources = download->info().from_sources;
  one.from_getters = download->info().from_getters;
  one.from_origin = download->info().from_origin;
  one.reused = download->info().reused;
  one.print = one.print && well;
  results.push_back(std::move(one));
  ++task->files_done;
  if (well) task->settled_bytes += size;
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
  for (const auto& pack : task.packs) {
    const auto info = spools_.info(pack->id);
    if (!info) continue;
    out.done += std::max<std::int64_t>(info->done - pack->placed, 0);
    out.rate += info->down_rate;
    out.peers += info->peers;
  }
  std::vector<const TransferInfo*> active;
  for (const auto& download : task.downloads) {
    if (download->is_over()) continue;
    const auto& info = download->info();
    active.push_back(&info);
    if (download->order().url) out.total += info.total;
    out.done += info.done;
    out.rate += info.down_rate;
    out.peers += info.peers;
  }
  // What waits for its turn is least of interest, and what does not move most of all.
  const auto longest = [](const TransferInfo* info) { return std::tuple(info->queued, info->eta >= 0, -info->eta); };
  const auto told = std::min(active.size(), most_active_told);
  std::ranges::partial_sort(active, active.begin() + static_cast<std::ptrdiff_t>(told), {}, longest);
  for (std::size_t i = 0; i < told; ++i) out.active.push_back(*active[i]);
  out.more_active = static_cast<int>(active.size() - told);
  return out;
}

}  // namespace mesh
