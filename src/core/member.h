// A node of the mesh, as the others know it. A value; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mesh {

/// A node as the nodes tell each other of it.
struct Member {
  std::string instance;                ///< hex, of its public key (wire/identity.h)
  std::string node;                    ///< its name
  std::vector<std::string> addresses;  ///< in the order in which to try them; empty: where the teller is seen
  std::uint16_t peer_port = 0;
  std::uint16_t channel_port = 0;
  std::int64_t age = 0;     ///< seconds since it spoke for itself
  std::int64_t keeps = -1;  ///< seconds since it became a keeper of the path index; -1: it is none
  static constexpr std::int64_t keeps_unsaid = -2;  ///< by somebody who does not know
  bool operator==(const Member&) const = default;
  template <class V>
  void describe(V& v) {
    v("inst", instance), v("node", node), v("addr", addresses), v("peer", peer_port), v("chan", channel_port),
        v("age", age), v("keeps", keeps);
  }
};

}  // namespace mesh
