#include "transfer/parts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "core/format.h"
#include "core/parallel.h"
#include "disk/copy_bytes.h"
#include "wire/flow.h"

namespace mesh {
namespace {

Error system_error() { return {Status::failed, std::generic_category().message(errno)}; }

Fd open_whole(const std::filesystem::path& part) {
  Fd fd(::open(part.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) throw Error(Status::failed, part.string() + ": " + std::generic_category().message(errno));
  return fd;
}

using Blocks = std::map<int, std::vector<bool>>;

/// As they are kept: of each piece its number in 4 bytes, little-endian, and a bit a block.
std::string to_text(const Blocks& blocks) {
  std::string out;
  for (const auto& [piece, here] : blocks) {
    for (unsigned i = 0; i < 4; ++i) out.push_back(static_cast<char>(static_cast<unsigned>(piece) >> (8 * i) & 0xFFU));
    for (std::size_t i = 0; i < here.size(); i += 8) {
      unsigned byte = 0;
      for (std::size_t k = i; k < std::min(i + 8, here.size()); ++k) byte |= (here[k] ? 1U : 0U) << (k - i);
      out.push_back(static_cast<char>(byte));
    }
  }
  return out;
}

std::int64_t block_count(const PieceLayout& layout, int piece) {
  return (layout.length_of(piece) + block_bytes - 1) / block_bytes;
}

/// What makes no sense is left out.
Blocks read_blocks(std::string_view text, const PieceLayout& layout) {
  Blocks out;
  while (text.size() > 4) {
    std::uint32_t piece = 0;
    for (unsigned i = 0; i < 4; ++i) piece |= std::uint32_t{static_cast<unsigned char>(text[i])} << (8 * i);
    text.remove_prefix(4);
    if (std::cmp_greater_equal(piece, layout.count())) break;
    const auto count = static_cast<std::size_t>(block_count(layout, static_cast<int>(piece)));
    if (text.size() < (count + 7) / 8) break;
    auto& here = out[static_cast<int>(piece)];
    for (std::size_t i = 0; i < count; ++i)
      here.push_back((static_cast<unsigned char>(text[i / 8]) >> (i % 8) & 1U) != 0);
    text.remove_prefix((count + 7) / 8);
  }
  return out;
}

/// Those of `blocks` that are in the file, by their leaves. Blocks.
Blocks verify_blocks(const BlockFacts& facts, const ContentId& id, const PieceLayout& layout, int fd,
                     const Blocks& blocks, const std::string& have, const std::atomic<bool>& stop) {
  std::vector<std::pair<int, std::vector<bool>>> all(blocks.begin(), blocks.end());
  const auto make_buffer = [] { return std::vector<char>(block_bytes); };
  for_each_index(static_cast<int>(all.size()), all_threads(), make_buffer, [&](int i, std::vector<char>& buffer) {
    auto& [piece, here] = all[static_cast<std::size_t>(i)];
    const auto at = static_cast<std::size_t>(piece);
    if (stop) throw Error(Status::failed, "the node is shutting down");
    const bool is_whole = at < have.size() && have[at] != 0;
    const auto leaves = is_whole ? std::vector<Sha256>() : facts.find_leaves(id, layout, piece);
    for (std::size_t block = 0; block < here.size(); ++block) {
      if (!here[block]) continue;
      const auto begin = static_cast<std::int64_t>(block) * block_bytes;
      const auto length = std::min<std::int64_t>(block_bytes, layout.length_of(piece) - begin);
      const auto n = leaves.empty() ? -1
                                    : ::pread(fd, buffer.data(), static_cast<std::size_t>(length),
                                              piece * layout.piece_length + begin);
      here[block] = n == length && sha256({buffer.data(), static_cast<std::size_t>(length)}) == leaves[block];
    }
  });
  Blocks out;
  for (auto& [piece, here] : all)
    if (std::ranges::find(here, true) != here.end()) out.emplace(piece, std::move(here));
  return out;
}

/// The open file must have the SHA-256 that was asked for. Blocks.
void check_sha256(const FileOrder& order, int fd, const std::atomic<bool>& stop) {
  if (order.sha256.empty()) return;
  const auto found = sha256_of(fd, stop);
  if (found == order.sha256) return;
  throw Parts::Mismatch(Status::failed, printable(order.wanted.path) + ": has SHA-256 " + found + ", not " +
                                            order.sha256 + "; it is not put in place");
}

}  // namespace

Task<std::shared_ptr<Parts::Part>> Parts::open_as_left(std::string path, ContentId id, const PieceLayout& layout) {
  const auto open = [this, id, path, &layout] {
    const auto size = layout.size;
    const auto file = path_of(id);
    struct stat s {};
    const auto known = library_.db().find_part(id);
    const bool resumed = known && ::stat(file.c_str(), &s) == 0 && s.st_size == size;
    // The record never outlives the bytes that it speaks of.
    if (!resumed) library_.db().remove_part(id);
    ::chmod(file.c_str(), 0600);
    auto out = std::make_shared<Part>();
    out->file = Fd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | (resumed ? 0 : O_TRUNC), 0600));
    if (!out->file || ::ftruncate(out->file.get(), size) != 0) {
      const int error = errno;
      const bool no_inode = error == ENOSPC && !library_.installer().has_inode();
      throw Error(Status::failed, printable(path) + ": " +
                                      (no_inode ? "no room: the file system has no inode left for another file"
                                                : "cannot be written: " + std::generic_category().message(error)));
    }
    if (resumed) out->have = known->have, out->roots = known->roots, out->blocks = read_blocks(known->blocks, layout);
    out->is_for_readers = !resumed || library_.db().is_read(id);
    return out;
  };
  co_return co_await run_on(workers_.brief(), open);
}

Task<std::shared_ptr<Parts::Part>> Parts::open_unread(std::string path, ContentId id, const PieceLayout& layout) {
  const std::shared_ptr<Part> part = co_await open_as_left(std::move(path), id, layout);
  for (std::size_t i = 0; i < part->have.size() && std::cmp_less(i, layout.count()); ++i) {
    const auto piece = static_cast<int>(i);
    if (part->have[i] != 0) part->blocks[piece].assign(static_cast<std::size_t>(block_count(layout, piece)), true);
  }
  part->have.clear();
  part->roots.clear();
  co_return part;
}

Task<std::shared_ptr<Parts::Part>> Parts::open(std::string path, ContentId id, const PieceLayout& layout,
                                               std::function<void()> on_check) {
  const std::shared_ptr<Part> part = co_await open_as_left(path, id, layout);
  const auto want = [this, id] { library_.db().set_read(id, 0); };
  co_await run_on(workers_.brief(), want);
  const auto claimed = std::ranges::count_if(part->have, [](char byte) { return byte != 0; });
  if (claimed == 0 && part->blocks.empty()) co_return part;
  const auto count = [&] {
    std::ptrdiff_t out = 0;
    for (const auto& [piece, blocks] : part->blocks) out += std::ranges::count(blocks, true);
    return out;
  };
  const auto claimed_blocks = count();
  on_check();
  const auto check = [this, id, part, &layout] {
    part->have = verify_pieces(layout, part->file.get(), part->have, part->roots, all_threads(), workers_.stopping());
    part->blocks = verify_blocks(library_.block_facts(), id, layout, part->file.get(), part->blocks, part->have,
                                 workers_.stopping());
  };
  co_await run_on(workers_.reading(), check);
  if (const auto lost = claimed - std::ranges::count(part->have, '\1'); lost > 0)
    log_(warning(printable(path) + ": " + std::to_string(lost) +
                 " pieces of what had arrived are not what they should be; they are fetched again")
             .of("part-wrong", path));
  if (const auto lost = claimed_blocks - count(); lost > 0)
    log_(warning(
             printable(path) + ": " + std::to_string(lost) +
             " blocks of what had arrived are not what they should be, or not known any more; they are fetched again")
             .of("part-wrong", path));
  co_return part;
}

Task<bool> Parts::save(ContentId id, StoragePtr storage, std::string path, Blocks unread) {
  const auto save = [this, id, storage, path, unread] {
    auto snapshot = storage->sync();
    const auto wanted = unread.empty() ? std::string() : storage->wanted_roots();
    for (const auto& [piece, blocks] : unread) {
      const auto at = static_cast<std::size_t>(piece);
      if (snapshot.have[at] != 0) continue;
      auto& known = snapshot.unfinished[piece];
      known.resize(blocks.size());
      for (std::size_t i = 0; i < blocks.size(); ++i)
        if (blocks[i]) known[i] = true;
      // A piece that is whole is known again by its root, whether its leaves are kept or not.
      if (std::ranges::find(known, false) != known.end()) continue;
      snapshot.have[at] = '\1';
      snapshot.roots.replace(at * 32, 32, wanted.empty() ? id.view() : std::string_view(wanted).substr(at * 32, 32));
      snapshot.unfinished.erase(piece);
    }
    if (!snapshot.error)
      library_.db().put_part({id, snapshot.have, snapshot.roots, path, to_text(snapshot.unfinished)});
    return !snapshot.error;
  };
  co_return co_await run_on(workers_.brief(), save);
}

void Parts::drop(const ContentId& id) {
  ::unlink(path_of(id).c_str());
  library_.db().remove_part(id);
  library_.db().set_read(id, 0);
}

void Parts::drop_older(const std::string& path) {
  for (const auto& old : library_.db().parts_of(path))
    if (!room_.is_claimed(old)) drop(old);
}

Task<ContentId> Parts::hash(std::filesystem::path part, std::int64_t size) {
  const auto hash = [this, part, size] {
    const auto hashed = hash_file(open_whole(part).get(), size, 2, workers_.stopping());
    store_roots(library_.db(), hashed);
    return hashed.id;
  };
  co_return co_await run_on(workers_.reading(), hash);
}

Task<void> Parts::remember_roots(const HashedFile& file) {
  const auto remember = [this, &file] { store_roots(library_.db(), file); };
  co_await run_on(workers_.brief(), remember);
}

Task<void> Parts::remember_origin(ContentId id, std::string validator) {
  if (validator.empty()) co_return;
  const auto remember = [this, id, validator] { library_.db().put_note("origin " + id.hex(), validator); };
  co_await run_on(workers_.brief(), remember);
}

Task<void> Parts::check(const FileOrder& order, const std::atomic<bool>& stop) {
  const auto look = [this, &order, &stop] {
    check_sha256(order, library_.gate().open_file(order.wanted.path).get(), stop);
  };
  co_await run_on(workers_.reading(), look);
}

Task<void> Parts::place(const FileOrder& order, ContentId id, std::filesystem::path part, SwarmTorrentPtr torrent,
                        const std::atomic<bool>& stop) {
  if (!order.sha256.empty()) {
    const auto check = [part, &order, &stop] { check_sha256(order, open_whole(part).get(), stop); };
    co_await run_on(workers_.reading(), check);
  }
  auto wanted = order.wanted;
  wanted.id = id;
  Fd serving;
  const auto is_stopped = [this, &stop] { return stop || workers_.stopping(); };
  const auto finish = [&] {
    const Fd finished = open_whole(part);
    serving = open_whole(part);
    library_.installer().finish_file(finished.get(), wanted);
    if (torrent) torrent->storage->freeze(open_whole(part), std::nullopt);
    auto out = library_.installer().place(part, serving, wanted, order.before, id, is_stopped);
    if (torrent) library_.db().remove_part(torrent->torrent.id);
    return out;
  };
  // To another file system it is copied, which is not brief.
  const auto look = [&] { return library_.installer().is_elsewhere(wanted.path); };
  const bool is_elsewhere = co_await run_on(workers_.brief(), look);
  const LocalEntry placed = co_await run_on(is_elsewhere ? workers_.copying() : workers_.brief(), finish);
  if (torrent) {
    torrent->storage->freeze(std::move(serving), library_.watch_of(wanted.path, placed.stamp));
  }
  library_.put(placed);
}

Task<void> Parts::copy(const FileOrder& order, ContentId id, std::string from, const std::atomic<bool>& stop) {
  const auto part = std::filesystem::path(path_of(id).string() + ".copy");
  const auto is_stopped = [this, &stop] { return stop || workers_.stopping(); };
  const auto copy = [&] {
    const auto& wanted = order.wanted;
    const Fd source = library_.gate().open_file(from);
    Fd target(::open(part.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!target) throw system_error();
    copy_bytes(source.get(), target.get(), wanted.size, is_stopped);
    if (hash_file(target.get(), wanted.size, 2, stop).id != id) throw Error(Status::failed, "it has changed");
    check_sha256(order, target.get(), stop);
    library_.installer().finish_file(target.get(), wanted);
    target = open_whole(part);
    return library_.installer().place(part, target, wanted, order.before, id, is_stopped);
  };
  try {
    const LocalEntry placed = co_await run_on(workers_.reading(), copy);
    library_.put(placed);
  } catch (const Error&) {
    ::unlink(part.c_str());
    throw;
  }
}

}  // namespace mesh
