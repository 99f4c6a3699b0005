#include "library/inventory.h"

#include <algorithm>

#include "core/error.h"
#include "core/path_walk.h"
#include "wire/flow.h"

namespace mesh {

void Inventory::index(const Item& item) {
  if (item.entry.id.is_set()) by_id_.emplace(item.entry.id, item.entry.path);
}

void Inventory::unindex(const Item& item) {
  const auto [from, to] = by_id_.equal_range(item.entry.id);
  for (auto it = from; it != to; ++it)
    if (it->second == item.entry.path) {
      by_id_.erase(it);
      return;
    }
}

Inventory::Items::iterator Inventory::erase(Items::iterator at, InventoryDelta& delta) {
  unindex(at->second);
  delta.removed.push_back(at->first);
  return items_.erase(at);
}

std::shared_ptr<void> Inventory::fill(const FileEntry& wanted) {
  return {nullptr, [this, at = filling_.emplace(wanted.path, wanted.mtime)](void*) { filling_.erase(at); }};
}

void Inventory::put(LocalEntry entry, InventoryDelta& delta) {
  if (entry.entry.kind == Kind::directory)
    if (const auto at = filling_.find(entry.entry.path); at != filling_.end()) entry.entry.mtime = at->second;
  if (origin_of_ && entry.entry.kind == Kind::file) entry.entry.origin = origin_of_(entry.entry.path, entry.stamp);
  auto& item = items_[entry.entry.path];
  item.scan = scan_;
  // The same content as before keeps the id that was computed for it.
  const bool proved = entry.entry.id.is_set();
  if (!proved && is_same_but_ctime(item.stamp, entry.stamp)) {
    entry.entry.id = item.entry.id;
    item.touched = item.touched || (item.entry.id.is_set() && item.stamp.ctime != entry.stamp.ctime);
  } else {
    item.touched = false;
  }
  item.stamp = entry.stamp;
  if (item.entry == entry.entry) return;
  unindex(item);
  item.entry = std::move(entry.entry);
  index(item);
  delta.put.push_back(item.entry);
}

InventoryDelta Inventory::apply(std::vector<TreeChange> changes) {
  InventoryDelta delta;
  for (auto& change : changes) {
    switch (change.kind) {
      case TreeChange::Kind::put:
        put(std::move(change.entry), delta);
        break;
      case TreeChange::Kind::gone: {
        if (const auto at = items_.find(change.path); at != items_.end()) erase(at, delta);
        const std::string below = change.path + '/';
        for (auto at = items_.lower_bound(below); at != items_.end() && at->first.starts_with(below);)
          at = erase(at, delta);
        break;
      }
      case TreeChange::Kind::scan_begins:
        ++scan_;
        break;
      case TreeChange::Kind::scan_ends:
        for (auto at = items_.begin(); at != items_.end();)
          at = at->second.scan == scan_ ? std::next(at) : erase(at, delta);
        complete_ = true;
        break;
    }
  }
  // A path that went and came back within the batch is there: the receiver takes removals first.
  std::erase_if(delta.removed, [&](const std::string& path) { return items_.contains(path); });
  std::erase_if(delta.put, [&](const FileEntry& entry) { return !items_.contains(entry.path); });
  return delta;
}

InventoryDelta Inventory::set(const LocalEntry& entry) {
  InventoryDelta delta;
  put(entry, delta);
  return delta;
}

InventoryDelta Inventory::withdraw(std::string_view path) {
  InventoryDelta delta;
  if (const auto at = items_.find(path); at != items_.end()) erase(at, delta);
  return delta;
}

const Inventory::Item* Inventory::find(std::string_view path) const {
  const auto at = items_.find(path);
  return at == items_.end() ? nullptr : &at->second;
}

const Inventory::Item* Inventory::find(const ContentId& id, std::int64_t size) const {
  const auto [from, to] = by_id_.equal_range(id);
  for (auto it = from; it != to; ++it)
    if (const auto* item = find(std::string_view(it->second)); item != nullptr && item->entry.size == size) return item;
  return nullptr;
}

const Inventory::Item* Inventory::find(const ContentId& id) const {
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? nullptr : find(std::string_view(it->second));
}

Listed Inventory::list(const List& asked) const {
  Listed out;
  auto question = asked;
  const auto what = as_it_stands(What{question.pattern, question.pattern, question.glob},
                                 [this](const std::string& path) { return items_.contains(path); });
  out.literal = question.glob && !what.is_glob;
  if (what.is_glob && what.pattern != question.pattern) out.pattern = what.pattern;
  question.glob = what.is_glob;
  question.pattern = what.pattern;
  const auto add = [&](Items::const_iterator at) {
    out.items.push_back({at->second.entry, 1, 1, false});
    return out.items.size() < question.page();
  };
  const auto own = items_.find(question.pattern);
  const Slice slice;
  std::optional<std::string> reached;
  if (question.glob || question.recursive || (own != items_.end() && own->second.entry.kind != Kind::directory))
    reached = walk_paths(items_, What{question.pattern, question.pattern, question.glob}, question.after, add,
                         [&] { return slice.is_over(); });
  else
    list_paths(items_, question.pattern, question.prefix, question.after, add);
  if (reached) {  // the rest is for the next page
    out.next = *reached;
    return out;
  }
  if (out.items.empty() && question.after.empty() && own == items_.end() && !question.pattern.empty() &&
      question.prefix.empty())
    throw Error(Status::not_found, printable(question.pattern) + ": not found on this node");
  if (out.items.size() >= question.page()) out.next = out.items.back().entry.path;
  return out;
}

std::vector<FileEntry> Inventory::in_directory(std::string_view directory, std::string_view after,
                                               std::size_t limit) const {
  std::vector<FileEntry> out;
  if (limit > 0)
    list_paths(items_, directory, "", after, [&](Items::const_iterator at) {
      out.push_back(at->second.entry);
      return out.size() < limit;
    });
  return out;
}

std::vector<FileEntry> Inventory::page(std::string_view after, std::size_t limit) const {
  std::vector<FileEntry> out;
  for (auto at = items_.upper_bound(after); at != items_.end() && out.size() < limit; ++at)
    out.push_back(at->second.entry);
  return out;
}

}  // namespace mesh
