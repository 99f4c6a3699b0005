#include "mount/pages.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/format.h"
#include "wire/to_json.h"

namespace mesh {
namespace {

using nlohmann::json;

std::string rendered(const json& value) { return to_text(value, 2) + "\n"; }

std::string time_of(std::int64_t milliseconds) { return human_time(milliseconds * 1'000'000); }

std::string line(const std::string& key, const std::string& value) {
  auto head = key + ":";
  if (head.size() < 10) head.resize(10, ' ');
  return head + value + "\n";
}

/// Nodes that answered, by their version.
std::map<std::string, int> versions(const StatusReply& mesh) {
  std::map<std::string, int> out;
  for (const auto& node : mesh.nodes)
    if (node.error.empty()) ++out[node.version.empty() ? "unknown" : node.version];
  return out;
}

struct Space {
  std::int64_t all = 0;
  std::int64_t free = 0;
};
Space space_of(const StatusReply& mesh) {
  Space out;
  for (const auto& node : mesh.nodes) out.all += node.space, out.free += node.free;
  return out;
}

std::ptrdiff_t silent(const StatusReply& mesh) {
  return std::ranges::count_if(mesh.nodes, [](const NodeStatus& node) { return !node.error.empty(); });
}

std::string free_of(const NodeStatus& node) {
  return node.space > 0 ? human_bytes(node.free) + " free of " + human_bytes(node.space) : "free space unknown";
}

}  // namespace

std::string cluster_info(const ClusterTold& cluster, const StatusReply& mesh) {
  const auto missing = silent(mesh);
  auto out = line("nodes", std::to_string(mesh.nodes.size()) +
                               (missing > 0 ? ", of which " + std::to_string(missing) + " do not answer" : ""));
  std::string of;
  for (const auto& [version, count] : versions(mesh))
    of += (of.empty() ? "" : ", ") + printable(version) + " on " + std::to_string(count);
  out += line("versions", of);
  const auto [all, free] = space_of(mesh);
  out += line("space", human_bytes(free) + " free of " + human_bytes(all));
  for (std::size_t i = 0; i < cluster.trackers.size(); ++i) {
    const bool is_well = i >= cluster.troubles.size() || cluster.troubles[i].empty();
    out += line("tracker",
                printable(cluster.trackers[i]) + (is_well ? ", registered" : ": " + printable(cluster.troubles[i])));
  }
  if (cluster.trackers.empty()) out += line("tracker", "none is named; the nodes keep the index");
  if (!mesh.view.empty()) out += line("view", printable(mesh.view));
  out += line("seen by", printable(cluster.node));
  if (!cluster.changes.empty()) out += "changes, the last first:\n";
  for (const auto& change : cluster.changes)
    out += "  " + time_of(change.time) + "  " + printable(change.node) + " " + printable(change.what) + "\n";
  return out;
}

std::string cluster_info_json(const ClusterTold& cluster, const StatusReply& mesh) {
  json trackers_json = json::array();
  for (std::size_t i = 0; i < cluster.trackers.size(); ++i)
    trackers_json.push_back({{"tracker", cluster.trackers[i]},
                             {"trouble", i < cluster.troubles.size() ? cluster.troubles[i] : std::string()}});
  json changes = json::array();
  for (const auto& change : cluster.changes)
    changes.push_back({{"time_ms", change.time}, {"node", change.node}, {"what", change.what}});
  const auto [all, free] = space_of(mesh);
  return rendered({{"nodes", mesh.nodes.size()},
                   {"silent", silent(mesh)},
                   {"versions", versions(mesh)},
                   {"bytes_space", all},
                   {"bytes_free", free},
                   {"trackers", trackers_json},
                   {"view", mesh.view},
                   {"seen_by", cluster.node},
                   {"changes", changes}});
}

std::string cluster_nodes(const StatusReply& mesh) {
  std::string out;
  for (const auto& node : mesh.nodes) {
    out += printable(node.node);
    if (!node.error.empty())
      out += "  " + printable(node.error);
    else
      out += "  " + (node.version.empty() ? "version unknown" : printable(node.version)) + "  " +
             std::to_string(node.files) + " entries  " + free_of(node);
    out += "\n";
  }
  return out;
}

std::string cluster_nodes_json(const StatusReply& mesh) {
  json out = json::array();
  for (const auto& node : mesh.nodes) out.push_back(to_json(node));
  return rendered(out);
}

std::string node_info(const NodeStatus& node) {
  auto out = line("node", printable(node.node));
  if (!node.error.empty()) return out + line("trouble", printable(node.error));
  out += line("version", node.version.empty() ? "unknown" : printable(node.version));
  out += line("entries", std::to_string(node.files));
  out += line("space", free_of(node));
  out += line("tracker", node.tracker_connected ? "registered"
                         : node.has_no_tracker  ? "none is named"
                                                : "not reachable");
  out += line("torrents", std::to_string(node.torrents_loaded) + " loaded");
  if (node.cached > 0) out += line("cache", human_bytes(node.cached));
  StatusReply one;
  one.nodes.push_back(node);
  return out + transfers(one);
}

std::string node_info_json(const NodeStatus& node) { return rendered(to_json(node)); }

std::string transfers(const StatusReply& here) {
  std::string out;
  for (const auto& node : here.nodes) {
    for (const auto& get : node.gets) {
      out += "get";
      for (const auto& what : get.whats) out += " " + printable(what);
      out += std::string("  ") + to_text(get.state) + "  " + std::to_string(get.files_done) + "/" +
             std::to_string(get.files_total) + " files  " + human_bytes(get.done) + " / " + human_bytes(get.total) +
             "  " + human_bytes(get.rate) + "/s" + (get.detail.empty() ? "" : "  " + printable(get.detail)) + "\n";
    }
    for (const auto& t : node.transfers) {
      out += printable(t.path) + "  " + to_text(t.state) + "  ";
      if (is_seeding(t.state))
        out += human_bytes(t.sent) + " sent  " + human_bytes(t.up_rate) + "/s";
      else
        out += human_bytes(t.done) + " / " + human_bytes(t.total) + "  " + human_bytes(t.down_rate) + "/s" +
               (t.eta >= 0 ? "  " + human_seconds(t.eta) : "");
      out += "  " + std::to_string(t.peers) + (t.peers == 1 ? " peer" : " peers") +
             (t.detail.empty() ? "" : "  " + printable(t.detail)) + "\n";
    }
  }
  return out;
}

std::string transfers_json(const StatusReply& here) {
  return rendered(here.nodes.empty() ? json::object() : to_json(here.nodes.front()));
}

std::string trackers(const ClusterTold& cluster) {
  std::string out;
  for (const auto& tracker : cluster.trackers) out += tracker + "\n";
  return out;
}

std::vector<std::string> read_trackers(std::string_view text) {
  std::vector<std::string> out;
  constexpr std::string_view between = " \t\r\n,";
  for (std::size_t at = text.find_first_not_of(between); at != std::string_view::npos;
       at = text.find_first_not_of(between, at)) {
    const auto end = std::min(text.find_first_of(between, at), text.size());
    out.emplace_back(text.substr(at, end - at));
    at = end;
  }
  if (out.empty()) throw Error(Status::usage, "names no tracker; HOST:PORT is expected");
  return out;
}

}  // namespace mesh
