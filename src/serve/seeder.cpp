#include "serve/seeder.h"

#include <linux/ioprio.h>
#include <sys/syscall.h>

#include <algorithm>
#include <thread>

#include "core/piece_plan.h"
#include "library/maker.h"
#include "serve/listed_file.h"

namespace mesh {
namespace {

constexpr int most_proofs = 5;                     // of a file that is touched all the time
constexpr std::int64_t settle_ns = 2'000'000'000;  // a file that changed more recently is not remembered by its stamp
constexpr std::int64_t fetch_bytes = 4 << 20;      // in one reply
constexpr std::size_t fetch_files = 4096;

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

/// The calling thread reads only when nobody else does, for as long as this lives (ioprio_set(2)).
class IdlePriority {
 public:
  explicit IdlePriority(bool wanted) : wanted_(wanted) {
    if (wanted_) ::syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0));
  }
  ~IdlePriority() {
    if (wanted_) ::syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_NONE, 0));
  }
  IdlePriority(const IdlePriority&) = delete;
  IdlePriority& operator=(const IdlePriority&) = delete;

 private:
  bool wanted_;
};

Torrent to_standard_message(const SwarmTorrent& loaded) {
  Torrent out;
  out.id = loaded.standard_of;
  out.infohash = loaded.torrent.infohash;
  out.size = loaded.storage->layout().size;
  out.info = loaded.torrent.info;
  return out;
}

}  // namespace

void Seeder::serve(Handlers& handlers) {
  handlers.on<HashFiles>([this](ChannelPtr, HashFiles asked) -> Task<Made> {
    Made out;
    for (auto& file : asked.files) {
      std::string error;
      try {
        file = co_await make(file, asked.standard);
      } catch (const Error& e) {
        error = e.what();
      }
      out.files.push_back(file);
      out.errors.push_back(error);
    }
    co_return out;
  });
  handlers.on<Seed>([this](ChannelPtr, Seed asked) { return load(asked); });
  handlers.on<ProbePath>([this](ChannelPtr, ProbePath asked) { return probe(std::move(asked)); });
  handlers.on<Fetch>([this](ChannelPtr channel, Fetch asked) { return fetch(std::move(channel), std::move(asked)); });
}

Task<FileEntry> Seeder::make(FileEntry asked, bool standard) {
  const std::string key = asked.path + '\0' + std::to_string(asked.size) + ' ' + std::to_string(asked.mtime) +
                          (standard ? " standard" : "");
  std::function<Task<FileEntry>()> work = [this, asked = std::move(asked), standard] {
    return make_now(asked, standard, false);
  };
  return making_.run(key, std::move(work));
}

Task<FileEntry> Seeder::make_now(FileEntry asked, bool standard, bool idle) {
  const auto* known = library_.inventory().find(asked.path);
  const ContentId known_id = known != nullptr && !known->touched ? known->entry.id : ContentId{};
  const FileStamp known_stamp = known != nullptr ? known->stamp : FileStamp{};
  const auto hash = [this, asked, standard, idle, known_id, known_stamp] {
    auto local = library_.gate().look(asked.path);
    if (!local || local->entry.kind != Kind::file) throw Error(Status::failed, "it is gone");
    const Fd fd = std::move(library_.gate().open_offered(asked.path).fd);
    if (local->entry.size != asked.size || local->entry.mtime != asked.mtime)
      throw Error(Status::failed, "it has changed since it was listed");
    if (PathGate::is_being_written(fd.get())) throw Error(Status::failed, "somebody has it open for writing");
    const auto stamp = stamp_now(fd.get());
    std::optional<ContentId> id;
    if (known_id.is_set() && known_stamp == stamp) id = known_id;
    if (!id) id = library_.db().find_hash(stamp);
    const bool is_known = id && (stamp.size == 0 || load_roots(library_.db(), *id, stamp.size));
    if (!is_known || (standard && !kept_standard(*id, stamp.size))) {
      const IdlePriority priority(idle);
      const auto begun = now_ns();
      const unsigned threads = idle ? 1 : std::max(1U, std::thread::hardware_concurrency());
      std::vector<lt::sha1_hash> sha1;
      const auto hashed = hash_file(fd.get(), stamp.size, threads, workers_.stopping(), standard ? &sha1 : nullptr);
      if (stamp_now(fd.get()) != stamp || PathGate::is_being_written(fd.get()))
        throw Error(Status::failed, "it changed while it was hashed");
      id = hashed.id;
      if (begun - std::max(stamp.mtime, stamp.ctime) > settle_ns) library_.db().put_hash(stamp, hashed.id);
      store_roots(library_.db(), hashed);
      if (standard) {
        const auto info = encode_info(hashed.id, stamp.size, sha1);
        library_.db().put_standard_torrent({hashed.id, infohash_of(info), info});
      }
    }
    local->entry.id = *id;
    local->stamp = stamp;
    return *local;
  };
  const LocalEntry made = co_await run_on(workers_.reading(), hash);
  library_.put(made);
  co_return made.entry;
}

Task<Torrent> Seeder::load(Seed asked) {
  const ContentId id = asked.id;
  if (asked.standard || !id.is_set()) co_return co_await load_standard(std::move(asked));
  if (const auto loaded = session_.find(id)) {
    if (asked.infohash.is_set() && loaded->torrent.infohash != asked.infohash)
      throw Error(Status::failed, "has it loaded under another key");
    loaded->last_needed = SwarmTorrent::Clock::now();
    co_return to_torrent(*loaded);
  }
  const Held held = co_await open_for_seeding(id, asked.size);
  const MeshKey* key = key_of(held.file, asked.infohash, keys_);
  const SwarmSpec torrent = make_torrent(held.file, key);
  const auto loaded = co_await session_.load(torrent, key, held.storage);
  co_return to_torrent(*loaded);
}

/// Other clients have no way into a mesh with a key.
Task<Torrent> Seeder::load_standard(Seed asked) {
  if (keys_) throw Error(Status::not_found, "has no such torrent");
  if (!asked.id.is_set()) {
    for (const auto& torrent : session_.all())
      if (torrent->is_standard() && torrent->checked && torrent->torrent.infohash == asked.infohash)
        co_return to_standard_message(*torrent);
    const auto find = [this, asked] { return library_.db().find_standard_torrent(asked.infohash); };
    const auto stored = co_await run_on(workers_.brief(), find);
    if (!stored) throw Error(Status::not_found, "has no such torrent");
    asked.id = stored->id;
    asked.size = length_of_standard_torrent(stored->info);
  }
  StandardTorrent made;
  if (asked.info.empty()) {
    made = co_await standard(asked.id, asked.size);
  } else {
    // What another holder says that he has computed. It is good for this once: kept is what this node knows itself.
    const auto* item = library_.inventory().find(asked.id, asked.size);
    if (item == nullptr) throw Error(Status::not_found, "does not hold it any more");
    auto read = read_standard_torrent(asked.info, asked.id, item->entry.size);
    if (!read) throw Error(Status::failed, "was told a torrent that is not sound");
    made = std::move(*read);
  }
  auto loaded = session_.find(made.own);
  if (!loaded) {
    // One is right, of however many are told.
    for (const auto& torrent : session_.all())
      if (torrent->is_standard() && torrent->standard_of == asked.id) {
        if (!asked.info.empty()) throw Error(Status::failed, "seeds it to other clients by another torrent");
        session_.unload(torrent->torrent.id);
      }
    const Held held = co_await open_for_seeding(asked.id, asked.size, made.pieces);
    SwarmSpec spec;
    spec.id = made.own;
    spec.infohash = made.infohash;
    spec.info = made.info;
    loaded = co_await session_.load_standard(spec, held.storage, asked.id, false);
    loaded->path = held.entry.path;
  }
  loaded->last_needed = SwarmTorrent::Clock::now();
  if (on_standard) on_standard(*loaded);
  co_return to_standard_message(*loaded);
}

std::optional<StandardTorrent> Seeder::kept_standard(const ContentId& id, std::int64_t size) const {
  const auto stored = library_.db().find_standard_torrent(id);
  return stored ? read_standard_torrent(stored->info, id, size) : std::nullopt;
}

Task<StandardTorrent> Seeder::standard(ContentId id, std::int64_t size) {
  const auto* item = library_.inventory().find(id, size);
  if (item == nullptr) throw Error(Status::not_found, "does not hold it any more");
  const FileEntry entry = item->entry;
  const auto find = [this, id, size = entry.size] { return kept_standard(id, size); };
  auto found = co_await run_on(workers_.brief(), find);
  if (!found) {
    co_await make(entry, true);
    found = co_await run_on(workers_.brief(), find);
  }
  if (!found) throw Error(Status::failed, printable(entry.path) + ": its torrent cannot be made");
  co_return std::move(*found);
}

Task<Seeder::Held> Seeder::open_for_seeding(ContentId id, std::int64_t size, std::vector<lt::sha1_hash> hashes) {
  const auto* item = library_.inventory().find(id, size);
  if (item == nullptr) throw Error(Status::not_found, "does not hold it any more");
  const FileEntry entry = item->entry;
  const FileStamp stamp = item->stamp;
  const auto find = [this, id, size = entry.size] { return load_roots(library_.db(), id, size); };
  auto file = co_await run_on(workers_.brief(), find);
  if (!file) {
    co_await make(entry, false);
    file = co_await run_on(workers_.brief(), find);
  }
  if (!file) throw Error(Status::failed, printable(entry.path) + ": its torrent cannot be made");
  PieceLayout layout = file->layout;
  if (!hashes.empty()) layout.hashes = std::move(hashes);
  auto watch = library_.watch_of(entry.path, stamp);
  std::shared_ptr<Storage> storage;
  std::string trouble;
  try {
    const auto open = [&]() -> StoragePtr {
      Fd fd = std::move(library_.gate().open_offered(entry.path).fd);
      if (!is_same_but_ctime(stamp_now(fd.get()), stamp) || PathGate::is_being_written(fd.get()))
        throw Error(Status::failed, "it has changed since it was hashed");
      return std::make_shared<Storage>(layout, std::move(fd), std::move(watch));
    };
    storage = co_await run_on(workers_.brief(), open);
  } catch (const Error& error) {
    trouble = error.what();
  }
  if (!storage) {
    // For want of a descriptor nothing is wrong with the file.
    if (trouble.find(std::generic_category().message(EMFILE)) == std::string::npos)
      library_.withdraw(entry.path, trouble);
    throw Error(Status::failed, printable(entry.path) + ": " + trouble);
  }
  Held out;
  out.entry = entry;
  out.file = std::move(*file);
  out.storage = storage;
  co_return out;
}

Task<Probed> Seeder::probe(ProbePath asked) {
  Probed out;
  if (asked.id.is_set()) {
    if (const auto* item = library_.inventory().find(asked.id)) out.found.push_back(item->entry);
    co_return out;
  }
  const auto look = [this, path = asked.path]() -> std::optional<LocalEntry> {
    auto found = library_.gate().look(path);
    if (!found || found->entry.kind != Kind::file) return std::nullopt;
    Fd fd;
    try {
      fd = std::move(library_.gate().open_offered(path).fd);
    } catch (const Error&) {
      return std::nullopt;
    }
    if (PathGate::is_being_written(fd.get())) return std::nullopt;
    if (const auto id = library_.db().find_hash(found->stamp)) found->entry.id = *id;
    return found;
  };
  auto local = co_await run_on(workers_.brief(), look);
  if (!local) co_return out;
  library_.put(*local);
  out.found.push_back(local->entry);
  co_return out;
}

Task<Fetched> Seeder::fetch(ChannelPtr channel, Fetch asked) {
  if (asked.files.size() > fetch_files) asked.files.resize(fetch_files);
  struct Read {
    Fetched reply;
    std::vector<LocalEntry> learnt;
    std::vector<std::string> gone;
  };
  const auto most = small_up_.handful(fetch_bytes);
  const auto read_all = [this, &asked, most] {
    Read out;
    std::size_t bytes = 0;
    std::vector<std::pair<FileStamp, ContentId>> settled;
    for (const auto& file : asked.files) {
      FetchedFile got;
      try {
        if (file.size > small_file_bytes) throw Error(Status::failed, "it is too large for the node channel");
        auto opened = open_listed(library_.gate(), file.path, file.size, file.mtime);
        auto& local = opened.local;
        read_listed(opened, got.data);
        got.id = content_id_of_bytes(got.data);
        if (file.id.is_set() && got.id != file.id) throw Error(Status::failed, "it has changed since it was hashed");
        if (!file.id.is_set()) {
          if (now_ns() - std::max(local.stamp.mtime, local.stamp.ctime) > settle_ns)
            settled.emplace_back(local.stamp, got.id);
          local.entry.id = got.id;
          out.learnt.push_back(std::move(local));
        }
      } catch (const Error& error) {
        if (error.status() == Status::not_found) out.gone.push_back(file.path);
        got = {};
        got.error = error.what();
      }
      bytes += got.data.size() + 100;
      out.reply.files.push_back(std::move(got));
      if (bytes > static_cast<std::size_t>(most)) break;
    }
    const StateDb::Batch batch(library_.db());
    for (const auto& [stamp, id] : settled) library_.db().put_hash(stamp, id);
    return out;
  };
  const auto read = co_await run_on(workers_.brief(), read_all);
  library_.put(read.learnt);
  std::int64_t bytes = 0;
  for (const auto& file : read.reply.files) bytes += static_cast<std::int64_t>(file.data.size());
  for (const auto& path : read.gone) library_.withdraw(path, "it is gone");
  const std::function<bool()> unwanted = [channel] { return !channel->is_open(); };
  co_await small_up_.spend(bytes, unwanted);
  co_return read.reply;
}

void Seeder::prove(const FileEntry& entry) {
  touched_[entry.path] = entry;
  if (!std::exchange(proving_, true)) spawn(workers_.loop(), prove_all());
}

/// One at a time: somebody may have changed the mode of all there is.
Task<void> Seeder::prove_all() {
  while (!touched_.empty() && !workers_.stopping()) {
    const auto entry = touched_.extract(touched_.begin()).mapped();
    bool again = false;
    try {
      std::function<Task<FileEntry>()> work = [this, entry] { return make_now(entry, false, true); };
      const std::string key = entry.path;
      const FileEntry now = co_await making_.run(key, std::move(work));
      if (now.id != entry.id) library_.lose(entry.id);
    } catch (const Error&) {
      // Touched once more meanwhile, of which no event need tell. Else whoever asks for it will be told what is wrong.
      const auto* item = library_.inventory().find(std::string_view(entry.path));
      again = item != nullptr && item->touched && item->entry.id == entry.id && tries_[entry.path]++ < most_proofs;
    }
    if (again) {
      touched_[entry.path] = entry;
      co_await sleep_for(std::chrono::seconds(1));
    } else {
      tries_.erase(entry.path);
    }
  }
  proving_ = false;
}

Task<void> Seeder::hash_eagerly() {
  while (!workers_.stopping()) {
    co_await sleep_for(std::chrono::seconds(1));
    if (!library_.inventory().is_complete()) continue;
    std::string after;
    for (bool more = true; more && !workers_.stopping();) {
      const auto page = library_.inventory().page(after, 500);
      more = !page.empty();
      for (const auto& entry : page) {
        after = entry.path;
        if (entry.kind != Kind::file || entry.id.is_set()) continue;
        try {
          std::function<Task<FileEntry>()> work = [this, entry] { return make_now(entry, false, true); };
          const std::string key = entry.path;
          co_await making_.run(key, std::move(work));
        } catch (const Error&) {
          // Unreadable or changing: whoever asks for it will be told.
        }
      }
    }
  }
}

}  // namespace mesh
