#include <unistd.h>

#include <algorithm>

#include "core/format.h"
#include "meshfile/commands.h"
#include "meshfile/shared.h"
#include "progress_view.h"

namespace mesh::meshfile {
namespace {

/// Where the bytes of a file come from that has a URL, or of which there was something here.
std::string origins(const TransferInfo& t) {
  if (t.reused > 0)
    return "  (reused " + human_bytes(t.reused) + ", fetched " + human_bytes(from_mesh(t) + t.from_origin) + ")";
  if (t.from_origin == 0) return {};
  return "  (from origin " + human_bytes(t.from_origin) + ", from mesh " + human_bytes(from_mesh(t)) + ")";
}

void print_status(const StatusReply& reply) {
  for (const auto& node : reply.nodes) {
    if (!node.error.empty()) {
      std::printf("%s: %s\n", printable(node.node).c_str(), printable(node.error).c_str());
      continue;
    }
    std::string mesh = node.tracker_connected ? "tracker connected" : "tracker not reachable";
    if (node.has_no_tracker)
      mesh = "no tracker, " + std::to_string(node.members) + (node.members == 1 ? " other node" : " other nodes") +
             " known";
    std::printf("%s: %d entries, %d torrents loaded, %s\n", printable(node.node).c_str(), node.files,
                node.torrents_loaded, mesh.c_str());
    if (node.cached > 0)
      std::printf("  %s of files that were read and not got (meshfile cache)\n", human_bytes(node.cached).c_str());
    for (const auto& get : node.gets) {
      std::string whats;
      for (const auto& what : get.whats)
        if (whats.size() < 100) whats += " " + printable(what);
      if (get.state == GetState::failed) {
        std::printf("  get%s: failed: %s\n", whats.c_str(), get.errors.empty() ? "" : printable(get.errors[0]).c_str());
        continue;
      }
      std::printf("  get%s: %s%s  %d/%d files  %s / %s  %s/s%s\n", whats.c_str(), to_text(get.state),
                  get.detached ? "" : " (a meshget waits for it)", get.files_done, get.files_total,
                  human_bytes(get.done).c_str(), human_bytes(get.total).c_str(), human_bytes(get.rate).c_str(),
                  get.detail.empty() ? "" : ("  " + printable(get.detail)).c_str());
    }
    for (const auto& t : node.transfers) {
      if (is_seeding(t.state))
        std::printf("  %-40s %s  %s sent  %s/s  %d %s\n", printable(t.path).c_str(), to_text(t.state),
                    human_bytes(t.sent).c_str(), human_bytes(t.up_rate).c_str(), t.peers,
                    t.peers == 1 ? "peer" : "peers");
      else
        std::printf("  %-40s %s  %s%s\n", printable(t.path).c_str(), to_text(t.state),
                    (describe_transfer(t) + origins(t)).c_str(),
                    t.detail.empty() ? "" : ("  " + printable(t.detail)).c_str());
    }
  }
}

}  // namespace

Task<Status> status(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  Conversation conversation(node, handlers, !asked.mesh);
  StatusAsk question;
  question.mesh = asked.mesh;
  for (;;) {
    const StatusReply reply = co_await conversation.ask(question, std::chrono::seconds(15));
    say_view(reply.view);
    if (asked.as_json) {
      json nodes = json::array();
      for (const auto& one : reply.nodes) nodes.push_back(to_json(one));
      print(nodes);
    } else {
      if (asked.watch && ::isatty(STDOUT_FILENO) == 1) std::printf("\x1b[H\x1b[2J");
      print_status(reply);
    }
    // What cannot be written is said at the end.
    if (!asked.watch || std::fflush(stdout) != 0) co_return Status::ok;
    co_await sleep_for(std::chrono::seconds(1));
  }
}

}  // namespace mesh::meshfile
