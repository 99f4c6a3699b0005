#include "node/getter.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>

#include "core/piece_plan.h"
#include "node/maker.h"
#include "wire/endpoint.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr auto tracker_limit = seconds(5);
constexpr auto question_limit = std::chrono::hours(24);  // hashing on the way to an answer takes as long as it takes
constexpr auto fetch_limit = seconds(60);
constexpr auto tick = milliseconds(100);
constexpr auto checkpoint_every = seconds(5);
constexpr auto stalled_after = seconds(3);
constexpr auto version_gone_after = seconds(6);
constexpr auto unreachable_after = seconds(30);
constexpr auto hopeless_after = seconds(180);
constexpr std::size_t active_files = 6;
constexpr std::size_t active_batches = 4;
constexpr std::size_t batch_files = 256;
constexpr std::int64_t batch_bytes = 2 << 20;
constexpr int most_attempts = 5;

bool is_large(const FileEntry& entry) { return entry.kind == Kind::file && entry.size > small_file_bytes; }

std::string no_room(const FileEntry& wanted, std::int64_t needed, std::int64_t free) {
  return printable(wanted.path) + ": no room: " + human_bytes(needed) + " needed, " + human_bytes(free) +
         " free; what has arrived is kept, and a get goes on from there";
}

Error interrupted(const std::string& path) {
  return {Status::interrupted, printable(path) + ": stopped; what has arrived is kept, and a get goes on from there"};
}

}  // namespace

Getter::Getter(NodeParts& parts, const Handlers& handlers)
    : parts_(parts), handlers_(handlers), placer_(parts.gate, parts.db, parts.state_dir / "parts") {}

GetOutcome Getter::outcome(const Planned& planned) const {
  GetOutcome out;
  out.mesh_path = planned.file.entry.path;
  out.path = parts_.gate.absolute(out.mesh_path);
  out.what = planned.what;
  out.size = planned.file.entry.size;
  out.print = planned.print;
  return out;
}

std::string Getter::conflict(const FileEntry& wanted, const LocalState& local,
                             const std::vector<std::uint32_t>& holders) const {
  const auto name = holders.empty() ? node_names_.end() : node_names_.find(holders.front());
  return printable(wanted.path) + ": kept: the local file (" + human_bytes(local.entry.size) + " of " +
         human_time(local.entry.mtime) + ") was made or changed here; the mesh has " + human_bytes(wanted.size) +
         " of " + human_time(wanted.mtime) + (name == node_names_.end() ? "" : " on " + name->second) +
         " (--force replaces it)";
}

/// Waits; false when the get was cancelled.
Task<bool> Getter::pause(const GetTaskPtr& task, std::string phase, milliseconds time) {
  task->phase = std::move(phase);
  const auto until = Clock::now() + time;
  while (!task->cancelled && Clock::now() < until) co_await sleep_for(std::min(tick, time));
  task->phase.clear();
  co_return !task->cancelled;
}

// --- resolving
// ---------------------------------------------------------------------------------------------------------

Task<void> Getter::resolve_one(GetTaskPtr task, int index, const What& what, Plan& plan, bool print) {
  Resolve question;
  question.pattern = what.pattern;
  question.glob = what.is_glob;
  question.from = task->request.from;
  question.strict = task->request.strict;
  do {
    const auto tracker = co_await parts_.links->first(tracker_limit);
    const Resolved reply = co_await tracker->request(question, question_limit);
    for (const auto& node : reply.nodes) {
      plan.nodes[node.key] = node;
      node_names_[node.key] = node.name;
    }
    for (const auto& file : reply.files) {
      if (!is_mesh_path(file.entry.path) || (file.problem.empty() && !entry_fault(file.entry).empty())) continue;
      const bool named = print && (what.is_glob ? file.entry.kind != Kind::directory : file.entry.path == what.pattern);
      plan.files.try_emplace(file.entry.path, Planned{file, index, named, {}});
    }
    question.after = reply.next;
  } while (!question.after.empty() && !task->cancelled);
}

Task<void> Getter::resolve(GetTaskPtr task, int index, Plan& plan, Results& results) {
  const auto& text = task->request.whats[static_cast<std::size_t>(index)];
  for (bool again = true; again;) {
    again = false;
    Error trouble(Status::ok, "");
    try {
      const What what = parse_what(text, parts_.gate.files_dir().string());
      co_await resolve_one(task, index, what, plan, true);
      if (what.pattern.empty()) {
        // The root is in no inventory; that it was asked for is answered all the same.
        GetOutcome root;
        root.path = parts_.gate.files_dir().string();
        root.mesh_path = "/";
        root.what = index;
        root.print = true;
        results.push_back(std::move(root));
      }
      if (what.is_glob || what.pattern.empty()) co_return;
      // A link that was asked for by name is of little use without what it leads to.
      std::string path = what.pattern;
      for (int depth = 0; depth < 16; ++depth) {
        const auto it = plan.files.find(path);
        if (it == plan.files.end() || it->second.file.entry.kind != Kind::link) break;
        path = link_destination(path, it->second.file.entry.target);
        if (path.empty() || plan.files.contains(path)) break;
        const What target{path, path, false};
        try {
          co_await resolve_one(task, index, target, plan, false);
        } catch (const Error& error) {
          if (error.status() != Status::not_found) throw;  // a link into nowhere arrives as one
        }
      }
      co_return;
    } catch (const Error& error) {
      trouble = error;
    }
    const bool may_come = trouble.status() == Status::not_found || trouble.status() == Status::unreachable;
    if (task->request.wait && may_come) {
      again = co_await pause(task, std::string("waiting: ") + trouble.what(), seconds(1));
      if (again) continue;
    }
    GetOutcome failed;
    failed.what = index;
    failed.mesh_path = text;
    failed.status = static_cast<int>(task->cancelled ? Status::interrupted : trouble.status());
    failed.error = trouble.what();
    results.push_back(std::move(failed));
  }
}

// --- one get
// -------------------------------------------------------------------------------------------------------------

Task<std::vector<GetOutcome>> Getter::run(GetTaskPtr task) {
  tasks_.insert(task);
  Results results;
  Plan plan;
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
  try {
    task->phase = "asking the tracker";
    for (int i = 0; i < static_cast<int>(task->request.whats.size()) && !task->cancelled; ++i)
      co_await resolve(task, i, plan, results);
    task->phase = "comparing with what is here";
    for (const auto& [path, planned] : plan.files)
      if (planned.file.entry.kind == Kind::file && planned.file.problem.empty())
        task->total_bytes += planned.file.entry.size;
    task->files_total = static_cast<int>(plan.files.size());
    const auto compare = [&] {
      for (auto& [path, planned] : plan.files) {
        if (!planned.file.problem.empty() || planned.file.entry.kind != Kind::file || task->cancelled) continue;
        try {
          planned.before = placer_.examine(planned.file.entry, parts_.stopping);
        } catch (const Error& error) {
          planned.file.problem = std::string("the local file cannot be compared: ") + error.what();
        }
      }
    };
    co_await run_on(parts_.hash_pool, compare);
    task->phase.clear();
    // Directories first, parents before children, as the map is sorted; then links; then what has bytes.
    std::vector<Planned*> small;
    std::vector<Planned*> large;
    std::vector<Planned*> directories;
    for (auto& [path, planned] : plan.files) {
      const auto& wanted = planned.file.entry;
      const auto& before = planned.before;
      if (!planned.file.problem.empty()) {
        fail(planned, Error(Status::failed, printable(path) + ": " + planned.file.problem));
        continue;
      }
      try {
        if (wanted.kind == Kind::directory) {
          placer_.make_directory(wanted);
          directories.push_back(&planned);
          settle(planned, false);
        } else if (wanted.kind == Kind::link) {
          settle(planned, placer_.make_link(wanted, task->request.force));
        } else if (before.verdict == LocalState::Verdict::same) {
          if (before.received) placer_.refresh_attributes(wanted, before);
          settle(planned, true);
        } else if (planned.file.own_wins && !task->request.force &&
                   (before.verdict == LocalState::Verdict::ours || before.verdict == LocalState::Verdict::unknown)) {
          settle(planned, true);  // the version here is the mesh's choice; others are about to get it
        } else if (before.verdict == LocalState::Verdict::other_kind &&
                   (before.entry.kind == Kind::directory || !task->request.force)) {
          throw Error(Status::failed,
                      printable(path) + ": kept: a file in the mesh, but here it is a " +
                          (before.entry.kind == Kind::directory ? "directory" : "link (--force replaces it)"));
        } else if (before.verdict == LocalState::Verdict::users && !task->request.force) {
          // The author's own newer file is what the mesh is about to offer to others.
          if (before.received || !planned.file.own_wins)
            throw Error(Status::failed, conflict(wanted, before, planned.file.holders));
          settle(planned, true);
        } else {
          (is_large(wanted) ? large : small).push_back(&planned);
        }
      } catch (const Error& error) {
        fail(planned, error);
      }
    }
    Together work(parts_.io.get_executor());
    if (!small.empty()) work.add(get_small(task, plan, std::move(small), results));
    for (auto* planned : large) {
      if (task->cancelled) break;
      co_await work.fewer_than(active_files);
      work.add(get_large(task, *planned, results, 0));
    }
    co_await work.all();
    const auto finish_directories = [&] {
      for (auto it = directories.rbegin(); it != directories.rend(); ++it) {
        try {
          placer_.finish_directory((*it)->file.entry);
        } catch (const Error& error) {
          parts_.log(error.what());
        }
      }
    };
    co_await run_on(parts_.pool, finish_directories);
  } catch (const std::exception& error) {
    GetOutcome failed;
    failed.status = static_cast<int>(Status::failed);
    failed.error = error.what();
    results.push_back(std::move(failed));
  }
  if (task->cancelled) {
    GetOutcome stopped;
    stopped.status = static_cast<int>(Status::interrupted);
    results.push_back(std::move(stopped));
  }
  std::ranges::stable_sort(results, {}, [](const GetOutcome& o) { return std::pair(o.what, o.mesh_path); });
  tasks_.erase(task);
  co_return results;
}

void Getter::cancel(const GetTaskPtr& task) {
  task->cancelled = true;
  for (const auto& job : task->jobs) job->changed.notify();
}

void Getter::close() {
  for (const auto& [where, channel] : channels_) channel->close();
  channels_.clear();
}

// --- small files: on the node channel
// -----------------------------------------------------------------------------------

Task<ChannelPtr> Getter::channel_to(NodeRef node) {
  if (node.addresses.empty()) throw Error(Status::unreachable, node.name + ": has no address");
  std::string trouble;
  for (const auto& address : node.addresses) {
    const auto where = to_text(address, node.channel_port);
    if (const auto it = channels_.find(where); it != channels_.end() && it->second->is_open()) co_return it->second;
    try {
      const auto channel = co_await connect_channel(where, "/node", seconds(3));
      channel->set_where(node.name);
      asio::co_spawn(parts_.io, channel->run(handlers_), asio::detached);
      channels_[where] = channel;
      co_return channel;
    } catch (const Error& error) {
      trouble = error.what();
    }
  }
  throw Error(Status::unreachable, node.name + ": cannot be reached at " + trouble);
}

Task<void> Getter::get_small(GetTaskPtr task, Plan& plan, std::vector<Planned*> files, Results& results) {
  const auto finish = [&](const Planned& planned, Status status, const std::string& error, bool kept) {
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
  for (int attempt = 0; !files.empty(); ++attempt) {
    struct Batch {
      std::uint32_t node = 0;
      std::vector<Planned*> files;
      std::int64_t bytes = 0;
    };
    std::map<std::uint32_t, Batch> open;
    std::vector<Batch> batches;
    std::size_t turn = static_cast<std::size_t>(attempt);
    for (auto* planned : files) {
      const auto& holders = planned->file.holders;
      const auto node = holders.empty() ? 0 : holders[turn++ % holders.size()];
      auto& batch = open[node];
      batch.node = node;
      batch.files.push_back(planned);
      batch.bytes += planned->file.entry.size;
      if (batch.files.size() >= batch_files || batch.bytes >= batch_bytes) batches.push_back(std::exchange(batch, {}));
    }
    for (auto& [node, batch] : open)
      if (!batch.files.empty()) batches.push_back(std::move(batch));
    files.clear();

    std::vector<std::pair<Planned*, std::string>> failed;
    const auto fetch = [&](Batch batch) -> Task<void> {
      std::size_t from = 0;
      try {
        const auto it = plan.nodes.find(batch.node);
        if (it == plan.nodes.end()) throw Error(Status::unreachable, "no node holds it any more");
        const NodeRef node = it->second;
        const auto channel = co_await channel_to(node);
        while (from < batch.files.size() && !task->cancelled) {
          Fetch question;
          for (std::size_t i = from; i < batch.files.size(); ++i) question.files.push_back(batch.files[i]->file.entry);
          const Fetched got = co_await channel->request(question, fetch_limit);
          if (got.files.empty() || got.files.size() > question.files.size())
            throw Error(Status::failed, node.name + ": sent no sensible answer");
          std::vector<Placer::Small> ready;
          std::vector<Planned*> ready_for;
          for (const auto& file : got.files) {
            auto* planned = batch.files[from++];
            const auto& wanted = planned->file.entry;
            const auto& before = planned->before;
            if (!file.error.empty()) {
              failed.emplace_back(planned, "on " + node.name + ": " + file.error);
            } else if (static_cast<std::int64_t>(file.data.size()) != wanted.size ||
                       content_id_of_bytes(file.data) != file.id || (wanted.id.is_set() && wanted.id != file.id)) {
              failed.emplace_back(planned, node.name + " sent other bytes than it said");
              parts_.log(printable(wanted.path) + ": " + node.name + " sent other bytes than it said");
            } else if (before.verdict == LocalState::Verdict::unknown && before.id == file.id) {
              finish(*planned, Status::ok, {}, true);
            } else if (before.verdict == LocalState::Verdict::unknown &&
                       !(before.received && planned->before.id.is_set() &&
                         parts_.db.find_received(wanted.path, before.stamp)->unchanged) &&
                       !task->request.force) {
              finish(*planned, Status::failed, conflict(wanted, before, planned->file.holders), false);
            } else {
              ready.push_back({wanted, before, file.data, file.id});
              ready_for.push_back(planned);
            }
          }
          const auto put_in_place = [&] { return placer_.place_small(ready); };
          const auto placed = co_await run_on(parts_.pool, put_in_place);
          Inventory delta;
          for (std::size_t i = 0; i < placed.size(); ++i) {
            if (placed[i].entry)
              for (auto& put : parts_.holdings.set(*placed[i].entry).put) delta.put.push_back(std::move(put));
            finish(*ready_for[i], placed[i].entry ? Status::ok : Status::failed, placed[i].error, false);
          }
          if (!delta.put.empty()) parts_.publish(delta);
        }
      } catch (const std::exception& error) {
        for (; from < batch.files.size(); ++from) failed.emplace_back(batch.files[from], error.what());
      }
    };
    Together work(parts_.io.get_executor());
    for (auto& batch : batches) {
      if (task->cancelled) break;
      co_await work.fewer_than(active_batches);
      work.add(fetch(std::move(batch)));
    }
    co_await work.all();
    if (task->cancelled) co_return;

    // What could not be had may have moved or changed: ask again what it is now.
    for (auto& [planned, why] : failed) {
      if (attempt >= most_attempts) {
        finish(*planned, Status::failed, printable(planned->file.entry.path) + ": " + why, false);
        continue;
      }
      try {
        Plan fresh;
        const What what{planned->file.entry.path, planned->file.entry.path, false};
        co_await resolve_one(task, planned->what, what, fresh, planned->print);
        const auto it = fresh.files.find(planned->file.entry.path);
        if (it == fresh.files.end() || !it->second.file.problem.empty() || it->second.file.entry.kind != Kind::file ||
            is_large(it->second.file.entry)) {
          finish(*planned, Status::failed, printable(planned->file.entry.path) + ": " + why, false);
          continue;
        }
        plan.nodes.merge(fresh.nodes);
        task->total_bytes += it->second.file.entry.size - planned->file.entry.size;
        planned->file = it->second.file;
        files.push_back(planned);
      } catch (const Error& error) {
        finish(*planned, error.status(), error.what(), false);
      }
    }
    if (!files.empty()) co_await pause(task, "", milliseconds(200 * (attempt + 1)));
  }
}

// --- large files: as swarms
// ------------------------------------------------------------------------------------------------

Task<void> Getter::get_large(GetTaskPtr task, Planned& planned, Results& results, int attempt) {
  const auto& wanted = planned.file.entry;
  FileJobPtr job;
  const auto same_job = [&](const FileJob& other) {
    const bool same = other.wanted.id.is_set() && wanted.id.is_set()
                          ? other.wanted.id == wanted.id
                          : other.wanted.size == wanted.size && other.wanted.mtime == wanted.mtime;
    return same && other.wanted_by > 0 && other.force == task->request.force;
  };
  // Another version of this path is on its way: this one comes after it.
  for (bool waited = false;; waited = true) {
    const auto it = jobs_.find(wanted.path);
    if (it == jobs_.end() || same_job(*it->second) || task->cancelled) {
      if (waited) {
        const auto look = [this, entry = planned.file.entry] { return placer_.examine(entry, parts_.stopping); };
        planned.before = co_await run_on(parts_.hash_pool, look);
      }
      break;
    }
    const auto other = it->second;
    while (!other->over && !task->cancelled) co_await other->changed.wait_for(tick);
  }
  if (const auto it = jobs_.find(wanted.path); it != jobs_.end() && same_job(*it->second)) {
    job = it->second;
  } else {
    job = std::make_shared<FileJob>(parts_.io.get_executor());
    job->wanted = wanted;
    job->holders = planned.file.holders;
    job->before = planned.before;
    job->force = task->request.force;
    job->info.path = wanted.path;
    job->info.total = wanted.size;
    jobs_[wanted.path] = job;
    asio::co_spawn(parts_.io, run_job(job), asio::detached);
  }
  job->wait = job->wait || task->request.wait;
  ++job->wanted_by;
  task->jobs.push_back(job);
  while (!job->over && !task->cancelled) co_await job->changed.wait();
  --job->wanted_by;
  std::erase(task->jobs, job);
  if (!job->over) {
    // The last one to lose interest waits for the partial to be safe.
    while (job->wanted_by == 0 && !job->over) co_await job->changed.wait_for(tick);
    auto stopped = outcome(planned);
    stopped.status = static_cast<int>(Status::interrupted);
    stopped.error = interrupted(wanted.path).what();
    stopped.print = false;
    results.push_back(std::move(stopped));
    co_return;
  }
  if (job->version_gone && attempt < most_attempts && !task->cancelled) {
    std::string trouble;
    try {
      co_await pause(task, printable(wanted.path) + ": " + job->error + "; looking for another version",
                     milliseconds(300 * (attempt + 1)));
      Plan fresh;
      const What what{wanted.path, wanted.path, false};
      co_await resolve_one(task, planned.what, what, fresh, planned.print);
      const auto it = fresh.files.find(wanted.path);
      if (it != fresh.files.end() && it->second.file.problem.empty() && is_large(it->second.file.entry)) {
        task->total_bytes += it->second.file.entry.size - wanted.size;
        const bool print = planned.print;
        planned.file = it->second.file;
        planned.print = print;
        const auto look_again = [this, entry = planned.file.entry] { return placer_.examine(entry, parts_.stopping); };
        planned.before = co_await run_on(parts_.hash_pool, look_again);
        co_await get_large(task, planned, results, attempt + 1);
        co_return;
      }
    } catch (const Error& error) {
      trouble = error.what();
    }
    if (!trouble.empty()) job->error += "; " + trouble;
  }
  auto one = outcome(planned);
  one.status = static_cast<int>(job->status);
  one.error = job->error;
  one.kept = job->kept;
  one.from_sources = job->info.from_sources;
  one.from_getters = job->info.from_getters;
  one.print = one.print && job->status == Status::ok;
  results.push_back(std::move(one));
  ++task->files_done;
  if (job->status == Status::ok) task->settled_bytes += wanted.size;
}

Task<void> Getter::run_job(FileJobPtr job) {
  try {
    job->info.state = job->wanted.id.is_set() ? "connecting" : "hashing";
    Join question;
    question.file = job->wanted;
    question.holder = job->holders.empty() ? 0 : job->holders.front();
    std::optional<Torrent> torrent;
    std::optional<Error> trouble;
    try {
      const auto tracker = co_await parts_.links->first(tracker_limit);
      torrent = co_await tracker->request(question, question_limit);
    } catch (const Error& error) {
      trouble = error;
    }
    if (trouble) {
      // What no holder can give any more may be there in another version.
      job->version_gone = trouble->status() == Status::failed;
      throw Error(trouble->status(), std::string(trouble->what()).starts_with(job->wanted.path)
                                         ? trouble->what()
                                         : printable(job->wanted.path) + ": " + trouble->what());
    }
    auto& before = job->before;
    if (before.verdict == LocalState::Verdict::unknown) {
      const auto received = parts_.db.find_received(job->wanted.path, before.stamp);
      if (before.id == torrent->id)
        job->kept = true;
      else if (!(received && received->unchanged) && !job->force)
        throw Error(Status::failed, conflict(job->wanted, before, job->holders));
    }
    job->wanted.id = torrent->id;
    if (!job->kept) co_await download(job, *torrent);
  } catch (const Error& error) {
    job->status = error.status();
    job->error = error.what();
  } catch (const std::exception& error) {
    job->status = Status::failed;
    job->error = printable(job->wanted.path) + ": " + error.what();
  }
  job->over = true;
  if (const auto it = jobs_.find(job->wanted.path); it != jobs_.end() && it->second == job) jobs_.erase(it);
  job->changed.notify();
}

Task<void> Getter::checkpoint(SwarmTorrentPtr torrent) {
  const auto save = [this, torrent] {
    const auto snapshot = torrent->storage->sync();
    if (!snapshot.error) parts_.db.put_part({torrent->torrent.id, snapshot.have, snapshot.roots});
  };
  co_await run_on(parts_.pool, save);
}

/// The bytes are here under another name: no need to ask anybody. False when that did not work out.
Task<bool> Getter::copy_local(FileJobPtr job, const StoredTorrent& torrent) {
  const auto* item = parts_.holdings.find(torrent.id);
  if (item == nullptr || item->entry.path == job->wanted.path) co_return false;
  const std::string from = item->entry.path;
  const auto part = std::filesystem::path(parts_.part_file(torrent.id).string() + ".copy");
  job->info.state = "copying from " + from;
  try {
    const auto copy_over = [&] {
      const Fd source = parts_.gate.open_file(from);
      Fd copy(::open(part.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
      if (!copy) throw Error(Status::failed, std::generic_category().message(errno));
      if (::ioctl(copy.get(), FICLONE, source.get()) != 0) {
        if (::ftruncate(copy.get(), job->wanted.size) != 0)
          throw Error(Status::failed, std::generic_category().message(errno));
        // Data only: holes stay holes.
        for (off_t at = 0; at < job->wanted.size;) {
          off_t data = ::lseek(source.get(), at, SEEK_DATA);
          if (data < 0) break;
          off_t end = ::lseek(source.get(), data, SEEK_HOLE);
          for (off_t in = data, out = data; in < end;)
            if (::copy_file_range(source.get(), &in, copy.get(), &out, static_cast<std::size_t>(end - in), 0) <= 0)
              throw Error(Status::failed, std::generic_category().message(errno));
          at = end;
        }
      }
      if (::ftruncate(copy.get(), job->wanted.size) != 0)
        throw Error(Status::failed, std::generic_category().message(errno));
      if (hash_file(copy.get(), job->wanted.size, 2, parts_.stopping).id != torrent.id)
        throw Error(Status::failed, "it has changed");
      placer_.finish_file(copy.get(), job->wanted);
      copy = Fd(::open(part.c_str(), O_RDONLY | O_CLOEXEC));
      return placer_.place(part, copy.get(), job->wanted, job->before, torrent.id);
    };
    const LocalEntry placed = co_await run_on(parts_.hash_pool, copy_over);
    parts_.publish(parts_.holdings.set(placed));
    co_return true;
  } catch (const Error& error) {
    ::unlink(part.c_str());
    parts_.log(printable(job->wanted.path) + ": cannot be copied from " + printable(from) + ": " + error.what() +
               "; it is fetched");
  }
  co_return false;
}

Task<void> Getter::download(FileJobPtr job, const Torrent& torrent) {
  const auto& wanted = job->wanted;
  const StoredTorrent stored{torrent.id, torrent.infohash, torrent.info};
  const auto layout = read_torrent(stored);
  if (!layout || layout->size != wanted.size)
    throw Error(Status::failed, printable(wanted.path) + ": the torrent that the tracker handed on is not sound");
  while (downloading_.contains(stored.id)) {
    job->info.state = "queued";
    job->info.queued = true;
    if (job->wanted_by == 0) throw interrupted(wanted.path);
    co_await sleep_for(tick);
  }
  job->info.queued = false;
  downloading_.insert(stored.id);
  const std::shared_ptr<void> mark(nullptr, [this, id = stored.id](void*) { downloading_.erase(id); });
  if (co_await copy_local(job, stored)) co_return;

  const auto part = parts_.part_file(stored.id);
  struct Opened {
    StoragePtr storage;
    std::int64_t missing = 0;
  };
  const auto missing_bytes = [layout](const Storage& storage) {
    std::int64_t sum = 0;
    const auto verified = storage.verified();
    for (std::size_t i = 0; i < verified.size(); ++i)
      if (verified[i] == 0) sum += layout->length_of(static_cast<int>(i));
    return sum;
  };
  const auto open = [&] {
    struct stat s {};
    const auto known = parts_.db.find_part(stored.id);
    const bool resumed = known && ::stat(part.c_str(), &s) == 0 && s.st_size == wanted.size;
    // The record never outlives the bytes that it speaks of.
    if (!resumed) parts_.db.remove_part(stored.id);
    ::chmod(part.c_str(), 0600);
    Fd fd(::open(part.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | (resumed ? 0 : O_TRUNC), 0600));
    if (!fd || ::ftruncate(fd.get(), wanted.size) != 0)
      throw Error(Status::failed,
                  printable(wanted.path) + ": " + part.string() + ": " + std::generic_category().message(errno));
    parts_.db.put_torrent(stored);
    Opened out;
    out.storage =
        std::make_shared<Storage>(*layout, std::move(fd), resumed ? known->have : "", resumed ? known->roots : "");
    out.missing = missing_bytes(*out.storage);
    return out;
  };
  const Opened opened = co_await run_on(parts_.pool, open);
  const auto wait_for_room = [&](std::int64_t needed) -> Task<void> {
    for (;;) {
      const auto free = placer_.free_bytes();
      if (needed <= free) co_return;
      if (!job->wait) throw Error(Status::failed, no_room(wanted, needed, free));
      if (job->wanted_by == 0 || parts_.stopping) throw interrupted(wanted.path);
      job->info.state = "waiting";
      job->info.detail = "for room: " + human_bytes(needed) + " needed, " + human_bytes(free) + " free";
      co_await sleep_for(milliseconds(500));
    }
  };
  co_await wait_for_room(opened.missing);

  const auto swarm = co_await parts_.swarm->load(stored, opened.storage, true);
  std::optional<Error> trouble;
  bool trusted = true;
  try {
    const auto join = [&]() -> Task<void> {
      const auto tracker = co_await parts_.links->first(tracker_limit);
      Ready ready;
      ready.id = stored.id;
      ready.infohash = stored.infohash;
      const Introduced introduced = co_await tracker->request(ready, seconds(10));
      parts_.swarm->introduce(swarm, introduced);
    };
    if (opened.missing > 0) co_await join();
    job->info.state = "downloading";
    job->info.detail.clear();
    auto refreshed = Clock::time_point{};
    auto synced = Clock::now();
    auto progressed = Clock::now();
    auto asked = Clock::now();
    std::int64_t got = -1;
    for (;;) {
      const auto verified = opened.storage->verified();
      if (verified.find('\0') == std::string::npos) break;
      if (job->wanted_by == 0 || parts_.stopping) throw interrupted(wanted.path);
      const auto now = Clock::now();
      if (now - refreshed >= tick) {
        refreshed = now;
        parts_.swarm->refresh(*swarm);
        parts_.swarm->update_gate(*swarm);
        auto& info = job->info;
        info.done = wanted.size - missing_bytes(*opened.storage);
        info.down_rate = swarm->down_rate;
        info.up_rate = swarm->up_rate;
        info.sent = swarm->sent;
        info.peers = swarm->peers;
        info.eta = info.down_rate > 0 ? (info.total - info.done) / info.down_rate : -1;
        if (swarm->got != got) {
          got = swarm->got;
          progressed = now;
          info.detail.clear();
        }
      }
      if (!swarm->error.empty()) {
        const int code = swarm->error_code;
        if (code != ENOSPC && code != EDQUOT)
          throw Error(Status::failed, printable(wanted.path) + ": cannot be written: " + swarm->error);
        if (!job->wait)
          throw Error(Status::failed, no_room(wanted, missing_bytes(*opened.storage), placer_.free_bytes()));
        co_await wait_for_room(missing_bytes(*opened.storage));
        job->info.state = "downloading";
        job->info.detail.clear();
        if (code == EDQUOT) co_await sleep_for(seconds(2));  // statvfs does not know of quotas
        parts_.swarm->resume(*swarm);
        progressed = Clock::now();
      }
      if (now - synced >= checkpoint_every) {
        co_await checkpoint(swarm);
        synced = Clock::now();
      }
      if (now - progressed >= stalled_after && now - asked >= stalled_after) {
        // Peers may have gone, and others come: ask again. The answer may also be that nobody has it any more.
        asked = now;
        std::optional<Error> why;
        try {
          const auto tracker = co_await parts_.links->first(milliseconds(100));
          Join again;
          again.file = wanted;
          const Torrent answer = co_await tracker->request(again, seconds(15));
          if (answer.holders == 0) why = Error(Status::failed, "no node holds all of it");
          co_await join();
        } catch (const Error& error) {
          why = error;
        }
        const auto still = Clock::now() - progressed;
        job->info.detail = why ? std::string("stalled: ") + why->what() : "stalled: no peer sends";
        if (why && why->status() != Status::unreachable && still > version_gone_after) {
          job->version_gone = true;
          throw Error(Status::failed,
                      printable(wanted.path) +
                          ": its last holder went away or changed it before a whole copy was out: " + why->what());
        }
        if (swarm->peers == 0 && still > unreachable_after && !job->wait)
          throw Error(
              Status::unreachable,
              printable(wanted.path) + (why ? std::string(": no peer is left, and ") + why->what()
                                            : std::string(": no node that has it can be reached on its peer port")));
        if (still > hopeless_after && !job->wait)
          throw Error(Status::failed, printable(wanted.path) + ": no peer has sent anything for " +
                                          human_seconds(hopeless_after.count()));
      }
      co_await swarm->changed.wait_for(tick);
    }
    parts_.swarm->refresh(*swarm);
    auto& info = job->info;
    info.done = info.total;
    info.state = "placing";
    info.sent = swarm->sent;
    for (const auto& [peer, bytes] : swarm->received)
      (swarm->sources.contains(peer) ? info.from_sources : info.from_getters) += bytes;
    // SHA-1 alone is not trusted (BEP 52 says why).
    if (opened.storage->content_id() != stored.id) {
      trusted = false;
      throw Error(Status::failed,
                  printable(wanted.path) + ": what arrived passes SHA-1 but not SHA-256; it is thrown away");
    }
    const auto reopen = [part] {
      Fd fd(::open(part.c_str(), O_RDONLY | O_CLOEXEC));
      if (!fd) throw Error(Status::failed, part.string() + ": " + std::generic_category().message(errno));
      return fd;
    };
    Fd serving;
    const auto finish = [&] {
      const Fd finished = reopen();
      serving = reopen();
      placer_.finish_file(finished.get(), wanted);
      opened.storage->freeze(reopen(), std::nullopt, {});
      auto out = placer_.place(part, serving.get(), wanted, job->before, stored.id);
      parts_.db.remove_part(stored.id);
      return out;
    };
    const LocalEntry placed = co_await run_on(parts_.pool, finish);
    auto on_fault = [this, path = wanted.path](std::string why) {
      asio::post(parts_.io, [this, path, why = std::move(why)] { parts_.withdraw(path, why); });
    };
    opened.storage->freeze(std::move(serving), placed.stamp, on_fault);
    parts_.swarm->seed(swarm);
    parts_.publish(parts_.holdings.set(placed));
    parts_.log(printable(wanted.path) + ": here; " + human_bytes(wanted.size) + ", from sources " +
               human_bytes(info.from_sources) + ", from other getters " + human_bytes(info.from_getters));
  } catch (const Error& error) {
    trouble = error;
  } catch (const std::exception& error) {
    trouble = Error(Status::failed, printable(wanted.path) + ": " + error.what());
  }
  if (trouble) {
    if (trusted) co_await checkpoint(swarm);
    parts_.swarm->unload(stored.id);
    if (!trusted) {
      ::unlink(part.c_str());
      parts_.db.remove_part(stored.id);
    }
    throw *trouble;
  }
}

// --- what is going on
// --------------------------------------------------------------------------------------------------------

Progress Getter::progress(const GetTask& task) const {
  Progress out;
  out.done = task.settled_bytes;
  out.total = task.total_bytes;
  out.files_done = task.files_done;
  out.files_total = task.files_total;
  out.phase = task.phase;
  for (const auto& job : task.jobs) {
    if (job->over) continue;
    out.active.push_back(job->info);
    out.done += job->info.done;
    out.rate += job->info.down_rate;
    out.peers += job->info.peers;
  }
  return out;
}

std::vector<TransferInfo> Getter::transfers() const {
  std::vector<TransferInfo> out;
  for (const auto& [path, job] : jobs_) out.push_back(job->info);
  for (const auto& task : tasks_) {
    if (task->files_total > 0 || task->request.whats.empty()) continue;
    TransferInfo info;
    for (const auto& what : task->request.whats) info.path += (info.path.empty() ? "" : " ") + what;
    info.state = "queued";
    info.queued = true;
    info.detail = task->phase;
    out.push_back(std::move(info));
  }
  return out;
}

}  // namespace mesh
