// Files whose bytes are at hand when they are put in place: those that come in packs, and those too small for a
// torrent, many in one message on the node channel, from whoever has them by now, so that nodes that get the same
// directory at once serve each other. On the node's loop; blocking work goes to the pool.
#pragma once

#include <string>
#include <vector>

#include "get/get_task.h"
#include "get/local_rules.h"
#include "get/packed_files.h"
#include "get/resolver.h"
#include "library/library.h"
#include "mesh/node_channels.h"
#include "mesh/tracker_links.h"
#include "wire/flow.h"
#include "wire/pacer.h"
#include "wire/workers.h"

namespace mesh {

class SmallFiles {
 public:
  using Nodes = NodesByKey;
  /// What became of one file. `error` is empty where it went well.
  using Finish = std::function<void(const Planned&, Status, const std::string& error, bool kept)>;
  /// Asks the tracker what a path is now; false when it is no small file any more.
  using Again = std::function<Task<bool>(Planned& planned, Nodes& nodes)>;

  SmallFiles(Workers& workers, Log log, Library& library, TrackerLinks& links, NodeChannels& channels, Spools& spools,
             Pacer download, const LocalRules& rules);

  /// Gets what of `files`, sorted by path, comes in packs, and reports each once; returns those that did not come.
  Task<std::vector<Planned*>> get_packed(GetTaskPtr task, std::vector<Planned*> files, std::size_t most_at_once,
                                         Finish finish);
  /// Gets all of `files`, which are small and sorted by path; reports each once. Files that the task excludes meanwhile
  /// are not reported.
  Task<void> get(GetTaskPtr task, Nodes nodes, std::vector<Planned*> files, Finish finish, Again again);

  /// The bytes of one file, from any node that has it. Throws Error.
  Task<std::string> fetch_one(FileEntry wanted, std::vector<std::uint32_t> holders, Nodes nodes);
  /// Files that have arrived since the start, and their bytes.
  [[nodiscard]] std::int64_t arrived() const { return arrived_; }
  [[nodiscard]] std::int64_t arrived_bytes() const { return arrived_bytes_; }

 private:
  struct Run;
  Task<void> wait_until_placed(std::shared_ptr<Run> run);
  Task<void> sync_names(std::shared_ptr<Run> run);
  Task<void> ask_again(std::shared_ptr<Run> run, Planned* planned, std::string why, Again again,
                       std::shared_ptr<std::vector<Planned*>> files);
  Task<void> fetch(std::shared_ptr<Run> run, std::vector<Planned*> batch);
  Task<void> fetch_from(std::shared_ptr<Run> run, NodeRef node, std::vector<Planned*> files);
  Task<void> take(std::shared_ptr<Run> run, const std::string& node, std::vector<Planned*> asked, Fetched got);
  Task<void> place_all(std::shared_ptr<Run> run);

  Workers& workers_;
  Log log_;
  Library& library_;
  TrackerLinks& links_;
  NodeChannels& channels_;
  PackedFiles packed_;
  Pacer small_down_;  ///< the limit of what comes in on node channels
  const LocalRules& rules_;
  std::int64_t arrived_ = 0;
  std::int64_t arrived_bytes_ = 0;
};

}  // namespace mesh
