// What libtorrent lets a plugin do for a swarm: a source offers its pieces a few at a time (core/super_seed_policy.h).
//
// Two nodes agree on it by the key "ms_offers" of their extension handshakes (BEP 10). A source's HAVE_ALL (BEP 6) then
// counts as none, and HAVE messages follow. A getter that reads through a window says where it begins and how many
// pieces wide it is, by "ms_from" and "ms_window". Any other client sees an ordinary seed. Runs on libtorrent's network
// thread.
#pragma once

#include <functional>
#include <libtorrent/client_data.hpp>
#include <libtorrent/extensions.hpp>
#include <memory>

#include "core/super_seed_policy.h"
#include "swarm/tls_batch.h"

namespace mesh {

struct SuperSeedPluginOptions {
  int pieces = 0;
  std::int64_t piece_length = 0;
  bool takes_offers = false;         ///< while this node downloads, it waits for what sources offer
  SuperSeedPolicy::Reading reading;  ///< which of them it wants, then
  int* connections = nullptr;        ///< counts them; outlives the plugin, and is of the same thread
  TlsBatch* tls = nullptr;           ///< for peers with TLS; likewise
  bool for_own_user = false;         ///< peers are processes of this user, or root's, and nobody else
  bool makes_offers = true;          ///< not where pieces are dropped again (a bounded spool)
  std::function<void()> on_piece{};  ///< a piece has arrived and passed its hash; on libtorrent's network thread
  std::function<void(lt::tcp::endpoint)> on_source{};  ///< a peer that has everything; on the same thread
};
[[nodiscard]] std::shared_ptr<lt::torrent_plugin> make_super_seed_plugin(SuperSeedPluginOptions options);

}  // namespace mesh
