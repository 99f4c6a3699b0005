#include "transfer/delta_source.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <exception>
#include <set>
#include <utility>

#include "core/format.h"
#include "core/mesh_path.h"
#include "core/seeds.h"
#include "transfer/block_asker.h"

namespace mesh {
namespace {

constexpr std::int64_t hardly_any = 64;  // this part of a content
constexpr auto fruitless_for = std::chrono::hours(1);
constexpr std::size_t most_fruitless = 1000;
constexpr std::size_t most_siblings = 1000;  // that are looked at, of a large directory

void check_taken(const std::error_code& ec) {
  if (ec) throw Error(Status::failed, "cannot be written: " + ec.message());
}

}  // namespace

bool FoundInStorage::share(int piece, int seed, std::int64_t offset, std::span<char> out) {
  return storage_.share_piece(piece, seed, offset) && !storage_.read(piece, 0, out);
}

void FoundInStorage::put_piece(int piece, std::span<const char> bytes, std::span<const Sha256> leaves, bool is_shared) {
  check_taken(storage_.reuse_piece(piece, bytes, leaves, is_shared));
}

void FoundInStorage::put_block(int piece, int block, std::span<const char> bytes, bool is_shared) {
  check_taken(storage_.reuse_block(piece, block, bytes, is_shared));
}

std::vector<std::string> DeltaSource::choose(const FileEntry& wanted, const std::vector<std::string>& named) const {
  // Siblings begin with the same letters up to the first digit.
  const auto digit = wanted.path.find_first_of("0123456789", wanted.path.size() - last_part(wanted.path).size());
  std::vector<FileEntry> siblings;
  const auto seen = fruitless_.find(without_numbers(wanted.path));
  const bool is_fruitless = seen != fruitless_.end() && std::chrono::steady_clock::now() - seen->second < fruitless_for;
  if (digit != std::string::npos && !is_fruitless)
    siblings = library_.inventory().in_directory(parent_path(wanted.path), wanted.path.substr(0, digit), most_siblings);
  return choose_seeds(wanted, named, std::move(siblings));
}

/// Blocks.
std::vector<DeltaSeed> DeltaSource::open(const FileOrder& order) const {
  std::vector<DeltaSeed> out;
  std::set<std::pair<dev_t, ino_t>> known;
  for (const auto& path : order.seeds) {
    if (out.size() == most_seeds) break;
    DeltaSeed seed;
    seed.name = path;
    try {
      // One outside of the files directory was allowed when it was named.
      seed.file = is_outside(path) ? Fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC))
                                   : library_.gate().open_file(path);
    } catch (const Error&) {
      // Gone meanwhile, or never there.
    }
    struct stat s {};
    if (!seed.file || ::fstat(seed.file.get(), &s) != 0 || !S_ISREG(s.st_mode)) continue;
    if (!known.emplace(s.st_dev, s.st_ino).second) continue;
    seed.size = s.st_size;
    if (seed.size >= block_bytes) out.push_back(std::move(seed));
  }
  return out;
}

Task<std::int64_t> DeltaSource::search(FileOrder order, const HashedFile& file, FoundBlocks& found,
                                       DeltaSearch::Options options) {
  if (file.layout.size < least_bytes || order.seeds.empty()) co_return 0;
  const auto open_all = [this, &order] { return std::make_shared<std::vector<DeltaSeed>>(open(order)); };
  const auto seeds = co_await run_on(workers_.brief(), open_all);
  if (seeds->empty()) co_return 0;
  std::string names;
  for (const auto& seed : *seeds) names += (names.empty() ? "" : ", ") + printable(seed.name);
  const auto check = options.check;
  // A part that is here from an earlier run has what the seeds have.
  const bool is_fresh = found.missing_bytes() > file.layout.size / 2;
  const auto asker = std::make_shared<BlockAsker>(workers_, library_, links_, channels_, log_, order.wanted, file,
                                                  self_ ? self_() : NodeRef());
  const auto mark = asking_.emplace(file.id, file.layout.size);
  const std::shared_ptr<void> over(nullptr, [this, mark, asker](void*) {
    asker->set_check({});
    asking_.erase(mark);
  });
  DeltaSearch search(workers_, file, *asker, found, std::move(options));
  asker->set_check([&search] { search.check(); });
  std::string trouble;
  try {
    co_await search.run(std::move(*seeds));
  } catch (const std::exception& error) {
    trouble = error.what();
  }
  check();
  const auto bytes = search.found_bytes();
  if (is_fresh && trouble.empty()) {
    const auto pattern = without_numbers(order.wanted.path);
    if (fruitless_.size() >= most_fruitless) fruitless_.clear();
    fruitless_.erase(pattern);
    if (bytes < file.layout.size / hardly_any) fruitless_[pattern] = std::chrono::steady_clock::now();
    // A sketch that led to nothing may be wrong, and is not to be passed on.
    if (bytes == 0 && search.used_sketch()) {
      const auto forget = [this, id = file.id] { library_.block_facts().forget_told(id); };
      co_await run_on(workers_.brief(), forget);
    }
  }
  std::string tellers;
  for (const auto& name : asker->tellers()) tellers += (tellers.empty() ? "; told of by " : ", ") + printable(name);
  if (!tellers.empty()) tellers += " (" + human_bytes(asker->received()) + ")";
  log_(LogLine(printable(order.wanted.path) + ": " + human_bytes(bytes) + " of " + human_bytes(file.layout.size) +
               " are here already, in " + names + tellers + (trouble.empty() ? "" : "; not looked further: " + trouble))
           .of("reused", order.wanted.path, bytes));
  co_return bytes;
}

}  // namespace mesh
