// Gets: from WHATs to files in place. One coroutine a get, one job a large file; jobs are shared by the gets that want
// the same version of the same path. All on the node's loop; blocking work goes to the pool.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "node/node_parts.h"
#include "node/placer.h"
#include "wire/channel.h"

namespace mesh {

/// One large file on its way. Shared by the gets that want it; stopped when none does.
struct FileJob {
  explicit FileJob(const asio::any_io_executor& executor) : changed(executor) {}
  FileEntry wanted;
  std::vector<std::uint32_t> holders;
  LocalState before;
  bool force = false;
  bool wait = false;
  int wanted_by = 0;
  bool over = false;
  bool kept = false;
  Status status = Status::ok;
  std::string error;
  bool version_gone = false;  ///< the version that it was after is not to be had any more
  Event changed;
  TransferInfo info;
};
using FileJobPtr = std::shared_ptr<FileJob>;

/// One get under way.
struct GetTask {
  Get request;
  std::int64_t number = 0;  ///< in the state database
  bool cancelled = false;
  std::vector<FileJobPtr> jobs;
  std::int64_t settled_bytes = 0;  ///< of files that are done
  std::int64_t total_bytes = 0;
  std::int64_t rate = 0;
  int files_done = 0;
  int files_total = 0;
  std::string phase;
};
using GetTaskPtr = std::shared_ptr<GetTask>;

class Getter {
 public:
  Getter(NodeParts& parts, const Handlers& handlers);

  /// Runs a get to its end. Never throws for what can go wrong with a file: that is in the outcomes.
  Task<std::vector<GetOutcome>> run(GetTaskPtr task);
  /// Stops a get; its partials stay.
  void cancel(const GetTaskPtr& task);
  [[nodiscard]] Progress progress(const GetTask& task) const;

  /// All transfers of this node, for `meshfile status`.
  [[nodiscard]] std::vector<TransferInfo> transfers() const;
  /// Closes the channels to other nodes.
  void close();
  [[nodiscard]] bool is_idle() const { return tasks_.empty(); }

 private:
  struct Planned {
    ResolvedFile file;
    int what = 0;
    bool print = false;
    LocalState before;
  };
  using Results = std::vector<GetOutcome>;
  struct Plan {
    std::map<std::string, Planned> files;
    std::map<std::uint32_t, NodeRef> nodes;
  };

  Task<void> resolve(GetTaskPtr task, int index, Plan& plan, Results& results);
  Task<void> resolve_one(GetTaskPtr task, int index, const What& what, Plan& plan, bool print);
  Task<void> get_small(GetTaskPtr task, Plan& plan, std::vector<Planned*> files, Results& results);
  Task<void> get_large(GetTaskPtr task, Planned& planned, Results& results, int attempt);
  Task<bool> pause(const GetTaskPtr& task, std::string phase, std::chrono::milliseconds time);

  Task<void> run_job(FileJobPtr job);
  Task<void> download(FileJobPtr job, const Torrent& torrent);
  Task<bool> copy_local(FileJobPtr job, const StoredTorrent& torrent);
  Task<void> checkpoint(SwarmTorrentPtr torrent);
  Task<ChannelPtr> channel_to(NodeRef node);

  GetOutcome outcome(const Planned& planned) const;
  [[nodiscard]] std::string conflict(const FileEntry& wanted, const LocalState& local,
                                     const std::vector<std::uint32_t>& holders) const;

  NodeParts& parts_;
  const Handlers& handlers_;
  Placer placer_;
  std::set<GetTaskPtr> tasks_;
  std::map<std::string, FileJobPtr> jobs_;  ///< by path
  std::set<ContentId> downloading_;
  std::map<std::string, ChannelPtr> channels_;  ///< to other nodes, by first address
  std::map<std::uint32_t, std::string> node_names_;
};

}  // namespace mesh
