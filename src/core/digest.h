// Digests as values: content ids (SHA-256 merkle roots) and infohashes (SHA-1).
#pragma once

#include <algorithm>
#include <array>
#include <compare>
#include <cstddef>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "core/format.h"

namespace mesh {

template <std::size_t N>
struct Digest {
  std::array<char, N> bytes{};

  auto operator<=>(const Digest&) const = default;
  [[nodiscard]] bool is_set() const { return *this != Digest{}; }
  [[nodiscard]] std::string_view view() const { return {bytes.data(), N}; }
  [[nodiscard]] std::string hex() const { return to_hex(view()); }

  /// Nothing when `raw` is not exactly N bytes.
  static std::optional<Digest> from(std::string_view raw) {
    if (raw.size() != N) return std::nullopt;
    Digest out;
    std::copy(raw.begin(), raw.end(), out.bytes.begin());
    return out;
  }
};

/// SHA-256 merkle root of a file's bytes by the rules of BEP 52; of an empty file, the SHA-256 of nothing.
using ContentId = Digest<32>;
/// SHA-1 of the info dictionary (BEP 3).
using InfoHash = Digest<20>;

}  // namespace mesh

template <std::size_t N>
struct std::hash<mesh::Digest<N>> {
  std::size_t operator()(const mesh::Digest<N>& d) const noexcept {
    std::size_t out;
    std::memcpy(&out, d.bytes.data(), sizeof out);
    return out;
  }
};
