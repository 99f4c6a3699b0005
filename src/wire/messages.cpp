#include "wire/messages.h"

#include <algorithm>

#include "core/mesh_path.h"

namespace mesh {

std::string entry_fault(const FileEntry& entry) {
  if (const auto fault = path_fault(entry.path); !fault.empty()) return "the path " + std::string(fault);
  if (entry.kind > Kind::outside) return "the kind is unknown";
  if (entry.size < 0) return "the size is negative";
  if (entry.target.size() > max_path_bytes) return "the link's target is longer than 4000 bytes";
  if (entry.kind == Kind::link && link_destination(entry.path, entry.target).empty() && entry.target != ".")
    return "the link leads out of the files directory";
  return {};
}

std::string url_facts_fault(const UrlFacts& facts) {
  if (facts.size <= 0 || facts.size > (std::int64_t{1} << 42)) return "the size is out of bounds";
  if (facts.mtime < 0) return "the time is before 1970";
  // It becomes part of a header.
  if (facts.validator.size() > 1000 ||
      std::ranges::any_of(facts.validator, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }))
    return "the validator is no header's value";
  return {};
}

bool servers_take_turns(const std::vector<UrlFacts>& earlier, const UrlFacts& now, const UrlFacts& said) {
  return said.validator != now.validator && std::ranges::any_of(earlier, [&](const UrlFacts& one) {
           return one.size == said.size && one.validator == said.validator;
         });
}

UrlFacts without_validator(UrlFacts facts) {
  facts.validator.clear();
  facts.ranges = false;
  return facts;
}

std::vector<InventoryDelta> in_pages(const InventoryDelta& delta) {
  std::vector<InventoryDelta> out;
  const auto room = [&](auto member) -> auto& {
    if (out.empty() || out.back().removed.size() + out.back().put.size() >= page_entries) out.emplace_back();
    return out.back().*member;
  };
  for (const auto& path : delta.removed) room(&InventoryDelta::removed).push_back(path);
  for (const auto& entry : delta.put) room(&InventoryDelta::put).push_back(entry);
  return out;
}

}  // namespace mesh
