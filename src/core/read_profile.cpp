#include "core/read_profile.h"

#include <algorithm>

namespace mesh {
namespace {

constexpr char version = 1;
/// Fewer jumps than that, and reading ahead does as well.
constexpr std::size_t least_runs = 8;
constexpr std::int64_t where_disks_begin = 16;  // grains

void put(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

std::optional<std::uint64_t> take(std::string_view& told) {
  std::uint64_t out = 0;
  for (int shift = 0; shift < 63 && !told.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(told.front());
    told.remove_prefix(1);
    out |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return out;
  }
  return std::nullopt;
}

std::uint64_t zigzag(std::int64_t value) {
  return (static_cast<std::uint64_t>(value) << 1) ^ static_cast<std::uint64_t>(value >> 63);
}

std::int64_t unzigzag(std::uint64_t value) {
  return static_cast<std::int64_t>(value >> 1) ^ -static_cast<std::int64_t>(value & 1);
}

std::size_t length_of(std::uint64_t value) {
  std::size_t out = 1;
  for (; value >= 0x80; value >>= 7) ++out;
  return out;
}

}  // namespace

std::string tell_profile(std::span<const ProfileRun> runs) {
  std::string out(1, version);
  std::int64_t end = 0;
  for (const auto& run : runs) {
    put(out, zigzag(run.first - end));
    put(out, static_cast<std::uint64_t>(run.count));
    end = run.first + run.count;
  }
  return out;
}

std::optional<std::vector<ProfileRun>> read_profile(std::string_view told, std::int64_t size) {
  if (told.empty() || told.size() > most_profile_bytes || told.front() != version || size <= 0) return std::nullopt;
  told.remove_prefix(1);
  const auto grains = (size - 1) / profile_grain + 1;
  std::vector<ProfileRun> out;
  std::int64_t end = 0;
  while (!told.empty()) {
    const auto jump = take(told);
    const auto count = jump ? take(told) : std::nullopt;
    if (!count || *count == 0 || *count > static_cast<std::uint64_t>(grains)) return std::nullopt;
    const auto by = unzigzag(*jump);
    if (by < -end || by > grains - end) return std::nullopt;
    const ProfileRun run{end + by, static_cast<std::int64_t>(*count)};
    if (run.count > grains - run.first) return std::nullopt;
    end = run.first + run.count;
    out.push_back(run);
  }
  auto sorted = out;
  std::ranges::sort(sorted, {}, &ProfileRun::first);
  for (std::size_t i = 1; i < sorted.size(); ++i)
    if (sorted[i].first < sorted[i - 1].first + sorted[i - 1].count) return std::nullopt;
  return out;
}

std::int64_t grains_of(std::span<const ProfileRun> runs) {
  std::int64_t out = 0;
  for (const auto& run : runs) out += run.count;
  return out;
}

void ProfileRecorder::note(std::int64_t offset, std::int64_t length) {
  if (length <= 0) return;
  auto first = offset / profile_grain;
  const auto end = (offset + length - 1) / profile_grain + 1;
  while (first < end && !is_full()) {
    // What was read before is left out.
    const auto next = covered_.upper_bound(first);
    if (next != covered_.begin() && std::prev(next)->second > first) {
      first = std::prev(next)->second;
      continue;
    }
    const auto to = next == covered_.end() ? end : std::min(end, next->first);
    add(first, to);
    first = to;
  }
}

void ProfileRecorder::add(std::int64_t first, std::int64_t end) {
  if (!runs_.empty() && runs_.back().first + runs_.back().count == first) {
    auto& run = runs_.back();
    bytes_ -= length_of(static_cast<std::uint64_t>(run.count));
    run.count += end - first;
    bytes_ += length_of(static_cast<std::uint64_t>(run.count));
  } else {
    const auto before = runs_.empty() ? 0 : runs_.back().first + runs_.back().count;
    runs_.push_back({first, end - first});
    bytes_ += length_of(zigzag(first - before)) + length_of(static_cast<std::uint64_t>(end - first));
  }
  // Neighbours become one.
  auto at = covered_.insert({first, end}).first;
  if (at != covered_.begin() && std::prev(at)->second == first) {
    at = std::prev(at);
    covered_.erase(std::next(at));
    at->second = end;
  }
  if (const auto next = std::next(at); next != covered_.end() && next->first == at->second) {
    at->second = next->second;
    covered_.erase(next);
  }
}

bool is_of_use(std::span<const ProfileRun> runs) {
  return runs.size() >= least_runs && runs.front().first < where_disks_begin;
}

}  // namespace mesh
