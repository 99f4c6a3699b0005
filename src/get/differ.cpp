#include "get/differ.h"

#include <mutex>
#include <utility>

#include "core/format.h"
#include "core/seeds.h"
#include "transfer/swarm_source.h"
#include "wire/flow.h"

namespace mesh {
namespace {

/// Counts blocks, and keeps none.
class CountedBlocks final : public FoundBlocks {
 public:
  explicit CountedBlocks(const PieceLayout& layout) : layout_(layout), has_(static_cast<std::size_t>(layout.count())) {
    const auto root_of_zeros = [&](int piece) {
      return root_of_piece(std::string(static_cast<std::size_t>(layout.length_of(piece)), '\0'), layout.piece_length,
                           layout.count() == 1);
    };
    const int last = layout.count() - 1;
    const auto zeros = root_of_zeros(0);
    const auto last_zeros = root_of_zeros(last);
    for (int piece = 0; piece < layout.count(); ++piece) {
      auto& blocks = has_[static_cast<std::size_t>(piece)];
      blocks.resize(static_cast<std::size_t>((layout.length_of(piece) + block_bytes - 1) / block_bytes));
      // Holes, of which a get asks for nothing.
      if (layout.roots[static_cast<std::size_t>(piece)] == (piece == last ? last_zeros : zeros))
        blocks.assign(blocks.size(), true);
      else
        missing_ += layout.length_of(piece);
    }
  }
  [[nodiscard]] bool has_piece(int piece) const override {
    const std::lock_guard lock(mutex_);
    const auto& blocks = has_[static_cast<std::size_t>(piece)];
    return std::ranges::find(blocks, false) == blocks.end();
  }
  [[nodiscard]] bool has_block(int piece, int block) const override {
    const std::lock_guard lock(mutex_);
    return has_[static_cast<std::size_t>(piece)][static_cast<std::size_t>(block)];
  }
  bool share(int, int, std::int64_t, std::span<char>) override { return false; }
  void put_piece(int piece, std::span<const char>, std::span<const Sha256>, bool) override {
    const std::lock_guard lock(mutex_);
    const auto count = has_[static_cast<std::size_t>(piece)].size();
    for (std::size_t block = 0; block < count; ++block) take(piece, block);
  }
  void put_block(int piece, int block, std::span<const char>, bool) override {
    const std::lock_guard lock(mutex_);
    take(piece, static_cast<std::size_t>(block));
  }
  [[nodiscard]] std::int64_t missing_bytes() const override {
    const std::lock_guard lock(mutex_);
    return missing_;
  }

 private:
  void take(int piece, std::size_t block) {
    auto here = has_[static_cast<std::size_t>(piece)][block];
    if (!here)
      missing_ -= std::min<std::int64_t>(block_bytes,
                                         layout_.length_of(piece) - static_cast<std::int64_t>(block) * block_bytes);
    here = true;
  }

  const PieceLayout& layout_;
  mutable std::mutex mutex_;
  std::vector<std::vector<bool>> has_;
  std::int64_t missing_ = 0;
};

}  // namespace

Task<Difference> Differ::diff(ChannelPtr channel, DiffAsk asked) {
  const std::function<void()> check = [this, channel] {
    if (!channel->is_open() || workers_.stopping()) throw Error(Status::interrupted, "stopped");
  };
  std::vector<std::string> named;
  for (const auto& seed : asked.seeds) named.push_back(read_seed(seed, library_.gate().files_dir()));
  for (const auto& seed : named)
    if (!library_.has_file(seed)) throw Error(Status::not_found, printable(seed) + ": is no file here");
  const auto chosen = co_await resolver_.choose(asked.path, {}, false);
  auto wanted = chosen.file.entry;
  Difference out;
  out.path = wanted.path;
  out.fetch = wanted.size;
  const auto look = [this, wanted] { return library_.installer().examine(wanted, workers_.stopping()); };
  const LocalState before = co_await run_on(workers_.reading(), look);
  bool is_here = before.verdict == LocalState::Verdict::same ||
                 (wanted.id.is_set() && library_.inventory().find(wanted.id, wanted.size) != nullptr);
  if (!is_here && wanted.size >= DeltaSource::least_bytes) {
    const Torrent told = co_await prepare_swarm(workers_, links_, wanted, chosen.file.holders, check);
    const auto torrent = verified(told, wanted, keys_);
    wanted.id = torrent.file.id;
    is_here = before.id == wanted.id || library_.inventory().find(wanted.id, wanted.size) != nullptr;
    if (!is_here) {
      const auto make = [&torrent] { return std::make_shared<CountedBlocks>(torrent.file.layout); };
      const auto counted = co_await run_on(workers_.brief(), make);
      FileOrder order;
      order.wanted = wanted;
      order.seeds = transfers_.delta().choose(wanted, named);
      DeltaSearch::Options options = transfers_.search_options();
      options.check = check;
      co_await transfers_.delta().search(std::move(order), torrent.file, *counted, std::move(options));
      out.fetch = counted->missing_bytes();
    }
  }
  if (is_here) out.fetch = 0;
  out.reuse = wanted.size - out.fetch;
  co_return out;
}

}  // namespace mesh
