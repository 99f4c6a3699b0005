#include "page/warnings.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <utility>

#include "core/format.h"
#include "core/mends.h"

namespace mesh {
namespace {

constexpr std::size_t most_of_a_node = 4;
constexpr std::int64_t asked_within_ms = 2'000;  // one after another: so much later does the last one say its time

constexpr std::string_view of_mesh = "file:";

std::string whats_of(const GetGlance& get) {
  std::string out;
  for (const auto& what : get.whats) out += (out.empty() ? "" : " ") + std::string(shown_what(what));
  return get.more_whats > 0 ? out + " and " + std::to_string(get.more_whats) + " more" : out;
}

void look_at(const Glance& node, std::vector<Warning>& out) {
  const auto warn = [&](std::string what, std::string mend) {
    out.push_back({false, node.node, std::move(what), std::move(mend)});
  };
  const auto fault = [&](std::string what, std::string mend) {
    out.push_back({true, node.node, std::move(what), std::move(mend)});
  };
  if (node.is_old) return;
  if (!node.error.empty())
    return fault("does not answer: " + node.error, "there: systemctl status meshseed, and meshfile doctor");
  if (node.has_no_view)
    fault("no tracker answers it, nor another node", "there: meshfile doctor, which says what it does not reach");
  if (node.space > 0) {
    const auto room = mends::look_at_disk(node.free, node.space);
    const auto left = human_bytes(node.free) + " free of " + human_bytes(node.space);
    const auto mend = "there: " + std::string(mends::disk);
    if (room == mends::Disk::full) fault("its disk is full: " + left, mend);
    if (room == mends::Disk::low) warn("its disk is nearly full: " + left, mend);
  }
  for (const auto& get : node.gets) {
    if (get.state == GetState::failed)
      fault("a get failed: " + whats_of(get) + (get.detail.empty() ? "" : ": " + get.detail),
            "mend what it says, and get it again; meshfile wait there ends the report");
    else if (!get.detail.empty() && (get.state == GetState::paused || get.state == GetState::queued))
      warn("a get waits: " + whats_of(get) + ": " + get.detail, "mend what it says: it goes on by itself");
  }
  // As a rule a get waits for it, which has said so.
  const bool is_said =
      std::ranges::any_of(node.gets, [](const GetGlance& get) { return get.state == GetState::paused; });
  for (const auto& one : node.moving)
    if (one.state == TransferState::paused && !is_said)
      warn(one.path + ": waits" + (one.detail.empty() ? "" : ": " + one.detail),
           "mend what it says: it goes on by itself");
}

void look_at_versions(const Glances& glances, std::vector<Warning>& out) {
  std::map<std::string, int> versions;
  for (const auto& node : glances.nodes)
    if (!node.version.empty()) ++versions[node.version];
  if (versions.empty()) return;
  const auto& most = std::ranges::max_element(versions, {}, [](const auto& one) { return one.second; })->first;
  for (const auto& node : glances.nodes)
    if (node.is_old || (!node.version.empty() && node.version != most))
      out.push_back({false, node.node,
                     "is of " + (node.is_old ? "an older version" : "version " + node.version) + ", most of " + most,
                     std::string(mends::version)});
}

void look_at_clocks(const Glances& glances, std::vector<Warning>& out) {
  std::vector<std::int64_t> all;
  for (const auto& node : glances.nodes)
    if (node.clock > 0) all.push_back(node.clock);
  if (all.size() < 2) return;
  std::ranges::sort(all);
  // Of two nobody knows which one is right: the later one is said to be ahead.
  const auto median = all[(all.size() - 1) / 2];
  for (const auto& node : glances.nodes) {
    if (node.clock <= 0) continue;
    const auto off = node.clock - median;
    if (std::abs(off) <= mends::clock_warn_ms + asked_within_ms) continue;
    const auto by = std::to_string(std::abs(off) / 1000) + " s " + (off > 0 ? "ahead of" : "behind");
    const bool is_fault = std::abs(off) > mends::clock_fault_ms;
    out.push_back({is_fault, node.node,
                   "its clock is " + by + " the others'" + (is_fault ? ": older versions may win" : ""),
                   "there: " + std::string(mends::clock)});
  }
}

}  // namespace

std::string_view shown_what(std::string_view what) {
  return what.starts_with(of_mesh) ? what.substr(of_mesh.size()) : what;
}

std::vector<Warning> warnings_of(const Glances& glances) {
  std::vector<Warning> out;
  for (const auto& node : glances.nodes) look_at(node, out);
  for (const auto& name : glances.absent)
    out.push_back({false, name, "was in the mesh, and is not now", "there: systemctl status meshseed"});
  look_at_versions(glances, out);
  look_at_clocks(glances, out);
  if (!glances.view.empty())
    out.push_back({true, "", glances.view,
                   glances.view.starts_with("no tracker") ? "on the tracker's host: systemctl status meshtracker"
                                                          : "on those that do not answer: meshfile doctor"});
  // One node's do not hide the others'.
  std::map<std::string, std::size_t> of_node;
  std::erase_if(out, [&](const Warning& one) { return !one.node.empty() && ++of_node[one.node] > most_of_a_node; });
  std::ranges::stable_sort(out, [](const Warning& a, const Warning& b) {
    return std::pair(!a.is_fault, a.node) < std::pair(!b.is_fault, b.node);
  });
  return out;
}

}  // namespace mesh
