#include "core/catalog.h"

#include "core/path_walk.h"

namespace mesh {

std::span<const Catalog::Stored> Catalog::Copies::all() const {
  if (all_) return *all_;
  return {&one_, one_.node == nobody ? 0U : 1U};
}

Catalog::Stored* Catalog::Copies::of(NodeKey node) {
  if (!all_) return one_.node == node ? &one_ : nullptr;
  const auto it = std::ranges::find(*all_, node, &Stored::node);
  return it == all_->end() ? nullptr : &*it;
}

Catalog::Stored& Catalog::Copies::add(NodeKey node) {
  const Stored fresh{node, 0, Kind::file, 0, 0, nullptr};
  if (empty()) return one_ = fresh;
  if (!all_) all_ = std::make_unique<std::vector<Stored>>(1, one_);
  all_->push_back(fresh);
  return all_->back();
}

void Catalog::Copies::remove(NodeKey node) {
  if (!all_) {
    one_.node = nobody;
    return;
  }
  std::erase_if(*all_, [node](const Stored& copy) { return copy.node == node; });
  if (all_->size() > 1) return;
  one_ = all_->front();
  all_.reset();
}

Catalog::Change Catalog::put(NodeKey node, const FileEntry& entry) {
  Change change;
  const auto at = paths_.try_emplace(entry.path).first;
  auto& copies = at->second;
  auto* copy = copies.of(node);
  const bool fresh = copy == nullptr;
  if (fresh) {
    copy = &copies.add(node);
    ++copy_count_;
    change = {1, static_cast<std::ptrdiff_t>(entry.path.size())};
  } else {
    change.bytes = -static_cast<std::ptrdiff_t>(forget_content(*copy, at->first));
  }
  copy->mode = static_cast<std::uint16_t>(entry.mode & 07777);
  copy->kind = entry.kind;
  copy->size = entry.size;
  copy->mtime = entry.mtime;
  copy->content = nullptr;
  if (entry.kind == Kind::file && entry.id.is_set()) {
    auto& content = contents_[{entry.id, entry.size}];
    content.id = entry.id;
    content.holders.emplace(node, &at->first);
    copy->content = &content;
  }
  const bool is_link = entry.kind == Kind::link || entry.kind == Kind::outside;
  if (is_link && !entry.target.empty()) {
    targets_[{entry.path, node}] = entry.target;
    change.bytes += static_cast<std::ptrdiff_t>(entry.target.size());
  }
  if (entry.kind == Kind::file && !entry.origin.empty()) {
    origins_[&at->first][entry.origin].insert(node);
    change.bytes += static_cast<std::ptrdiff_t>(entry.origin.size());
  }
  return change;
}

std::size_t Catalog::forget_content(const Stored& copy, const std::string& path) {
  std::size_t bytes = 0;
  if (copy.kind == Kind::link || copy.kind == Kind::outside)
    if (const auto target = targets_.find({path, copy.node}); target != targets_.end()) {
      bytes = target->second.size();
      targets_.erase(target);
    }
  if (const auto origins = origins_.find(&path); origins != origins_.end()) {
    for (auto origin = origins->second.begin(); origin != origins->second.end();) {
      if (origin->second.erase(copy.node) > 0) bytes += origin->first.size();
      origin = origin->second.empty() ? origins->second.erase(origin) : std::next(origin);
    }
    if (origins->second.empty()) origins_.erase(origins);
  }
  if (copy.content == nullptr) return bytes;
  auto& holders = copy.content->holders;
  holders.erase({copy.node, &path});
  const bool several = !holders.empty() && holders.begin()->first != holders.rbegin()->first;
  if (on_lost && !several) on_lost(copy.node, path, copy.content->id, copy.size);
  if (holders.empty()) contents_.erase({copy.content->id, copy.size});
  return bytes;
}

std::size_t Catalog::drop(Paths::iterator at, NodeKey node) {
  const auto bytes = at->first.size() + forget_content(*at->second.of(node), at->first);
  at->second.remove(node);
  --copy_count_;
  return bytes;
}

Catalog::Change Catalog::remove(NodeKey node, std::string_view path) {
  const auto at = paths_.find(path);
  if (at == paths_.end() || at->second.of(node) == nullptr) return {};
  const auto bytes = drop(at, node);
  if (at->second.empty()) paths_.erase(at);
  return {-1, -static_cast<std::ptrdiff_t>(bytes)};
}

std::optional<std::string> Catalog::remove_nodes(const std::set<NodeKey>& nodes, std::string_view after,
                                                 const Due& due) {
  std::vector<NodeKey> gone;
  for (auto at = after.empty() ? paths_.begin() : paths_.upper_bound(after); at != paths_.end();) {
    gone.clear();
    for (const auto& copy : at->second.all())
      if (nodes.contains(copy.node)) gone.push_back(copy.node);
    for (const auto node : gone) drop(at, node);
    const bool pause = due();
    std::optional<std::string> reached;
    if (pause) reached = at->first;
    at = at->second.empty() ? paths_.erase(at) : std::next(at);
    if (pause) return reached;
  }
  return std::nullopt;
}

std::vector<Copy> Catalog::copies(std::string_view path) const {
  std::vector<Copy> out;
  const auto at = paths_.find(path);
  if (at == paths_.end()) return out;
  const auto origins = origins_.find(&at->first);
  for (const auto& stored : at->second.all()) {
    Copy copy{stored.node,  stored.kind, stored.size,
              stored.mtime, stored.mode, stored.content ? &stored.content->id : nullptr,
              {},           false};
    if (stored.kind == Kind::link || stored.kind == Kind::outside)
      if (const auto target = targets_.find({at->first, stored.node}); target != targets_.end())
        copy.target = target->second;
    if (origins != origins_.end())
      for (const auto& [origin, nodes] : origins->second)
        if (nodes.contains(stored.node)) copy.origin = origin;
    out.push_back(copy);
  }
  return out;
}

std::vector<Catalog::Holder> Catalog::holders(const ContentId& id, std::int64_t size) const {
  std::vector<Holder> out;
  const auto it = contents_.find({id, size});
  if (it == contents_.end()) return out;
  // One path a node: jump from node to node.
  const auto& all = it->second.holders;
  for (auto at = all.begin(); at != all.end(); at = all.lower_bound({at->first + 1, nullptr}))
    out.push_back({at->first, *at->second});
  return out;
}

std::vector<Catalog::Holder> Catalog::holders(const ContentId& id) const {
  if (contents_.empty()) return {};
  const auto bucket = contents_.bucket({id, 0});
  std::vector<Holder> out;
  for (auto it = contents_.begin(bucket); it != contents_.end(bucket); ++it) {
    if (it->first.id != id) continue;
    auto some = holders(id, it->first.size);
    if (some.size() > out.size()) out = std::move(some);
  }
  return out;
}

bool Catalog::is_holder(const ContentId& id, std::int64_t size, NodeKey node) const {
  const auto it = contents_.find({id, size});
  if (it == contents_.end()) return false;
  const auto at = it->second.holders.lower_bound({node, nullptr});
  return at != it->second.holders.end() && at->first == node;
}

std::optional<std::string> Catalog::walk(const What& what, std::string_view after, const Visit& visit,
                                         const Due& due) const {
  return walk_paths(
      paths_, what, after, [&](Paths::const_iterator at) { return visit(at->first); }, due);
}

void Catalog::list(std::string_view dir, std::string_view prefix, std::string_view after, const Visit& visit) const {
  list_paths(paths_, dir, prefix, after, [&](Paths::const_iterator at) { return visit(at->first); });
}

}  // namespace mesh
