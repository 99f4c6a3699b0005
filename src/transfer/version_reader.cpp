#include "transfer/version_reader.h"

#include <algorithm>
#include <utility>

#include "core/format.h"
#include "core/merkle.h"
#include "transfer/swarm_source.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// A get that is under way brings a piece sooner than that, or it is read beside it.
constexpr auto beside_after = milliseconds(300);
constexpr auto look_every = milliseconds(50);
constexpr std::size_t most_unproven = 1 << 20;  // blocks: 16 GiB of them

}  // namespace

/// A version that nobody has hashed yet.
struct VersionReader::Candidate {
  std::int64_t ctime = 0;
  ContentId id{};  ///< set: somebody has, by now
  std::string trouble;
  bool is_asking = false;
  bool is_proving = false;
  std::string bytes;  ///< that came last
  std::int64_t offset = 0;
  std::map<std::int64_t, Sha256> given;  ///< blocks that were read before, by number

  static Task<void> learn(std::shared_ptr<Candidate> self, Workers& workers, TrackerLinks& links, FileEntry wanted,
                          std::vector<std::uint32_t> holders) {
    try {
      const std::weak_ptr<Candidate> weak = self;
      const std::function<void()> check = [weak, &workers] {
        if (weak.use_count() < 2 || workers.stopping()) throw Error(Status::interrupted, "nobody reads it any more");
      };
      const Torrent told = co_await prepare_swarm(workers, links, std::move(wanted), std::move(holders), check);
      self->id = told.id;
    } catch (const Error& error) {
      // Where nobody could be asked, somebody may be, the next time.
      if (error.status() == Status::failed) self->trouble = error.what();
      self->is_asking = false;
    }
  }

  /// What was read before it was hashed is what has been hashed since, or the reader is told that it is not.
  static Task<void> prove(std::shared_ptr<Candidate> self, CachedContentPtr content) {
    try {
      const auto per_piece = content->file().layout.piece_length / block_bytes;
      RangeFetcher::Leaves leaves;
      std::int64_t of = -1;
      while (!self->given.empty() && self.use_count() > 1) {
        const auto [block, hash] = *self->given.begin();
        if (const auto piece = block / per_piece; piece != of) {
          leaves = co_await content->fetcher().leaves(static_cast<int>(piece), Clock::now() + seconds(20));
          of = piece;
        }
        const bool is_right = leaves->at(static_cast<std::size_t>(block % per_piece)) == hash;
        if (!is_right) self->trouble = "has changed while it was read";
        if (!is_right) co_return;
        self->given.erase(block);
      }
    } catch (const std::exception&) {
      // Nobody could say: it is tried again at the next read.
    }
    self->is_proving = false;
  }
};

VersionReader::VersionReader(ReadFrom from, FileEntry wanted, std::vector<NodeRef> holders, Options options)
    : from_(from), wanted_(std::move(wanted)), holders_(std::move(holders)), options_(std::move(options)) {
  if (!wanted_.id.is_set()) candidate_ = std::make_shared<Candidate>();
}

VersionReader::~VersionReader() { drop_cursor(); }

void VersionReader::rest() {
  drop_cursor();
  used_.reset();
  content_.reset();
  local_.reset();
}

void VersionReader::move_cursor(const SwarmTorrentPtr& torrent, int piece) {
  if (cursor_.torrent != torrent || cursor_.scheduler != torrent->scheduler) drop_cursor();
  if (cursor_.id == 0)
    cursor_ = {torrent, torrent->scheduler, torrent->scheduler->add_cursor(piece)};
  else
    cursor_.scheduler->move_cursor(cursor_.id, piece);
  from_.session.schedule(*torrent);
}

void VersionReader::drop_cursor() {
  if (cursor_.id == 0) return;
  cursor_.scheduler->remove_cursor(cursor_.id);
  cursor_.torrent->changed.notify();
  cursor_ = {};
}

void VersionReader::check_stopped() const {
  if (options_.is_stopped()) throw Error(Status::interrupted, "stopped");
  if (from_.workers.stopping()) throw Error(Status::unreachable, "the node is shutting down");
}

Task<std::size_t> VersionReader::read(std::int64_t offset, std::span<char> out) {
  if (offset >= size() || out.empty()) co_return std::size_t{0};
  out = out.first(static_cast<std::size_t>(std::min<std::int64_t>(std::ssize(out), size() - offset)));
  const auto until = Clock::now() + options_.patience;
  for (;;) {
    check_stopped();
    if (Clock::now() >= until) throw Error(Status::unreachable, printable(wanted_.path) + ": did not come in time");
    std::size_t length = 0;
    take_id();
    if (!wanted_.id.is_set()) {
      length = co_await read_candidate(offset, out, until);
    } else {
      length = co_await read_local(offset, out);
      if (length == 0) length = co_await read_torrent(offset, out, until);
      if (length == 0) length = co_await read_content(offset, out, until);
    }
    if (length == 0) continue;
    if (wanted_.id.is_set()) from_.profiles.note(wanted_, offset, static_cast<std::int64_t>(length));
    co_return length;
  }
}

Task<std::size_t> VersionReader::read_local(std::int64_t offset, std::span<char> out) {
  const auto* item = is_local_bad_ ? nullptr : from_.library.inventory().find(wanted_.id, wanted_.size);
  if (item == nullptr && !local_) co_return std::size_t{0};
  if (!local_) local_.emplace(from_.workers, from_.library, LocalEntry{item->entry, item->stamp}, true);
  bool is_gone = false;
  try {
    co_return co_await local_->read(offset, out);
  } catch (const Error&) {
    is_gone = true;  // another node may have it still
  }
  if (is_gone) local_.reset(), is_local_bad_ = true;
  co_return std::size_t{0};
}

/// Of a get, a stream or a seed that is loaded: what it has here. Where it has not what is wanted, it is asked to bring
/// that first.
Task<std::size_t> VersionReader::read_torrent(std::int64_t offset, std::span<char> out, Clock::time_point until) {
  const auto torrent = from_.session.find(wanted_.id);
  if (!torrent || !torrent->checked || torrent->role == Role::provisional || torrent->is_standard())
    co_return std::size_t{0};
  const auto storage = torrent->storage;
  const auto& layout = storage->layout();
  const auto piece = static_cast<int>(offset / layout.piece_length);
  const auto start = offset - piece * layout.piece_length;
  const auto here = [&] { return storage->is_dropped(piece) ? 0 : storage->bytes_here(piece, start, std::ssize(out)); };
  if (here() == 0) {
    if (!torrent->downloading || !torrent->scheduler || storage->is_bounded()) co_return std::size_t{0};
    move_cursor(torrent, piece);
    const auto beside = std::min(until, Clock::now() + beside_after);
    while (here() == 0 && Clock::now() < beside && torrent->downloading) {
      check_stopped();
      co_await torrent->changed.wait_for(look_every);
    }
  }
  const auto bytes = out.first(static_cast<std::size_t>(here()));
  if (bytes.empty() || storage->read_cached(piece, static_cast<int>(start), bytes)) co_return bytes.size();
  const auto read = [storage, piece, start, bytes] { return storage->read(piece, static_cast<int>(start), bytes); };
  const auto trouble = co_await run_on(from_.workers.brief(), read);
  co_return trouble ? std::size_t{0} : bytes.size();
}

Task<std::size_t> VersionReader::read_content(std::int64_t offset, std::span<char> out, Clock::time_point until) {
  drop_cursor();
  auto& cache = from_.cache;
  if (!content_ || cache.find(wanted_.id, wanted_.size) != content_) {
    used_.reset();
    content_ = co_await cache.open(wanted_, holders_, offset, until);
    used_ = content_->use();
    if (prefetching_ != content_) prefetched_ = from_.prefetcher.want(content_, holders_, options_.prefetch);
    prefetching_ = content_;
  }
  if (candidate_ && !candidate_->given.empty() && !std::exchange(candidate_->is_proving, true))
    spawn(from_.workers.loop(), Candidate::prove(candidate_, content_));
  const auto content = content_;
  content->want(offset, read_ahead(offset, std::ssize(out), content->most_ahead()));
  co_return co_await content->read(offset, out, until, options_.is_stopped);
}

std::int64_t VersionReader::read_ahead(std::int64_t offset, std::int64_t length, std::int64_t most) {
  auto& ahead = options_.streams ? options_.streams->at(offset) : ahead_;
  return std::max(std::min(ahead.read(offset, length, sure_, most), end_), offset + length);
}

void VersionReader::take_id() {
  if (!candidate_) return;
  if (!candidate_->trouble.empty()) throw Error(Status::failed, about(wanted_.path, candidate_->trouble));
  if (candidate_->id.is_set()) wanted_.id = candidate_->id;
}

Task<std::size_t> VersionReader::read_candidate(std::int64_t offset, std::span<char> out, Clock::time_point until) {
  const auto candidate = candidate_;
  if (holders_.empty()) throw Error(Status::unreachable, printable(wanted_.path) + ": no node that has it is known");
  const NodeRef holder = holders_.front();
  if (!std::exchange(candidate->is_asking, true)) {
    std::vector<std::uint32_t> keys{holder.key};
    spawn(from_.workers.loop(), Candidate::learn(candidate, from_.workers, from_.links, wanted_, std::move(keys)));
  }
  const auto given = [&] {
    const auto from = static_cast<std::size_t>(offset - candidate->offset);
    const auto length = std::min(out.size(), candidate->bytes.size() - from);
    std::copy_n(candidate->bytes.begin() + static_cast<std::ptrdiff_t>(from), length, out.begin());
    return length;
  };
  const auto is_there = [&] {
    return offset >= candidate->offset && offset < candidate->offset + std::ssize(candidate->bytes);
  };
  if (is_there()) co_return given();
  RangeAsk ask;
  ask.size = wanted_.size;
  ask.path = wanted_.path;
  ask.mtime = wanted_.mtime;
  ask.ctime = candidate->ctime;
  ask.offset = offset / block_bytes * block_bytes;
  const auto to = read_ahead(offset, std::ssize(out), ReadAhead::most_bytes);
  ask.length = std::min(
      {(to - ask.offset + grain_bytes - 1) / grain_bytes * grain_bytes, most_range_bytes, wanted_.size - ask.offset});
  const auto channel = co_await from_.channels.to(holder);
  const auto used = from_.channels.use(channel);
  const auto left = std::chrono::duration_cast<milliseconds>(until - Clock::now());
  RangeTold told = co_await channel->request(ask, std::max(left, milliseconds(1)));
  if (told.data.empty() || std::ssize(told.data) > ask.length)
    throw Error(Status::failed, printable(wanted_.path) + ": " + printable(holder.name) + " sent no sensible answer");
  // Whole blocks, so that they can be proven.
  if (std::ssize(told.data) < ask.length) told.data.resize(told.data.size() / block_bytes * block_bytes);
  if (told.data.empty()) throw Error(Status::failed, printable(wanted_.path) + ": too little comes at a time");
  if (candidate->ctime == 0) candidate->ctime = told.ctime;
  if (told.id.is_set()) candidate->id = told.id;
  candidate->bytes = std::move(told.data);
  candidate->offset = ask.offset;
  const auto hash = [candidate, offset = ask.offset] {
    const auto blocks = blocks_of(candidate->bytes);
    std::vector<Sha256> hashes(blocks.size());
    sha256_each(blocks, hashes);
    for (std::size_t i = 0; i < hashes.size(); ++i) {
      const auto block = offset / block_bytes + static_cast<std::int64_t>(i);
      const auto [known, fresh] = candidate->given.emplace(block, hashes[i]);
      if (!fresh && known->second != hashes[i]) candidate->trouble = "has changed while it was read";
    }
    if (candidate->given.size() > most_unproven) candidate->trouble = "is too large to be read before it is hashed";
  };
  co_await run_on(from_.workers.brief(), hash);
  take_id();
  co_return is_there() ? given() : std::size_t{0};
}

}  // namespace mesh
