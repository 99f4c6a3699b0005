// Many small files as one content (core/pack.h): who makes it, and what swarm it has. A part of the vocabulary in
// wire/messages.h.
#pragma once

#include <cstdint>
#include <vector>

#include "core/pack.h"
#include "wire/messages/swarms.h"

namespace mesh {

struct Pack {
  static constexpr const char* name = "pack";
  bool is_known = false;  ///< else the list is to be sent
  Torrent torrent;
  std::vector<std::uint32_t> left_out;  ///< indices of files that are not in it, ascending
  template <class V>
  void describe(V& v) {
    v("known", is_known), v("torrent", torrent), v("out", left_out);
  }
};

/// To a tracker: "I want these files as a pack". The id alone is enough where somebody has sent the list before; of
/// those who come at once, one is asked for it.
struct PreparePack {
  static constexpr const char* name = "prepare-pack";
  using Reply = Pack;
  PackId pack;
  std::vector<PackFile> files;
  template <class V>
  void describe(V& v) {
    v("pack", pack), v("files", files);
  }
};

/// A tracker to a node that holds these versions: make a pack of them and seed it.
struct MakePack {
  static constexpr const char* name = "make-pack";
  using Reply = Pack;
  std::vector<PackFile> files;
  std::vector<std::uint32_t> left_out;  ///< indices of files that are not to be in it, ascending
  bool exactly =
      false;          ///< another node has made it so: all else must be in it. Otherwise what cannot be had is left out
  InfoHash infohash;  ///< with `exactly`: of the swarm that others are in
  template <class V>
  void describe(V& v) {
    v("files", files), v("out", left_out), v("exactly", exactly), v("infohash", infohash);
  }
};

}  // namespace mesh
