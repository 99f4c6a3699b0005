#include "page/page_view.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "core/format.h"
#include "core/http_request.h"
#include "core/mesh_path.h"
#include "page/warnings.h"
#include "wire/to_json.h"

namespace mesh::page_view {
namespace {

using json = nlohmann::json;

/// How many of each kind are shown.
struct Most {
  std::size_t swarms = 6;
  std::size_t bars = 24;
  std::size_t gets = 30;
  std::size_t warnings = 40;
};

/// As it is shown where many are: the whole of a long one is where it is looked at.
std::string short_text(std::string_view text, std::size_t most = 300) {
  auto out = printable(text);
  if (out.size() <= most) return out;
  while (most > 0 && (static_cast<unsigned char>(out[most]) & 0xc0) == 0x80) --most;
  return out.substr(0, most) + "\xe2\x80\xa6";
}

std::string lower(std::string text) {
  for (auto& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  return text;
}

json row_of(const std::string& node, const Moving& one) {
  json from = json::array();
  for (const auto& giver : one.givers) from.push_back({{"who", short_text(giver.who, 64)}, {"bytes", giver.bytes}});
  return {{"node", printable(node)}, {"done", one.done}, {"total", one.total},
          {"rate", one.rate},        {"eta", one.eta},   {"state", to_text(one.state)},
          {"peers", one.peers},      {"have", one.have}, {"detail", short_text(one.detail, 200)},
          {"from", std::move(from)}};
}

struct Swarm {
  std::int64_t total = 0;
  std::int64_t rate = 0;
  std::vector<std::pair<const Glance*, const Moving*>> rows;
};

/// By path, those that move most first.
std::vector<std::pair<std::string, Swarm>> swarms_of(const Glances& glances) {
  std::map<std::string, Swarm> all;
  for (const auto& node : glances.nodes)
    for (const auto& one : node.moving) {
      auto& swarm = all[one.path];
      swarm.total = std::max(swarm.total, one.total);
      swarm.rate += one.rate;
      swarm.rows.emplace_back(&node, &one);
    }
  std::vector<std::pair<std::string, Swarm>> out(std::make_move_iterator(all.begin()),
                                                 std::make_move_iterator(all.end()));
  std::ranges::stable_sort(out,
                           [](const auto& a, const auto& b) { return a.second.rows.size() > b.second.rows.size(); });
  return out;
}

json swarm_json(const std::string& path, const Swarm& swarm, std::size_t from, std::size_t most) {
  json bars = json::array();
  for (auto i = from; i < swarm.rows.size() && bars.size() < most; ++i)
    bars.push_back(row_of(swarm.rows[i].first->node, *swarm.rows[i].second));
  const auto more = swarm.rows.size() - std::min(swarm.rows.size(), from + bars.size());
  return {{"name", short_text(path, 1000)}, {"at", url_path(path)},    {"total", swarm.total}, {"rate", swarm.rate},
          {"nodes", swarm.rows.size()},     {"bars", std::move(bars)}, {"more", more}};
}

json gets_json(const Glances& glances, std::size_t most, std::size_t& all) {
  json out = json::array();
  all = 0;
  for (const auto& node : glances.nodes)
    for (const auto& get : node.gets) {
      if (++all > most) continue;
      json whats = json::array();
      for (const auto& what : get.whats) whats.push_back(short_text(shown_what(what)));
      out.push_back({{"node", printable(node.node)},
                     {"number", get.number},
                     {"whats", std::move(whats)},
                     {"more_whats", get.more_whats},
                     {"state", to_text(get.state)},
                     {"detail", short_text(get.detail)},
                     {"files_done", get.files_done},
                     {"files_total", get.files_total},
                     {"done", get.done},
                     {"total", get.total},
                     {"rate", get.rate}});
    }
  return out;
}

json live_json(const Glances& glances, const Facts& facts, const Most& most) {
  std::int64_t rate = 0;
  std::int64_t up_rate = 0;
  std::size_t answering = 0;
  for (const auto& node : glances.nodes) {
    rate += node.rate;
    up_rate += node.up_rate;
    if (node.error.empty() || node.is_old) ++answering;
  }
  json swarms = json::array();
  const auto all_swarms = swarms_of(glances);
  for (std::size_t i = 0; i < std::min(all_swarms.size(), most.swarms); ++i)
    swarms.push_back(swarm_json(all_swarms[i].first, all_swarms[i].second, 0, most.bars));
  std::size_t all_gets = 0;
  auto gets = gets_json(glances, most.gets, all_gets);
  json warnings = json::array();
  const auto all_warnings = warnings_of(glances);
  for (std::size_t i = 0; i < std::min(all_warnings.size(), most.warnings); ++i) {
    const auto& one = all_warnings[i];
    warnings.push_back({{"level", one.is_fault ? "fault" : "warning"},
                        {"node", printable(one.node)},
                        {"what", short_text(one.what)},
                        {"mend", short_text(one.mend)}});
  }
  const auto more = [](std::size_t all, std::size_t shown) { return all - std::min(all, shown); };
  return {{"name", printable(facts.name)},
          {"program", facts.program},
          {"version", facts.version},
          {"started", facts.started},
          {"allowed", facts.allowed},
          {"nodes", glances.nodes.size()},
          {"answering", answering},
          {"absent", glances.absent.size()},
          {"rate", rate},
          {"up_rate", up_rate},
          {"hour",
           {{"received", glances.hour.received},
            {"from_sources", glances.hour.from_sources},
            {"from_origins", glances.hour.from_origins}}},
          {"swarms", std::move(swarms)},
          {"more_swarms", more(all_swarms.size(), most.swarms)},
          {"gets", std::move(gets)},
          {"more_gets", more(all_gets, most.gets)},
          {"warnings", std::move(warnings)},
          {"more_warnings", more(all_warnings.size(), most.warnings)}};
}

}  // namespace

std::string live(const Glances& glances, const Facts& facts) {
  // As much as fits: names may be long.
  for (Most most;; most = {most.swarms / 2, most.bars / 2, most.gets / 2, most.warnings / 2}) {
    auto out = to_text(live_json(glances, facts, most), -1);
    if (out.size() <= most_answer_bytes || most.warnings == 0) return out;
  }
}

std::string nodes(const Glances& glances, const std::string& find, const std::string& after) {
  const auto wanted = lower(find);
  json rows = json::array();
  std::string next;
  std::size_t bytes = 0;
  std::string last;
  // Both are sorted, and a node is in one of them.
  std::vector<std::pair<std::string, const Glance*>> all;
  for (const auto& node : glances.nodes) all.emplace_back(node.node, &node);
  for (const auto& name : glances.absent) all.emplace_back(name, nullptr);
  std::ranges::stable_sort(all, {}, [](const auto& one) -> const auto& { return one.first; });
  for (const auto& [name, node] : all) {
    if (!after.empty() && name <= after) continue;
    if (!wanted.empty() && lower(name).find(wanted) == std::string::npos) continue;
    if (rows.size() >= page_rows || bytes > most_answer_bytes * 3 / 4) {
      next = last;
      break;
    }
    json row = {{"node", printable(name)}};
    if (node == nullptr)
      row["state"] = "absent";
    else
      row.update({{"state", node->is_old           ? "old"
                            : !node->error.empty() ? "silent"
                            : node->has_no_view    ? "alone"
                                                   : "here"},
                  {"detail", printable(node->is_old ? std::string() : node->error)},
                  {"version", printable(node->version)},
                  {"entries", node->entries},
                  {"space", node->space},
                  {"free", node->free},
                  {"cached", node->cached},
                  {"rate", node->rate},
                  {"up_rate", node->up_rate},
                  {"gets", node->gets.size() + static_cast<std::size_t>(std::max(node->more_gets, 0))},
                  {"moving", node->moving.size() + static_cast<std::size_t>(std::max(node->more_moving, 0))}});
    bytes += to_text(row, -1).size();
    rows.push_back(std::move(row));
    last = name;
  }
  return to_text({{"rows", std::move(rows)}, {"next", url_path(next)}}, -1);
}

std::string swarm(const Glances& glances, const std::string& path, const std::string& after) {
  for (const auto& [name, one] : swarms_of(glances)) {
    if (name != path) continue;
    const auto begin = std::ranges::find_if(one.rows, [&](const auto& row) { return row.first->node > after; });
    const auto from = after.empty() ? 0 : static_cast<std::size_t>(begin - one.rows.begin());
    for (auto most = page_rows;; most /= 2) {
      auto out = swarm_json(name, one, from, most);
      const auto shown = out.at("bars").size();
      out["next"] = out.at("more") > 0 && shown > 0 ? url_path(one.rows[from + shown - 1].first->node) : std::string();
      auto text = to_text(out, -1);
      if (text.size() <= most_answer_bytes || most <= 1) return text;
    }
  }
  Swarm none;
  auto out = swarm_json(path, none, 0, 0);
  out["next"] = "";
  return to_text(out, -1);
}

std::string files(const Listed& listed) {
  json rows = json::array();
  std::size_t bytes = 0;
  std::string next = listed.next;
  for (const auto& item : listed.items) {
    if (bytes > most_answer_bytes * 3 / 4) {
      next = listed.items[rows.size() - 1].entry.path;
      break;
    }
    json row = {{"name", printable(item.entry.path)},
                {"at", url_path(item.entry.path)},
                {"kind", kind_name(item.entry.kind)},
                {"size", item.entry.kind == Kind::directory ? 0 : item.entry.size},
                {"mtime", item.entry.mtime / 1'000'000'000},
                {"holders", item.holders},
                {"versions", item.versions},
                {"unsure", item.unsure},
                {"hashed", item.entry.id.is_set()}};
    bytes += to_text(row, -1).size();
    rows.push_back(std::move(row));
  }
  return to_text({{"rows", std::move(rows)}, {"next", url_path(next)}, {"view", printable(listed.view)}}, -1);
}

std::string file(const Versions& versions, const std::string& path) {
  constexpr std::size_t most_versions = 20;
  constexpr std::size_t most_nodes = 100;
  json all = json::array();
  for (const auto& one : versions.versions) {
    if (all.size() >= most_versions) break;
    json nodes = json::array();
    std::size_t bytes = 0;
    for (const auto& node : one.nodes) {
      if (nodes.size() >= most_nodes || bytes > most_answer_bytes / 2 / most_versions) break;
      nodes.push_back(printable(node));
      bytes += node.size() * 4;
    }
    all.push_back({{"chosen", one.chosen},
                   {"size", one.entry.size},
                   {"mtime", one.entry.mtime / 1'000'000'000},
                   {"id", one.entry.id.is_set() ? one.entry.id.hex() : std::string()},
                   {"kind", kind_name(one.entry.kind)},
                   {"nodes", std::move(nodes)},
                   {"node_count", one.nodes.size()}});
  }
  const auto more = versions.versions.size() - all.size();
  return to_text(
      {{"name", printable(path)}, {"at", url_path(path)}, {"versions", std::move(all)}, {"more_versions", more}}, -1);
}

std::string glob_for(const std::string& text) {
  std::string out = "**/*";
  for (const auto c : text) {
    if (c >= 'a' && c <= 'z')
      out += {'[', c, static_cast<char>(c - 'a' + 'A'), ']'};
    else if (c >= 'A' && c <= 'Z')
      out += {'[', static_cast<char>(c - 'A' + 'a'), c, ']'};
    else if (c == '/')
      out += "*/*";
    else if (c == '*' || c == '?' || c == '[' || c == '\\')
      out += {'\\', c};
    else
      out += c;
  }
  return out + "*";
}

}  // namespace mesh::page_view
