#include "disk/storage.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>

#include "core/zeros.h"

namespace mesh {
namespace {

constexpr std::int64_t page = 4096;

std::error_code last_error() { return {errno, std::generic_category()}; }

std::vector<Sha256> leaves_of_zeros(std::int64_t length) {
  const std::string zeros(block_bytes, '\0');
  std::vector<Sha256> out(static_cast<std::size_t>(length / block_bytes), sha256(zeros));
  if (length % block_bytes != 0)
    out.push_back(sha256(std::string_view(zeros).substr(0, static_cast<std::size_t>(length % block_bytes))));
  return out;
}

}  // namespace

Storage::Storage(PieceLayout layout, Fd file, Watch watch)
    : layout_(std::move(layout)), expected_(std::exchange(layout_.roots, {})) {
  source_ = std::make_shared<const Source>(std::move(file), false, std::move(watch));
  verified_.assign(layout_.hashes.size(), '\1');
  expected_.resize(layout_.hashes.size());
}

Storage::Storage(PieceLayout layout, Fd file, std::string_view have, std::string_view roots)
    : layout_(std::move(layout)), expected_(std::exchange(layout_.roots, {})) {
  source_ = std::make_shared<const Source>(std::move(file), true);
  const auto pieces = layout_.hashes.size();
  verified_.assign(pieces, '\0');
  roots_.resize(pieces);
  expected_.resize(pieces);
  if (have.size() == pieces && roots.size() == pieces * 32) {
    for (std::size_t i = 0; i < pieces; ++i) {
      verified_[i] = have[i] != 0 ? '\1' : '\0';
      std::memcpy(roots_[i].bytes.data(), roots.data() + i * 32, 32);
    }
  }
  const auto mark_zeros = [&](std::size_t from, std::size_t to) {
    if (from >= to) return;
    const auto length = layout_.length_of(static_cast<int>(from));
    const auto root = root_of(leaves_of_zeros(length));
    for (std::size_t i = from; i < to; ++i) {
      if (verified_[i] != 0 || expected_[i] != root) continue;
      // A hole only if nothing was written there before.
      if (const auto data = ::lseek(source_->file.get(), static_cast<off_t>(i) * layout_.piece_length, SEEK_DATA);
          data >= 0 && data < static_cast<off_t>(i) * layout_.piece_length + length)
        continue;
      verified_[i] = '\1';
      roots_[i] = root;
    }
  };
  mark_zeros(0, pieces - 1);
  mark_zeros(pieces - 1, pieces);
  // What an earlier run wrote and did not verify may lie where zeros belong.
  for (std::size_t i = 0; i < pieces; ++i) {
    const auto begin = static_cast<off_t>(i) * layout_.piece_length;
    const auto data = verified_[i] != 0 ? -1 : ::lseek(source_->file.get(), begin, SEEK_DATA);
    if (data >= 0 && data < begin + layout_.length_of(static_cast<int>(i)))
      hashing_[static_cast<int>(i)].cleared = true;
  }
  count_missing();
}

std::shared_ptr<Storage> Storage::provisional(PieceLayout layout, Fd file, std::string_view have,
                                              std::string_view roots) {
  auto out = std::make_shared<Storage>(std::move(layout), std::move(file), have, roots);
  for (std::size_t i = 0; i < out->expected_.size(); ++i)
    if (out->verified_[i] != 0) out->expected_[i] = out->roots_[i];
  return out;
}

void Storage::expect(int piece, const Sha256& root) {
  const std::lock_guard lock(mutex_);
  expected_.at(static_cast<std::size_t>(piece)) = root;
}

std::optional<Sha256> Storage::root(int piece) const {
  const std::lock_guard lock(mutex_);
  const auto index = static_cast<std::size_t>(piece);
  return verified_[index] != 0 && !roots_.empty() ? std::optional(roots_[index]) : std::nullopt;
}

Sha256 Storage::root_of(std::span<const Sha256> leaves) const {
  return root_of_leaves(leaves, layout_.piece_length, layout_.count() == 1);
}

Storage::SourcePtr Storage::source() const {
  const std::lock_guard lock(mutex_);
  return source_;
}

void Storage::freeze(Fd file, std::optional<Watch> watch) {
  auto next = std::make_shared<const Source>(std::move(file), false, std::move(watch));
  const std::lock_guard lock(mutex_);
  source_ = std::move(next);
  hashing_.clear();
}

bool Storage::is_unchanged(const Source& source) {
  if (!source.watch) return true;
  struct stat s {};
  if (::fstat(source.file.get(), &s) != 0) return false;
  const auto now = stamp_of(s);
  if (now == source.watch->stamp) return true;
  if (!is_same_but_ctime(now, source.watch->stamp)) return false;
  if (source.ctime.exchange(now.ctime) != now.ctime && source.watch->on_touched) source.watch->on_touched();
  return true;
}

void Storage::fault(const Source& source, const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(faulted_, true)) return;
  }
  if (source.watch && source.watch->on_fault) source.watch->on_fault(why);
}

void Storage::drop(int piece) {
  {
    const std::lock_guard lock(mutex_);
    dropped_.resize(verified_.size(), '\0');
    dropped_[static_cast<std::size_t>(piece)] = '\1';
  }
  ::fallocate(source()->file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, piece * layout_.piece_length,
              layout_.length_of(piece));
}

void Storage::retire() {
  const std::lock_guard lock(writing_);
  retired_ = true;
}

bool Storage::is_faulted() const {
  const std::lock_guard lock(mutex_);
  return faulted_;
}

bool Storage::is_dropped(int piece) const {
  const std::lock_guard lock(mutex_);
  return !dropped_.empty() && dropped_[static_cast<std::size_t>(piece)] != 0;
}

bool Storage::read_cached(int piece, int start, std::span<char> out) const {
  const auto from = source();
  iovec part{out.data(), out.size()};
  const auto n = ::preadv2(from->file.get(), &part, 1, piece * layout_.piece_length + start, RWF_NOWAIT);
  return n == static_cast<ssize_t>(out.size()) && is_unchanged(*from) && !is_dropped(piece);
}

std::error_code Storage::read_all(const Source& source, std::int64_t at, std::span<char> out) {
  while (!out.empty()) {
    const auto n = ::pread(source.file.get(), out.data(), out.size(), at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return last_error();
    if (n == 0) return std::make_error_code(std::errc::io_error);  // shorter than it was
    out = out.subspan(static_cast<std::size_t>(n));
    at += n;
  }
  return {};
}

std::error_code Storage::read(int piece, int start, std::span<char> out) {
  const auto from = source();
  const auto ec = read_all(*from, piece * layout_.piece_length + start, out);
  // Asked after reading: what was read may have been a hole by then.
  if (is_dropped(piece)) return std::make_error_code(std::errc::no_message_available);
  if (!is_unchanged(*from)) {
    fault(*from, "the file has changed since it was hashed");
    return std::make_error_code(std::errc::operation_canceled);
  }
  if (ec && !from->writable) fault(*from, ec.message());
  return ec;
}

std::error_code Storage::read(std::int64_t offset, std::span<char> out) {
  while (!out.empty()) {
    const auto piece = static_cast<int>(offset / layout_.piece_length);
    const auto start = offset % layout_.piece_length;
    const auto length = std::min<std::int64_t>(layout_.length_of(piece) - start, std::ssize(out));
    if (const auto ec = read(piece, static_cast<int>(start), out.first(static_cast<std::size_t>(length)))) return ec;
    out = out.subspan(static_cast<std::size_t>(length));
    offset += length;
  }
  return {};
}

std::error_code Storage::write_all(const Source& source, std::int64_t at, std::vector<iovec>& parts) {
  if (parts.empty()) return {};
  const std::lock_guard lock(writing_);
  if (retired_) return std::make_error_code(std::errc::operation_canceled);
  std::span<iovec> left = parts;
  while (!left.empty()) {
    const auto n = ::pwritev(source.file.get(), left.data(),
                             static_cast<int>(std::min<std::size_t>(left.size(), best_at_once)), at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return last_error();
    at += n;
    for (auto done = static_cast<std::size_t>(n); !left.empty();) {
      auto& part = left.front();
      if (done < part.iov_len) {
        part.iov_base = static_cast<char*>(part.iov_base) + done;
        part.iov_len -= done;
        break;
      }
      done -= part.iov_len;
      left = left.subspan(1);
    }
  }
  parts.clear();
  return {};
}

void Storage::feed(Hashing& state, std::span<const std::string_view> blocks) {
  append_leaves(blocks, state.leaves);
  for (const auto block : blocks) state.next += static_cast<std::int64_t>(block.size());
}

/// Runs of whole pages of zeros stay holes where they may.
std::error_code Storage::write_blocks(const Source& to, std::int64_t at, bool may_leave_holes,
                                      std::span<const std::span<const char>> blocks) {
  std::int64_t run = at;
  std::vector<iovec> parts;
  for (const auto block : blocks) {
    std::size_t from = 0;
    for (std::size_t i = 0; i < block.size() && may_leave_holes; i += page) {
      const auto length = std::min<std::size_t>(page, block.size() - i);
      if (!is_zero({block.data() + i, length})) continue;
      if (i > from) parts.push_back({const_cast<char*>(block.data()) + from, i - from});
      if (const auto ec = write_all(to, run, parts)) return ec;
      from = i + length;
      run = at + static_cast<std::int64_t>(from);
    }
    if (from < block.size()) parts.push_back({const_cast<char*>(block.data()) + from, block.size() - from});
    at += static_cast<std::int64_t>(block.size());
  }
  return write_all(to, run, parts);
}

std::error_code Storage::write(int piece, int start, std::span<const std::span<const char>> blocks) {
  const auto to = source();
  if (!to->writable) return std::make_error_code(std::errc::read_only_file_system);
  Hashing* state = nullptr;
  {
    const std::lock_guard lock(mutex_);
    state = &hashing_[piece];  // map nodes stay where they are
  }
  // What comes twice may be other bytes than the first time: then what was hashed on the way is not what is there. Nor
  // may a hole be left where the first ones were written.
  const bool again = start < state->next || state->cleared;
  if (start < state->next) {
    state->leaves.clear();
    state->next = 0;
  }
  if (const auto ec = write_blocks(*to, piece * layout_.piece_length + start, !again, blocks)) {
    for (const auto block : blocks) {
      state->unwritten.insert(start);
      start += static_cast<int>(block.size());
    }
    state->why = ec;
    return ec;
  }
  // Blocks that come in order are hashed while they are in the cache; the others when the piece is complete.
  std::vector<std::string_view> in_order;
  for (const auto block : blocks) {
    state->unwritten.erase(start);
    if (state->next == start || !in_order.empty()) in_order.emplace_back(block.data(), block.size());
    start += static_cast<int>(block.size());
  }
  feed(*state, in_order);
  return {};
}

std::error_code Storage::hash(int piece, lt::sha1_hash& out) {
  Hashing state;
  const auto from = source();
  {
    const std::lock_guard lock(mutex_);
    if (const auto it = hashing_.find(piece); it != hashing_.end()) {
      // What is on the disk there may be right by chance; it is not what libtorrent believes to be there.
      if (!it->second.unwritten.empty()) return it->second.why;
      state = std::move(it->second);
      hashing_.erase(it);
    }
  }
  const bool cleared = state.cleared;
  std::vector<char> buffer;
  const auto length = layout_.length_of(piece);
  while (state.next < length) {
    buffer.resize(static_cast<std::size_t>(std::min<std::int64_t>(length - state.next, 16 * block_bytes)));
    if (const auto ec = read_all(*from, piece * layout_.piece_length + state.next, buffer)) return ec;
    feed(state, blocks_of({buffer.data(), buffer.size()}));
  }
  const auto index = static_cast<std::size_t>(piece);
  const auto root = root_of(state.leaves);
  out = layout_.hashes[index];
  const std::lock_guard lock(mutex_);
  const bool right = expected_[index].is_set() && root == expected_[index];
  if (!right) out[0] ^= 1;
  if (!from->writable) return {};
  if (right) {
    set_verified(piece, root);
  } else if (cleared) {
    hashing_[piece].cleared = true;
  }
  return {};
}

void Storage::clear(int piece) {
  const std::lock_guard lock(mutex_);
  auto& state = hashing_[piece];
  state = {};
  state.cleared = true;
  forget_reused(piece);
}

std::size_t Storage::blocks_in(int piece) const {
  return static_cast<std::size_t>((layout_.length_of(piece) + block_bytes - 1) / block_bytes);
}

std::int64_t Storage::length_of_block(int piece, std::size_t block) const {
  const auto begin = static_cast<std::int64_t>(block) * block_bytes;
  return std::min<std::int64_t>(block_bytes, layout_.length_of(piece) - begin);
}

/// Whether nothing but zeros can lie there.
bool Storage::may_leave_holes(int piece) const {
  const std::lock_guard lock(mutex_);
  const auto it = hashing_.find(piece);
  return it == hashing_.end() || !it->second.cleared;
}

bool Storage::share_piece(int piece, int from, std::int64_t offset) {
  const auto to = source();
  const auto at = piece * layout_.piece_length;
  const auto length = layout_.length_of(piece);
  if (offset % page != 0 || at % page != 0 || length % page != 0) return false;
  {
    const std::lock_guard lock(mutex_);
    // From now on nothing may be left a hole there.
    hashing_[piece].cleared = true;
  }
  const std::lock_guard lock(writing_);
  if (retired_) return false;
  file_clone_range range{};
  range.src_fd = from;
  range.src_offset = static_cast<std::uint64_t>(offset);
  range.src_length = static_cast<std::uint64_t>(length);
  range.dest_offset = static_cast<std::uint64_t>(at);
  return ::ioctl(to->file.get(), FICLONERANGE, &range) == 0;
}

std::error_code Storage::reuse_piece(int piece, std::span<const char> bytes, std::span<const Sha256> leaves,
                                     bool is_shared) {
  const auto to = source();
  const auto index = static_cast<std::size_t>(piece);
  const auto root = root_of(leaves);
  {
    const std::lock_guard lock(mutex_);
    if (verified_[index] != 0) return {};
    if (static_cast<std::int64_t>(bytes.size()) != layout_.length_of(piece) || root != expected_[index])
      return std::make_error_code(std::errc::invalid_argument);
  }
  if (!is_shared)
    if (const auto ec = write_blocks(*to, piece * layout_.piece_length, may_leave_holes(piece), {&bytes, 1})) return ec;
  const std::lock_guard lock(mutex_);
  set_verified(piece, root);
  return {};
}

std::error_code Storage::reuse_block(int piece, int block, std::span<const char> bytes, bool is_shared) {
  const auto to = source();
  const auto at = static_cast<std::size_t>(block);
  if (at >= blocks_in(piece) || static_cast<std::int64_t>(bytes.size()) != length_of_block(piece, at))
    return std::make_error_code(std::errc::invalid_argument);
  if (has_block(piece, block)) return {};
  const auto begin = piece * layout_.piece_length + std::int64_t{block} * block_bytes;
  if (!is_shared)
    if (const auto ec = write_blocks(*to, begin, may_leave_holes(piece), {&bytes, 1})) return ec;
  const std::lock_guard lock(mutex_);
  auto& blocks = reused_[piece];
  blocks.resize(blocks_in(piece));
  if (!blocks[at]) missing_ -= length_of_block(piece, at);
  blocks[at] = true;
  // All its leaves were right, and those make the root.
  if (std::ranges::find(blocks, false) == blocks.end()) set_verified(piece, expected_[static_cast<std::size_t>(piece)]);
  return {};
}

bool Storage::has_piece(int piece) const {
  const std::lock_guard lock(mutex_);
  return verified_[static_cast<std::size_t>(piece)] != 0;
}

bool Storage::has_block(int piece, int block) const {
  const std::lock_guard lock(mutex_);
  if (verified_[static_cast<std::size_t>(piece)] != 0) return true;
  const auto it = reused_.find(piece);
  return it != reused_.end() && it->second[static_cast<std::size_t>(block)];
}

std::int64_t Storage::bytes_here(int piece, std::int64_t start, std::int64_t most) const {
  const auto end = start + std::min(most, layout_.length_of(piece) - start);
  auto at = start;
  while (at < end && has_block(piece, static_cast<int>(at / block_bytes)))
    at = std::min(end, (at / block_bytes + 1) * block_bytes);
  return at - start;
}

std::map<int, std::vector<bool>> Storage::unfinished() const {
  const std::lock_guard lock(mutex_);
  return reused_;
}

void Storage::set_unfinished(std::map<int, std::vector<bool>> blocks) {
  const std::lock_guard lock(mutex_);
  std::erase_if(blocks, [&](const auto& pair) {
    return pair.first < 0 || pair.first >= layout_.count() || verified_[static_cast<std::size_t>(pair.first)] != 0 ||
           pair.second.size() != blocks_in(pair.first);
  });
  reused_ = std::move(blocks);
  count_missing();
}

std::int64_t Storage::missing() const {
  const std::lock_guard lock(mutex_);
  return missing_;
}

/// Of what is not verified, all and what of it is here nevertheless. The mutex is held.
void Storage::count_missing() {
  missing_ = 0;
  for (std::size_t i = 0; i < verified_.size(); ++i)
    if (verified_[i] == 0) missing_ += layout_.length_of(static_cast<int>(i));
  for (const auto& [piece, blocks] : reused_) missing_ -= reused_bytes(piece, blocks);
}

std::int64_t Storage::reused_bytes(int piece, const std::vector<bool>& blocks) const {
  std::int64_t out = 0;
  for (std::size_t block = 0; block < blocks.size(); ++block)
    if (blocks[block]) out += length_of_block(piece, block);
  return out;
}

/// Blocks of a piece do not count any more. The mutex is held.
void Storage::forget_reused(int piece) {
  const auto it = reused_.find(piece);
  if (it == reused_.end()) return;
  missing_ += reused_bytes(piece, it->second);
  reused_.erase(it);
}

/// The mutex is held.
void Storage::set_verified(int piece, const Sha256& root) {
  const auto index = static_cast<std::size_t>(piece);
  forget_reused(piece);
  if (verified_[index] == 0) missing_ -= layout_.length_of(piece);
  roots_[index] = root;
  verified_[index] = '\1';
}

bool Storage::is_complete() const {
  const std::lock_guard lock(mutex_);
  return verified_.find('\0') == std::string::npos;
}

std::string Storage::verified() const {
  const std::lock_guard lock(mutex_);
  return verified_;
}

void Storage::begin_writeback(int piece) const {
  if (to_be_synced_)
    ::sync_file_range(source()->file.get(), piece * layout_.piece_length, layout_.length_of(piece),
                      SYNC_FILE_RANGE_WRITE);
}

std::string Storage::wanted_roots() const {
  std::string out;
  if (layout_.count() == 1) return out;
  const std::lock_guard lock(mutex_);
  out.reserve(expected_.size() * 32);
  for (const auto& root : expected_) out += root.view();
  return out;
}

std::vector<Sha256> Storage::roots() const {
  const std::lock_guard lock(mutex_);
  return roots_;
}

Storage::Snapshot Storage::sync() {
  Snapshot out;
  {
    const std::lock_guard lock(mutex_);
    out.have = verified_;
    out.unfinished = reused_;
    out.roots.reserve(roots_.size() * 32);
    for (const auto& root : roots_) out.roots += root.view();
  }
  if (::fdatasync(source()->file.get()) != 0) out.error = last_error();
  return out;
}

std::optional<ContentId> Storage::content_id() const {
  const std::lock_guard lock(mutex_);
  if (verified_.find('\0') != std::string::npos) return std::nullopt;
  if (layout_.count() == 1) return roots_.front();
  return content_id_of_pieces(roots_, layout_.piece_length);
}

}  // namespace mesh
