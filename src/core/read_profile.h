// What is read first of a content, and in which order: what the boots of a disk image have in common, so that the next
// one has it fetched ahead of itself (docs/decisions/0029). In grains of 64 KiB (wire/messages/ranges.h).
//
// A profile is told by other nodes, and may be wrong or hostile: it can say no more than in which order to fetch what
// there is. Pure; one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mesh {

inline constexpr std::int64_t profile_grain = 64 * 1024;
/// The most that one takes, kept or told.
inline constexpr std::size_t most_profile_bytes = 64 * 1024;

/// Bytes from `offset` on, both in grains.
struct ProfileRun {
  std::int64_t first = 0;
  std::int64_t count = 0;
  bool operator==(const ProfileRun&) const = default;
};

/// As it is kept and told: a byte that says so much, then for each run how far its beginning lies from the end of the
/// one before (zigzag) and its length, in LEB128.
[[nodiscard]] std::string tell_profile(std::span<const ProfileRun> runs);
/// Back again; nothing unless each run lies within a content of `size` bytes, and no two have anything in common.
[[nodiscard]] std::optional<std::vector<ProfileRun>> read_profile(std::string_view told, std::int64_t size);
/// It began where a disk begins, and jumped about: it was no copy of the content, which needs no profile, and no look
/// into the middle of it.
[[nodiscard]] bool is_of_use(std::span<const ProfileRun> runs);
/// Of all runs, in grains.
[[nodiscard]] std::int64_t grains_of(std::span<const ProfileRun> runs);

/// Writes down what is read, each grain the first time.
class ProfileRecorder {
 public:
  void note(std::int64_t offset, std::int64_t length);
  /// No more goes into it.
  [[nodiscard]] bool is_full() const { return bytes_ >= most_profile_bytes - most_run_bytes; }
  [[nodiscard]] bool is_of_use() const { return mesh::is_of_use(runs_); }
  [[nodiscard]] const std::vector<ProfileRun>& runs() const { return runs_; }

 private:
  static constexpr std::size_t most_run_bytes = 20;
  void add(std::int64_t first, std::int64_t end);

  std::vector<ProfileRun> runs_;
  std::map<std::int64_t, std::int64_t> covered_;  ///< from where to where, without gaps between neighbours
  std::size_t bytes_ = 1;                         ///< that they take, at most
};

}  // namespace mesh
