// Gets: from WHATs to files in place. One coroutine a get. All on the node's loop; blocking work goes to the pool.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "node/downloads.h"
#include "node/get_task.h"
#include "node/small_files.h"
#include "wire/channel.h"

namespace mesh {

class Getter : private LocalRules {
 public:
  /// `download`: the limit of what comes on node channels and from origins. `handlers`: what this node answers there.
  Getter(Workers& workers, const NodeOptions& options, Log log, Library& library, Session& session, TrackerLinks& links,
         Room& room, Pacer download, const Handlers& handlers);

  /// Runs a get to its end; may be run again. Never throws for what can go wrong with a file: that is in the outcomes.
  Task<std::vector<GetOutcome>> run(GetTaskPtr task);
  /// Stops a get; its partials stay.
  void cancel(const GetTaskPtr& task);
  [[nodiscard]] Progress progress(const GetTask& task) const;

  [[nodiscard]] Downloads& downloads() { return downloads_; }
  [[nodiscard]] const Downloads& downloads() const { return downloads_; }

  /// What the tracker chose for one path, links followed; with the nodes that it mentions. Throws Error.
  struct Chosen {
    ResolvedFile file;
    SmallFiles::Nodes nodes;
  };
  Task<Chosen> choose(std::string path, std::string from, bool strict);
  [[nodiscard]] SmallFiles& small_files() { return small_; }

  /// Closes the channels to other nodes.
  void close() { small_.close(); }
  [[nodiscard]] bool is_idle() const { return tasks_.empty(); }

 private:
  using Results = std::vector<GetOutcome>;
  struct Plan {
    std::map<std::string, Planned> files;
    std::map<std::string, FileEntry> above;  ///< directories that `files` lie in
    SmallFiles::Nodes nodes;
  };

  Task<void> resolve(GetTaskPtr task, int index, Plan& plan, Results& results);
  Task<void> resolve_url(GetTaskPtr task, int index, What what, Plan& plan);
  Task<bool> is_current(GetTaskPtr task, UrlSource source, FileEntry entry);
  Task<void> resolve_one(const Get& asked, int index, What what, Plan& plan, bool print, GetTaskPtr task);
  Task<void> fulfil(GetTaskPtr task, Plan& plan, Results& results);
  Task<void> get_small(GetTaskPtr task, Plan& plan, std::vector<Planned*> files, Results& results);
  Task<void> get_large(GetTaskPtr task, Planned& planned, Results& results, int attempt);
  Task<void> resolve_file(Get asked, int index, std::string path, Plan& plan, GetTaskPtr task);
  Task<void> get_backing(GetTaskPtr task, Plan& plan, Results& results);
  Task<bool> pause(GetTaskPtr task, std::string phase, std::chrono::milliseconds time);

  GetOutcome outcome(const Planned& planned) const;
  void check_sha256(const Planned& planned) const;
  [[nodiscard]] bool keeps(const Planned& planned, bool force) const override;
  [[nodiscard]] std::string conflict(const FileEntry& wanted, const LocalState& local,
                                     const std::vector<std::uint32_t>& holders) const override;

  Workers& workers_;
  const NodeOptions& options_;
  Log log_;
  Library& library_;
  TrackerLinks& links_;
  Downloads downloads_;
  SmallFiles small_;
  std::set<GetTaskPtr> tasks_;
  std::map<std::uint32_t, std::string> node_names_;
};

}  // namespace mesh
