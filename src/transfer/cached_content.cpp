#include "transfer/cached_content.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/format.h"
#include "core/merkle.h"
#include "core/read_ahead.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr auto bring_limit = seconds(20);
constexpr auto look_every = milliseconds(100);
/// Kept where there is no room on the disk for them: as many as a few readers have ahead of them.
constexpr std::int64_t most_in_memory = std::int64_t{16} << 20;
/// In one question: small enough that what is wanted next does not wait for it long.
constexpr std::int64_t most_run = std::int64_t{256} << 10;

std::int64_t grain_of(std::int64_t offset) { return offset / grain_bytes; }

}  // namespace

CachedContent::CachedContent(Workers& workers, Parts& parts, Room& room, Store store, RangeFetcherPtr fetcher,
                             FileEntry wanted)
    : workers_(workers),
      parts_(parts),
      room_(room),
      store_(std::move(store)),
      fetcher_(std::move(fetcher)),
      wanted_(std::move(wanted)),
      changed_(workers.loop()) {}

Task<void> CachedContent::open(std::int64_t first, Clock::time_point until) {
  co_await fetcher_->learn(first, until);
  if (room_.is_claimed(wanted_.id) || !store_.has_room(grain_bytes, true)) co_return;
  const std::weak_ptr<CachedContent> weak = weak_from_this();
  claim_ = room_.claim(wanted_.id, [this, weak] {
    auto leave = [](std::shared_ptr<CachedContent> self) -> Task<void> { co_await self->let_go(); };
    if (auto self = weak.lock(); self && !lets_go_) spawn(workers_.loop(), leave(std::move(self)));
  });
  // Whoever wants the part waits until it is open here, and not made by two.
  const auto busy = use_part();
  try {
    const auto part = co_await parts_.open_unread(wanted_.path, wanted_.id, file().layout);
    const auto make = [&]() -> StoragePtr {
      return std::make_shared<Storage>(file().layout, std::move(part->file), "", "");
    };
    const StoragePtr made = co_await run_on(workers_.brief(), make);
    if (lets_go_) co_return;
    storage_ = made;
    unread_ = std::move(part->blocks);
    is_for_readers_ = part->is_for_readers;
  } catch (const Error&) {
    // Where nothing can be written, it can be read all the same.
    if (!lets_go_) claim_.release();
  }
}

std::shared_ptr<void> CachedContent::use_part() {
  ++part_users_;
  return {nullptr, [self = shared_from_this()](void*) {
            --self->part_users_;
            self->changed_.notify();
          }};
}

std::int64_t CachedContent::most_ahead() const {
  if (storage() && store_.has_room(0, is_for_readers_))
    return std::clamp(fetcher_->in_flight_bytes(), ReadAhead::most_bytes, std::int64_t{64} << 20);
  return most_in_memory / 2 / std::max(1, users_);
}

std::shared_ptr<void> CachedContent::use() {
  ++users_;
  return {nullptr, [self = shared_from_this()](void*) {
            --self->users_;
            self->touch();
          }};
}

bool CachedContent::has_block(std::int64_t offset) const {
  if (const auto it = memory_.find(grain_of(offset));
      it != memory_.end() && std::ssize(it->second) > offset % grain_bytes)
    return true;
  if (!storage()) return false;
  const auto piece = offset / file().layout.piece_length;
  return storage_->has_block(static_cast<int>(piece),
                             static_cast<int>((offset - piece * file().layout.piece_length) / block_bytes));
}

bool CachedContent::is_unread(std::int64_t offset) const {
  const auto piece = offset / file().layout.piece_length;
  const auto it = unread_.find(static_cast<int>(piece));
  const auto block = static_cast<std::size_t>((offset - piece * file().layout.piece_length) / block_bytes);
  return it != unread_.end() && block < it->second.size() && it->second[block];
}

bool CachedContent::has(std::int64_t offset, std::int64_t length) const {
  const auto end = std::min(offset + length, size());
  for (auto at = offset / block_bytes * block_bytes; at < end; at += block_bytes)
    if (!has_block(at)) return false;
  return true;
}

/// As much as is here without a gap; 0 where the first byte is not.
Task<std::size_t> CachedContent::read_here(std::int64_t offset, std::span<char> out) {
  const auto from = static_cast<std::size_t>(offset % grain_bytes);
  if (const auto it = memory_.find(grain_of(offset)); it != memory_.end() && it->second.size() > from) {
    const auto length = std::min(out.size(), it->second.size() - from);
    std::copy_n(it->second.begin() + static_cast<std::ptrdiff_t>(from), length, out.begin());
    co_return length;
  }
  const auto storage = this->storage();
  if (!storage) co_return std::size_t{0};
  const auto& layout = file().layout;
  const auto piece = static_cast<int>(offset / layout.piece_length);
  const auto start = offset - piece * layout.piece_length;
  const auto bytes = out.first(static_cast<std::size_t>(storage->bytes_here(piece, start, std::ssize(out))));
  if (bytes.empty() || storage->read_cached(piece, static_cast<int>(start), bytes)) co_return bytes.size();
  const auto busy = use_part();
  const auto read = [storage, piece, start, bytes] {
    if (const auto ec = storage->read(piece, static_cast<int>(start), bytes)) throw Error(Status::failed, ec.message());
  };
  co_await run_on(workers_.brief(), read);
  co_return bytes.size();
}

Task<std::size_t> CachedContent::read(std::int64_t offset, std::span<char> out, Clock::time_point until,
                                      std::function<bool()> is_stopped, bool holders_only) {
  if (offset >= size()) co_return std::size_t{0};
  out = out.first(static_cast<std::size_t>(std::min<std::int64_t>(std::ssize(out), size() - offset)));
  if (!holders_only) last_used_ = Clock::now();
  failed_.erase(grain_of(offset));
  for (;;) {
    const auto length = co_await read_here(offset, out);
    if (length > 0) co_return length;
    if (!holders_only) last_missed_ = Clock::now();
    if (is_stopped()) throw Error(Status::interrupted, "stopped");
    if (workers_.stopping()) throw Error(Status::unreachable, "the node is shutting down");
    const auto now = Clock::now();
    if (const auto it = failed_.find(grain_of(offset)); it != failed_.end()) throw Error(it->second);
    if (now >= until) throw Error(Status::unreachable, printable(wanted_.path) + ": did not come in time");
    want(offset, offset + std::ssize(out), holders_only);
    const auto left = std::chrono::duration_cast<milliseconds>(until - now);
    co_await changed_.wait_for(std::clamp<milliseconds>(left, milliseconds(1), look_every));
  }
}

void CachedContent::want(std::int64_t from, std::int64_t to, bool holders_only) {
  bring_missing(from, to, holders_only, false);
}

/// `is_ahead`: nobody waits for any of it.
void CachedContent::bring_missing(std::int64_t from, std::int64_t to, bool holders_only, bool is_ahead) {
  to = std::min(to, size());
  const auto self = shared_from_this();
  const auto storage = this->storage();
  const auto is_missing = [&](std::int64_t at) {
    return !coming_.contains(grain_of(at)) && !has(at, grain_bytes) && !failed_.contains(grain_of(at));
  };
  for (auto at = grain_of(from) * grain_bytes; at < to;) {
    if (const auto it = coming_.find(grain_of(at));
        at <= from && !is_ahead && it != coming_.end() && !std::exchange(*it->second, true))
      fetcher_->hurry();
    if (!is_missing(at)) {
      at += grain_bytes;
      continue;
    }
    // Nobody is asked for what an earlier run has left here.
    bool is_left = storage != nullptr && !unknown_.contains(grain_of(at));
    for (auto block = at; block < std::min(at + grain_bytes, size()); block += block_bytes)
      is_left = is_left && (has_block(block) || is_unread(block));
    if (is_left) {
      coming_[grain_of(at)] = std::make_shared<bool>(true);
      spawn(workers_.loop(), look_again(self, storage, at, use_part()));
      at += grain_bytes;
      continue;
    }
    // What is read now comes by itself, ahead of what may be read next.
    const bool is_read = at <= from && !is_ahead;
    const auto most = is_read ? grain_bytes : std::min(to - at, most_run);
    const auto run = holders_only ? most : fetcher_->share(at, most);
    const auto is_urgent = std::make_shared<bool>(is_read);
    auto end = at;
    for (; end < at + run && is_missing(end) && !(storage && end > at && is_unread(end)); end += grain_bytes)
      coming_[grain_of(end)] = is_urgent;
    end = std::min(end, size());
    spawn(workers_.loop(), bring(self, at, end - at, holders_only, is_urgent));
    at = grain_of(end + grain_bytes - 1) * grain_bytes;
  }
}

Task<void> CachedContent::bring(std::shared_ptr<CachedContent> self, std::int64_t offset, std::int64_t length,
                                bool holders_only, std::shared_ptr<bool> is_urgent) {
  const auto first = grain_of(offset);
  const auto end = offset + length;
  const auto until = Clock::now() + bring_limit;
  std::optional<Error> trouble;
  try {
    while (offset < end) {
      std::string bytes = co_await self->fetcher_->fetch(offset, end - offset, until, holders_only, is_urgent);
      const auto got = std::ssize(bytes);
      auto putting = self->put(offset, std::move(bytes));
      co_await std::move(putting);
      offset += got;
    }
  } catch (const Error& error) {
    trouble = error;
  } catch (const std::exception& error) {
    trouble = Error(Status::failed, printable(self->wanted_.path) + ": " + error.what());
  }
  for (auto grain = first; grain * grain_bytes < end; ++grain) {
    self->coming_.erase(grain);
    if (trouble && grain * grain_bytes >= offset) self->failed_.insert_or_assign(grain, *trouble);
  }
  // Whoever waits for it hears of it, and whoever reads it next has it asked for again.
  self->changed_.notify();
  if (!trouble) co_return;
  co_await self->workers_.rest(look_every);
  for (auto grain = first; grain * grain_bytes < end; ++grain) self->failed_.erase(grain);
}

/// Bytes that the record of an earlier run says are in the part: they are what they should be, or are fetched.
Task<void> CachedContent::look_again(std::shared_ptr<CachedContent> self, StoragePtr storage, std::int64_t offset,
                                     std::shared_ptr<void> /*busy*/) {
  const auto& layout = self->file().layout;
  const auto end = std::min(offset + grain_bytes, self->size());
  bool is_known = true;
  try {
    for (auto at = offset; at < end; at += block_bytes) {
      const auto piece = static_cast<int>(at / layout.piece_length);
      const auto block = static_cast<int>(at % layout.piece_length / block_bytes);
      if (!storage->has_block(piece, block)) {
        const auto leaves = co_await self->fetcher_->leaves(piece, Clock::now() + bring_limit);
        const auto check = [&] {
          std::vector<char> bytes(static_cast<std::size_t>(std::min<std::int64_t>(block_bytes, self->size() - at)));
          if (storage->read(piece, block * block_bytes, bytes)) return;
          if (sha256({bytes.data(), bytes.size()}) != leaves->at(static_cast<std::size_t>(block))) return;
          static_cast<void>(storage->reuse_block(piece, block, bytes, true));
        };
        co_await run_on(self->workers_.brief(), check);
      }
      // It is here by now, or is not what it was said to be.
      if (const auto it = self->unread_.find(piece); it != self->unread_.end()) {
        it->second[static_cast<std::size_t>(block)] = false;
        if (std::ranges::find(it->second, true) == it->second.end()) self->unread_.erase(it);
      }
    }
  } catch (const std::exception&) {
    is_known = false;
  }
  // What nobody can say for now stays in the record, and is fetched.
  if (!is_known) self->unknown_.insert(grain_of(offset));
  self->is_dirty_ = true;
  self->coming_.erase(grain_of(offset));
  self->changed_.notify();
}

void CachedContent::keep_in_memory(std::int64_t offset, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto grain = grain_of(offset);
    const auto at = static_cast<std::size_t>(offset % grain_bytes);
    const auto part = bytes.substr(0, static_cast<std::size_t>(grain_bytes) - at);
    if (at == 0 && !memory_.contains(grain)) in_memory_.push_back(grain);
    // A grain is kept from its beginning on.
    if (auto& kept = memory_[grain]; kept.size() == at) kept += part;
    if (memory_[grain].empty()) memory_.erase(grain);
    bytes.remove_prefix(part.size());
    offset += std::ssize(part);
  }
  while (std::ssize(in_memory_) * grain_bytes > most_in_memory) {
    memory_.erase(in_memory_.front());
    in_memory_.pop_front();
  }
}

Task<void> CachedContent::put(std::int64_t offset, std::string bytes) {
  const auto storage = this->storage();
  const auto size = std::ssize(bytes);
  if (!storage || !store_.has_room(size, is_for_readers_)) {
    keep_in_memory(offset, bytes);
    changed_.notify();
    co_return;
  }
  const auto kept = std::make_shared<std::string>(std::move(bytes));
  const auto busy = use_part();
  const auto write = [storage, offset, kept, &layout = file().layout] {
    std::error_code trouble;
    for (std::int64_t at = 0; at < std::ssize(*kept) && !trouble; at += block_bytes) {
      const auto piece = static_cast<int>((offset + at) / layout.piece_length);
      const auto block = static_cast<int>((offset + at) % layout.piece_length / block_bytes);
      const auto part = std::span<const char>(*kept).subspan(
          static_cast<std::size_t>(at),
          static_cast<std::size_t>(std::min<std::int64_t>(block_bytes, std::ssize(*kept) - at)));
      trouble = storage->reuse_block(piece, block, part, false);
    }
    return trouble;
  };
  const auto trouble = co_await run_on(workers_.brief(), write);
  if (trouble) {
    keep_in_memory(offset, *kept);
  } else {
    is_dirty_ = true;
    if (is_for_readers_) store_.wrote(size);
  }
  changed_.notify();
}

Task<void> CachedContent::save() {
  if (!storage_ || is_saving_ || !std::exchange(is_dirty_, false)) co_return;
  const auto busy = use_part();
  is_saving_ = true;
  bool is_saved = false;
  try {
    is_saved = co_await parts_.save(wanted_.id, storage_, wanted_.path, unread_);
  } catch (const std::exception&) {
    // It is tried again.
  }
  is_saving_ = false;
  if (!is_saved) is_dirty_ = true;
}

Task<void> CachedContent::let_go() {
  const auto self = shared_from_this();
  if (std::exchange(lets_go_, true)) {
    while (claim_.is_of(wanted_.id)) co_await changed_.wait_for(look_every);
    co_return;
  }
  // From here on nobody begins to use it.
  while (part_users_ > 0) co_await changed_.wait_for(milliseconds(10));
  co_await save();
  if (const auto storage = std::exchange(storage_, nullptr)) {
    const bool is_empty = is_for_readers_ && storage->missing() == size() && unread_.empty();
    const auto retire = [this, self, storage, is_empty] {
      storage->retire();
      if (is_empty) parts_.drop(wanted_.id);
    };
    try {
      co_await run_on(workers_.brief(), retire);
    } catch (const std::exception&) {
      // An empty part stays, and is somebody's to drop later.
    }
  }
  unread_.clear();
  claim_.release();
  changed_.notify();
}

}  // namespace mesh
