#include "get/get_queue.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/format.h"
#include "core/glob.h"
#include "core/seeds.h"
#include "core/url.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;

constexpr auto report_every = milliseconds(200);
constexpr std::size_t most_served = 1000;
constexpr auto retry_after = std::chrono::seconds(5);
constexpr std::size_t most_errors = 20;
constexpr std::size_t most_whats = 10'000;
constexpr std::size_t most_over = 100;
constexpr auto first_look = std::chrono::seconds(1);

std::string joined(const std::vector<std::string>& whats) {
  std::string out;
  for (const auto& what : whats) {
    if (!out.empty()) out += ' ';
    if (out.size() > 200) return out + "... (" + std::to_string(whats.size()) + " in all)";
    out += printable(without_secrets(what));
  }
  return out;
}

GetState ended_as(Status status) {
  return status == Status::ok ? GetState::done : status == Status::interrupted ? GetState::stopped : GetState::failed;
}

bool same(const What& a, const What& b) { return a.pattern == b.pattern && a.is_glob == b.is_glob; }

/// Which gets were asked for what, to be found by path however many they are.
class AskedFor {
 public:
  void add(std::int64_t number, const std::vector<What>& whats) {
    for (const auto& what : whats) {
      exact_[{what.pattern, what.is_glob}].push_back(number);
      if (what.is_glob) globs_.emplace_back(Glob(what.pattern), number);
    }
  }
  /// Those in which `wanted` stands, or, where it is a path, a directory above it.
  [[nodiscard]] std::set<std::int64_t> find(const What& wanted) const {
    std::set<std::int64_t> out;
    const auto take = [&](const std::string& pattern, bool is_glob) {
      if (const auto at = exact_.find({pattern, is_glob}); at != exact_.end())
        out.insert(at->second.begin(), at->second.end());
    };
    take(wanted.pattern, wanted.is_glob);
    if (wanted.is_glob) return out;
    for (auto path = std::string_view(wanted.pattern); !path.empty(); path = parent_path(path))
      take(std::string(path), false);
    take({}, false);
    return out;
  }
  using Globs = std::vector<std::pair<Glob, std::int64_t>>;
  [[nodiscard]] const Globs& globs() const { return globs_; }

 private:
  std::map<std::pair<std::string, bool>, std::vector<std::int64_t>> exact_;
  Globs globs_;
};

}  // namespace

What GetQueue::parse(const std::string& text) const { return parse_what(text, library_.gate().files_dir()); }

std::vector<What> GetQueue::parse_all(const std::vector<std::string>& texts, const char* for_what) const {
  if (texts.size() > most_whats)
    throw Error(Status::usage, std::string(for_what) + " names at most " + std::to_string(most_whats) +
                                   " files, directories or globs");
  std::vector<What> out;
  for (const auto& text : texts) out.push_back(parse(text));
  return out;
}

std::vector<std::string> GetQueue::parse_seeds(const Get& request) const {
  if (request.seeds.size() > DeltaSource::most_seeds)
    throw Error(Status::usage, "--seed: " + std::to_string(DeltaSource::most_seeds) + " at most are looked at");
  std::vector<std::string> out;
  for (const auto& seed : request.seeds) out.push_back(read_seed(seed, library_.gate().files_dir()));
  return out;
}

/// Under a number of its own, or in the place of that one.
GetTaskPtr GetQueue::add(Get request, bool is_kept, std::optional<std::int64_t> number) {
  auto wanted = parse_all(request.whats, "a get");
  if (wanted.empty()) throw Error(Status::usage, "a get names at least one file, directory or glob");
  if (!number && std::cmp_greater_equal(running_.size(), max_gets_))
    throw Error(Status::failed, "as many gets as its --max-gets allows are under way on this node; try again later");
  if (request.pipe && request.whats.size() != 1) throw Error(Status::usage, "the bytes of one file can be followed");
  auto task = std::make_shared<GetTask>();
  task->request = std::move(request);
  task->wanted = std::move(wanted);
  task->seeds = parse_seeds(task->request);
  // Whoever names one is told that it is not there; of nodes that are ordered to get, some may not have it.
  for (const auto& seed : task->seeds)
    if (!number && !task->request.ordered && !library_.has_file(seed))
      throw Error(Status::not_found, "--seed " + printable(seed) + ": is no file here");
  for (const auto& except : task->request.except) task->except.push_back(parse(except));
  task->is_kept = is_kept;
  if (number)
    library_.db().change_get(*number, to_bencode(task->request));
  else
    number = is_kept ? --last_kept_ : library_.db().add_get(to_bencode(task->request));
  task->number = *number;
  running_[task->number] = task;
  return task;
}

void GetQueue::resume() {
  for (const auto& bytes : library_.db().ended()) {
    try {
      auto info = from_bencode<GetInfo>(bytes);
      info.state = ended_as(info.status);
      const auto number = info.number;
      endings_ = std::max(endings_, info.ended);
      over_[number] = std::move(info);
    } catch (const CodecError&) {
    }
  }
  for (const auto& [number, bytes] : library_.db().gets()) {
    try {
      auto task = std::make_shared<GetTask>();
      task->request = from_bencode<Get>(bytes);
      task->request.detach = true;  // whoever waited for it is gone, or will ask again
      task->wanted = parse_all(task->request.whats, "a get");
      task->seeds = parse_seeds(task->request);
      for (const auto& except : task->request.except) task->except.push_back(parse(except));
      task->number = number;
      running_[number] = task;
      spawn(workers_.loop(), run_detached(task));
    } catch (const std::exception&) {
      library_.db().remove_get(number);
    }
  }
}

std::vector<Get> GetQueue::requests() const {
  std::vector<Get> out;
  for (const auto& [number, task] : running_)
    if (!task->cancelled && !task->request.pipe && !task->is_kept) out.push_back(task->request);
  return out;
}

void GetQueue::inherit(const std::vector<Get>& requests) {
  for (auto request : requests) {
    request.detach = true;
    try {
      spawn(workers_.loop(), run_detached(add(std::move(request))));
    } catch (const Error& error) {
      log_(failure(std::string("get: ") + error.what()).of("get-failed"));
    }
  }
}

/// Asked for again before it has begun: that one serves.
GetTaskPtr GetQueue::same_under_way(const Get& request) const {
  const auto text = [](Get asked) {
    asked.once.clear();
    return to_bencode(asked);
  };
  const auto wanted = text(request);
  for (const auto& [number, running] : running_)
    if (!running->cancelled && !running->running && !running->is_kept && text(running->request) == wanted)
      return running;
  return nullptr;
}

/// The get of that request, which is under way or has ended.
GetTaskPtr GetQueue::find_once(const std::string& once) const {
  if (once.empty()) return nullptr;
  for (const auto& [number, task] : running_)
    if (task->request.once == once && !task->cancelled) return task;
  const auto served = served_.find(once);
  if (served != served_.end())
    if (const auto it = running_.find(served->second); it != running_.end()) return it->second;
  for (const auto& [number, info] : over_)
    if (info.once == once || (served != served_.end() && number == served->second)) {
      auto task = std::make_shared<GetTask>();
      task->number = number;
      task->running = true;
      return task;
    }
  return nullptr;
}

std::int64_t GetQueue::keep(Get request, std::shared_ptr<std::int64_t> budget, OnEnd on_end) {
  const auto task = add(std::move(request), true);
  task->budget = std::move(budget);
  spawn(workers_.loop(), run_kept(task, std::move(on_end)));
  return task->number;
}

Task<void> GetQueue::run_kept(GetTaskPtr task, OnEnd on_end) {
  const auto outcomes = co_await getter_.run(task);
  running_.erase(task->number);
  ended_.notify();
  on_end(outcomes);
}

void GetQueue::stop_keeping(std::int64_t number) {
  if (const auto it = running_.find(number); it != running_.end()) getter_.cancel(it->second);
}

GetQueue::Kept GetQueue::kept(std::int64_t number) const {
  const auto it = running_.find(number);
  if (it == running_.end()) return {};
  const auto& task = *it->second;
  Kept out;
  out.done = getter_.progress(task).done;
  out.spent = task.spent;
  out.waits_for_bytes =
      task.running && task.phase == GetTask::Phase::none && task.unplaced == 0 &&
      std::ranges::all_of(task.downloads, [](const DownloadPtr& one) {
        return one->state() == TransferState::connecting || one->state() == TransferState::downloading;
      });
  return out;
}

Task<void> GetQueue::drop_partials(std::string path) {
  const auto unlink = [this, path, busy = room_.claimed()] {
    for (const auto& id : library_.db().parts_of(path)) {
      if (busy.contains(id)) continue;
      ::unlink(library_.part_file(id).c_str());
      library_.db().remove_part(id);
    }
  };
  co_await run_on(workers_.brief(), unlink);
}

Task<GetReply> GetQueue::get(ChannelPtr channel, Get request) {
  // It was asked for before the connection was lost.
  const GetTaskPtr before = find_once(request.once);
  if (request.detach || !channel) {
    if (before) co_return co_await look_first(before);
    const GetTaskPtr same_task = same_under_way(request);
    if (same_task) {
      if (served_.size() > most_served) served_.clear();
      if (!request.once.empty()) served_[request.once] = same_task->number;
      co_return co_await look_first(same_task);
    }
  }
  // Of one that the node has gone on with by itself, the asker takes the place; what it has got is kept.
  const bool takes_over = before && running_.contains(before->number);
  std::optional<std::int64_t> number;
  if (takes_over) number = before->number;
  if (takes_over) request.except = before->request.except;
  const auto task = add(std::move(request), false, number);
  if (takes_over) {
    before->absorbed = true;
    getter_.cancel(before);
  }
  if (task->request.detach || !channel) {
    spawn(workers_.loop(), run_detached(task));
    co_return co_await look_first(task);
  }
  auto report = [](GetQueue* self, ChannelPtr to, GetTaskPtr about, std::shared_ptr<bool> over) -> Task<void> {
    while (!*over) {
      if (!to->is_open()) {
        self->getter_.cancel(about);
        co_return;
      }
      to->note(self->getter_.progress(*about));
      for (int i = 0; i < 4 && !*over && to->is_open(); ++i) co_await sleep_for(report_every / 4);
    }
  };
  const auto over = std::make_shared<bool>(false);
  spawn(workers_.loop(), report(this, channel, task, over));
  Together piped(workers_.loop());
  if (task->request.pipe) piped.add(pipe_(channel, task, over));
  auto outcomes = co_await getter_.run(task);
  *over = true;
  co_await piped.all();
  // Who asked has asked again, and has been given it under the same number.
  if (task->absorbed) throw Error(Status::interrupted, "it was asked for once more");
  const bool is_interrupted =
      std::ranges::any_of(outcomes, [](const GetOutcome& one) { return one.status == Status::interrupted; });
  if (workers_.stopping() && is_interrupted && !task->cancelled && !why_it_stops_.empty())
    throw Error(Status::failed, why_it_stops_);
  if (!workers_.stopping() || !channel->is_open()) end(task, outcomes, true);
  if (channel->is_open()) channel->note(getter_.progress(*task));
  GetReply reply;
  for (const auto& one : outcomes) reply.status = worst(reply.status, one.status);
  for (std::size_t at = 0; at < outcomes.size() && channel->is_open(); at += page_entries) {
    Outcomes page;
    for (std::size_t i = at; i < std::min(at + page_entries, outcomes.size()); ++i)
      page.outcomes.push_back(std::move(outcomes[i]));
    channel->note(page);
    co_await channel->drained();
  }
  co_return reply;
}

/// What fails at once is told at once: somebody mistyped a name.
Task<GetReply> GetQueue::look_first(GetTaskPtr task) {
  const auto until = std::chrono::steady_clock::now() + first_look;
  const auto number = task->number;
  const auto undecided = [&] {
    return running_.contains(number) && (!task->running || task->files_total == 0) && !workers_.stopping();
  };
  if (!task->request.wait)
    while (undecided() && std::chrono::steady_clock::now() < until) co_await ended_.wait_for(milliseconds(20));
  GetReply out;
  const auto over = over_.find(number);
  // A part of it that cannot be had: the rest, if any, goes on.
  for (const auto& one : task->unresolved)
    if (one.status != Status::ok && out.errors.size() < most_errors) {
      out.status = worst(out.status, one.status);
      out.errors.push_back(one.error);
      out.whats.push_back(one.what);
    }
  if (over == over_.end() || over->second.status == Status::ok) co_return out;
  out.status = over->second.status;
  if (out.errors.empty()) out.errors = over->second.errors;
  auto heard = over->second;
  heard.reported = true;
  remember(std::move(heard));
  co_return out;
}

Task<void> GetQueue::run_detached(GetTaskPtr task) {
  // Nobody waits for it, so a tracker or node that cannot be reached for a while is no reason to give it up.
  for (;;) {
    const auto outcomes = co_await getter_.run(task);
    if (workers_.stopping() || task->absorbed) co_return;  // it goes on at the next start, or in another's name
    const auto lost = std::ranges::find_if(outcomes, [](const auto& one) { return one.status == Status::unreachable; });
    if (lost == outcomes.end() || task->cancelled) {
      for (const auto& one : outcomes)
        if (one.status != Status::ok && !one.error.empty())
          log_(failure("get: " + one.error).of("get-failed", one.mesh_path, one.size));
      end(task, outcomes, false);
      co_return;
    }
    task->enter(GetTask::Phase::waiting, "trying again soon: " + lost->error);
    const auto until = std::chrono::steady_clock::now() + retry_after;
    while (!workers_.stopping() && !task->cancelled && std::chrono::steady_clock::now() < until)
      co_await workers_.rest(milliseconds(100));
    if (workers_.stopping()) co_return;
  }
}

void GetQueue::end(const GetTaskPtr& task, const std::vector<GetOutcome>& outcomes, bool reported) {
  auto info = describe(*task);
  Status status = Status::ok;
  for (const auto& one : outcomes) {
    status = worst(status, one.status);
    if (!one.error.empty() && info.errors.size() < most_errors) info.errors.push_back(one.error);
  }
  info.status = status;
  info.state = ended_as(status);
  // Whoever stopped it knows.
  info.reported = reported || std::ranges::all_of(outcomes, [](const GetOutcome& one) {
                    return one.status == Status::ok || one.status == Status::interrupted;
                  });
  if (status == Status::ok) info.reported = reported;
  info.ended = ++endings_;
  info.detail.clear();
  info.rate = 0;
  // Written down before the request is forgotten, so that a crash between the two loses neither.
  remember(std::move(info));
  library_.db().remove_get(task->number);
  running_.erase(task->number);
  ended_.notify();
}

void GetQueue::remember(GetInfo info) {
  library_.db().put_ended(info.number, to_bencode(info));
  const auto number = info.number;
  over_[number] = std::move(info);
  if (over_.size() <= most_over) return;
  // Those that somebody has heard of go first, the oldest of them; none that somebody waits for.
  auto least = over_.end();
  for (auto it = over_.begin(); it != over_.end(); ++it) {
    if (it->first == number || awaited_.contains(it->first)) continue;
    const auto rank = [](const GetInfo& one) {
      return std::pair(one.status != Status::ok && !one.reported, one.ended);
    };
    if (least == over_.end() || rank(it->second) < rank(least->second)) least = it;
  }
  if (least == over_.end()) return;
  library_.db().remove_ended(least->first);
  over_.erase(least);
}

Task<GetReply> GetQueue::wait(ChannelPtr channel, Wait request) {
  std::set<std::int64_t> awaited;
  std::vector<GetOutcome> unknown;
  if (!request.numbers.empty()) {
    awaited.insert(request.numbers.begin(), request.numbers.end());
    request.whats.clear();
  } else if (request.whats.empty()) {
    for (const auto& [number, task] : running_)
      if (!task->is_kept) awaited.insert(number);
    for (const auto& [number, info] : over_)
      if (!info.reported) awaited.insert(number);
  }
  auto wanted = parse_all(request.whats, "a wait");
  for (auto& what : wanted) what = read(std::move(what));
  AskedFor running, over;
  Slice slice;
  if (!wanted.empty()) {
    for (const auto& [number, task] : std::map(running_)) {
      if (!task->is_kept) running.add(number, task->wanted);
      if (slice.is_over()) co_await slice.next();
    }
    for (const auto& [number, info] : std::map(over_)) {
      try {
        over.add(number, parse_all(info.whats, "a get"));
      } catch (const Error&) {
        // Of an earlier version, which took what this one does not.
      }
      if (slice.is_over()) co_await slice.next();
    }
  }
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    auto found = running.find(wanted[i]);
    auto ended = over.find(wanted[i]);
    for (const auto* gets : {&running, &over})
      for (const auto& [glob, number] : gets->globs()) {
        if (!wanted[i].is_glob && glob.judge(wanted[i].pattern).taken)
          (gets == &running ? found : ended).insert(number);
        if (slice.is_over()) co_await slice.next();
      }
    // The last one of those that are over counts.
    if (found.empty() && !ended.empty()) found.insert(*ended.rbegin());
    awaited.insert(found.begin(), found.end());
    if (found.empty()) {
      GetOutcome none;
      none.mesh_path = without_secrets(request.whats[i]);
      none.status = Status::not_found;
      none.error = printable(none.mesh_path) + ": no get of it is under way on this node, or was";
      unknown.push_back(std::move(none));
    }
  }
  for (const auto number : awaited) awaited_.insert(number);
  const std::shared_ptr<void> let_go(nullptr, [this, &awaited](void*) {
    for (const auto number : awaited) awaited_.erase(awaited_.find(number));
  });
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(request.seconds);
  const auto is_running = [&](std::int64_t number) { return running_.contains(number); };
  auto reported = std::chrono::steady_clock::time_point{};
  while (std::ranges::any_of(awaited, is_running) && !workers_.stopping() && (!channel || channel->is_open())) {
    if (channel && std::chrono::steady_clock::now() - reported >= report_every) {
      reported = std::chrono::steady_clock::now();
      Progress sum;
      for (const auto number : awaited) {
        const auto it = running_.find(number);
        if (it == running_.end()) continue;
        auto one = getter_.progress(*it->second);
        for (auto& info : one.active) sum.active.push_back(std::move(info));
        sum.done += one.done;
        sum.total += one.total;
        sum.rate += one.rate;
        sum.files_done += one.files_done;
        sum.files_total += one.files_total;
        sum.peers += one.peers;
        if (sum.phase.empty()) sum.phase = one.phase;
      }
      if (!sum.active.empty()) sum.phase.clear();
      channel->note(sum);
    }
    if (request.seconds > 0 && std::chrono::steady_clock::now() >= until) {
      GetReply unfinished;
      unfinished.running = true;
      unfinished.numbers.assign(awaited.begin(), awaited.end());
      co_return unfinished;
    }
    co_await ended_.wait_for(report_every);
  }
  if (workers_.stopping())
    throw Error(Status::unreachable,
                why_it_stops_.empty() ? "the node is shutting down; its gets go on at its next start" : why_it_stops_);
  if (channel && !channel->is_open()) co_return GetReply{};
  GetReply reply;
  Outcomes out;
  out.outcomes = std::move(unknown);
  for (const auto number : awaited) {
    const auto it = over_.find(number);
    if (it == over_.end()) continue;
    auto& info = it->second;
    reply.status = worst(reply.status, info.status);
    for (const auto& error : info.errors) {
      GetOutcome one;
      one.status = info.status;
      one.error = error;
      one.mesh_path = joined(info.whats);
      out.outcomes.push_back(std::move(one));
    }
    if (!info.reported) {
      info.reported = true;
      library_.db().put_ended(number, to_bencode(info));
    }
  }
  for (const auto& one : out.outcomes) reply.status = worst(reply.status, one.status);
  if (channel)
    channel->note(out);
  else if (reply.status != Status::ok) {
    const auto worst_one = std::ranges::find(out.outcomes, reply.status, &GetOutcome::status);
    throw Error(reply.status, worst_one == out.outcomes.end() ? "the get has failed" : worst_one->error);
  }
  co_return reply;
}

/// A path that is there wins over the glob that it spells.
What GetQueue::read(What what) const {
  return as_it_stands(std::move(what), [this](const std::string& path) { return knows(path); });
}

bool GetQueue::knows(const std::string& path) const {
  for (const auto& [number, task] : running_) {
    if (std::ranges::any_of(task->wanted, [&](const What& what) { return !what.is_glob && what.pattern == path; }))
      return true;
    if (std::ranges::any_of(task->downloads, [&](const DownloadPtr& one) { return one->wanted().path == path; }))
      return true;
  }
  return !library_.db().parts_of(path).empty();
}

Task<Cancelled> GetQueue::drop(What what, bool discard) {
  Cancelled out;
  what = read(std::move(what));
  if (on_dropped) on_dropped(what);
  if (discard) out.discarded = transfers_.discard(what);
  const auto downloads = transfers_.running(what);
  std::vector<GetTaskPtr> touched;
  for (const auto& [number, task] : running_) {
    const bool touches = std::ranges::any_of(task->wanted, [&](const What& other) {
      return same(other, what) || what.pattern.empty() || other.pattern.empty() ||
             (!other.is_glob && names(what, other.pattern)) || (!what.is_glob && names(other, what.pattern));
    });
    const bool has_file = std::ranges::any_of(
        task->downloads, [&](const DownloadPtr& download) { return names(what, download->wanted().path); });
    if (!touches && !has_file) continue;
    touched.push_back(task);
    task->except.push_back(what);
    task->request.except.push_back(portable_text(what));
    const auto all = std::ranges::all_of(task->wanted, [&](const What& other) {
      return what.pattern.empty() || same(other, what) || (!other.is_glob && names(what, other.pattern));
    });
    if (all) task->cancelled = true;
    if (!task->is_kept) library_.db().change_get(number, to_bencode(task->request));
    out.stopped.push_back(joined(task->request.whats));
  }
  transfers_.wake();
  // What is being written is over when this returns; a question to the tracker may take longer, and does no harm.
  while (std::ranges::any_of(downloads, [](const DownloadPtr& download) { return !download->is_over(); }) &&
         !workers_.stopping())
    co_await sleep_for(milliseconds(10));
  // Small files on the way are placed or dropped within moments; those that wait for room are of no concern here.
  const auto placing = [&] {
    return std::ranges::any_of(
        touched, [](const GetTaskPtr& task) { return task->unplaced > 0 && task->phase != GetTask::Phase::paused; });
  };
  for (int i = 0; i < 1000 && placing() && !workers_.stopping(); ++i) co_await sleep_for(milliseconds(10));
  const auto ending = [&] {
    return std::ranges::any_of(
        touched, [&](const GetTaskPtr& task) { return task->cancelled && running_.contains(task->number); });
  };
  for (int i = 0; i < 100 && ending() && !workers_.stopping(); ++i) co_await sleep_for(milliseconds(10));
  if (discard) {
    const auto unlink = [this, what, busy = room_.claimed()] {
      std::vector<std::string> dropped;
      for (const auto& [id, path] : library_.db().parts()) {
        if (!names(what, path) || busy.contains(id)) continue;
        ::unlink(library_.part_file(id).c_str());
        library_.db().remove_part(id);
        dropped.push_back(path);
      }
      return dropped;
    };
    const auto dropped = co_await run_on(workers_.brief(), unlink);
    out.discarded.insert(out.discarded.end(), dropped.begin(), dropped.end());
  }
  co_return out;
}

Task<Cancelled> GetQueue::cancel(Cancel request) {
  Cancelled out;
  const auto wanted = parse_all(request.whats, "a cancel");
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const auto& what = wanted[i];
    auto one = co_await drop(what, request.discard);
    // A failure that nobody has heard of is heard of now.
    bool told = false;
    for (auto& [number, info] : over_) {
      const bool asked = std::ranges::any_of(info.whats, [&](const std::string& other) {
        try {
          return what.pattern.empty() || same(parse(other), what);
        } catch (const Error&) {
          return false;  // of an earlier version, which took what this one does not
        }
      });
      if (info.reported || !asked) continue;
      info.reported = told = true;
      library_.db().put_ended(number, to_bencode(info));
    }
    if (one.stopped.empty() && one.discarded.empty() && !told)
      throw Error(Status::not_found, printable(without_secrets(request.whats[i])) +
                                         ": no get of it is under way on this node" +
                                         (request.discard ? ", and no partial is kept" : ""));
    for (auto& text_of : one.stopped) out.stopped.push_back(std::move(text_of));
    for (auto& path : one.discarded) out.discarded.push_back(std::move(path));
  }
  co_return out;
}

GetInfo GetQueue::describe(const GetTask& task) const {
  GetInfo out;
  const auto progress = getter_.progress(task);
  out.number = task.number;
  out.once = task.request.once;
  for (const auto& what : task.request.whats) out.whats.push_back(without_secrets(what));
  out.detached = task.request.detach || task.is_kept;  // nobody waits for it
  out.files_done = progress.files_done;
  out.files_total = progress.files_total;
  out.done = progress.done;
  out.total = progress.total;
  out.rate = progress.rate;
  out.detail = progress.phase;
  const auto is = [&](TransferState state) {
    return !task.downloads.empty() && task.files_done + std::ssize(task.downloads) >= task.files_total &&
           std::ranges::all_of(task.downloads, [&](const auto& download) { return download->state() == state; });
  };
  if (task.cancelled)
    out.state = GetState::stopping;
  else if (is(TransferState::paused) || task.phase == GetTask::Phase::paused)
    out.state = GetState::paused;
  else
    out.state = !task.running || is(TransferState::queued) ? GetState::queued : GetState::running;
  if (out.detail.empty())
    for (const auto& download : task.downloads)
      if (out.detail.empty() && !download->info().detail.empty())
        out.detail = printable(download->wanted().path) + ": " + download->info().detail;
  return out;
}

std::vector<GetInfo> GetQueue::list() const {
  std::vector<GetInfo> out;
  for (const auto& [number, task] : running_) out.push_back(describe(*task));
  for (const auto& [number, info] : over_)
    if (!info.reported && info.status != Status::ok) out.push_back(info);
  return out;
}

}  // namespace mesh
