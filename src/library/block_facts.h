// What is known of contents' blocks: leaves (core/merkle.h) and sketches (core/sketch.h), by content id, in files in
// the state directory, of contents that are here and of those that are on their way. So a holder reads a content once
// however many ask, and a getter passes on what it was told and has verified.
//
// A cache: what is lost or torn costs time. Leaves are checked against their piece's root whenever they are read. All
// of it takes `most_bytes` of disk at most, or little more; what was not used for longest goes first, and a content
// that would take half of it for itself is not kept. Nothing is kept in memory. Thread-safe; calls block, briefly.
#pragma once

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/digest.h"
#include "disk/storage.h"

namespace mesh {

/// `told` as the leaves of this piece, 32 bytes each; empty where they do not make its root.
[[nodiscard]] std::vector<Sha256> read_leaves(std::string_view told, const PieceLayout& layout, int piece);
/// The same as they are told.
[[nodiscard]] std::string tell_leaves(std::span<const Sha256> leaves);

/// Those of a piece that is here, which is read for it; `layout` has the roots. Throws Error where they do not make its
/// root: the disk reads wrongly, or the file is another one by now. Blocks.
[[nodiscard]] std::vector<Sha256> make_leaves(Storage& storage, const PieceLayout& layout, int piece);

class BlockFacts {
 public:
  /// 0.2% of 256 GiB.
  static constexpr std::int64_t usual_bytes = std::int64_t{512} << 20;
  explicit BlockFacts(std::filesystem::path directory, std::int64_t most_bytes = usual_bytes)
      : directory_(std::move(directory)), most_bytes_(most_bytes) {}

  /// The leaves of one piece; empty where they are not known. `layout` has the content's roots.
  [[nodiscard]] std::vector<Sha256> find_leaves(const ContentId& id, const PieceLayout& layout, int piece) const;
  void put_leaves(const ContentId& id, const PieceLayout& layout, int piece, std::span<const Sha256> leaves);

  /// Whose word it is. Nothing proves chunks: those that somebody has told are for who searches, and those that are
  /// told as this node's own are cut here.
  enum class From { this_node, anybody };
  /// The chunks of one segment, as they are told.
  [[nodiscard]] std::optional<std::string> find_chunks(const ContentId& id, std::int64_t size, int segment,
                                                       From from) const;
  void put_chunks(const ContentId& id, std::int64_t size, int segment, std::string_view told, From from);
  /// What somebody has told of this content's chunks was of no use.
  void forget_told(const ContentId& id) const;

 private:
  [[nodiscard]] Fd open(const ContentId& id, const char* kind) const;
  void put(const ContentId& id, const char* kind, std::string_view bytes, std::int64_t at);
  void make_room(const std::filesystem::path& spared);

  std::filesystem::path directory_;
  std::int64_t most_bytes_;
  std::mutex making_;         ///< guards what follows
  std::int64_t written_ = 0;  ///< bytes since it was looked how much there is
  bool has_looked_ = false;
};

}  // namespace mesh
