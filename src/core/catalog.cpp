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

bool Catalog::put(NodeKey node, const FileEntry& entry) {
  const auto at = paths_.try_emplace(entry.path).first;
  auto& copies = at->second;
  auto* copy = copies.of(node);
  const bool fresh = copy == nullptr;
  if (fresh) {
    copy = &copies.add(node);
    ++copy_count_;
  } else {
    forget_content(*copy, at->first);
  }
  copy->mode = static_cast<std::uint16_t>(entry.mode & 07777);
  copy->kind = entry.kind;
  copy->size = entry.size;
  copy->mtime = entry.mtime;
  copy->content = nullptr;
  if (entry.kind == Kind::file && entry.id.is_set()) {
    auto& content = contents_[entry.id];
    content.id = entry.id;
    content.holders.emplace(node, &at->first);
    copy->content = &content;
  }
  if (!entry.target.empty()) targets_[{entry.path, node}] = entry.target;
  return fresh;
}

void Catalog::forget_content(const Stored& copy, const std::string& path) {
  if (copy.kind == Kind::link || copy.kind == Kind::outside) targets_.erase({path, copy.node});
  if (copy.content == nullptr) return;
  auto& holders = copy.content->holders;
  holders.erase({copy.node, &path});
  if (holders.empty()) contents_.erase(ContentId(copy.content->id));
}

void Catalog::drop(Paths::iterator at, NodeKey node) {
  forget_content(*at->second.of(node), at->first);
  at->second.remove(node);
  --copy_count_;
}

bool Catalog::remove(NodeKey node, std::string_view path) {
  const auto at = paths_.find(path);
  if (at == paths_.end()) return false;
  if (at->second.of(node) == nullptr) return false;
  drop(at, node);
  if (at->second.empty()) paths_.erase(at);
  return true;
}

void Catalog::remove_node(NodeKey node) {
  for (auto at = paths_.begin(); at != paths_.end();) {
    if (at->second.of(node) != nullptr) drop(at, node);
    at = at->second.empty() ? paths_.erase(at) : std::next(at);
  }
}

std::vector<Copy> Catalog::copies(std::string_view path) const {
  std::vector<Copy> out;
  const auto at = paths_.find(path);
  if (at == paths_.end()) return out;
  for (const auto& stored : at->second.all()) {
    Copy copy{stored.node,  stored.kind, stored.size,
              stored.mtime, stored.mode, stored.content ? &stored.content->id : nullptr,
              {},           false};
    if (stored.kind == Kind::link || stored.kind == Kind::outside)
      if (const auto target = targets_.find({at->first, stored.node}); target != targets_.end())
        copy.target = target->second;
    out.push_back(copy);
  }
  return out;
}

std::vector<Catalog::Holder> Catalog::holders(const ContentId& id) const {
  std::vector<Holder> out;
  const auto it = contents_.find(id);
  if (it == contents_.end()) return out;
  // One path a node: jump from node to node.
  const auto& all = it->second.holders;
  for (auto at = all.begin(); at != all.end(); at = all.lower_bound({at->first + 1, nullptr}))
    out.push_back({at->first, *at->second});
  return out;
}

bool Catalog::is_holder(const ContentId& id, NodeKey node) const {
  const auto it = contents_.find(id);
  if (it == contents_.end()) return false;
  const auto at = it->second.holders.lower_bound({node, nullptr});
  return at != it->second.holders.end() && at->first == node;
}

void Catalog::walk(const What& what, std::string_view after, const Visit& visit) const {
  walk_paths(paths_, what, after, [&](Paths::const_iterator at) { return visit(at->first); });
}

void Catalog::list(std::string_view dir, std::string_view prefix, std::string_view after, const Visit& visit) const {
  list_paths(paths_, dir, prefix, after, [&](Paths::const_iterator at) { return visit(at->first); });
}

}  // namespace mesh
