#include "core/piece_plan.h"

#include <algorithm>

namespace mesh {
namespace {

/// A piece is handed on when it is whole: the fewer bytes it has, the sooner. The more there are, the more messages.
constexpr std::int64_t most_pieces = 1024;
constexpr std::int64_t most_roots = 128 * 1024;

}  // namespace

std::int64_t piece_length_for(std::int64_t size) {
  size = std::min(size, most_torrent_bytes);
  std::int64_t length = 64 * 1024;
  while (length < 16 * 1024 * 1024 && size > length * most_pieces) length *= 2;
  while (size > length * most_roots) length *= 2;
  return length;
}

int piece_count_for(std::int64_t size) {
  const auto length = piece_length_for(size);
  return static_cast<int>((std::min(size, most_torrent_bytes) + length - 1) / length);
}

}  // namespace mesh
