#include "core/version.h"

#include <algorithm>
#include <tuple>

namespace mesh {
namespace {

/// What distinguishes two copies that tie on mtime. Files before links before directories, so that every node agrees.
auto rank(const Copy& c) {
  return std::tuple(-static_cast<int>(c.kind), c.kind == Kind::file && c.id != nullptr ? *c.id : ContentId{}, c.target,
                    c.mode);
}

bool same_version(const Copy& a, const Copy& b) {
  if (a.kind != b.kind) return false;
  if (a.kind == Kind::directory) return true;
  if (a.kind != Kind::file) return a.target == b.target;
  return a.id != nullptr && b.id != nullptr && *a.id == *b.id;
}

}  // namespace

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
    choice.conflict = !std::ranges::all_of(field, [&](const Copy& c) { return same_version(c, field.front()); });
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
