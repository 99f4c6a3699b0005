#include "core/version.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

namespace mesh {
namespace {

/// What distinguishes two copies that tie on mtime. Files before links before directories, so that every node agrees.
auto rank(const Copy& c) {
  return std::tuple(-static_cast<int>(c.kind), c.kind == Kind::file && c.id != nullptr ? *c.id : ContentId{}, c.size,
                    c.target, c.mode);
}

bool same_version(const Copy& a, const Copy& b) {
  if (a.kind != b.kind) return false;
  if (a.kind == Kind::directory) return true;
  if (a.kind != Kind::file) return a.target == b.target;
  return a.size == b.size && a.id != nullptr && b.id != nullptr && *a.id == *b.id;
}

}  // namespace

VersionCount count_versions(std::span<const Copy> copies) {
  VersionCount out;
  // Files of different sizes differ, and so do different content ids of one size.
  struct OfSize {
    std::set<ContentId> ids;
    std::set<std::int64_t> known;       ///< times of hashed copies
    std::set<std::int64_t> candidates;  ///< times of the others
  };
  std::map<std::int64_t, OfSize> sizes;
  std::set<std::pair<Kind, std::string_view>> others;
  for (const auto& copy : copies) {
    if (copy.kind != Kind::file) {
      others.emplace(copy.kind, copy.kind == Kind::directory ? std::string_view{} : copy.target);
      continue;
    }
    auto& of_size = sizes[copy.size];
    if (copy.id != nullptr) {
      of_size.ids.insert(*copy.id);
      of_size.known.insert(copy.mtime);
    } else {
      of_size.candidates.insert(copy.mtime);
    }
  }
  out.certain = static_cast<int>(others.size());
  for (const auto& [size, of_size] : sizes) {
    out.certain += std::max(1, static_cast<int>(of_size.ids.size()));
    // Copies of one size and time are taken for one version, as rsync takes them; any other candidate may be another.
    out.unsure = out.unsure || (of_size.known.empty() ? of_size.candidates.size() > 1
                                                      : !std::ranges::includes(of_size.known, of_size.candidates));
  }
  return out;
}

Choice choose_version(std::span<const Copy> copies, const ChoiceRules& rules) {
  Choice choice;
  std::vector<Copy> field;
  for (const auto& copy : copies)
    if (copy.kind != Kind::outside && (!rules.from || *rules.from == copy.node)) field.push_back(copy);
  if (field.empty()) {
    if (!copies.empty() && !rules.from) choice.chosen = copies.front();  // outside: found, but not served
    return choice;
  }
  const auto ask_to_hash = [&] {
    if (field.size() < 2) return;
    for (const auto& copy : field)
      if (copy.kind == Kind::file && copy.id == nullptr) choice.to_hash.push_back(copy.node);
  };
  if (rules.strict) {
    ask_to_hash();
    if (!choice.to_hash.empty()) return choice;
    choice.conflict =
        field.size() > 1 && !std::ranges::all_of(field, [&](const Copy& c) { return same_version(c, field.front()); });
    if (choice.conflict) return choice;
  }
  if (std::ranges::any_of(field, &Copy::head)) std::erase_if(field, [](const Copy& c) { return !c.head; });
  const auto newest = std::ranges::max_element(field, {}, &Copy::mtime)->mtime;
  std::erase_if(field, [&](const Copy& c) { return c.mtime != newest; });
  ask_to_hash();
  if (choice.to_hash.empty()) choice.chosen = *std::ranges::max_element(field, {}, rank);
  return choice;
}

}  // namespace mesh
