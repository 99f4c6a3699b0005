// meshfile: what is in the mesh, and what is going on. Parse, call, print.
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>

#include "client.h"
#include "core/format.h"
#include "core/mesh_path.h"
#include "node/maker.h"
#include "progress_view.h"

namespace {

using namespace mesh;
using nlohmann::json;

struct Asked {
  std::string path;
  bool recursive = false;
  bool local = false;
  bool mesh = false;
  bool watch = false;
  bool as_json = false;
  std::string output;
};

void print(const json& value) {
  std::printf("%s\n", value.dump(2, ' ', false, json::error_handler_t::replace).c_str());
}

const char* kind_name(Kind kind) {
  switch (kind) {
    case Kind::file:
      return "file";
    case Kind::directory:
      return "directory";
    case Kind::link:
      return "link";
    case Kind::outside:
      return "outside";
  }
  return "unknown";
}

json to_json(const FileEntry& entry) {
  json out = {{"path", entry.path},
              {"kind", kind_name(entry.kind)},
              {"size", entry.size},
              {"mtime_ns", entry.mtime},
              {"mode", entry.mode}};
  if (!entry.target.empty()) out["target"] = entry.target;
  if (entry.id.is_set()) out["content_id"] = entry.id.hex();
  return out;
}

std::string shown_path(const FileEntry& entry) {
  auto out = printable(entry.path);
  if (entry.kind == Kind::directory) out += "/";
  if (entry.kind == Kind::link) out += " -> " + printable(entry.target);
  if (entry.kind == Kind::outside) out += " -> " + printable(entry.target) + " (outside: not served)";
  return out;
}

Task<ChannelPtr> channel_for(const NodeOptions& node, const Handlers& handlers, bool local) {
  ChannelPtr channel;
  if (local)
    channel = co_await find_node(node);
  else
    channel = co_await find_node_or_tracker(node);
  if (!channel)
    throw Error(Status::unreachable,
                "no node runs on " + node.files.string() + "; start meshseed, or give its --files or --control");
  asio::co_spawn(co_await asio::this_coro::executor, channel->run(handlers), asio::detached);
  co_return channel;
}

Task<int> list(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  const auto channel = co_await channel_for(node, handlers, asked.local);
  const auto what = parse_what(asked.path, node.files.string());
  List question;
  question.pattern = what.pattern;
  question.glob = what.is_glob;
  question.recursive = asked.recursive;
  question.local = asked.local;
  json items = json::array();
  do {
    const Listed page = co_await channel->request(question, std::chrono::seconds(150));
    for (const auto& item : page.items) {
      if (asked.as_json) {
        auto one = to_json(item.entry);
        one["holders"] = item.holders;
        one["versions"] = item.versions;
        items.push_back(std::move(one));
      } else {
        const auto size = item.entry.kind == Kind::file
                              ? human_bytes(item.entry.size)
                              : std::string(item.entry.kind == Kind::directory ? "dir" : "link");
        std::printf("%9s  %s  %4d  %s%s\n", size.c_str(), human_time(item.entry.mtime).c_str(), item.holders,
                    shown_path(item.entry).c_str(),
                    item.versions > 1 ? ("  (" + std::to_string(item.versions) + " versions)").c_str() : "");
      }
    }
    question.after = page.next;
  } while (!question.after.empty());
  if (asked.as_json) print(items);
  co_return 0;
}

void print_status(const StatusReply& reply) {
  for (const auto& node : reply.nodes) {
    if (!node.error.empty()) {
      std::printf("%s: %s\n", printable(node.node).c_str(), printable(node.error).c_str());
      continue;
    }
    std::printf("%s: %d entries, %d torrents loaded, tracker %s\n", printable(node.node).c_str(), node.files,
                node.torrents_loaded, node.tracker_connected ? "connected" : "not reachable");
    for (const auto& t : node.transfers) {
      if (t.state == "seeding")
        std::printf("  %-40s seeding  %s sent  %s/s  %d peers\n", printable(t.path).c_str(),
                    human_bytes(t.sent).c_str(), human_bytes(t.up_rate).c_str(), t.peers);
      else
        std::printf("  %-40s %s%s  %s%s\n", printable(t.path).c_str(), printable(t.state).c_str(),
                    t.queued ? " (queued)" : "", describe_transfer(t).c_str(),
                    t.detail.empty() ? "" : ("  " + printable(t.detail)).c_str());
    }
  }
}

Task<int> status(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  const auto channel = co_await channel_for(node, handlers, !asked.mesh);
  StatusAsk question;
  question.mesh = asked.mesh;
  for (;;) {
    const StatusReply reply = co_await channel->request(question, std::chrono::seconds(15));
    if (asked.as_json) {
      json nodes = json::array();
      for (const auto& one : reply.nodes) {
        json transfers = json::array();
        for (const auto& t : one.transfers)
          transfers.push_back({{"path", t.path},
                               {"state", t.state},
                               {"done", t.done},
                               {"total", t.total},
                               {"rate", t.down_rate},
                               {"up_rate", t.up_rate},
                               {"sent", t.sent},
                               {"peers", t.peers},
                               {"eta_seconds", t.eta},
                               {"queued", t.queued},
                               {"detail", t.detail}});
        nodes.push_back({{"node", one.node},
                         {"error", one.error},
                         {"tracker_connected", one.tracker_connected},
                         {"entries", one.files},
                         {"torrents_loaded", one.torrents_loaded},
                         {"transfers", transfers}});
      }
      print(nodes);
    } else {
      if (asked.watch && ::isatty(STDOUT_FILENO) == 1) std::printf("\x1b[H\x1b[2J");
      print_status(reply);
    }
    std::fflush(stdout);
    if (!asked.watch) co_return 0;
    co_await sleep_for(std::chrono::seconds(1));
  }
}

Task<int> info(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  const auto channel = co_await channel_for(node, handlers, false);
  Info question;
  question.path = parse_what(asked.path, node.files.string()).pattern;
  const Versions reply = co_await channel->request(question, std::chrono::seconds(150));
  if (asked.as_json) {
    json versions = json::array();
    for (const auto& version : reply.versions) {
      auto one = to_json(version.entry);
      one["chosen"] = version.chosen;
      one["candidate"] = version.entry.kind == Kind::file && !version.entry.id.is_set();
      one["holders"] = version.nodes;
      versions.push_back(std::move(one));
    }
    print({{"path", question.path}, {"versions", versions}});
    co_return 0;
  }
  std::printf("%s: %zu %s\n", printable(question.path).c_str(), reply.versions.size(),
              reply.versions.size() == 1 ? "version" : "versions");
  for (const auto& version : reply.versions) {
    std::string nodes;
    for (const auto& name : version.nodes) nodes += (nodes.empty() ? "" : ", ") + printable(name);
    const auto& e = version.entry;
    std::printf("%s %s  %s  mode %04o  %s\n    %s: %s\n", version.chosen ? "*" : " ",
                e.kind == Kind::file ? human_bytes(e.size).c_str() : shown_path(e).c_str(), human_time(e.mtime).c_str(),
                e.mode,
                e.id.is_set()          ? e.id.hex().c_str()
                : e.kind == Kind::file ? "candidate: not hashed yet"
                                       : kind_name(e.kind),
                e.id.is_set() || e.kind != Kind::file ? "holders" : "on", nodes.c_str());
  }
  co_return 0;
}

std::string shell_quoted(const std::string& text) {
  if (!text.empty() &&
      text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-+=/:") ==
          std::string::npos)
    return text;
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

Task<int> torrent(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  const auto channel = co_await channel_for(node, handlers, false);
  TorrentAsk question;
  question.path = parse_what(asked.path, node.files.string()).pattern;
  const TorrentFile reply = co_await channel->request(question, std::chrono::hours(24));
  std::vector<std::string> urls;
  for (const auto& tracker : reply.trackers) urls.push_back("http://" + tracker + "/announce");
  const auto bytes = torrent_file(reply.torrent.info, urls);
  const auto output = asked.output.empty() ? reply.file_name + ".torrent" : asked.output;
  if (output == "-") {
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
  } else {
    std::ofstream out(output, std::ios::binary | std::ios::trunc);
    out << bytes;
    out.close();
    if (!out) throw Error(Status::failed, output + ": cannot be written");
    std::error_code ec;
    const auto path = std::filesystem::absolute(output, ec).string();
    if (asked.as_json)
      print({{"torrent", path},
             {"infohash", reply.torrent.infohash.hex()},
             {"content_id", reply.torrent.id.hex()},
             {"name", reply.file_name},
             {"trackers", urls}});
    else
      std::printf("%s\n", path.c_str());
  }
  if (!asked.as_json)
    say("meshfile", "the torrent's file is named by its content; aria2c " +
                        shell_quoted("--index-out=1=" + reply.file_name) +
                        " restores the name (other clients: rename " + reply.torrent.id.hex() + ")");
  co_return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return guarded("meshfile", [&] {
    CLI::App app("Shows what is in the mesh, and what is going on in it.", "meshfile");
    CommonOptions options;
    Asked asked;
    add_common(app, options);
    app.add_flag("--json", asked.as_json, "JSON on stdout");
    app.require_subcommand(1);
    app.fallthrough();
    auto* list_command = app.add_subcommand(
        "list", "What a directory, or the whole mesh, holds: size, time, number of nodes that have it");
    list_command->add_option("PATH", asked.path, "A path, directory or glob (default: /)")->default_str("/");
    list_command->add_flag("-r,--recursive", asked.recursive, "With everything below");
    list_command->add_flag("--local", asked.local, "Only this node's files");
    auto* status_command = app.add_subcommand("status", "This node's transfers");
    status_command->add_flag("--mesh", asked.mesh, "Every node's");
    status_command->add_flag("--watch", asked.watch, "Again every second");
    auto* info_command =
        app.add_subcommand("info", "A path's versions, candidates and holders; * marks what a get brings");
    info_command->add_option("PATH", asked.path)->required();
    auto* torrent_command = app.add_subcommand("torrent",
                                               "Writes NAME.torrent, with which other BitTorrent clients can download "
                                               "the file from the mesh, and prints its path");
    torrent_command->add_option("PATH", asked.path)->required();
    torrent_command->add_option("-o,--output", asked.output, "Write to FILE (- is stdout)")->type_name("FILE");
    app.footer(
        "Asks the node of the files directory, or, where none runs, the tracker.\n\nExit status: 0 done, 1 failed, 2 "
        "usage, 3 not found, 4 no tracker or node reachable, 5 refused.");
    for (auto* command : app.get_subcommands({})) command->fallthrough();
    if (const int status = parse(app, options, argc, argv); status >= 0) return status;
    if (asked.path.empty()) asked.path = "/";
    std::error_code ec;
    options.node.files = std::filesystem::absolute(options.node.files, ec).lexically_normal();
    std::signal(SIGPIPE, SIG_DFL);
    asio::io_context io(1);
    const Handlers handlers;
    auto work = list_command->parsed()     ? list(options.node, asked, handlers)
                : status_command->parsed() ? status(options.node, asked, handlers)
                : info_command->parsed()   ? info(options.node, asked, handlers)
                                           : torrent(options.node, asked, handlers);
    const int status = run_to_end(io, std::move(work));
    std::fflush(stdout);
    std::_Exit(status);
    return status;
  });
}
