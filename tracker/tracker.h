// The tracker service: the catalog of the mesh's files, the swarms that move them, and BEP 3 announces for any client.
//
// It holds no truth: every fact comes from a node that is connected now, so a restarted tracker is whole again once its
// nodes have registered again, which they do by themselves. All of it runs on the one thread of its io_context.
#pragma once

#include <optional>

#include "announced.h"
#include "bittorrent.h"
#include "directory_index.h"
#include "fan_out.h"
#include "lookup.h"
#include "members.h"
#include "packs.h"
#include "swarms.h"
#include "url_plans.h"
#include "wire/channel.h"
#include "wire/server.h"

namespace mesh {

struct TrackerOptions {
  Members::Role role = Members::Role::tracker;
  std::optional<asio::ip::tcp::endpoint> listen;  ///< none: only channels that `serve` is given
  ConnectionLimits connections;
  Access access;                              ///< whom it is for
  std::size_t max_paths = 5'000'000;          ///< of one node, of path_bytes on average at most
  std::size_t max_announced_peers = 200'000;  ///< of other BitTorrent clients, over all swarms
  int max_announces = 50;                     ///< and scrapes, a second, of one address but loopback
  Beyond beyond{};                            ///< of a view
  /// Of a keeper: who else keeps a directory, by this node's own list.
  std::function<std::vector<Member>(const std::string& directory)> keepers{};
  std::function<void(const Channel&, Welcome&)> prove{};  ///< of a keeper: says who its node is; may be unset
  DirectoryIndex::Options index{};
};

class Tracker {
 public:
  /// Listens at once; throws Error where it cannot.
  Tracker(asio::io_context& io, TrackerOptions options);
  [[nodiscard]] asio::ip::tcp::endpoint local() const { return server_->local(); }
  /// Answers on a control channel until it ends.
  Task<void> serve(ChannelPtr channel);
  /// How many there are of what it knows.
  struct Counts {
    std::size_t nodes = 0;
    std::size_t registered = 0;
    std::size_t paths = 0;
    std::size_t copies = 0;
    std::size_t swarms = 0;
  };
  [[nodiscard]] Counts counts() const;
  /// What it answers; for this process itself, too.
  [[nodiscard]] const Handlers& handlers() const { return handlers_; }
  /// Told what each request took.
  void set_on_answered(std::function<void(std::string_view, std::chrono::steady_clock::duration)> told) {
    handlers_.on_answered = std::move(told);
  }
  /// The answer to another client's announce, a query as in its URL.
  Task<std::string> announce(std::string query, asio::ip::address remote);

 private:
  Handlers make_handlers();
  Handlers make_keeper_handlers();
  void serve_swarms(Handlers& h);
  void connect_rooms();
  /// Nothing where nodes have to be asked first whether they know the announced torrent.
  std::optional<HttpReply> answer_now(std::string_view target, const asio::ip::address& remote);
  Task<HttpReply> serve_http(std::string target, asio::ip::address remote);
  [[nodiscard]] std::string health() const;

  TrackerOptions options_;
  Members members_;
  Lookup lookup_;
  AnnouncedPeers announced_;
  Swarms swarms_;
  Packs packs_;
  BitTorrent bittorrent_;
  FanOut fan_out_;
  std::unique_ptr<DirectoryIndex> index_;   ///< of a keeper
  Allowances<std::string> handed_on_{200};  ///< announces that members hand on
  UrlPlans urls_;
  Handlers handlers_;
  std::optional<Server> server_;
};

}  // namespace mesh
