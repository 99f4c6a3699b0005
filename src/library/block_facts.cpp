#include "library/block_facts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/merkle.h"
#include "core/sketch.h"

namespace mesh {
namespace {

constexpr std::size_t read_at_once = std::size_t{256} << 10;
constexpr const char* leaves_kind = ".leaves";
constexpr const char* sketch_kind = ".sketch";
constexpr const char* told_kind = ".told";

const char* kind_of(BlockFacts::From from) { return from == BlockFacts::From::this_node ? sketch_kind : told_kind; }

bool read_at(int fd, char* to, std::size_t size, std::int64_t at) {
  return ::pread(fd, to, size, at) == static_cast<ssize_t>(size);
}

std::int64_t leaves_in(const PieceLayout& layout, int piece) {
  return (layout.length_of(piece) + block_bytes - 1) / block_bytes;
}

std::int64_t place_of_leaves(const PieceLayout& layout, int piece) {
  return piece * (layout.piece_length / block_bytes) * 32;
}

/// Of a segment: its chunks' bytes, behind how many they are.
std::int64_t place_of_chunks(const ChunkPlan& plan, int segment) {
  return segment * static_cast<std::int64_t>(most_told_bytes(plan) + sizeof(std::uint32_t));
}

}  // namespace

std::vector<Sha256> read_leaves(std::string_view told, const PieceLayout& layout, int piece) {
  std::vector<Sha256> out;
  const auto count = static_cast<std::size_t>((layout.length_of(piece) + block_bytes - 1) / block_bytes);
  if (told.size() != count * 32) return out;
  for (std::size_t i = 0; i < count; ++i) out.push_back(*Sha256::from(told.substr(i * 32, 32)));
  if (root_of_leaves(out, layout.piece_length, layout.count() == 1) != layout.roots[static_cast<std::size_t>(piece)])
    out.clear();
  return out;
}

std::vector<Sha256> make_leaves(Storage& storage, const PieceLayout& layout, int piece) {
  std::vector<Sha256> out;
  std::vector<char> buffer;
  const auto length = layout.length_of(piece);
  for (std::int64_t at = 0; at < length; at += std::ssize(buffer)) {
    buffer.resize(static_cast<std::size_t>(std::min<std::int64_t>(length - at, read_at_once)));
    if (const auto ec = storage.read(piece, static_cast<int>(at), buffer)) throw Error(Status::failed, ec.message());
    append_leaves(blocks_of({buffer.data(), buffer.size()}), out);
  }
  if (root_of_leaves(out, layout.piece_length, layout.count() == 1) != layout.roots.at(static_cast<std::size_t>(piece)))
    throw Error(Status::failed, "is not what it was when it was hashed");
  return out;
}

std::string tell_leaves(std::span<const Sha256> leaves) {
  std::string out;
  out.reserve(leaves.size() * 32);
  for (const auto& leaf : leaves) out += leaf.view();
  return out;
}

Fd BlockFacts::open(const ContentId& id, const char* kind) const {
  Fd out(::open((directory_ / (id.hex() + kind)).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (out) ::futimens(out.get(), nullptr);
  return out;
}

/// What cannot be written is not known.
void BlockFacts::put(const ContentId& id, const char* kind, std::string_view bytes, std::int64_t at) {
  if (at + std::ssize(bytes) > most_bytes_ / 2) return;
  const auto file = directory_ / (id.hex() + kind);
  const std::lock_guard lock(making_);
  written_ += std::ssize(bytes);
  if (!has_looked_ || written_ > most_bytes_ / 8) {
    ::mkdir(directory_.c_str(), 0700);
    make_room(file);
    has_looked_ = true;
    written_ = 0;
  }
  const Fd fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (fd) static_cast<void>(!::pwrite(fd.get(), bytes.data(), bytes.size(), at));
}

/// The files that were used last, up to the bound, stay.
void BlockFacts::make_room(const std::filesystem::path& spared) {
  struct Known {
    std::filesystem::path file;
    std::int64_t used = 0;
    std::int64_t bytes = 0;
  };
  std::vector<Known> all;
  std::error_code ec;
  for (std::filesystem::directory_iterator it(directory_, ec), end; !ec && it != end; it.increment(ec)) {
    struct stat s {};
    if (::lstat(it->path().c_str(), &s) == 0) all.push_back({it->path(), stamp_of(s).mtime, s.st_blocks * 512});
  }
  std::ranges::sort(all, std::greater(), &Known::used);
  std::int64_t sum = most_bytes_ / 8;  // what comes before it is looked again
  for (const auto& one : all) {
    sum += one.bytes;
    if (sum > most_bytes_ && one.file != spared) ::unlink(one.file.c_str());
  }
}

std::vector<Sha256> BlockFacts::find_leaves(const ContentId& id, const PieceLayout& layout, int piece) const {
  std::vector<Sha256> out(static_cast<std::size_t>(leaves_in(layout, piece)));
  const auto fd = open(id, leaves_kind);
  const bool is_right =
      fd && read_at(fd.get(), out.front().bytes.data(), out.size() * 32, place_of_leaves(layout, piece)) &&
      root_of_leaves(out, layout.piece_length, layout.count() == 1) == layout.roots.at(static_cast<std::size_t>(piece));
  if (!is_right) out.clear();
  return out;
}

void BlockFacts::put_leaves(const ContentId& id, const PieceLayout& layout, int piece, std::span<const Sha256> leaves) {
  if (std::ssize(leaves) != leaves_in(layout, piece)) return;
  put(id, leaves_kind, {leaves.front().bytes.data(), leaves.size_bytes()}, place_of_leaves(layout, piece));
}

std::optional<std::string> BlockFacts::find_chunks(const ContentId& id, std::int64_t size, int segment,
                                                   From from) const {
  const auto plan = chunk_plan_for(size);
  const auto fd = open(id, kind_of(from));
  std::uint32_t length = 0;
  const auto at = place_of_chunks(plan, segment);
  if (!fd || !read_at(fd.get(), reinterpret_cast<char*>(&length), sizeof length, at)) return std::nullopt;
  if (length == 0 || length > most_told_bytes(plan)) return std::nullopt;
  std::string out(length, '\0');
  if (!read_at(fd.get(), out.data(), out.size(), at + static_cast<std::int64_t>(sizeof length))) return std::nullopt;
  if (!read_chunks(out, plan.length_of(segment, size), plan)) return std::nullopt;
  return out;
}

void BlockFacts::put_chunks(const ContentId& id, std::int64_t size, int segment, std::string_view told, From from) {
  const auto plan = chunk_plan_for(size);
  if (told.empty() || told.size() > most_told_bytes(plan)) return;
  const auto length = static_cast<std::uint32_t>(told.size());
  std::string all(reinterpret_cast<const char*>(&length), sizeof length);
  all += told;
  put(id, kind_of(from), all, place_of_chunks(plan, segment));
}

void BlockFacts::forget_told(const ContentId& id) const { ::unlink((directory_ / (id.hex() + told_kind)).c_str()); }

}  // namespace mesh
