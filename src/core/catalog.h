// The catalog: mesh path -> each node's copy, and content id -> the nodes that hold those bytes under any path.
//
// Not thread-safe: one thread owns it. Sorted by path, byte by byte, so that a directory is a range, and so that long
// answers can be taken page by page: a page begins behind the last path of the page before it, and changes between
// two pages lose nothing that was there throughout.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/entry.h"
#include "core/mesh_path.h"
#include "core/version.h"

namespace mesh {

class Catalog {
 public:
  /// Adds a node's copy or replaces what the node said before. `entry.path` must be a mesh path.
  /// What a change made of a node's share of the catalog.
  struct Change {
    int paths = 0;             ///< 1, 0 or -1
    std::ptrdiff_t bytes = 0;  ///< of paths and links' targets
  };
  Change put(NodeKey node, const FileEntry& entry);
  /// Told of each hashed copy that is not there any more, where at most one other node has the same bytes. May be
  /// unset.
  std::function<void(NodeKey node, const std::string& path, const ContentId& id, std::int64_t size)> on_lost;
  /// Nothing changes where there was none.
  Change remove(NodeKey node, std::string_view path);
  /// Forgets everything that these nodes said, in one pass over the catalog behind `after`; `due` may end it before, as
  /// in `walk`.
  using Due = std::function<bool()>;
  std::optional<std::string> remove_nodes(const std::set<NodeKey>& nodes, std::string_view after, const Due& due);

  /// A path's copies, without the `head` flag; empty when nobody has it. Valid until the next change.
  [[nodiscard]] std::vector<Copy> copies(std::string_view path) const;
  [[nodiscard]] bool contains(std::string_view path) const { return paths_.contains(path); }

  /// The nodes that hold these bytes, each with one path under which it does. Valid until the next change.
  struct Holder {
    NodeKey node;
    std::string_view path;
  };
  [[nodiscard]] std::vector<Holder> holders(const ContentId& id, std::int64_t size) const;
  /// The same of whatever size; of several, that which more nodes hold.
  [[nodiscard]] std::vector<Holder> holders(const ContentId& id) const;
  [[nodiscard]] bool is_holder(const ContentId& id, std::int64_t size, NodeKey node) const;

  /// Calls `visit` with the sorted paths behind `after` that `what` names: a path, a directory with all below it, or
  /// what a glob matches with all below that. Stops when `visit` returns false.
  /// `due` may end it before: path_walk.h.
  using Visit = std::function<bool(const std::string& path)>;
  std::optional<std::string> walk(const What& what, std::string_view after, const Visit& visit, const Due& due) const;
  /// The same for what lies directly in directory `dir` and has a name that begins with `prefix`, without what is below
  /// its directories.
  void list(std::string_view dir, std::string_view prefix, std::string_view after, const Visit& visit) const;

  [[nodiscard]] std::size_t path_count() const { return paths_.size(); }
  [[nodiscard]] std::size_t copy_count() const { return copy_count_; }

 private:
  /// By id and size: the id of 64 bytes that are two hashes is that of a node in a longer file's tree, too (BEP 52 has
  /// no mark to tell the two apart).
  struct ContentKey {
    ContentId id;
    std::int64_t size = 0;
    bool operator==(const ContentKey&) const = default;
  };
  struct HashKey {
    /// Of the id alone, so that it is enough to find what has it.
    std::size_t operator()(const ContentKey& key) const { return std::hash<ContentId>()(key.id); }
  };
  struct Content {
    ContentId id;
    std::set<std::pair<NodeKey, const std::string*>> holders;
  };
  struct Stored {
    NodeKey node;
    std::uint16_t mode;
    Kind kind;
    std::int64_t size;
    std::int64_t mtime;
    Content* content;  ///< of a hashed file, else null
  };
  /// A path's copies: mostly one, which needs no memory of its own, and a catalog has millions of these.
  class Copies {
   public:
    [[nodiscard]] std::span<const Stored> all() const;
    [[nodiscard]] Stored* of(NodeKey node);
    /// Valid until the next change.
    Stored& add(NodeKey node);
    void remove(NodeKey node);
    [[nodiscard]] bool empty() const { return all().empty(); }

   private:
    static constexpr NodeKey nobody = ~NodeKey{};
    Stored one_{nobody, 0, Kind::file, 0, 0, nullptr};
    std::unique_ptr<std::vector<Stored>> all_;  ///< of more than one
  };
  using Paths = std::map<std::string, Copies, std::less<>>;

  /// Both return the bytes that are gone.
  std::size_t drop(Paths::iterator at, NodeKey node);
  std::size_t forget_content(const Stored& copy, const std::string& path);

  Paths paths_;
  std::unordered_map<ContentKey, Content, HashKey> contents_;
  std::map<std::pair<std::string, NodeKey>, std::string> targets_;  ///< of links, which are few
  /// Who has a path, whose key in `paths_` this is, from which URL: few are from one, and mostly all from the same.
  std::map<const std::string*, std::map<std::string, std::set<NodeKey>>> origins_;
  std::size_t copy_count_ = 0;
};

}  // namespace mesh
