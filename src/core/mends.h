// What mends what is often amiss: the same words from `meshfile doctor` and on the page. Values; any thread.
#pragma once

#include <cstdint>
#include <string_view>

namespace mesh::mends {

inline constexpr std::string_view disk = "meshfile cache --drop, or meshfile delete what is not needed";
inline constexpr std::string_view version = "install the same package there, and restart meshseed";
inline constexpr std::string_view clock =
    "timedatectl set-ntp true; without a network of its own, chrony with a common server";

/// Of the file system of a files directory.
enum class Disk { roomy, low, full };
[[nodiscard]] constexpr Disk look_at_disk(std::int64_t free, std::int64_t size) {
  constexpr std::int64_t gib = std::int64_t{1} << 30;
  return free < gib / 16 ? Disk::full : free < gib || free < size / 50 ? Disk::low : Disk::roomy;
}

/// Which of two versions is newer is told by their times: clocks that differ by more have the wrong one win.
inline constexpr std::int64_t clock_warn_ms = 2'000;
inline constexpr std::int64_t clock_fault_ms = 60'000;

}  // namespace mesh::mends
