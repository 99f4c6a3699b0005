// What a keeper knows of its directories (docs/decisions/0024): of each path the versions that nodes have told of, and
// who has each. Nodes tell it, and tell what changes; what a node has told goes when the node does.
//
// Soft state: a node that hung up on purpose is believed for a while, any other for moments. All on the tracker's loop;
// what looks at many paths gives way now and then.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/entry.h"
#include "members.h"
#include "wire/flow.h"

namespace mesh {

class DirectoryIndex {
 public:
  using Clock = std::chrono::steady_clock;
  struct Options {
    std::size_t max_copies_of_one = 1'000'000;  ///< that one node may tell of, directories among them
    std::size_t max_copies = 4'000'000;         ///< of all; of one that others have alike, a few bytes are kept
    std::size_t path_bytes = 100;               ///< of a path and a link's target, on average, in both limits
    std::size_t max_channels = 1'000;           ///< of nodes that tell; others are asked to hang up
    std::chrono::milliseconds rest_lease{std::chrono::minutes(15)};
    std::chrono::milliseconds loss_lease{3'000};
  };
  /// `keepers`: who else might know of a directory, by this node's own list. `members` must outlive this.
  DirectoryIndex(const Members& members, std::function<std::vector<Member>(const std::string& directory)> keepers,
                 Options options)
      : members_(members), keepers_(std::move(keepers)), options_(options) {}
  DirectoryIndex(const DirectoryIndex&) = delete;
  DirectoryIndex& operator=(const DirectoryIndex&) = delete;

  /// Throws Error(refused) for who has not said hello.
  Task<IndexTold> tell(ChannelPtr channel, IndexTell said);
  Task<Indexed> ask(ChannelPtr channel, IndexAsk question);
  /// The node hangs up on purpose.
  void rest(const ChannelPtr& channel);
  /// A node's channel is gone.
  void left(NodeKey node);

  [[nodiscard]] std::size_t copies() const { return copies_; }
  [[nodiscard]] std::size_t directories() const { return directories_.size(); }

 private:
  /// Copies that are alike.
  struct Version {
    std::int64_t size = 0;
    std::int64_t mtime = 0;
    ContentId id;
    std::uint32_t mode = 0;
    Kind kind = Kind::file;
    std::unique_ptr<std::string> text;  ///< a link's target, a file's origin
    std::vector<NodeKey> nodes;
    [[nodiscard]] bool is(const FileEntry& entry) const;
  };
  using Paths = std::map<std::string, std::vector<Version>, std::less<>>;
  struct Teller {
    NodeKey key = 0;     ///< here
    NodeKey member = 0;  ///< among the members; 0: its channel is gone
    Hello hello;
    asio::ip::address seen;
    bool rests = false;
    Clock::time_point until{};                               ///< with no channel: believed so long
    std::map<std::string, std::int64_t> stamps;              ///< of directories that it has told of
    std::map<std::string, std::set<std::string>> beginning;  ///< that it is telling of anew: what has come of them
    std::size_t copies = 0;
    std::size_t bytes = 0;        ///< of paths and targets
    std::set<std::string> cut{};  ///< directories of which something was left out
    [[nodiscard]] std::size_t beginnings() const;
  };

  Teller& teller_of(const Members::Node& node, const ChannelPtr& channel);
  bool put(Teller& teller, const FileEntry& entry);
  void remove(Teller& teller, std::string_view path);
  /// What the teller has in the directory, but for `kept`.
  Task<void> drop(std::shared_ptr<Teller> teller, std::string directory, std::set<std::string> kept);
  Task<void> forget(std::shared_ptr<Teller> teller);
  void expire();
  void cut(Teller& teller, const std::string& directory);
  void mend_cut(Teller& teller, const std::string& directory);
  [[nodiscard]] bool has_room(const Teller& teller) const;
  [[nodiscard]] bool is_live(NodeKey key) const;

  struct Answer;
  bool add(Answer& answer, IndexedDirectory& out, const std::string& path, const std::vector<Version>& versions);

  const Members& members_;
  std::function<std::vector<Member>(const std::string&)> keepers_;
  Options options_;
  Clock::time_point begun_ = Clock::now();
  std::mt19937 random_{std::random_device{}()};
  NodeKey next_key_ = 1;
  std::map<std::string, std::shared_ptr<Teller>> tellers_;  ///< by instance
  std::map<NodeKey, std::shared_ptr<Teller>> by_key_;
  std::map<std::string, std::set<NodeKey>, std::less<>> directories_;  ///< who has told of each
  Paths paths_;
  std::map<std::string, int, std::less<>> cut_;  ///< of how many nodes something of a directory was left out
  std::size_t copies_ = 0;
  std::size_t bytes_ = 0;
  Clock::time_point expired_{};
  std::size_t live_ = 0;  ///< tellers with a channel, when that was looked at last
};

}  // namespace mesh
