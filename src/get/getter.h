// Gets: from WHATs to files in place. One coroutine a get. All on the node's loop; blocking work goes to the pool.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "get/backing.h"
#include "get/get_task.h"
#include "get/local_rules.h"
#include "get/resolver.h"
#include "get/small_files.h"
#include "transfer/spools.h"
#include "transfer/transfers.h"

namespace mesh {

class Getter {
 public:
  struct Options {
    std::vector<std::string> url_ignore;     ///< keys of a query that are no part of what a URL names
    int max_active = 1;                      ///< large files of one get at once
    std::shared_ptr<const Stores> stores{};  ///< that this node may ask; may be null
    bool local_urls = false;                 ///< for other nodes, too, get URLs at loopback and link-local addresses
  };
  /// `from_nodes`: the limit of what comes on node channels.
  Getter(Workers& workers, Options options, Log log, Library& library, TrackerLinks& links, NodeChannels& channels,
         Transfers& transfers, Spools& spools, const Pacer& from_nodes);

  /// Runs a get to its end; may be run again. Never throws for what can go wrong with a file: that is in the outcomes.
  Task<std::vector<GetOutcome>> run(GetTaskPtr task);
  /// Stops a get; its partials stay.
  void cancel(const GetTaskPtr& task);
  [[nodiscard]] Progress progress(const GetTask& task) const;

  [[nodiscard]] Resolver& resolver() { return resolver_; }
  [[nodiscard]] SmallFiles& small_files() { return small_; }

  [[nodiscard]] bool is_idle() const { return tasks_.empty(); }

 private:
  Task<bool> is_current(GetTaskPtr task, UrlSource source, FileEntry entry, std::string told);
  Task<ObjectPage> list_objects(GetTaskPtr task, ObjectStorePtr store, Url url, std::string prefix, std::string after);
  Task<void> fulfil(GetTaskPtr task, Plan& plan, Results& results);
  [[nodiscard]] bool may_come_in_a_pack(const GetTask& task, const Planned& planned) const;
  [[nodiscard]] SmallFiles::Finish finish_into(GetTaskPtr task, Results& results) const;
  [[nodiscard]] std::size_t most_at_once(const GetTask& task) const;
  Task<void> get_packed(GetTaskPtr task, Plan& plan, std::vector<Planned*> files, Together& downloads,
                        Results& results);
  Task<void> get_small(GetTaskPtr task, Plan& plan, std::vector<Planned*> files, Results& results);
  Task<void> get_all_large(GetTaskPtr task, std::vector<Planned*> files, Together& downloads, Results& results);
  Task<DownloadPtr> bring(GetTaskPtr task, Planned& planned);
  Task<void> get_large(GetTaskPtr task, Planned& planned, Results& results, int attempt);
  GetOutcome outcome(const Planned& planned) const;
  [[nodiscard]] LocalState examine(const ResolvedFile& file) const;
  void check_sha256(const Planned& planned) const;

  Workers& workers_;
  Options options_;
  Log log_;
  Library& library_;
  Transfers& transfers_;
  Spools& spools_;
  LocalRules rules_;
  Resolver resolver_;
  SmallFiles small_;
  BackingFiles backing_;
  std::set<GetTaskPtr> tasks_;
};

}  // namespace mesh
