#include "node/downloads.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "core/format.h"
#include "library/maker.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr auto tick = milliseconds(100);
constexpr auto checkpoint_every = seconds(5);
constexpr off_t copy_bytes = off_t{64} << 20;  // between two looks whether it is still wanted

std::string room(std::int64_t needed, std::int64_t free, std::int64_t promised) {
  return human_bytes(needed) + " needed, " + human_bytes(free) + " free" +
         (promised > 0 ? ", of which other downloads need " + human_bytes(promised) : "");
}

bool waits_for_room(const FileJob& job) {
  return std::ranges::any_of(job.wanted_by, [](const GetTaskPtr& task) { return task->waits_for_room(); });
}

/// The open file must have the SHA-256 that was asked for. Blocks.
void check_sha256(FileJob& job, int fd) {
  const auto found = sha256_of(fd, job.stop);
  if (found == job.sha256) return;
  job.discard = true;
  throw Error(Status::failed, printable(job.wanted.path) + ": has SHA-256 " + found + ", not " + job.sha256 +
                                  "; it is not put in place");
}

bool wants_order(const FileJob& job) {
  return std::ranges::any_of(job.wanted_by, [](const GetTaskPtr& task) { return task->request.pipe; });
}

}  // namespace

Error interrupted(const FileJob& job) {
  return {Status::interrupted, printable(job.wanted.path) +
                                   (job.discard ? ": stopped; what had arrived is dropped"
                                                : ": stopped; what has arrived is kept, and a get goes on from there")};
}

bool Downloads::is_patient(const FileJob& job) {
  return std::ranges::any_of(job.wanted_by, [](const GetTaskPtr& task) { return task->request.wait; });
}

Task<FileJobPtr> Downloads::get(GetTaskPtr task, Planned& planned) {
  const auto& wanted = planned.file.entry;
  const auto same_job = [&](const FileJob& other) {
    if (other.url.has_value() != planned.url.has_value() || other.sha256 != planned.sha256) return false;
    if (planned.url)
      return other.url->url.identity == planned.url->url.identity && other.url->ordered == planned.url->ordered &&
             !other.wanted_by.empty() && other.force == task->request.force;
    const bool same = other.wanted.id.is_set() && wanted.id.is_set()
                          ? other.wanted.id == wanted.id
                          : other.wanted.size == wanted.size && other.wanted.mtime == wanted.mtime;
    return same && !other.wanted_by.empty() && other.force == task->request.force;
  };
  // Another version of this path is on its way: this one comes after it.
  for (bool waited = false;;) {
    if (task->excludes(wanted.path)) co_return nullptr;
    const auto it = jobs_.find(wanted.path);
    if (it == jobs_.end() || same_job(*it->second)) {
      if (!waited) break;
      if (planned.url) {
        // Another get of it has ended: what is to be had now is for the mesh to say.
        const auto again = std::make_shared<FileJob>(workers_.loop(), room_);
        again->wanted = wanted;
        again->over = again->version_gone = true;
        again->status = Status::failed;
        again->error = printable(wanted.path) + ": was got otherwise meanwhile";
        co_return again;
      }
      // What is here is another file by now.
      waited = false;
      const auto look = [this, entry = planned.file.entry] {
        return library_.installer().examine(entry, workers_.stopping());
      };
      planned.before = co_await run_on(workers_.reading(), look);
      if (rules_.keeps(planned, task->request.force)) {
        const auto kept = std::make_shared<FileJob>(workers_.loop(), room_);
        kept->over = kept->kept = true;
        co_return kept;
      }
      continue;
    }
    const auto other = it->second;
    while (!other->over && !task->excludes(wanted.path)) co_await other->changed.wait_for(tick);
    waited = true;
  }
  FileJobPtr job;
  if (const auto it = jobs_.find(wanted.path); it != jobs_.end() && same_job(*it->second)) {
    job = it->second;
  } else {
    job = std::make_shared<FileJob>(workers_.loop(), room_);
    job->wanted = wanted;
    job->holders = planned.file.holders;
    job->before = planned.before;
    job->url = planned.url;
    job->sha256 = planned.sha256;
    job->force = task->request.force;
    job->info.path = wanted.path;
    job->info.total = std::max<std::int64_t>(0, wanted.size);  // of a URL: not known yet
    jobs_[wanted.path] = job;
  }
  const bool fresh = job->wanted_by.empty();
  job->wanted_by.push_back(task);
  task->jobs.push_back(job);
  if (fresh) spawn(workers_.loop(), run(job));
  while (!job->over && !task->excludes(job->wanted.path)) co_await job->changed.wait();
  std::erase(job->wanted_by, task);
  if (job->wanted_by.empty()) job->stop = true;
  // The last one to lose interest waits for the partial to be safe.
  while (job->wanted_by.empty() && !job->over) co_await job->changed.wait_for(tick);
  std::erase(task->jobs, job);
  co_return job;
}

void Downloads::stop() {
  for (const auto& [path, job] : jobs_) job->stop = true;
}

void Downloads::notify() {
  for (const auto& [path, job] : jobs_) job->changed.notify();
}

std::vector<std::string> Downloads::discard(const What& what) {
  std::vector<std::string> out;
  for (const auto& [path, job] : jobs_) {
    if (!names(what, path)) continue;
    job->discard = true;
    out.push_back(path);
  }
  return out;
}

std::vector<FileJobPtr> Downloads::running(const What& what) const {
  std::vector<FileJobPtr> out;
  for (const auto& [path, job] : jobs_)
    if (names(what, path)) out.push_back(job);
  return out;
}

Task<void> Downloads::wait_for_slot(FileJobPtr job) {
  queue_.push_back(job);
  while (queue_.front() != job || active_ >= options_.max_active) {
    job->info.state = "queued";
    job->info.queued = true;
    if (job->wanted_by.empty() || workers_.stopping()) {
      std::erase(queue_, job);
      slot_free_.notify();
      throw interrupted(*job);
    }
    co_await slot_free_.wait_for(tick);
  }
  queue_.pop_front();
  ++active_;
  job->info.queued = false;
  slot_free_.notify();  // the next one may have a slot as well
}

/// The answer may take as long as a holder takes to hash the file; who does not want it any more does not wait for it.
Task<Torrent> Downloads::ask_for_torrent(FileJobPtr job) {
  struct Answer {
    std::optional<Torrent> torrent;
    std::optional<Error> trouble;
  };
  PrepareSwarm question;
  question.file = job->wanted;
  question.holder = job->holders.empty() ? 0 : job->holders.front();
  auto ask = [](Downloads* self, FileJobPtr asker, PrepareSwarm asked, std::shared_ptr<Answer> answer) -> Task<void> {
    try {
      answer->torrent = co_await self->links_.ask(asked, tracker_limit, question_limit);
    } catch (const Error& error) {
      answer->trouble = error;
    } catch (const std::exception& error) {
      answer->trouble = Error(Status::failed, error.what());
    }
    asker->changed.notify();
  };
  const auto answer = std::make_shared<Answer>();
  spawn(workers_.loop(), ask(this, job, question, answer));
  while (!answer->torrent && !answer->trouble) {
    if (job->wanted_by.empty() || workers_.stopping()) throw interrupted(*job);
    co_await job->changed.wait_for(tick);
  }
  if (answer->torrent) co_return *answer->torrent;
  const auto& trouble = *answer->trouble;
  // What no holder can give any more may be there in another version.
  job->version_gone = trouble.status() == Status::failed;
  throw Error(trouble.status(), std::string(trouble.what()).starts_with(job->wanted.path)
                                    ? trouble.what()
                                    : printable(job->wanted.path) + ": " + trouble.what());
}

Task<void> Downloads::run(FileJobPtr job) {
  bool in_slot = false;
  try {
    co_await wait_for_slot(job);
    in_slot = true;
    if (job->url) {
      job->info.state = "connecting";
      co_await from_url_(job);
    } else {
      job->info.state = job->wanted.id.is_set() ? "connecting" : "hashing";
      co_await from_swarm(job);
    }
  } catch (const Error& error) {
    job->status = error.status();
    job->error = error.what();
  } catch (const std::exception& error) {
    job->status = Status::failed;
    job->error = printable(job->wanted.path) + ": " + error.what();
  }
  if (in_slot) --active_;
  slot_free_.notify();
  job->reservation.set(0);  // whoever waits for the job may keep it for long
  job->over = true;
  if (const auto it = jobs_.find(job->wanted.path); it != jobs_.end() && it->second == job) jobs_.erase(it);
  job->changed.notify();
}

Task<void> Downloads::from_swarm(FileJobPtr job) {
  const Torrent torrent = co_await ask_for_torrent(job);
  auto& before = job->before;
  if (before.verdict == LocalState::Verdict::unknown) {
    const auto received = library_.db().find_received(job->wanted.path, before.stamp);
    if (before.id == torrent.id && !job->sha256.empty()) {
      const auto look = [this, job] { check_sha256(*job, library_.gate().open_file(job->wanted.path).get()); };
      co_await run_on(workers_.reading(), look);
    }
    if (before.id == torrent.id)
      job->kept = true;
    else if (!(received && received->unchanged) && !job->force)
      throw Error(Status::failed, rules_.conflict(job->wanted, before, job->holders));
  }
  job->wanted.id = torrent.id;
  if (!job->kept) co_await download(job, torrent);
}

Task<void> Downloads::checkpoint(SwarmTorrentPtr torrent, std::string path) {
  const auto save = [this, torrent, path] {
    const auto snapshot = torrent->storage->sync();
    if (!snapshot.error) library_.db().put_part({torrent->torrent.id, snapshot.have, snapshot.roots, path});
  };
  co_await run_on(workers_.brief(), save);
}

void Downloads::drop_partial(const ContentId& id) {
  ::unlink(library_.part_file(id).c_str());
  library_.db().remove_part(id);
}

/// The bytes are here under another name: no need to ask anybody. False when that did not work out.
Task<bool> Downloads::copy_local(FileJobPtr job, ContentId id) {
  const auto* item = library_.inventory().find(id, job->wanted.size);
  if (item == nullptr || item->entry.path == job->wanted.path) co_return false;
  const std::string from = item->entry.path;
  const auto part = std::filesystem::path(library_.part_file(id).string() + ".copy");
  job->info.state = "copying from " + from;
  try {
    const auto copy_over = [&] {
      const Fd source = library_.gate().open_file(from);
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
          for (off_t in = data, out = data; in < end;) {
            if (job->stop || workers_.stopping()) throw Error(Status::interrupted, "stopped");
            const auto length = std::min<off_t>(end - in, copy_bytes);
            if (::copy_file_range(source.get(), &in, copy.get(), &out, static_cast<std::size_t>(length), 0) <= 0)
              throw Error(Status::failed, std::generic_category().message(errno));
          }
          at = end;
        }
      }
      if (::ftruncate(copy.get(), job->wanted.size) != 0)
        throw Error(Status::failed, std::generic_category().message(errno));
      if (hash_file(copy.get(), job->wanted.size, 2, job->stop).id != id) throw Error(Status::failed, "it has changed");
      if (!job->sha256.empty()) check_sha256(*job, copy.get());
      library_.installer().finish_file(copy.get(), job->wanted);
      copy = Fd(::open(part.c_str(), O_RDONLY | O_CLOEXEC));
      return library_.installer().place(part, copy.get(), job->wanted, job->before, id);
    };
    const LocalEntry placed = co_await run_on(workers_.reading(), copy_over);
    library_.put(placed);
    co_return true;
  } catch (const Error& error) {
    ::unlink(part.c_str());
    if (job->stop || workers_.stopping()) throw interrupted(*job);
    log_(printable(job->wanted.path) + ": cannot be copied from " + printable(from) + ": " + error.what() +
         "; it is fetched");
  }
  co_return false;
}

Task<void> Downloads::wait_for_room(FileJobPtr job, std::int64_t needed) {
  for (;;) {
    const auto free = library_.installer().free_bytes();
    const auto others = job->reservation.others();
    const bool admitted = needed + others <= free;
    job->reservation.set(admitted ? needed : 0);
    if (admitted) {
      job->info.done = job->info.total - needed;
      job->info.detail.clear();
      co_return;
    }
    if (job->wanted_by.empty() || workers_.stopping()) throw interrupted(*job);
    if (!waits_for_room(*job))
      throw Error(Status::failed, printable(job->wanted.path) + ": no room: " + room(needed, free, others) +
                                      "; what has arrived is kept, and a get goes on from there");
    job->info.state = "paused";
    job->info.down_rate = 0;
    job->info.detail = "no room: " + room(needed, free, others) + "; goes on when there is";
    co_await sleep_for(milliseconds(500));
  }
}

/// The limit of a get is shared evenly by its files; a file that several gets want has the most generous one.
void Downloads::set_limits(const FileJob& job, SwarmTorrent& torrent) {
  std::int64_t down = 0;
  std::int64_t up = 0;
  bool free_down = false;
  bool free_up = false;
  for (const auto& task : job.wanted_by) {
    const auto sharing = std::max<std::ptrdiff_t>(
        1, std::ranges::count_if(task->jobs, [](const auto& other) { return other->info.state == "downloading"; }));
    const auto& asked = task->request;
    free_down = free_down || asked.max_down <= 0;
    free_up = free_up || asked.max_up <= 0;
    down = std::max(down, std::max<std::int64_t>(1, asked.max_down / sharing));
    up = std::max(up, std::max<std::int64_t>(1, asked.max_up / sharing));
  }
  session_.limit(torrent, free_down ? 0 : down, free_up ? 0 : up);
}

Task<std::shared_ptr<Downloads::Part>> Downloads::open_part(FileJobPtr job, ContentId id, const PieceLayout& layout) {
  const auto open = [this, id, size = layout.size] {
    const auto file = library_.part_file(id);
    struct stat s {};
    const auto known = library_.db().find_part(id);
    const bool resumed = known && ::stat(file.c_str(), &s) == 0 && s.st_size == size;
    // The record never outlives the bytes that it speaks of.
    if (!resumed) library_.db().remove_part(id);
    ::chmod(file.c_str(), 0600);
    auto out = std::make_shared<Part>();
    out->file = Fd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | (resumed ? 0 : O_TRUNC), 0600));
    if (!out->file || ::ftruncate(out->file.get(), size) != 0)
      throw Error(Status::failed, file.string() + ": " + std::generic_category().message(errno));
    if (resumed) out->have = known->have, out->roots = known->roots;
    return out;
  };
  std::shared_ptr<Part> part = co_await run_on(workers_.brief(), open);
  const auto claimed = std::ranges::count_if(part->have, [](char byte) { return byte != 0; });
  if (claimed == 0) co_return part;
  job->info.state = "checking";
  const auto check = [this, part, &layout] {
    const unsigned threads = std::max(1U, std::thread::hardware_concurrency());
    return verify_pieces(layout, part->file.get(), part->have, part->roots, threads, workers_.stopping());
  };
  part->have = co_await run_on(workers_.reading(), check);
  if (const auto lost = claimed - std::ranges::count(part->have, '\1'); lost > 0)
    log_(printable(job->wanted.path) + ": " + std::to_string(lost) +
         " pieces of what had arrived are not what they should be; they are fetched again");
  co_return part;
}

Task<void> Downloads::recover_disk(FileJobPtr job, SwarmTorrentPtr swarm, std::int64_t needed) {
  const auto name = printable(job->wanted.path);
  const int code = swarm->error_code;
  if (job->wanted_by.empty() || workers_.stopping()) throw interrupted(*job);
  if (code != ENOSPC && code != EDQUOT) throw Error(Status::failed, name + ": cannot be written: " + swarm->error);
  // A file system can be full before statvfs says so: wait a while, however much seems free.
  if (waits_for_room(*job)) {
    job->info.state = "paused";
    job->info.detail = "no room: the disk is full; goes on when there is";
    co_await sleep_for(seconds(2));
  }
  const auto others = job->reservation.others();
  if (!waits_for_room(*job))
    throw Error(Status::failed, name + ": no room: " + room(needed, library_.installer().free_bytes(), others) +
                                    "; what has arrived is kept, and a get goes on from there");
  co_await wait_for_room(job, needed);
  job->info.state = "downloading";
  session_.resume(*swarm);
}

Task<void> Downloads::put_in_place(FileJobPtr job, SwarmTorrentPtr swarm, std::filesystem::path part, ContentId id) {
  const auto name = printable(job->wanted.path);
  job->info.state = "placing";
  const auto reopen = [part] {
    Fd fd(::open(part.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) throw Error(Status::failed, part.string() + ": " + std::generic_category().message(errno));
    return fd;
  };
  if (!job->sha256.empty()) {
    const auto check = [reopen, job] { check_sha256(*job, reopen().get()); };
    co_await run_on(workers_.reading(), check);
  }
  job->wanted.id = id;
  const auto wanted = job->wanted;
  Fd serving;
  const auto finish = [&] {
    const Fd finished = reopen();
    serving = reopen();
    library_.installer().finish_file(finished.get(), wanted);
    if (swarm) swarm->storage->freeze(reopen(), std::nullopt, {});
    auto out = library_.installer().place(part, serving.get(), wanted, job->before, id);
    if (swarm) library_.db().remove_part(swarm->torrent.id);
    return out;
  };
  const LocalEntry placed = co_await run_on(workers_.brief(), finish);
  if (swarm) {
    auto on_fault = [&loop = workers_.loop(), &library = library_, path = wanted.path](std::string why) {
      post_to(loop, [&library, path, why = std::move(why)] { library.withdraw(path, why); });
    };
    swarm->storage->freeze(std::move(serving), placed.stamp, on_fault);
    session_.seed(swarm);
    session_.limit(*swarm, 0, 0);
  }
  library_.put(placed);
  // What an older version of this path had left.
  job->reservation.set(0);
  for (const auto& old : library_.db().parts_of(wanted.path))
    if (!room_.is_claimed(old)) drop_partial(old);
  const auto& info = job->info;
  log_(name + ": here; " + human_bytes(wanted.size) + ", from sources " + human_bytes(info.from_sources) +
       ", from other getters " + human_bytes(info.from_getters) +
       (job->url ? ", from the origin " + human_bytes(info.from_origin) : ""));
}

Task<void> Downloads::download(FileJobPtr job, const Torrent& torrent) {
  const auto& wanted = job->wanted;
  const auto name = printable(wanted.path);
  const auto known = verify_torrent(torrent.id, wanted.size, torrent.roots, torrent.infohash, options_.keys);
  if (!known) throw Error(Status::failed, name + ": the torrent that the tracker handed on is not sound");
  const auto id = known->file.id;
  const auto* layout = &known->file.layout;
  while (room_.is_claimed(id)) {
    job->info.state = "queued";
    job->info.queued = true;
    job->info.detail = "the same bytes are on their way here already";
    if (job->wanted_by.empty()) throw interrupted(*job);
    co_await sleep_for(tick);
  }
  job->info.queued = false;
  job->info.detail.clear();
  const auto mark = room_.claim(id);
  if (co_await copy_local(job, id)) co_return;

  const auto part = library_.part_file(id);
  const auto opened = co_await open_part(job, id, *layout);
  const auto open = [&] {
    store_roots(library_.db(), known->file);
    return std::make_shared<Storage>(*layout, std::move(opened->file), opened->have, opened->roots);
  };
  const StoragePtr storage = co_await run_on(workers_.brief(), open);
  storage->will_be_synced();
  std::unique_ptr<PieceGate> gate;
  if (wants_order(*job)) gate = std::make_unique<OrderedGate>(layout->count());
  const bool in_order = gate != nullptr;
  const auto swarm = co_await session_.load(known->torrent, known->key, storage, true, std::move(gate));
  swarm->in_order = in_order;
  job->swarm = swarm;
  Feed feed(session_, links_, options_.stall, wanted, swarm, job->info);
  std::optional<Error> trouble;
  try {
    if (feed.missing() > 0) {
      co_await wait_for_room(job, feed.missing());
      co_await feed.join();
    }
    job->info.state = "downloading";
    auto synced = Clock::now();
    while (!storage->is_complete()) {
      if (job->wanted_by.empty() || workers_.stopping()) throw interrupted(*job);
      set_limits(*job, *swarm);
      co_await feed.tend(is_patient(*job));
      job->reservation.set(feed.missing());
      if (!swarm->error.empty()) {
        co_await recover_disk(job, swarm, feed.missing());
        feed.forgive();
      }
      if (Clock::now() - synced >= checkpoint_every) {
        co_await checkpoint(swarm, wanted.path);
        synced = Clock::now();
      }
      co_await swarm->changed.wait_for(tick);
    }
    feed.finish();
    co_await put_in_place(job, swarm, part, id);
  } catch (const Error& error) {
    trouble = error;
  } catch (const std::exception& error) {
    trouble = Error(Status::failed, name + ": " + error.what());
  }
  if (trouble) {
    job->version_gone = feed.version_is_gone();
    if (!job->discard) co_await checkpoint(swarm, wanted.path);
    session_.unload(id);
    // The next download of it begins when nothing of this one is written any more.
    const auto retire = [storage] { storage->retire(); };
    co_await run_on(workers_.brief(), retire);
    if (job->discard) drop_partial(id);
    throw *trouble;
  }
}

std::vector<TransferInfo> Downloads::transfers() const {
  std::vector<TransferInfo> out;
  for (const auto& [path, job] : jobs_) out.push_back(job->info);
  return out;
}

}  // namespace mesh
