// Small files that several nodes want at once travel as a pack (core/pack.h): which node makes it, and who hears of it.
//
// All on the tracker's loop; what looks at many paths gives way now and then.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "lookup.h"
#include "members.h"
#include "swarms.h"
#include "wire/flow.h"

namespace mesh {

class Packs {
 public:
  using Clock = std::chrono::steady_clock;
  /// All must outlive this.
  Packs(asio::io_context& io, Members& members, const Lookup& lookup, Swarms& swarms)
      : io_(io), members_(members), lookup_(lookup), swarms_(swarms) {}

  /// The pack, once a node seeds it; or that its list is wanted. Throws Error: where it cannot be had, the files can
  /// all the same.
  Task<Pack> prepare(ChannelPtr channel, PreparePack question);

 private:
  struct Known {
    explicit Known(asio::io_context& io) : changed(io) {}
    Event changed;
    bool is_made = false;
    bool is_making = false;
    Clock::time_point list_due{};  ///< until then somebody is to send its list
    Clock::time_point tried{};     ///< in vain, the last time
    std::string trouble;
    Pack pack;
  };
  /// A node that can make a pack, and what it lacks for that.
  struct Candidate {
    NodeKey node = 0;
    std::vector<std::uint32_t> missing;
  };
  using Files = std::shared_ptr<const std::vector<PackFile>>;

  Task<Pack> make(Files files, NodeKey asker);
  Task<Pack> ask_to_make(NodeKey node, Files files, std::vector<std::uint32_t> left_out, const Pack* like);
  Task<std::vector<Candidate>> candidates(Files files, NodeKey asker);
  Task<void> help(NodeKey node, Files files, Pack made);
  void forget_old();

  asio::io_context& io_;
  Members& members_;
  const Lookup& lookup_;
  Swarms& swarms_;
  std::mt19937 random_{std::random_device{}()};
  std::map<PackId, std::shared_ptr<Known>> known_;
  std::map<NodeKey, Clock::time_point> silent_;  ///< until when nodes that took too long are not asked
};

}  // namespace mesh
