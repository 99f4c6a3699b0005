// What this node has in its files dir, as its watcher reports it, and the deltas that its trackers must hear.
// Not thread-safe: the node's loop owns it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "library/watcher.h"
#include "wire/messages.h"

namespace mesh {

class Inventory {
 public:
  /// `origin_of`: from which URL the file at a path is, as its stamp is now; may be empty.
  using OriginOf = std::function<std::string(const std::string& path, const FileStamp& now)>;
  explicit Inventory(OriginOf origin_of = {}) : origin_of_(std::move(origin_of)) {}

  struct Item {
    FileEntry entry;
    FileStamp stamp;
    std::uint32_t scan = 0;
    bool touched = false;  ///< what is said of it has changed since it was hashed: its id is to be proved anew
  };

  /// Takes a watcher's batch; returns what changed.
  [[nodiscard]] InventoryDelta apply(std::vector<TreeChange> changes);
  /// The file at `path`, as it is by `stamp`, has these bytes. Returns what changed.
  [[nodiscard]] InventoryDelta set(const LocalEntry& entry);
  /// What is at `path` is not to be offered until the watcher reports it again. Returns what changed.
  [[nodiscard]] InventoryDelta withdraw(std::string_view path);
  /// A get fills the directory `wanted.path`: what it does to the directory's time on the way is told to nobody, until
  /// what is returned is gone. Must not outlive this.
  [[nodiscard]] std::shared_ptr<void> fill(const FileEntry& wanted);

  [[nodiscard]] const Item* find(std::string_view path) const;
  /// The first path under which this node has these bytes. (By the size, too: 64 bytes may have the id of a long file.)
  [[nodiscard]] const Item* find(const ContentId& id, std::int64_t size) const;
  /// The same, of whatever size.
  [[nodiscard]] const Item* find(const ContentId& id) const;
  /// A page of what a question names, without asking the mesh.
  [[nodiscard]] Listed list(const List& asked) const;
  /// Up to `limit` entries that are directly in `directory`, behind `after`.
  [[nodiscard]] std::vector<FileEntry> in_directory(std::string_view directory, std::string_view after,
                                                    std::size_t limit) const;
  /// Up to `limit` entries behind `after`.
  [[nodiscard]] std::vector<FileEntry> page(std::string_view after, std::size_t limit) const;

  [[nodiscard]] bool is_complete() const { return complete_; }  ///< the first scan is over
  [[nodiscard]] std::size_t size() const { return items_.size(); }

 private:
  using Items = std::map<std::string, Item, std::less<>>;
  Items::iterator erase(Items::iterator at, InventoryDelta& delta);
  void put(LocalEntry entry, InventoryDelta& delta);
  void index(const Item& item);
  void unindex(const Item& item);

  OriginOf origin_of_;
  Items items_;
  std::multimap<ContentId, std::string> by_id_;
  std::multimap<std::string, std::int64_t> filling_;  ///< directories, and the times that they will have
  bool complete_ = false;
  std::uint32_t scan_ = 0;
};

}  // namespace mesh
