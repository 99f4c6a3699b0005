#include "node/streamer.h"

#include <fcntl.h>

#include <algorithm>
#include <list>

#include "core/format.h"
#include "core/piece_plan.h"
#include "library/maker.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr std::size_t note_bytes = 256 * 1024;
constexpr std::int64_t window_bytes = 64 << 20;
constexpr int fewest_window_pieces = 32;
constexpr auto tick = milliseconds(50);
constexpr auto starving_after = milliseconds(1500);

}  // namespace

/// One file's spool and those who read from it. Filled while there are any.
struct Streamer::Spool {
  Spool(asio::io_context& io, const Room& room) : reservation(room), changed(io) {}
  struct Reader {
    std::int64_t position = 0;
    Clock::time_point waiting_since{};  ///< for the piece at its position; zero while it does not wait
  };
  FileEntry wanted;
  StoragePtr storage;
  SwarmTorrentPtr swarm;
  StreamGate* gate = nullptr;     ///< owned by `swarm`, while that is a download
  std::int64_t limit = 0;         ///< bytes kept at once; 0: all
  std::int64_t window = 0;        ///< bytes ahead of the slowest reader
  Room::Reservation reservation;  ///< what it will still write
  int dropped = 0;                ///< pieces before this one are dropped
  std::list<Reader> readers;
  std::optional<Error> trouble;
  bool over = false;  ///< nothing more arrives by it
  Event changed;
  TransferInfo info;
};

Task<StreamEnd> Streamer::stream(ChannelPtr channel, Stream asked) {
  const auto what = parse_what(asked.path, library_.gate().files_dir().string());
  if (what.is_glob) throw Error(Status::usage, printable(asked.path) + ": a stream is of one file, and this is a glob");
  if (what.pattern.empty())
    throw Error(Status::usage, printable(asked.path) + ": a stream is of one file, and this is a directory");
  ++readers_;
  const std::shared_ptr<void> counted(nullptr, [this](void*) { --readers_; });
  auto chosen = co_await getter_.choose(what.pattern, asked.from, asked.strict);
  auto& wanted = chosen.file.entry;
  StreamEnd end;
  end.size = wanted.size;
  // What is here already is read here.
  const auto local = [&]() -> const Inventory::Item* {
    return wanted.id.is_set() ? library_.inventory().find(wanted.id, wanted.size) : nullptr;
  };
  std::int64_t position = 0;
  // The asker's own copy is not among what the tracker chooses from, but may be what others would get.
  const auto* own = chosen.file.own_wins ? library_.inventory().find(std::string_view(wanted.path)) : nullptr;
  if (own != nullptr && own->entry.kind != Kind::file) own = nullptr;
  if (const auto* item = own != nullptr ? own : local()) {
    const LocalEntry entry{item->entry, item->stamp};
    end.size = entry.entry.size;
    co_await send_local(channel, entry, position);
    co_return end;
  }
  if (wanted.size == 0) co_return end;
  if (wanted.size <= small_file_bytes) {
    StreamData note;
    note.data = co_await getter_.small_files().fetch_one(wanted, chosen.file.holders, chosen.nodes);
    channel->note(note);
    end.from_sources = end.size;
    co_return end;
  }
  PrepareSwarm question;
  question.file = wanted;
  question.holder = chosen.file.holders.empty() ? 0 : chosen.file.holders.front();
  const Torrent torrent = co_await links_.ask(question, tracker_limit, question_limit);
  wanted.id = torrent.id;

  while (position < wanted.size) {
    if (const auto* item = local()) {
      const LocalEntry entry{item->entry, item->stamp};
      co_await send_local(channel, entry, position);
      break;
    }
    // A get or another stream of the same bytes may be under way here: then this one reads along.
    SpoolPtr spool;
    SwarmTorrentPtr swarm;
    if (const auto it = spools_.find(torrent.id); it != spools_.end()) {
      spool = it->second;
      if (spool->over) {  // its last reader has just left
        co_await sleep_for(tick);
        continue;
      }
      const auto piece = static_cast<int>(position / spool->storage->layout().piece_length);
      if (piece < spool->dropped)
        throw Error(Status::failed, printable(wanted.path) +
                                        ": another stream of it is under way on this node with a bounded --spool, and "
                                        "has dropped the beginning; try again when that one is done");
    } else if (room_.is_claimed(torrent.id)) {
      swarm = session_.find(torrent.id);
      if (!swarm || !swarm->checked) {
        co_await sleep_for(tick);
        if (!channel->is_open()) throw Error(Status::interrupted, "stopped");
        continue;
      }
    } else {
      spool = co_await open_spool(wanted, torrent, asked.spool);
    }
    if (spool) swarm = spool->swarm;
    const std::function<bool()> never = [] { return false; };
    co_await send_stored(channel, swarm, spool, position, never);
    if (spool) {
      end.from_sources = spool->info.from_sources;
      end.from_getters = spool->info.from_getters;
    }
  }
  co_return end;
}

Task<void> Streamer::pipe(ChannelPtr channel, GetTaskPtr task, std::shared_ptr<bool> over) {
  SwarmTorrentPtr sent;
  while (channel->is_open()) {
    const auto job = task->jobs.empty() ? nullptr : task->jobs.front();
    const auto swarm = job ? job->swarm : nullptr;
    if (!swarm || swarm == sent || task->cancelled) {
      if (*over) co_return;
      co_await sleep_for(tick);
      continue;
    }
    // Another swarm than before: another version, from the beginning.
    sent = swarm;
    StreamBegin begin;
    begin.path = job->wanted.path;
    begin.size = job->wanted.size;
    if (!swarm->provisional) begin.id = job->wanted.id;
    channel->note(begin);
    try {
      std::int64_t position = 0;
      const std::function<bool()> unwanted = [task, job, swarm] {
        return task->cancelled || job->wanted_by.empty() || job->swarm != swarm;
      };
      co_await send_stored(channel, swarm, nullptr, position, unwanted);
    } catch (const std::exception&) {
      // The get says what is wrong.
    }
  }
}

Task<void> Streamer::send_local(ChannelPtr channel, LocalEntry entry, std::int64_t& position) {
  const auto open = [&] { return std::make_shared<Fd>(library_.gate().open_file(entry.entry.path)); };
  const std::shared_ptr<Fd> fd = co_await run_on(workers_.brief(), open);
  while (position < entry.entry.size) {
    const auto length = static_cast<std::size_t>(std::min<std::int64_t>(note_bytes, entry.entry.size - position));
    const auto read = [fd, length, position] {
      std::string out(length, '\0');
      const auto n = ::pread(fd->get(), out.data(), length, position);
      if (n < 0) throw Error(Status::failed, std::generic_category().message(errno));
      out.resize(static_cast<std::size_t>(n));
      return out;
    };
    StreamData note;
    note.data = co_await run_on(workers_.brief(), read);
    struct stat s {};
    if (note.data.size() != length || ::fstat(fd->get(), &s) != 0 || stamp_of(s) != entry.stamp)
      throw Error(Status::failed, printable(entry.entry.path) + ": changed while it was read");
    position += static_cast<std::int64_t>(length);
    channel->note(note);
    co_await channel->drained();
  }
}

Task<void> Streamer::send_stored(ChannelPtr channel, SwarmTorrentPtr swarm, SpoolPtr spool, std::int64_t& position,
                                 std::function<bool()> unwanted) {
  std::list<Spool::Reader>::iterator reader;
  if (spool) reader = spool->readers.insert(spool->readers.end(), Spool::Reader{position, {}});
  const std::shared_ptr<void> leave(nullptr, [&](void*) {
    if (!spool) return;
    spool->readers.erase(reader);
    spool->changed.notify();
  });
  const auto storage = swarm->storage;
  const auto& layout = storage->layout();
  while (position < layout.size) {
    const auto piece = static_cast<int>(position / layout.piece_length);
    if (storage->verified()[static_cast<std::size_t>(piece)] == 0) {
      if (!channel->is_open()) throw Error(Status::interrupted, "stopped");
      if (workers_.stopping()) throw Error(Status::unreachable, "the node is shutting down");
      if (spool) {
        if (spool->trouble) throw Error(*spool->trouble);
        if (spool->over) co_return;
        if (reader->waiting_since == Clock::time_point{}) reader->waiting_since = Clock::now();
      } else {
        if (unwanted() || !swarm->downloading || session_.find(swarm->torrent.id) != swarm) co_return;
        // The get's own plan goes on; only what is needed next comes first.
        if (!swarm->in_order) swarm->handle.piece_priority(lt::piece_index_t(piece), lt::top_priority);
      }
      co_await swarm->changed.wait_for(tick);
      continue;
    }
    if (spool) reader->waiting_since = {};
    const auto start = static_cast<int>(position % layout.piece_length);
    const auto length = static_cast<std::size_t>(std::min<std::int64_t>(note_bytes, layout.length_of(piece) - start));
    const auto read = [storage, piece, start, length] {
      std::string out(length, '\0');
      if (const auto ec = storage->read(piece, start, out)) throw Error(Status::failed, ec.message());
      return out;
    };
    StreamData note;
    note.data = co_await run_on(workers_.brief(), read);
    channel->note(note);
    co_await channel->drained();
    position += static_cast<std::int64_t>(length);
    if (!spool) continue;
    reader->position = position;
    if (position % layout.piece_length == 0) {
      trim(*spool);
      spool->changed.notify();
    }
  }
}

Task<Streamer::SpoolPtr> Streamer::open_spool(FileEntry wanted, Torrent torrent, std::int64_t limit) {
  const auto known = verify_torrent(torrent.id, wanted.size, torrent.roots, torrent.infohash, options_.keys);
  if (!known)
    throw Error(Status::failed, printable(wanted.path) + ": the torrent that the tracker handed on is not sound");
  const auto* layout = &known->file.layout;
  const auto spool = std::make_shared<Spool>(workers_.loop(), room_);
  spool->wanted = wanted;
  spool->limit = limit;
  spool->info.path = wanted.path;
  spool->info.state = "streaming";
  spool->info.total = wanted.size;
  const auto piece = layout->piece_length;
  spool->window = std::max(window_bytes, fewest_window_pieces * piece);
  if (limit > 0) {
    if (limit < 4 * piece && limit < wanted.size)
      throw Error(Status::usage, "--spool " + human_bytes(limit) + ": is too little for " + printable(wanted.path) +
                                     ", whose pieces are of " + human_bytes(piece) + "; give at least four of them");
    // Half ahead of the reader, the rest behind it for others.
    spool->window = std::clamp(limit / 2, piece, spool->window);
  }
  auto mark = room_.claim(torrent.id);
  // Promised before anything is waited for, so that nobody else is promised the same room.
  const auto needed = limit > 0 ? std::min(limit, wanted.size) : wanted.size;
  const auto others = spool->reservation.others();
  spool->reservation.set(needed);
  const auto open = [&] {
    const auto free = library_.installer().free_bytes() - others;
    if (needed > free)
      throw Error(Status::failed, printable(wanted.path) + ": no room for its spool: " + human_bytes(needed) +
                                      " needed, " + human_bytes(free) + " free (--spool SIZE needs less)");
    Fd fd(::open((library_.parts_dir()).c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (!fd && (errno == EOPNOTSUPP || errno == EISDIR)) {
      const auto named = library_.part_file(torrent.id).string() + ".spool";
      fd = Fd(::open(named.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
      ::unlink(named.c_str());
    }
    if (!fd || ::ftruncate(fd.get(), wanted.size) != 0)
      throw Error(Status::failed, printable(wanted.path) + ": cannot make its spool in " +
                                      options_.state_dir().string() + ": " + std::generic_category().message(errno));
    store_roots(library_.db(), known->file);
    return std::make_shared<Storage>(*layout, std::move(fd), "", "");
  };
  spool->storage = co_await run_on(workers_.brief(), open);
  if (limit > 0) spool->storage->bound();
  auto gate = std::make_unique<StreamGate>(layout->count(), static_cast<int>(spool->window / piece));
  spool->gate = gate.get();
  spool->swarm = co_await session_.load(known->torrent, known->key, spool->storage, true, std::move(gate));
  spool->swarm->spooled = true;
  spools_[torrent.id] = spool;
  reserve(*spool, wanted.size);
  // Begins when the reader that it was opened for is there: this coroutine goes on to that without a pause.
  post_to(workers_.loop(), [this, spool, mark = std::move(mark)] { spawn(workers_.loop(), fill(spool, mark)); });
  co_return spool;
}

/// Until everything is there, or nobody reads any more.
Task<void> Streamer::fill(SpoolPtr spool, std::shared_ptr<void> mark) {
  Feed feed(session_, links_, options_.stall, spool->wanted, spool->swarm, spool->info);
  try {
    if (feed.missing() > 0) co_await feed.join();
    while (!workers_.stopping() && !spool->readers.empty()) {
      if (spool->storage->is_complete()) break;
      const auto next = needed_next(*spool);
      spool->gate->set_reader(next.piece, next.starving);
      // Full window, slow reader: that nothing comes is nobody's fault.
      if (!next.waits) feed.forgive();
      co_await feed.tend(false);
      reserve(*spool, feed.missing());
      if (!spool->swarm->error.empty())
        throw Error(Status::failed, printable(spool->wanted.path) + ": its spool in " + options_.state_dir().string() +
                                        " cannot be written: " + spool->swarm->error + " (--spool SIZE needs less)");
      co_await spool->swarm->changed.wait_for(tick);
    }
  } catch (const Error& error) {
    spool->trouble = error;
  } catch (const std::exception& error) {
    spool->trouble = Error(Status::failed, printable(spool->wanted.path) + ": " + error.what());
  }
  feed.finish();
  reserve(*spool, 0);
  const bool whole = spool->storage->content_id() == spool->wanted.id && !spool->trouble;
  // From here on the torrent is a seed like any other, unloaded when nobody needs it; half a one is of no use.
  spool->gate = nullptr;
  if (whole && spool->limit == 0 && !workers_.stopping()) {
    session_.seed(spool->swarm);
    mark.reset();  // a get need not wait for a slow reader
  } else if (whole) {
    // What is kept serves others for as long as somebody here reads.
    while (!spool->readers.empty() && !workers_.stopping()) co_await spool->changed.wait_for(tick);
    session_.unload(spool->wanted.id);
  } else {
    session_.unload(spool->wanted.id);
  }
  if (!whole) spool->over = true;
  while (!spool->readers.empty() && !workers_.stopping()) co_await spool->changed.wait_for(tick);
  spools_.erase(spool->wanted.id);
}

/// Which piece the gate is to begin at: a bounded spool keeps to its slowest reader, an unbounded one goes ahead of
/// all.
Streamer::Next Streamer::needed_next(Spool& spool) {
  const auto verified = spool.storage->verified();
  const auto length = spool.storage->layout().piece_length;
  Next out;
  out.piece = spool.storage->layout().count() - 1;
  for (auto& reader : spool.readers) {
    const bool waits = reader.waiting_since != Clock::time_point{};
    auto piece = static_cast<int>(reader.position / length);
    while (spool.limit == 0 && piece < out.piece && verified[static_cast<std::size_t>(piece)] != 0) ++piece;
    out.piece = std::min(out.piece, piece);
    out.waits = out.waits || waits || spool.limit == 0;
    if (!waits || Clock::now() - reader.waiting_since <= starving_after) continue;
    out.starving = true;
    reader.waiting_since = Clock::now();
  }
  return out;
}

/// Says how much the spool will still write, for whoever asks whether there is room.
void Streamer::reserve(Spool& spool, std::int64_t missing) {
  // A bounded spool that is full grows no more.
  const auto written = spool.wanted.size - missing - spool.dropped * spool.storage->layout().piece_length;
  const auto most = spool.limit > 0 ? std::max<std::int64_t>(0, spool.limit - written) : missing;
  spool.reservation.set(std::min(missing, most));
}

/// Drops what a bounded spool may not keep: the oldest pieces behind the slowest reader.
void Streamer::trim(Spool& spool) {
  if (spool.limit == 0 || spool.readers.empty()) return;
  const auto length = spool.storage->layout().piece_length;
  const auto slowest = std::ranges::min_element(spool.readers, {}, &Spool::Reader::position)->position;
  const auto kept_from = slowest - (spool.limit - spool.window - length);
  const auto first = static_cast<int>(std::max<std::int64_t>(0, kept_from / length));
  for (; spool.dropped < first && spool.dropped < slowest / length; ++spool.dropped) spool.storage->drop(spool.dropped);
}

std::vector<TransferInfo> Streamer::transfers() const {
  std::vector<TransferInfo> out;
  for (const auto& [id, spool] : spools_)
    if (!spool->over) out.push_back(spool->info);
  return out;
}

}  // namespace mesh
