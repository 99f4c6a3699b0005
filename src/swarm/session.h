// The node's one libtorrent session: torrents loaded while somebody needs them, for seeding or downloading.
//
// Runs on the node's loop; libtorrent's own thread is reached only through its asynchronous calls and alerts, which are
// pumped into the loop. Torrents are named by content id here; libtorrent knows their infohashes.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <libtorrent/session.hpp>
#include <libtorrent/torrent_handle.hpp>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>

#include "core/error.h"
#include "core/log.h"
#include "core/piece_scheduler.h"
#include "disk/mesh_disk.h"
#include "library/maker.h"
#include "swarm/network_thread.h"
#include "swarm/unauthenticated_connections.h"
#include "wire/access.h"
#include "wire/flow.h"
#include "wire/messages.h"

namespace mesh {

/// What a torrent is loaded for.
enum class Role {
  seed,         ///< a file of the files directory, for the mesh
  download,     ///< one that is to be there, and is a seed from then on
  spool,        ///< its bytes are no file of the files directory, but a stream's
  pack,         ///< nor are these: many small files as one content (core/pack.h)
  provisional,  ///< its id is no content's: a file on its way from a URL
  standard,     ///< its id is no content's: for clients other than the mesh's
  guest,        ///< the same, for one from outside the mesh, until it is unloaded
};

/// One loaded torrent. Lives while it is in the session or somebody holds it.
struct SwarmTorrent {
  using Clock = std::chrono::steady_clock;

  explicit SwarmTorrent(asio::io_context& io) : changed(io) {}

  SwarmSpec torrent;
  const MeshKey* key = nullptr;  ///< under which it is
  StoragePtr storage;
  lt::torrent_handle handle;
  Role role = Role::seed;
  bool downloading = false;
  ContentId meeting{};      ///< of a provisional one: the URL that it is of, at whose keepers its nodes meet
  ContentId standard_of{};  ///< of a standard or a guest's: the content that it is of
  bool at_an_end = true;    ///< of a download: it has hardly any pieces yet, or nearly all
  bool checked = false;     ///< libtorrent has taken it in and can connect
  std::string path;         ///< for which it was loaded; not of a seed
  std::string error;        ///< what stopped it, in words; a download can go on after `resume`
  int error_code = 0;       ///< errno of the same
  Event changed;            ///< a piece, an error, or the end
  /// Of a download: each piece wakes who waits; otherwise the last alone does. Set here, read by libtorrent's thread.
  std::shared_ptr<std::atomic<bool>> tells_each_piece = std::make_shared<std::atomic<bool>>(false);
  Clock::time_point last_needed = Clock::now();

  int pieces_have = 0;
  int peers = 0;
  int sources_connected = 0;
  std::int64_t down_rate = 0;
  std::int64_t up_rate = 0;
  std::int64_t sent = 0;
  std::int64_t got = 0;        ///< payload bytes received
  std::int64_t got_wrong = 0;  ///< of these, in pieces that failed their hashes
  int hash_failures = 0;
  std::int64_t max_down = 0;  ///< the limits that are set; 0: none
  std::int64_t max_up = 0;

  std::shared_ptr<PieceScheduler> scheduler;           ///< of a download, lent by who brings it
  std::uint64_t self = 0;                              ///< this node among the swarm's getters
  std::set<lt::tcp::endpoint> sources;                 ///< peers that had everything when they came
  std::set<lt::tcp::endpoint> banned;                  ///< peers that sent wrong bytes
  std::map<lt::tcp::endpoint, std::int64_t> received;  ///< payload bytes by peer

  /// Whether it is for clients other than the mesh's.
  [[nodiscard]] bool is_standard() const { return role == Role::standard || role == Role::guest; }
  /// What it is of, unless it is provisional.
  [[nodiscard]] const ContentId& content() const { return is_standard() ? standard_of : torrent.id; }
};
using SwarmTorrentPtr = std::shared_ptr<SwarmTorrent>;

/// What is told of one of the mesh's own.
[[nodiscard]] Torrent to_torrent(const SwarmTorrent& loaded);

class Session {
 public:
  struct Options {
    std::vector<lt::tcp::endpoint> listen;
    bool pick_free_port = false;  ///< where the wanted port is taken, the next free one serves as well
    std::chrono::seconds idle{60};
    std::int64_t max_down = 0;  ///< bytes per second over all torrents; 0: as fast as it goes
    std::int64_t max_up = 0;
    int max_peers = 2'000;
    Access access;
    std::optional<UnauthenticatedConnections::Limits>
        unauthenticated{};  ///< watch who connects; in a mesh with a key it is always done
  };

  /// Listens at once; throws Error(failed) where it cannot.
  Session(asio::io_context& io, const Options& options, Log log);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  [[nodiscard]] std::uint16_t port() const { return port_; }
  [[nodiscard]] const std::vector<lt::tcp::endpoint>& listens_at() const { return listen_; }

  /// Called when a torrent has been unloaded because nobody needs it.
  std::function<void(const ContentId&)> on_unloaded;

  [[nodiscard]] SwarmTorrentPtr find(const ContentId& id) const;
  [[nodiscard]] std::vector<SwarmTorrentPtr> all() const;
  /// That arrived and failed their hash, since the start.
  [[nodiscard]] std::int64_t pieces_failed() const { return pieces_failed_; }

  /// Loads a torrent whose storage is whole, and returns when libtorrent has taken it in. A torrent that is loaded
  /// already is returned as it is. `key`: under which the torrent is.
  Task<SwarmTorrentPtr> load(SwarmSpec torrent, const MeshKey* key, StoragePtr storage, Role role = Role::seed);
  /// The same of a download, a spool or a provisional torrent, whose pieces are asked for as `scheduler` says; it is
  /// shared with the caller until the torrent is a seed. Throws Error where the torrent is being downloaded already.
  Task<SwarmTorrentPtr> load(Role role, SwarmSpec torrent, const MeshKey* key, StoragePtr storage,
                             std::shared_ptr<PieceScheduler> scheduler);
  /// Loads a torrent of `content` for other clients: whoever knows its infohash may take it. A guest's stays, whether
  /// somebody needs it or not.
  Task<SwarmTorrentPtr> load_standard(SwarmSpec torrent, StoragePtr storage, ContentId content, bool guest);
  void unload(const ContentId& id);

  /// Begins to connect to the peers that a tracker named.
  void introduce(const SwarmTorrentPtr& torrent, const Introduced& introduced);
  /// Connects to peers within a second or so.
  void connect(SwarmTorrent& torrent, const std::vector<std::string>& peers);
  /// The getters of a swarm that share its pieces, as a tracker names them.
  void set_getters(const ContentId& id, const std::vector<std::uint64_t>& getters);

  /// Brings counters up to date; called a few times a second while something is going on.
  void refresh(SwarmTorrent& torrent);
  /// Asks for what the scheduler of a download wants now. Nothing else sets libtorrent's priorities.
  void schedule(SwarmTorrent& torrent);
  /// Limits of one torrent, in bytes per second; 0: as fast as it goes.
  void limit(SwarmTorrent& torrent, std::int64_t down, std::int64_t up);
  /// After an error (a full disk): goes on.
  void resume(SwarmTorrent& torrent);
  /// The download is in place: the torrent is a seed from now on.
  void seed(const SwarmTorrentPtr& torrent);

  void unload_idle();
  /// Unloads packs that are whole, until those that are left have no more than `most` bytes: the least needed first,
  /// and those that a peer wants only if it must be. Returns how many bytes are left.
  std::int64_t shrink_packs(std::int64_t most, bool wanted_too);
  /// Bytes of packs that are whole.
  [[nodiscard]] std::int64_t pack_bytes() const;
  /// Where connections are watched: hangs up on those who connected and did not become peers. Called every second.
  void hang_up_on_unauthenticated();

 private:
  Task<SwarmTorrentPtr> take_in(SwarmTorrentPtr torrent);
  [[nodiscard]] std::string interfaces() const;
  [[nodiscard]] static bool is_wanted(const SwarmTorrent& torrent);
  [[nodiscard]] std::shared_ptr<lt::torrent_plugin> plugin_for(const SwarmTorrent& torrent);
  void hurry();
  void pump();
  void handle(lt::alert* alert);
  void say_refused(const lt::tcp::endpoint& peer, const lt::error_code& why);
  [[nodiscard]] SwarmTorrentPtr find(const lt::torrent_handle& handle) const;

  asio::io_context& io_;
  Log log_;
  std::chrono::seconds idle_;
  Access access_;
  MeshKeysPtr keys_;
  std::shared_ptr<StorageRegistry> registry_ = std::make_shared<StorageRegistry>();
  NetworkThread loop_;
  std::optional<NetworkThread::NoPause> hurry_;
  std::unique_ptr<lt::session> session_;
  std::uint16_t port_ = 0;
  UnauthenticatedConnections unauthenticated_;
  bool watches_connections_;
  std::vector<lt::tcp::endpoint> listen_;
  std::unordered_map<ContentId, SwarmTorrentPtr> torrents_;
  std::map<lt::sha1_hash, ContentId> by_infohash_;
  std::set<lt::sha1_hash> leaving_;  ///< unloaded before libtorrent said that it had added them
  std::map<asio::ip::address, std::optional<SwarmTorrent::Clock::time_point>> refused_;  ///< when that was said
  std::int64_t pieces_failed_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace mesh
