// Which files there are, and which version of each an asker is to have: the catalog, and the questions to it.
//
// All on the tracker's loop; what looks at many paths gives way now and then.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/catalog.h"
#include "core/glob.h"
#include "members.h"
#include "past_versions.h"
#include "wire/beyond.h"
#include "wire/flow.h"

namespace mesh {

class Lookup {
 public:
  /// `max_paths`: of one node, of 100 bytes on average at most. `members` must outlive this. `beyond`: of a view, who
  /// says what there is; may be null.
  Lookup(asio::io_context& io, Members& members, std::size_t max_paths, const Beyond* beyond = nullptr)
      : io_(io), members_(members), max_paths_(max_paths), beyond_(beyond) {
    catalog_.on_lost = [this](NodeKey node, const std::string& path, const ContentId& id, std::int64_t size) {
      if (const auto at = instances_.find(node); at != instances_.end()) past_.add(path, id, size, at->second.front());
    };
  }
  Lookup(const Lookup&) = delete;
  Lookup& operator=(const Lookup&) = delete;

  /// Told of each content of which a node says that it has it now.
  std::function<void(const ContentId&)> on_hashed;

  /// What a node says of its files.
  void take_inventory(const ChannelPtr& channel, const InventoryDelta& delta);
  /// A node is gone: what it had counts no more, and goes out of the catalog bit by bit.
  void forget(NodeKey node);

  /// The view is over, and with it what keepers said.
  void forget_told();

  Task<Resolved> resolve(ChannelPtr channel, Resolve question);
  Task<Located> locate(ChannelPtr channel, Locate question);
  Task<Listed> list(List question);
  Task<Versions> info(Info question);

  /// Nodes that have all of this content.
  [[nodiscard]] std::vector<NodeKey> holders(const ContentId& id, std::int64_t size) const;
  [[nodiscard]] bool is_holder(const ContentId& id, std::int64_t size, NodeKey node) const {
    return catalog_.is_holder(id, size, node);
  }
  /// Nodes that list a file at this path of this size and time, and, as far as is known, of this content.
  [[nodiscard]] std::vector<NodeKey> nodes_with(const PackFile& file) const;
  [[nodiscard]] std::size_t path_count() const { return catalog_.path_count(); }
  [[nodiscard]] std::size_t copy_count() const { return catalog_.copy_count(); }

 private:
  /// What a node has in the catalog.
  struct Told {
    std::size_t paths = 0;
    std::size_t path_bytes = 0;
    bool has_too_many = false;  ///< it was told
    void count(const Catalog::Change& change);
  };
  [[nodiscard]] static FileEntry entry_of(const std::string& path, const Copy& copy);
  [[nodiscard]] std::string origin_of(const std::string& path, const Copy& chosen) const;
  /// Why a node could not hash a path, by path and node.
  using Refusals = std::map<std::string, std::map<NodeKey, std::string>>;

  /// False where the node has too many paths already.
  bool put(const Members::Node& node, const FileEntry& entry);
  Task<void> sweep();
  /// Of a view: asks the mesh what it has of this. Returns whose word it is, in words; empty where it is no view.
  Task<std::string> cover(CoverAsk asked);
  Task<void> take(const std::string& pattern, const Covered& told);
  Task<void> walk(What what, std::string after, Catalog::Visit visit);
  Task<std::vector<std::string>> find_paths(Resolve& question);
  /// Whether `what`, which looks like a glob, is a path that is there.
  [[nodiscard]] What read(What what) const {
    return as_it_stands(std::move(what), [this](const std::string& path) { return !copies(path).empty(); });
  }
  [[nodiscard]] std::vector<NodeKey> whom_to_probe(const ProbePath& question);
  Task<bool> probe(ProbePath question);
  Task<Resolved> resolve_content(ChannelPtr channel, ContentId id, std::string from);
  void take_hashed(NodeKey key, const std::string& path, const FileEntry& made);
  void check_sure(const std::string& pattern) const;
  Task<void> hash(std::map<NodeKey, HashFiles> work, std::shared_ptr<Refusals> refusals);
  [[nodiscard]] std::vector<Copy> copies(std::string_view path) const;
  void name_holders(ResolvedFile& file, const Copy& chosen, NodeKey asker);
  [[nodiscard]] std::optional<Copy> own_copy(const std::string& path, NodeKey own) const;
  [[nodiscard]] bool may_be_known(const std::string& path, const Copy& mine) const;
  [[nodiscard]] ContentId known_elsewhere(const std::string& path, NodeKey own) const;
  [[nodiscard]] std::vector<FileEntry> above(const std::vector<std::string>& paths) const;

  asio::io_context& io_;
  Members& members_;
  std::size_t max_paths_;
  const Beyond* beyond_;
  /// Of a view, of a path that nobody is known to have: who might have it, and whether somebody who should know is
  /// silent.
  struct Likely {
    std::vector<NodeKey> nodes;
    bool is_unsure = false;
  };
  std::map<std::string, Likely> likely_;
  std::map<std::string, std::int64_t> unnamed_;  ///< of a view: how many more nodes have the path than are named
  std::mt19937 random_{std::random_device{}()};
  Catalog catalog_;
  std::map<NodeKey, Told> told_;
  /// Of nodes that the catalog has something of: what each is and was called, the instance of now first.
  std::map<NodeKey, PastVersions::Names> instances_;
  PastVersions past_;
  std::set<NodeKey> gone_;  ///< nodes of which the catalog may still have something
};

}  // namespace mesh
