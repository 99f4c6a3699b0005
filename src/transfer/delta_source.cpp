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

constexpr std::size_t most_siblings = 1000;  // that are looked at, of a large directory

void check_taken(const std::error_code& ec) {
  if (ec) throw Error(Status::failed, "cannot be written: " + ec.message());
}

}  // namespace

bool FoundInStorage::has_piece(int piece) const {
  // A piece that has all its blocks is verified.
  const auto blocks = (storage_.layout().length_of(piece) + block_bytes - 1) / block_bytes;
  for (int block = 0; block < blocks; ++block)
    if (!storage_.has_block(piece, block)) return false;
  return true;
}

void FoundInStorage::put_piece(int piece, std::span<const char> bytes, std::span<const Sha256> leaves) {
  check_taken(storage_.reuse_piece(piece, bytes, leaves));
}

void FoundInStorage::put_block(int piece, int block, std::span<const char> bytes) {
  check_taken(storage_.reuse_block(piece, block, bytes));
}

std::vector<std::string> DeltaSource::choose(const FileEntry& wanted, const std::vector<std::string>& named) const {
  // Siblings begin with the same letters up to the first digit.
  const auto digit = wanted.path.find_first_of("0123456789", wanted.path.size() - last_part(wanted.path).size());
  std::vector<FileEntry> siblings;
  if (digit != std::string::npos)
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

Task<DeltaSource::Result> DeltaSource::search(FileOrder order, const HashedFile& file, FoundBlocks& found,
                                              DeltaSearch::Options options) {
  Result out;
  if (file.layout.size < least_bytes || order.seeds.empty()) co_return out;
  const auto open_all = [this, &order] { return std::make_shared<std::vector<DeltaSeed>>(open(order)); };
  const auto seeds = co_await run_on(workers_.brief(), open_all);
  if (seeds->empty()) co_return out;
  std::string names;
  for (const auto& seed : *seeds) names += (names.empty() ? "" : ", ") + printable(seed.name);
  const auto check = options.check;
  BlockAsker asker(workers_, library_, links_, channels_, log_, order.wanted, file);
  DeltaSearch search(workers_, file, asker, found, std::move(options));
  std::string trouble;
  try {
    co_await search.run(std::move(*seeds));
  } catch (const std::exception& error) {
    trouble = error.what();
  }
  check();
  out.found = search.found_bytes();
  out.told = asker.received();
  log_(printable(order.wanted.path) + ": " + human_bytes(out.found) + " of " + human_bytes(file.layout.size) +
       " are here already, in " + names + (trouble.empty() ? "" : "; not looked further: " + trouble));
  co_return out;
}

}  // namespace mesh
