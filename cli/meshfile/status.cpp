#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sstream>
#include <tuple>

#include "core/format.h"
#include "meshfile/commands.h"
#include "meshfile/shared.h"
#include "progress_view.h"
#include "terminal.h"

namespace mesh::meshfile {
namespace {

/// Where the bytes of a file come from that has a URL, or of which there was something here.
std::string origins(const TransferInfo& t) {
  if (t.reused > 0)
    return "  (reused " + human_bytes(t.reused) + ", fetched " + human_bytes(from_mesh(t) + t.from_origin) + ")";
  if (t.from_origin == 0) return {};
  return "  (from origin " + human_bytes(t.from_origin) + ", from mesh " + human_bytes(from_mesh(t)) + ")";
}

void print_status(const StatusReply& reply, std::FILE* out) {
  for (const auto& node : reply.nodes) {
    if (!node.error.empty()) {
      std::fprintf(out, "%s: %s\n", printable(node.node).c_str(), printable(node.error).c_str());
      continue;
    }
    std::string mesh = node.tracker_connected ? "tracker connected" : "tracker not reachable";
    if (node.has_no_tracker)
      mesh = "no tracker, " + std::to_string(node.members) + (node.members == 1 ? " other node" : " other nodes") +
             " known";
    std::fprintf(out, "%s: %d entries, %d torrents loaded, %s\n", printable(node.node).c_str(), node.files,
                 node.torrents_loaded, mesh.c_str());
    if (node.cached > 0)
      std::fprintf(out, "  %s of files that were read and not got (meshfile cache)\n",
                   human_bytes(node.cached).c_str());
    for (const auto& get : node.gets) {
      std::string whats;
      for (const auto& what : get.whats)
        if (whats.size() < 100) whats += " " + printable(what);
      if (get.state == GetState::failed) {
        std::fprintf(out, "  get%s: failed: %s\n", whats.c_str(),
                     get.errors.empty() ? "" : printable(get.errors[0]).c_str());
        continue;
      }
      std::fprintf(out, "  get%s: %s%s  %d/%d files  %s / %s  %s/s%s\n", whats.c_str(), to_text(get.state),
                   get.detached ? "" : " (a meshget waits for it)", get.files_done, get.files_total,
                   human_bytes(get.done).c_str(), human_bytes(get.total).c_str(), human_bytes(get.rate).c_str(),
                   get.detail.empty() ? "" : ("  " + printable(get.detail)).c_str());
    }
    for (const auto& t : node.transfers) {
      if (is_seeding(t.state))
        std::fprintf(out, "  %-40s %s  %s sent  %s/s  %d %s\n", printable(t.path).c_str(), to_text(t.state),
                     human_bytes(t.sent).c_str(), human_bytes(t.up_rate).c_str(), t.peers,
                     t.peers == 1 ? "peer" : "peers");
      else
        std::fprintf(out, "  %-40s %s  %s%s\n", printable(t.path).c_str(), to_text(t.state),
                     (describe_transfer(t) + origins(t)).c_str(),
                     t.detail.empty() ? "" : ("  " + printable(t.detail)).c_str());
    }
  }
}

/// As much of it as there is room for, in place of what was there.
void draw_status(StatusReply reply, const Terminal& terminal) {
  // What is on its way comes before what is offered, and what will take longest first.
  for (auto& node : reply.nodes)
    std::ranges::stable_sort(node.transfers, {}, [](const TransferInfo& info) {
      return std::tuple(is_seeding(info.state), info.queued, info.eta >= 0, -info.eta);
    });
  char* text = nullptr;
  std::size_t size = 0;
  std::FILE* memory = ::open_memstream(&text, &size);
  if (memory == nullptr) throw Error(Status::failed, "out of memory");
  print_status(reply, memory);
  std::fclose(memory);
  const std::unique_ptr<char, decltype(&std::free)> owned(text, &std::free);
  std::vector<std::string> lines;
  std::istringstream in(std::string(text, size));
  for (std::string line; std::getline(in, line);) lines.push_back(std::move(line));
  const auto room = std::max<std::size_t>(terminal.height, 3) - 1;
  if (lines.size() > room) {
    const auto more = lines.size() - room + 1;
    lines.resize(room - 1);
    lines.push_back("... and " + std::to_string(more) + " more lines");
  }
  std::string frame = "\x1b[H";
  for (const auto& line : lines) frame += cut_to(line, terminal.width - 1) + "\x1b[K\n";
  std::fputs((frame + "\x1b[J").c_str(), stdout);
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
      const auto terminal = terminal_of(STDOUT_FILENO);
      if (asked.watch && terminal.draws)
        draw_status(reply, terminal);
      else
        print_status(reply, stdout);
    }
    // What cannot be written is said at the end.
    if (!asked.watch || std::fflush(stdout) != 0) co_return Status::ok;
    co_await sleep_for(std::chrono::seconds(1));
  }
}

}  // namespace mesh::meshfile
