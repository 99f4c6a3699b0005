#include "wire/messages.h"

#include <algorithm>
#include <utility>

#include "core/mesh_path.h"

namespace mesh {

std::string entry_fault(const FileEntry& entry) {
  if (const auto fault = path_fault(entry.path); !fault.empty()) return "the path " + std::string(fault);
  if (entry.kind > Kind::outside) return "the kind is unknown";
  if (entry.size < 0) return "the size is negative";
  if (entry.target.size() > max_path_bytes) return "the link's target is longer than 4000 bytes";
  if (entry.origin.size() > max_origin_bytes || (!entry.origin.empty() && entry.kind != Kind::file) ||
      !is_utf8(entry.origin))
    return "what it says of its origin makes no sense";
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

namespace {

void cut(std::string& text) {
  if (text.size() > Glance::most_text) text.resize(Glance::most_text);
}
/// Counts and sums are made of it.
void at_least_0(std::int64_t& count) { count = std::clamp(count, std::int64_t{0}, std::int64_t{1} << 60); }

template <class T>
void cut(std::vector<T>& list, std::size_t most, int& more) {
  const auto over = list.size() > most ? list.size() - most : 0;
  list.resize(std::min(list.size(), most));
  more = static_cast<int>(std::min<std::int64_t>(std::max(more, 0) + static_cast<std::int64_t>(over), 1'000'000));
}

void bound(std::vector<std::int64_t>& minutes) {
  if (minutes.size() > Glance::minutes) minutes.resize(Glance::minutes);
  // A thousand nodes can be added up.
  for (auto& one : minutes) one = std::clamp(one, std::int64_t{0}, std::int64_t{1} << 50);
}

void add(std::vector<std::int64_t>& to, const std::vector<std::int64_t>& one) {
  if (to.size() < one.size()) to.resize(one.size());
  for (std::size_t i = 0; i < one.size(); ++i) to[i] += one[i];
}

}  // namespace

void bound(Glance& glance) {
  int dropped = 0;
  cut(glance.error), cut(glance.version);
  cut(glance.gets, Glance::most_gets, glance.more_gets);
  cut(glance.moving, Glance::most_moving, glance.more_moving);
  for (auto& get : glance.gets) {
    cut(get.whats, Glance::most_whats, get.more_whats);
    for (auto& what : get.whats) what.resize(std::min<std::size_t>(what.size(), max_path_bytes));
    cut(get.detail);
    at_least_0(get.done), at_least_0(get.total), at_least_0(get.rate);
  }
  for (auto& one : glance.moving) {
    one.path.resize(std::min<std::size_t>(one.path.size(), max_path_bytes));
    cut(one.detail);
    one.have.resize(std::min(one.have.size(), Glance::parts));
    std::erase_if(one.have, [](char c) { return (c < '0' || c > '9') && c != 'a'; });
    cut(one.givers, Glance::most_givers, dropped);
    for (auto& giver : one.givers) cut(giver.who), at_least_0(giver.bytes);
    at_least_0(one.done), at_least_0(one.total), at_least_0(one.rate), at_least_0(one.up_rate);
  }
  at_least_0(glance.clock), at_least_0(glance.space), at_least_0(glance.free), at_least_0(glance.cached),
      at_least_0(glance.rate), at_least_0(glance.up_rate);
  bound(glance.hour.received), bound(glance.hour.from_sources), bound(glance.hour.from_origins);
}

void add(HourTold& to, const HourTold& one) {
  add(to.received, one.received);
  add(to.from_sources, one.from_sources);
  add(to.from_origins, one.from_origins);
}

}  // namespace mesh
