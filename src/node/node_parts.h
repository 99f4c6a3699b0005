// What the parts of a node share. Owned by the Node; everything in it runs on the node's loop, except the gate and the
// database, which any thread may call, and the pool, where blocking work goes.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <set>
#include <string>

#include "disk/path_gate.h"
#include "disk/state_db.h"
#include "disk/tree_records.h"
#include "node/holdings.h"
#include "node/node_options.h"
#include "node/pacer.h"
#include "node/swarm.h"
#include "node/tracker_links.h"
#include "node/workers.h"
#include "wire/flow.h"
#include "wire/identity.h"

namespace mesh {

/// How long a question may wait for a tracker, and for one that is hashing on the way to its answer.
inline constexpr auto tracker_limit = std::chrono::seconds(5);
inline constexpr auto question_limit = std::chrono::hours(24);

struct NodeParts {
  asio::io_context& io;
  NodeOptions options;
  std::function<void(std::string)> log;
  PathGate gate;
  std::filesystem::path state_dir;  ///< by its descriptor (disk/state_dir.h); people know it by options.state_dir()
  StateDb db;
  Holdings holdings;
  std::unique_ptr<Swarm> swarm;
  std::unique_ptr<TrackerLinks> links;
  IdentityPtr identity{};                      ///< who this node is
  const Handlers* tracker_handlers = nullptr;  ///< what this node answers to whoever is a tracker to it
  OwnFiles own_files{};
  TreeRecords trees{state_dir};       ///< of directories that tar: unpacked
  std::int64_t spools_need = 0;       ///< bytes that the spools of streams will still write
  std::set<ContentId> downloading{};  ///< by gets and streams: one of them at a time for each content
  Pacer small_down{};                 ///< of what comes and goes on the node channel
  Pacer small_up{};
  Workers workers{};

  /// Puts `id` among `downloading` for as long as what is returned lives.
  [[nodiscard]] std::shared_ptr<void> claim(const ContentId& id) {
    downloading.insert(id);
    return {nullptr, [this, id](void*) { downloading.erase(id); }};
  }
  /// Tells the trackers what changed in the holdings, and unloads what is no longer held.
  void publish(const Inventory& delta);
  /// `path` is not what it was hashed as: it is offered again when the watcher has seen it settle.
  void withdraw(const std::string& path, const std::string& why);
  [[nodiscard]] std::filesystem::path part_file(const ContentId& id) const { return state_dir / "parts" / id.hex(); }
};

}  // namespace mesh
