// Small files that come as packs (core/pack.h): a node that has them makes one of them on demand, and those who want
// the same files at the same time have it as a swarm. What a pack does not bring, for whatever reason, is had
// otherwise. On the node's loop.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "get/get_task.h"
#include "mesh/tracker_links.h"
#include "transfer/spools.h"
#include "wire/workers.h"

namespace mesh {

class PackedFiles {
 public:
  /// Takes files that have come whole, `got` in the order of `files`; checks each by what is known of it.
  using Take = std::function<Task<void>(std::vector<Planned*> files, Fetched got)>;

  PackedFiles(Workers& workers, TrackerLinks& links, Spools& spools, Log log)
      : workers_(workers), links_(links), spools_(spools), log_(std::move(log)) {}

  /// Brings what of `files`, sorted by path, travels in packs; returns the others, and those that did not come. Never
  /// throws for what can go wrong with a pack.
  Task<std::vector<Planned*>> get(GetTaskPtr task, std::vector<Planned*> files, Take take);

 private:
  using Rest = std::shared_ptr<std::vector<Planned*>>;
  Task<void> bring(GetTaskPtr task, std::vector<Planned*> files, std::vector<PackFile> list, Take take, Rest rest);
  Task<void> read(GetTaskPtr task, std::vector<Planned*>& files, std::vector<PackFile> list, Take take);
  Task<Pack> prepare(std::vector<PackFile> list);

  Workers& workers_;
  TrackerLinks& links_;
  Spools& spools_;
  Log log_;
};

}  // namespace mesh
