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

  /// Brings what of `files`, sorted by path, travels in packs, `most_at_once` at a time; returns the others, and those
  /// that did not come. Never throws for what can go wrong with a pack.
  Task<std::vector<Planned*>> get(GetTaskPtr task, std::vector<Planned*> files, std::size_t most_at_once, Take take);
  /// What earlier packs have left on this node's disk goes.
  void make_room() { spools_.drop_packs(); }

 private:
  struct Rest {
    std::vector<Planned*> files;
    bool gave_up = false;  ///< no more packs in this get
  };
  Task<void> bring(GetTaskPtr task, std::vector<Planned*> files, std::vector<PackFile> list, Take take,
                   std::shared_ptr<Rest> rest);
  Task<Pack> prepare(GetTaskPtr task, std::vector<PackFile> list, std::shared_ptr<Rest> rest);
  Task<void> read(GetTaskPtr task, std::vector<Planned*>& files, std::vector<PackFile> list, Pack pack, Take take);

  Workers& workers_;
  TrackerLinks& links_;
  Spools& spools_;
  Log log_;
};

}  // namespace mesh
