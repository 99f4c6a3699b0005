// What all conversations share. A part of the vocabulary in wire/messages.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/entry.h"

namespace mesh {

inline constexpr int protocol_version = 3;

/// No frame is larger; senders page or batch well below it.
inline constexpr std::size_t max_frame_bytes = std::size_t{16} << 20;

/// Entries in one page of a resolve or listing, and in one inventory delta.
inline constexpr std::size_t page_entries = 2000;

/// A node as another can reach it: addresses in the order in which to try them.
struct NodeRef {
  std::uint32_t key = 0;
  std::string name;
  std::vector<std::string> addresses;
  std::uint16_t peer_port = 0;
  std::uint16_t channel_port = 0;
  std::string instance;  ///< what it is to every tracker; keys are each tracker's own
  bool operator==(const NodeRef&) const = default;
  template <class V>
  void describe(V& v) {
    v("key", key), v("name", name), v("in", instance), v("addr", addresses), v("peer", peer_port),
        v("chan", channel_port);
  }
};

/// What is wrong with an entry that came from the network, in words; empty when nothing is.
[[nodiscard]] std::string entry_fault(const FileEntry& entry);

}  // namespace mesh
