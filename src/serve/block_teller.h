// Tells other nodes what the blocks of a content are (wire/messages/blocks.h): of what this node holds, for which it is
// read where it must be, once however many ask; and of what it is getting, as far as it has been told and has verified,
// or is about to be told. Of many that ask at once most are sent to those that asked before (core/ask_tree.h).
// On the node's loop; blocking work goes to the pools.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "core/ask_tree.h"
#include "library/library.h"
#include "serve/seeder.h"
#include "wire/channel.h"
#include "wire/flow.h"
#include "wire/pacer.h"
#include "wire/turn.h"
#include "wire/workers.h"

namespace mesh {

class BlockTeller {
 public:
  static constexpr std::size_t most_told_directly = 3;
  /// `upload`: the limit of what goes out on node channels.
  BlockTeller(Workers& workers, Library& library, Seeder& seeder, Pacer upload)
      : workers_(workers), library_(library), seeder_(seeder), upload_(std::move(upload)), turn_(workers.loop()) {}

  /// Whether this node asks others about a content at the moment. May be unset.
  std::function<bool(const ContentId&, std::int64_t size)> asking;

  void serve(Handlers& handlers);

 private:
  Task<Teller> teller(ChannelPtr channel, TellerAsk asked);
  Task<Leaves> leaves(ChannelPtr channel, LeavesAsk asked);
  Task<SketchTold> sketch(ChannelPtr channel, SketchAsk asked);
  Task<HashedFile> roots_of(ContentId id, std::int64_t size);
  Task<StoragePtr> open(ContentId id, std::int64_t size);
  Task<std::vector<std::string>> answer(ChannelPtr channel, ContentId id, std::int64_t size, bool is_held,
                                        std::function<std::vector<std::string>()> work);

  Workers& workers_;
  Library& library_;
  Seeder& seeder_;
  Pacer upload_;
  struct Askers {
    AskTree tree{most_told_directly};
    std::map<std::string, NodeRef> nodes;  ///< by instance
    AskTree::Time last{};
  };
  std::map<ContentId, Askers> askers_;
  /// Of reading: what is read for the first is known to the next, and the node's own reading has the other thread.
  Turn turn_;
};

}  // namespace mesh
