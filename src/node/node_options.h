// How a node is set up, after flags, environment and configuration file have been read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mesh/embedded_tracker.h"
#include "store/stores.h"
#include "transfer/stall_policy.h"
#include "wire/access.h"
#include "wire/task.h"

namespace mesh {

struct NodeOptions {
  std::filesystem::path files = "/tmp/minimega/files";
  std::filesystem::path state;               ///< empty: ".mesh" in the files dir
  std::filesystem::path control;             ///< empty: "control" in the state dir
  std::string control_group;                 ///< whose members may use it, too; empty: nobody
  std::vector<std::string> control_allow{};  ///< what they may do beside what all may: store-write
  std::vector<std::string> trackers;
  bool discover = false;                    ///< find other nodes by broadcast; needs keys
  std::vector<std::string> peers;           ///< other nodes, as HOST:PORT of their --listen
  EmbeddedTrackerFactory embedded_tracker;  ///< what stands in for trackers; may be unset
  std::string listen;                       ///< empty: port 6881, or the next free one
  std::vector<std::string> advertise;
  std::vector<std::string> http_names;  ///< what else this machine is called in HTTP requests
  std::string name;                     ///< empty: the host name
  bool head = false;
  ConnectionLimits connections{4000, 500};
  bool open = false;  ///< without it, and without keys, everything stays on loopback
  MeshKeysPtr keys;   ///< of a closed mesh; null: none
  /// Why the key file of the configuration cannot be read by this user, who may need none: the node that runs here has
  /// it. Empty where it can.
  std::string key_trouble;
  std::vector<std::filesystem::path> follow;
  std::vector<std::string> ignore;
  bool hash_eagerly = false;
  std::int64_t max_down = 0;  ///< bytes per second; 0: as fast as it goes
  std::int64_t max_up = 0;
  std::vector<std::string> keep;           ///< globs of paths that the node gets by itself
  std::int64_t keep_max = 0;               ///< bytes of them; 0: no bound
  std::chrono::milliseconds keep_look{0};  ///< how often that is looked for; 0: the usual
  int max_active = 6;                      ///< large files downloaded at once
  int max_gets = 10'000;                   ///< under way, those that wait included
  int max_peers = 2'000;
  std::string http;                     ///< ADDR:PORT of the HTTP gateway; empty: none
  std::filesystem::path http_token;     ///< empty: "http-token" in the state dir
  std::vector<std::string> http_allow;  ///< what its page may have done: get, cancel, delete, cache
  std::string http_secret;              ///< what that holds, where it had to be read by root
  std::string user;                     ///< that the service goes on as; empty: who starts it
  std::int64_t cache = -1;              ///< bytes that readers' parts may take; below 0: a tenth of the file system
  std::vector<std::string> refuse;      ///< what is not done for other nodes: get, delete, url
  std::vector<StoreOptions> stores;     ///< object stores that this node may ask
  std::vector<std::string> url_ignore;  ///< keys of URLs' queries that are no part of what they name
  bool local_urls = false;              ///< for other nodes, too, get URLs at loopback and link-local addresses
  /// Set for a node that lives for one command: how long it stays when nobody needs it any more.
  std::optional<int> linger_seconds;
  std::size_t most_watches = SIZE_MAX;
  StallTimes stall;                                 ///< when a download is given up
  std::chrono::milliseconds search_patience{2000};  ///< as DeltaSearch's
  std::chrono::milliseconds read_patience{20'000};  ///< with a read of what is not here
  std::chrono::milliseconds quiet{0};               ///< as Prefetcher's, and ReadProfiles' pause; 0: as those say

  [[nodiscard]] bool is_on_network() const { return open || keys; }
  [[nodiscard]] Access access() const {
    Access out{keys, open, http_names};
    out.http_names.insert(out.http_names.end(), advertise.begin(), advertise.end());
    return out;
  }
  [[nodiscard]] std::filesystem::path state_dir() const { return state.empty() ? files / ".mesh" : state; }
  [[nodiscard]] std::filesystem::path control_socket() const {
    return control.empty() ? state_dir() / "control" : control;
  }
};

/// Makes `options` whole. Throws Error(usage) for what cannot be.
[[nodiscard]] NodeOptions checked(NodeOptions options);
/// Whether a node of these options may speak to a tracker at "host:port". Throws Error(usage) where it is no such.
[[nodiscard]] bool may_be_tracker(const NodeOptions& options, const std::string& tracker);

}  // namespace mesh
