// Asks nodes what the blocks of a content are: one that has it, or one that this sends it to, which has asked before
// (core/ask_tree.h). What it is told is remembered, and told to those that ask this node. On the node's loop;
// what is to be checked goes to the pool.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/log.h"
#include "library/library.h"
#include "library/maker.h"
#include "mesh/node_channels.h"
#include "mesh/tracker_links.h"
#include "transfer/block_info.h"
#include "wire/turn.h"
#include "wire/workers.h"

namespace mesh {

class BlockAsker final : public BlockInfo, public std::enable_shared_from_this<BlockAsker> {
 public:
  /// `wanted` has its id; `file` has its roots; `self`: as others reach this node.
  BlockAsker(Workers& workers, Library& library, TrackerLinks& links, NodeChannels& channels, Log log, FileEntry wanted,
             HashedFile file, NodeRef self)
      : workers_(workers),
        library_(library),
        links_(links),
        channels_(channels),
        log_(std::move(log)),
        wanted_(std::move(wanted)),
        file_(std::move(file)),
        self_(std::move(self)),
        turn_(workers.loop()) {}

  Task<std::vector<std::vector<Sha256>>> leaves(std::vector<int> pieces) override;
  Task<std::vector<std::vector<Chunk>>> chunks(std::vector<int> segments) override;

  /// Called while it asks; may throw. Empty: nobody waits for what is asked from now on.
  void set_check(std::function<void()> check) {
    check_ = check ? std::move(check) : [] { throw Error(Status::interrupted, "nobody waits for it any more"); };
  }
  /// Bytes that came for it.
  [[nodiscard]] std::int64_t received() const { return received_; }
  /// The names of the nodes that told it, for people.
  [[nodiscard]] const std::set<std::string>& tellers() const { return told_by_; }

 private:
  static Task<bool> find_nodes(std::shared_ptr<BlockAsker> self);
  static Task<bool> find_teller(std::shared_ptr<BlockAsker> self, std::string failed);
  template <class Question, class Take>
  Task<void> ask(std::vector<int> numbers, Take take);
  template <class Question>
  static Task<typename Question::Reply> exchange(std::shared_ptr<BlockAsker> self, NodeRef to, Question question,
                                                 std::chrono::seconds limit);
  void check() const { check_(); }

  Workers& workers_;
  Library& library_;
  TrackerLinks& links_;
  NodeChannels& channels_;
  Log log_;
  const FileEntry wanted_;
  const HashedFile file_;
  const NodeRef self_;
  std::function<void()> check_ = [] {};
  bool is_located_ = false;
  std::vector<NodeRef> nodes_;  ///< to be asked, the last first
  std::string teller_;          ///< the instance of the last one, where it is none that has the content
  int tellers_ = 0;             ///< that a holder was asked for
  Turn turn_;                   ///< one question after another: what the first was told the next one knows
  std::int64_t received_ = 0;
  std::set<std::string> told_by_;
};

}  // namespace mesh
