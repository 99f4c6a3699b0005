#include "transfer/delta_search.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <exception>
#include <numeric>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/parallel.h"
#include "wire/flow.h"

namespace mesh {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t batch_bytes = std::int64_t{32} << 20;
constexpr std::size_t batches_at_once = 2;
constexpr std::size_t sampled_pieces = 16;
/// So many segments are sampled, and of a seed the same ones and those beside them: bytes that have moved by less than
/// a sixteenth of the content are noticed.
constexpr std::size_t sampled_segments = 2;
constexpr int sampled_part = 16;
/// After so many seeds that have nothing in common the others are left alone.
constexpr int most_unrelated = 2;
/// Of what a sample has, where there is anything in common worth speaking of.
constexpr double hardly_any = 1.0 / 64;
/// So much is worth it whatever the links do: they are everybody's.
constexpr double good_share = 0.25;
/// A search in vain takes so much of the time that a get takes.
constexpr double most_delay = 0.05;
/// And so much of the time that what is promised would take.
constexpr double most_of_promised = 0.5;
/// The sketch is asked for where more than this part is missing, and this much.
constexpr std::int64_t much_missing = 8;
constexpr std::int64_t least_missing = std::int64_t{1} << 20;
/// Of a seed, no more is cut than so many times the wanted content.
constexpr std::int64_t most_of_a_seed = 4;
/// File systems share whole blocks of theirs.
constexpr std::int64_t share_grain = 4096;
/// Guesses for one block that are tried.
constexpr int most_tries = 3;

/// Whether all of it could be read.
bool read_seed(int fd, std::int64_t offset, std::span<char> out) {
  while (!out.empty()) {
    const auto n = ::pread(fd, out.data(), out.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    out = out.subspan(static_cast<std::size_t>(n));
    offset += n;
  }
  return true;
}

Sha256 leaf_of(std::span<const char> bytes) { return sha256({bytes.data(), bytes.size()}); }

/// So many of `all`, evenly spread.
std::vector<int> spread(const std::vector<int>& all, std::size_t count) {
  std::vector<int> out;
  for (std::size_t i = 0; i < count && count < all.size(); ++i)
    out.push_back(all[(2 * i + 1) * all.size() / (2 * count)]);
  return count < all.size() ? out : all;
}

}  // namespace

/// One piece, while it is compared.
struct DeltaSearch::Looked {
  Guessed guessed;
  std::vector<char> bytes;
  std::vector<bool> is_read;   ///< of each block: its bytes are those of a guess
  std::vector<Sha256> leaves;  ///< of those
  bool is_shared = false;      ///< it lies in the target already
  bool is_over = false;        ///< it is taken whole, or nothing of it could be read
};

DeltaSearch::DeltaSearch(Workers& workers, const HashedFile& file, BlockInfo& info, FoundBlocks& found, Options options)
    : workers_(workers),
      file_(file),
      layout_(file.layout),
      plan_(chunk_plan_for(file.layout.size)),
      info_(info),
      found_(found),
      options_(std::move(options)) {}

int DeltaSearch::blocks_in(int piece) const {
  return static_cast<int>((layout_.length_of(piece) + block_bytes - 1) / block_bytes);
}

std::int64_t DeltaSearch::length_of(int piece, int block) const {
  return std::min<std::int64_t>(block_bytes, layout_.length_of(piece) - std::int64_t{block} * block_bytes);
}

std::vector<int> DeltaSearch::missing_pieces() const {
  std::vector<int> out;
  for (int piece = 0; piece < layout_.count(); ++piece)
    if (!found_.has_piece(piece)) out.push_back(piece);
  return out;
}

void DeltaSearch::check() const {
  options_.check();
  const std::chrono::duration<double> took = Clock::now() - begun_;
  const auto missing = static_cast<double>(found_.missing_bytes());
  const auto patience = std::chrono::duration<double>(options_.patience).count() +
                        (missing * most_delay + promised_bytes_ * most_of_promised) / options_.link_rate;
  if (took.count() > patience && static_cast<double>(found_bytes_) < took.count() * options_.link_rate)
    throw Error(Status::failed, "it takes longer than to fetch it");
}

/// Whether it pays to look through all, where a sample had this share.
bool DeltaSearch::is_worth_it(double share) {
  if (share < hardly_any) return false;
  promised_bytes_ = share * static_cast<double>(found_.missing_bytes());
  if (share >= good_share || examined_for_.count() <= 0) return true;
  return share * static_cast<double>(examined_bytes_) / examined_for_.count() >= options_.link_rate;
}

Task<void> DeltaSearch::run(std::vector<DeltaSeed> seeds) {
  begun_ = Clock::now();
  for (const auto& seed : seeds) {
    if (missing_pieces().empty()) co_return;
    co_await at_same_offset(seed);
  }
  const auto missing = found_.missing_bytes();
  if (missing >= least_missing && missing > layout_.size / much_missing) co_await at_shifts(seeds);
}

DeltaSearch::Guessed DeltaSearch::guess_same_offset(const DeltaSeed& seed, int piece) const {
  Guessed out;
  out.piece = piece;
  const auto first = piece * (layout_.piece_length / block_bytes);
  for (int block = 0; block < blocks_in(piece); ++block)
    if (!found_.has_block(piece, block) && (first + block) * block_bytes + length_of(piece, block) <= seed.size)
      out.guesses.push_back({first + block, 0, false});
  return out;
}

Task<void> DeltaSearch::at_same_offset(const DeltaSeed& seed) {
  auto pieces = missing_pieces();
  std::erase_if(pieces, [&](int piece) { return piece * layout_.piece_length >= seed.size; });
  std::vector<Guessed> sample;
  std::int64_t sampled = 0;
  for (const int piece : spread(pieces, sampled_pieces)) {
    sample.push_back(guess_same_offset(seed, piece));
    sampled += layout_.length_of(piece);
  }
  if (sampled == 0) co_return;
  const std::int64_t before = found_bytes_;
  is_sampling_ = true;
  co_await look(seed, std::move(sample));
  is_sampling_ = false;
  if (!is_worth_it(static_cast<double>(found_bytes_ - before) / static_cast<double>(sampled))) co_return;
  std::size_t at = 0;
  const Next next = [&] {
    std::vector<Guessed> out;
    for (std::int64_t bytes = 0; at < pieces.size() && bytes < batch_bytes; ++at) {
      if (found_.has_piece(pieces[at])) continue;
      out.push_back(guess_same_offset(seed, pieces[at]));
      bytes += layout_.length_of(pieces[at]);
    }
    return out;
  };
  co_await look_at_all(seed, next);
}

/// The chunks of these segments of a seed. Blocks.
std::vector<std::vector<Chunk>> DeltaSearch::cut(const DeltaSeed& seed, const std::vector<int>& segments) {
  std::vector<std::vector<Chunk>> out(segments.size());
  const auto begun = Clock::now();
  const auto none = [] { return 0; };
  for_each_index(static_cast<int>(segments.size()), all_threads(), none, [&](int i, int) {
    if (is_stopped()) return;
    const auto at = static_cast<std::size_t>(i);
    const auto begin = segments[at] * plan_.segment;
    const auto length = plan_.length_of(segments[at], seed.size);
    bool is_whole = true;
    const auto read = [&](std::int64_t offset, std::span<char> to) {
      is_whole = is_whole && read_seed(seed.file.get(), begin + offset, to);
    };
    out[at] = cut_chunks(length, plan_, read);
    if (!is_whole) out[at].clear();
    examined_bytes_ += length;
  });
  examined_for_ += Clock::now() - begun;
  return out;
}

/// Which seeds have anything in common with the content, as far as a sample says.
Task<std::vector<std::size_t>> DeltaSearch::related(const std::vector<DeltaSeed>& seeds) {
  const int count = plan_.segments(layout_.size);
  std::vector<int> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), 0);
  const auto sample = spread(all, sampled_segments);
  const int reach = std::max(1, count / sampled_part);
  const auto told = co_await info_.chunks(sample);
  std::vector<std::size_t> out;
  int unrelated = 0;
  for (std::size_t i = 0; i < seeds.size() && unrelated < most_unrelated; ++i) {
    check();
    const auto compare = [&] {
      std::set<int> near;
      const int last = plan_.segments(seeds[i].size) - 1;
      for (const int segment : sample)
        for (int other = std::max(0, segment - reach); other <= std::min(segment + reach, last); ++other)
          near.insert(other);
      const std::vector<int> segments(near.begin(), near.end());
      const auto cut_now = cut(seeds[i], segments);
      ChunkIndex index;
      for (std::size_t k = 0; k < segments.size(); ++k) index.add(segments[k] * plan_.segment, cut_now[k]);
      index.sort();
      std::int64_t known = 0, asked = 0;
      for (const auto& chunks : told)
        for (const auto& chunk : chunks) {
          if (is_zero_chunk(chunk)) continue;
          asked += chunk.length;
          if (index.find(chunk) >= 0) known += chunk.length;
        }
      return asked > 0 ? static_cast<double>(known) / static_cast<double>(asked) : 0.0;
    };
    const double share = co_await run_on(workers_.reading(), compare);
    if (is_worth_it(share))
      out.push_back(i);
    else
      ++unrelated;
  }
  co_return out;
}

Task<void> DeltaSearch::at_shifts(const std::vector<DeltaSeed>& seeds) {
  const auto chosen = co_await related(seeds);
  if (chosen.empty()) co_return;
  check();
  std::vector<int> all(static_cast<std::size_t>(plan_.segments(layout_.size)));
  std::iota(all.begin(), all.end(), 0);
  // While somebody else cuts the content, the first seed is cut here.
  ChunkIndex index;
  std::exception_ptr trouble;
  auto make = [](DeltaSearch* self, const DeltaSeed* seed, ChunkIndex* out, std::exception_ptr* error) -> Task<void> {
    try {
      co_await self->make_index(*seed, *out);
    } catch (...) {
      *error = std::current_exception();
    }
  };
  Together beside(workers_.loop());
  beside.add(make(this, &seeds[chosen.front()], &index, &trouble));
  std::vector<std::vector<Chunk>> sketch;
  std::exception_ptr untold;
  try {
    sketch = co_await info_.chunks(all);
  } catch (...) {
    untold = std::current_exception();
  }
  co_await beside.all();
  if (untold) std::rethrow_exception(untold);
  if (trouble) std::rethrow_exception(trouble);
  if (std::ranges::all_of(sketch, &std::vector<Chunk>::empty)) co_return;
  used_sketch_ = true;
  for (const auto i : chosen) {
    check();
    if (i != chosen.front()) {
      if (found_.missing_bytes() < least_missing) break;
      index = {};
      co_await make_index(seeds[i], index);
      check();
    }
    co_await at_shifts_of(seeds[i], index, sketch);
  }
}

Task<void> DeltaSearch::make_index(const DeltaSeed& seed, ChunkIndex& index) {
  const auto make = [&] {
    const auto size = std::min(seed.size, most_of_a_seed * layout_.size);
    std::vector<int> segments(static_cast<std::size_t>(plan_.segments(size)));
    std::iota(segments.begin(), segments.end(), 0);
    const auto chunks = cut(seed, segments);
    for (std::size_t i = 0; i < chunks.size(); ++i) index.add(segments[i] * plan_.segment, chunks[i]);
    index.sort();
  };
  co_await run_on(workers_.reading(), make);
}

Task<void> DeltaSearch::at_shifts_of(const DeltaSeed& seed, const ChunkIndex& index,
                                     const std::vector<std::vector<Chunk>>& sketch) {
  std::size_t segment = 0;
  std::deque<Guessed> guessed;  // of the segments before that one
  const Next next = [&] {
    std::vector<Guessed> out;
    for (std::int64_t bytes = 0; bytes < batch_bytes && (!guessed.empty() || segment < sketch.size());) {
      if (guessed.empty()) {
        guess_in_segment(static_cast<int>(segment), sketch[segment], index, seed.size, guessed);
        ++segment;
        continue;
      }
      bytes += layout_.length_of(guessed.front().piece);
      out.push_back(std::move(guessed.front()));
      guessed.pop_front();
    }
    return out;
  };
  co_await look_at_all(seed, next);
}

/// Appends to `out` what the chunks of a segment say of its pieces: none lies in two.
void DeltaSearch::guess_in_segment(int segment, const std::vector<Chunk>& chunks, const ChunkIndex& index,
                                   std::int64_t seed_size, std::deque<Guessed>& out) const {
  const auto guesses = guess_blocks(segment * plan_.segment, chunks, layout_.size, index, seed_size);
  const auto blocks_a_piece = layout_.piece_length / block_bytes;
  for (const auto& one : guesses) {
    const auto piece = static_cast<int>(one.block / blocks_a_piece);
    if (found_.has_block(piece, static_cast<int>(one.block % blocks_a_piece))) continue;
    if (out.empty() || out.back().piece != piece) out.push_back({piece, {}});
    out.back().guesses.push_back(one);
  }
}

Task<void> DeltaSearch::look_at_all(const DeltaSeed& seed, Next next) {
  std::exception_ptr trouble;
  auto run = [](DeltaSearch* self, const DeltaSeed* in, std::vector<Guessed> batch,
                std::exception_ptr* error) -> Task<void> {
    try {
      co_await self->look(*in, std::move(batch));
    } catch (...) {
      *error = std::current_exception();
    }
  };
  Together work(workers_.loop());
  try {
    while (!trouble) {
      co_await work.fewer_than(batches_at_once);
      auto batch = co_await run_on(workers_.brief(), next);
      if (batch.empty()) break;
      work.add(run(this, &seed, std::move(batch), &trouble));
    }
  } catch (...) {
    trouble = std::current_exception();
  }
  co_await work.all();
  if (trouble) std::rethrow_exception(trouble);
}

/// Where all of a piece is guessed to lie together in the seed, it can be shared, and is read from where it is then.
bool DeltaSearch::share(const DeltaSeed& seed, Looked& looked) {
  const int piece = looked.guessed.piece;
  const auto& guesses = looked.guessed.guesses;
  const auto first = piece * (layout_.piece_length / block_bytes);
  const auto shift = guesses.front().shift;
  std::int64_t next = first;
  for (const auto& guess : guesses)
    if (guess.block == next && guess.shift == shift && !guess.is_zero) ++next;
  if (!can_share_ || is_sampling_ || next != first + blocks_in(piece)) return false;
  for (int block = 0; block < blocks_in(piece); ++block)
    if (found_.has_block(piece, block)) return false;
  const auto offset = piece * layout_.piece_length + shift;
  if (offset % share_grain != 0 || layout_.length_of(piece) % share_grain != 0) return false;
  if (!found_.share(piece, seed.file.get(), offset, looked.bytes)) {
    can_share_ = false;
    return false;
  }
  sha256_each(blocks_of({looked.bytes.data(), looked.bytes.size()}), looked.leaves);
  looked.is_read.assign(looked.is_read.size(), true);
  looked.is_shared = true;
  examined_bytes_ += std::ssize(looked.bytes);
  return true;
}

/// Reads what the first guesses of a piece name, and takes it whole where that is right. Blocks.
void DeltaSearch::read_first(const DeltaSeed& seed, Looked& looked) {
  const int piece = looked.guessed.piece;
  const auto count = static_cast<std::size_t>(blocks_in(piece));
  const auto first = piece * (layout_.piece_length / block_bytes);
  looked.bytes.resize(static_cast<std::size_t>(layout_.length_of(piece)));
  looked.is_read.assign(count, false);
  looked.leaves.resize(count);
  const auto& guesses = looked.guessed.guesses;
  const auto stretch = [&](std::size_t from, std::size_t to) {
    const auto begin = (guesses[from].block - first) * block_bytes;
    const auto end = (guesses[to - 1].block - first) * block_bytes +
                     length_of(piece, static_cast<int>(guesses[to - 1].block - first));
    const std::span<char> out(looked.bytes.data() + begin, static_cast<std::size_t>(end - begin));
    if (guesses[from].is_zero)
      std::ranges::fill(out, '\0');
    else if (!read_seed(seed.file.get(), piece * layout_.piece_length + begin + guesses[from].shift, out))
      return;
    std::vector<std::string_view> blocks = blocks_of({out.data(), out.size()});
    const auto at = static_cast<std::size_t>(guesses[from].block - first);
    sha256_each(blocks, std::span(looked.leaves).subspan(at, blocks.size()));
    std::fill_n(looked.is_read.begin() + static_cast<std::ptrdiff_t>(at), blocks.size(), true);
    examined_bytes_ += std::ssize(out);
  };
  // Blocks that follow one another at one shift are read, and hashed, at once.
  const bool is_shared = !guesses.empty() && share(seed, looked);
  for (std::size_t i = 0; i < guesses.size() && !is_shared;) {
    if (i > 0 && guesses[i].block == guesses[i - 1].block) {
      ++i;  // tried later, if the first was wrong
      continue;
    }
    auto end = i + 1;
    while (end < guesses.size() && guesses[end].block == guesses[end - 1].block + 1 &&
           guesses[end].shift == guesses[i].shift && guesses[end].is_zero == guesses[i].is_zero)
      ++end;
    stretch(i, end);
    i = end;
  }
  const auto read = std::ranges::count(looked.is_read, true);
  looked.is_over = read == 0;
  if (read != std::ssize(looked.is_read)) return;
  const auto root = root_of_leaves(looked.leaves, layout_.piece_length, layout_.count() == 1);
  if (root != layout_.roots[static_cast<std::size_t>(piece)]) return;
  for (int block = 0; block < blocks_in(piece); ++block)
    if (!found_.has_block(piece, block)) found_bytes_ += length_of(piece, block);
  found_.put_piece(piece, looked.bytes, looked.leaves, looked.is_shared);
  looked.is_over = true;
}

/// Takes the blocks of a piece that are what its leaves say. Blocks.
void DeltaSearch::compare(const DeltaSeed& seed, Looked& looked, const std::vector<Sha256>& leaves) {
  const int piece = looked.guessed.piece;
  const auto first = piece * (layout_.piece_length / block_bytes);
  static const Sha256 leaf_of_zeros = sha256(std::string(block_bytes, '\0'));
  const auto take = [&](int block, std::span<const char> bytes, bool is_shared) {
    found_bytes_ += length_of(piece, block);
    found_.put_block(piece, block, bytes, is_shared);
  };
  for (int block = 0; block < blocks_in(piece); ++block) {
    if (found_.has_block(piece, block)) continue;
    const auto at = static_cast<std::size_t>(block);
    const auto length = static_cast<std::size_t>(length_of(piece, block));
    const std::span<char> bytes(looked.bytes.data() + at * block_bytes, length);
    if (looked.is_read[at] && looked.leaves[at] == leaves[at]) {
      take(block, bytes, looked.is_shared);
      continue;
    }
    if (length == block_bytes && leaves[at] == leaf_of_zeros) {
      std::ranges::fill(bytes, '\0');
      take(block, bytes, false);
      continue;
    }
    const auto [from, to] = std::ranges::equal_range(looked.guessed.guesses, first + block, {}, &BlockGuess::block);
    int tries = 0;
    for (auto it = from; it != to; ++it) {
      if (it == from || ++tries >= most_tries || it->is_zero) continue;
      if (!read_seed(seed.file.get(), (first + block) * block_bytes + it->shift, bytes)) continue;
      examined_bytes_ += std::ssize(bytes);
      if (leaf_of(bytes) != leaves[at]) continue;
      take(block, bytes, false);
      break;
    }
  }
}

Task<void> DeltaSearch::look(const DeltaSeed& seed, std::vector<Guessed> batch) {
  check();
  std::vector<Looked> all(batch.size());
  for (std::size_t i = 0; i < batch.size(); ++i) all[i].guessed = std::move(batch[i]);
  const auto none = [] { return 0; };
  std::chrono::duration<double> took{};
  const auto read = [&] {
    const auto begun = Clock::now();
    for_each_index(static_cast<int>(all.size()), all_threads(), none, [&](int i, int) {
      if (!is_stopped()) read_first(seed, all[static_cast<std::size_t>(i)]);
    });
    took += Clock::now() - begun;
  };
  co_await run_on(workers_.reading(), read);
  examined_for_ += took;
  std::erase_if(all, [](const Looked& looked) { return looked.is_over || looked.is_read.empty(); });
  if (all.empty()) co_return;
  check();
  std::vector<int> pieces;
  for (const auto& looked : all) pieces.push_back(looked.guessed.piece);
  const auto leaves = co_await info_.leaves(std::move(pieces));
  const auto take = [&] {
    for_each_index(static_cast<int>(all.size()), all_threads(), none, [&](int i, int) {
      const auto at = static_cast<std::size_t>(i);
      if (!leaves[at].empty() && !is_stopped()) compare(seed, all[at], leaves[at]);
    });
  };
  co_await run_on(workers_.reading(), take);
}

}  // namespace mesh
