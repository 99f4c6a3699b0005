#include "transfer/read_cache.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <ctime>
#include <utility>

#include "core/format.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::size_t most_parts = 2000;
constexpr auto tend_every = seconds(1);
constexpr auto look_at_room_every = milliseconds(200);
/// Is left to others, whatever is free.
constexpr std::int64_t spared_bytes = std::int64_t{64} << 20;

std::int64_t tenth_of(const std::filesystem::path& directory) {
  struct statvfs s {};
  if (::statvfs(directory.c_str(), &s) != 0) return std::int64_t{1} << 30;
  return static_cast<std::int64_t>(s.f_blocks) * static_cast<std::int64_t>(s.f_frsize) / 10;
}

std::int64_t bytes_of(const std::filesystem::path& file) {
  struct stat s {};
  return ::stat(file.c_str(), &s) == 0 ? s.st_blocks * 512 : 0;
}

}  // namespace

ReadCache::ReadCache(Workers& workers, Options options, Log log, Library& library, TrackerLinks& links,
                     NodeChannels& channels, Parts& parts, Room& room)
    : workers_(workers),
      options_(std::move(options)),
      log_(std::move(log)),
      library_(library),
      links_(links),
      channels_(channels),
      parts_(parts),
      room_(room),
      most_(options_.most_bytes >= 0 ? options_.most_bytes : tenth_of(library.state_dir())) {
  spawn(workers_.loop(), tend());
}

CachedContentPtr ReadCache::find(const ContentId& id, std::int64_t size) const {
  const auto it = contents_.find(id);
  return it != contents_.end() && it->second->wanted().size == size ? it->second : nullptr;
}

Task<CachedContentPtr> ReadCache::open(FileEntry wanted, std::vector<NodeRef> holders, std::int64_t first,
                                       Clock::time_point until) {
  if (const auto known = find(wanted.id, wanted.size)) {
    known->fetcher().add_holders(holders);
    known->touch();
    co_return known;
  }
  const std::pair key(wanted.id, wanted.size);
  std::function<Task<CachedContentPtr>()> work = [this, wanted, holders, first, until]() -> Task<CachedContentPtr> {
    return make(wanted, holders, first, until);
  };
  co_return co_await opening_.run(key, std::move(work));
}

Task<CachedContentPtr> ReadCache::make(FileEntry wanted, std::vector<NodeRef> holders, std::int64_t first,
                                       Clock::time_point until) {
  const auto trouble = [&wanted] {
    return Error(Status::failed, printable(wanted.path) + ": another file of the same content id is being read");
  };
  if (contents_.contains(wanted.id)) throw trouble();
  const auto fetcher =
      std::make_shared<RangeFetcher>(workers_, library_, links_, channels_, log_, wanted, options_.self);
  fetcher->add_holders(holders);
  CachedContent::Store store;
  store.has_room = [this](std::int64_t bytes, bool is_for_readers) { return has_room(bytes, is_for_readers); };
  store.wrote = [this](std::int64_t bytes) { bytes_ += bytes; };
  const auto made = std::make_shared<CachedContent>(workers_, parts_, room_, std::move(store), fetcher, wanted);
  co_await made->open(first, until);
  co_await note_use(*made, true);
  if (contents_.contains(wanted.id)) {
    co_await made->let_go();
    throw trouble();
  }
  contents_[wanted.id] = made;
  ++count_;
  co_return made;
}

/// A part that a get has begun is not for readers alone, however much they read of it.
Task<void> ReadCache::note_use(const CachedContent& content, bool is_new) {
  if (!content.is_for_readers()) co_return;
  const auto note = [this, id = content.wanted().id, is_new] {
    if (is_new)
      library_.db().set_read(id, std::time(nullptr));
    else
      library_.db().touch_read(id, std::time(nullptr));
  };
  co_await run_on(workers_.brief(), note);
}

bool ReadCache::has_room(std::int64_t bytes, bool is_for_readers) {
  const auto now = Clock::now();
  if (now - free_since_ >= look_at_room_every) {
    free_ = room_.free_bytes() - Room::Reservation(room_).others();
    free_since_ = now;
  }
  free_ -= bytes;
  return free_ > spared_bytes && (!is_for_readers || bytes_ + bytes <= most_);
}

/// The parts that are there for readers alone, the one that was read longest ago first.
Task<std::vector<ReadCache::Known>> ReadCache::look() {
  const auto look = [this] {
    std::vector<Known> out;
    for (const auto& id : library_.db().read_parts()) out.push_back({id, bytes_of(library_.part_file(id))});
    return out;
  };
  std::vector<Known> out = co_await run_on(workers_.brief(), look);
  bytes_ = 0;
  for (const auto& one : out) bytes_ += one.bytes;
  count_ = out.size();
  co_return out;
}

Task<void> ReadCache::shrink(std::int64_t most) {
  const auto all = co_await look();
  for (const auto& one : all) {
    if (bytes_ <= most && count_ <= most_parts / 2) break;
    // One that somebody claims is being read, or got.
    if (room_.is_claimed(one.id) || contents_.contains(one.id)) continue;
    const auto claim = room_.claim(one.id);
    const auto unlink = [this, id = one.id] { parts_.drop(id); };
    co_await run_on(workers_.brief(), unlink);
    bytes_ -= one.bytes;
    --count_;
  }
}

Task<void> ReadCache::tend() {
  const std::weak_ptr<bool> alive = alive_;
  bool has_looked = false;
  for (int count = 1;; ++count) {
    co_await workers_.rest(tend_every);
    if (alive.expired() || workers_.stopping()) co_return;
    std::vector<CachedContentPtr> all;
    for (const auto& [id, content] : contents_) all.push_back(content);
    for (const auto& content : all) {
      try {
        if (count % 5 == 0) co_await content->save();
        const bool is_idle = content->users() == 0 && Clock::now() - content->last_used() > options_.idle;
        if (is_idle && take_out(content)) {
          co_await note_use(*content, false);
          co_await content->let_go();
        }
      } catch (const std::exception& error) {
        log_(warning(std::string("what readers have here: ") + error.what()));
      }
      if (alive.expired() || workers_.stopping()) co_return;
    }
    try {
      // What earlier runs have left is counted.
      if (!std::exchange(has_looked, true)) static_cast<void>(co_await look());
      if (alive.expired() || workers_.stopping()) co_return;
      if (bytes_ > most_ - most_ / 16 || count_ > most_parts) co_await shrink(most_ - most_ / 8);
    } catch (const std::exception& error) {
      log_(warning(std::string("what readers have here: ") + error.what()));
    }
  }
}

Task<CacheUsage> ReadCache::usage() {
  const auto all = co_await look();
  CacheUsage out;
  out.bytes = bytes_;
  out.most_bytes = most_;
  out.contents = static_cast<int>(all.size());
  out.open = static_cast<int>(contents_.size());
  for (const auto& [id, content] : contents_) out.unsaved += content->is_saved() ? 0 : 1;
  co_return out;
}

/// From here on nobody finds it. False where it was taken out before.
bool ReadCache::take_out(const CachedContentPtr& content) {
  const auto it = contents_.find(content->wanted().id);
  if (it == contents_.end() || it->second != content) return false;
  contents_.erase(it);
  return true;
}

Task<void> ReadCache::drop() {
  std::vector<CachedContentPtr> all;
  for (const auto& [id, content] : contents_) all.push_back(content);
  for (const auto& content : all)
    if (content->users() == 0 && take_out(content)) co_await content->let_go();
  co_await shrink(-1);  // what takes no room, too
}

Task<void> ReadCache::close() {
  const auto all = std::exchange(contents_, {});
  for (const auto& [id, content] : all) co_await content->let_go();
}

}  // namespace mesh
