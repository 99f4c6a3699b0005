// meshfile: what is in the mesh, and what is going on. Parse, call, print.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <csignal>
#include <nlohmann/json.hpp>

#include "client.h"
#include "core/format.h"
#include "core/mesh_path.h"
#include "library/maker.h"
#include "progress_view.h"

namespace {

using namespace mesh;
using nlohmann::json;

struct Asked {
  std::string path;
  std::vector<std::string> whats;
  Get get;
  Stream stream;
  std::vector<std::string> on;
  bool recursive = false;
  bool local = false;
  bool mesh = false;
  bool watch = false;
  bool discard = false;
  bool quiet = false;
  bool as_json = false;
  std::string output;
  std::int64_t seconds = 0;
  std::string cacert;
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
  spawn(co_await asio::this_coro::executor, channel->run(handlers));
  co_return channel;
}

/// It is here, and goes to others: nodes, other clients, or a guest.
bool is_seeding(const TransferInfo& t) { return t.state == "seeding" || t.state == "foreign" || t.state == "guest"; }

std::int64_t from_mesh(const TransferInfo& t) {
  return is_seeding(t) ? 0 : std::max<std::int64_t>(0, t.done - t.from_origin);
}

/// Where a file that has a URL comes from.
std::string origins(const TransferInfo& t) {
  if (t.from_origin == 0) return {};
  return "  (from origin " + human_bytes(t.from_origin) + ", from mesh " + human_bytes(from_mesh(t)) + ")";
}

void say_view(const std::string& view) {
  if (!view.empty()) say("meshfile", "no tracker answers: " + view);
}

/// What a listing says about a path of which there is not just one version.
std::string conflict_mark(const ListItem& item) {
  if (item.versions > 1)
    return "  (" + std::to_string(item.versions) + (item.unsure ? " versions or more)" : " versions)");
  return item.unsure ? "  (perhaps several versions)" : "";
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
    if (question.after.empty()) say_view(page.view);
    for (const auto& item : page.items) {
      if (asked.as_json) {
        auto one = to_json(item.entry);
        one["holders"] = item.holders;
        one["versions"] = item.versions;
        one["versions_unsure"] = item.unsure;
        items.push_back(std::move(one));
      } else {
        const auto size = item.entry.kind == Kind::file
                              ? human_bytes(item.entry.size)
                              : std::string(item.entry.kind == Kind::directory ? "dir" : "link");
        std::printf("%9s  %s  %4d  %s%s\n", size.c_str(), human_time(item.entry.mtime).c_str(), item.holders,
                    shown_path(item.entry).c_str(), conflict_mark(item).c_str());
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
    for (const auto& get : node.gets) {
      std::string whats;
      for (const auto& what : get.whats)
        if (whats.size() < 100) whats += " " + printable(what);
      if (get.state == "failed") {
        std::printf("  get%s: failed: %s\n", whats.c_str(), get.errors.empty() ? "" : printable(get.errors[0]).c_str());
        continue;
      }
      std::printf("  get%s: %s%s  %d/%d files  %s / %s  %s/s%s\n", whats.c_str(), printable(get.state).c_str(),
                  get.detached ? "" : " (a meshget waits for it)", get.files_done, get.files_total,
                  human_bytes(get.done).c_str(), human_bytes(get.total).c_str(), human_bytes(get.rate).c_str(),
                  get.detail.empty() ? "" : ("  " + printable(get.detail)).c_str());
    }
    for (const auto& t : node.transfers) {
      if (is_seeding(t))
        std::printf("  %-40s %s  %s sent  %s/s  %d peers\n", printable(t.path).c_str(), printable(t.state).c_str(),
                    human_bytes(t.sent).c_str(), human_bytes(t.up_rate).c_str(), t.peers);
      else
        std::printf("  %-40s %s  %s%s\n", printable(t.path).c_str(), printable(t.state).c_str(),
                    (describe_transfer(t) + origins(t)).c_str(),
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
    say_view(reply.view);
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
                               {"from_origin", t.from_origin},
                               {"from_mesh", from_mesh(t)},
                               {"peers", t.peers},
                               {"infohash", t.infohash},
                               {"eta_seconds", t.eta},
                               {"queued", t.queued},
                               {"detail", t.detail}});
        json gets = json::array();
        for (const auto& get : one.gets)
          gets.push_back({{"number", get.number},
                          {"whats", get.whats},
                          {"state", get.state},
                          {"detail", get.detail},
                          {"detached", get.detached},
                          {"files_done", get.files_done},
                          {"files_total", get.files_total},
                          {"done", get.done},
                          {"total", get.total},
                          {"rate", get.rate},
                          {"status", get.status},
                          {"errors", get.errors}});
        nodes.push_back({{"node", one.node},
                         {"error", one.error},
                         {"tracker_connected", one.tracker_connected},
                         {"members_known", one.members},
                         {"entries", one.files},
                         {"torrents_loaded", one.torrents_loaded},
                         {"gets", gets},
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
  question.seconds = asked.seconds;
  const TorrentFile reply = co_await channel->request(question, std::chrono::hours(24));
  std::vector<std::string> urls;
  if (asked.seconds > 0 && !reply.guest)
    throw Error(Status::failed, "guest torrents are a node's, and none runs on " + node.files.string());
  for (const auto& tracker : reply.trackers) urls.push_back("http://" + tracker + "/announce");
  const auto bytes = torrent_file(reply.torrent.info, urls);
  // By what was asked for: the other side's word is no name for a file here.
  const std::string name(last_part(question.path));
  const auto output = asked.output.empty() ? name + ".torrent" : asked.output;
  if (output == "-") {
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
  } else {
    // A guest's is a secret: who has it may have the file.
    const Fd out(::open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, reply.guest ? 0600 : 0666));
    struct stat s {};
    const bool is_file = out && ::fstat(out.get(), &s) == 0 && S_ISREG(s.st_mode);
    if (!out || (reply.guest && is_file && ::fchmod(out.get(), 0600) != 0) ||
        ::write(out.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
      throw Error(Status::failed, output + ": cannot be written: " + std::generic_category().message(errno));
    std::error_code ec;
    const auto path = std::filesystem::absolute(output, ec).string();
    if (asked.as_json)
      print({{"torrent", path},
             {"infohash", reply.torrent.infohash.hex()},
             {"content_id", reply.torrent.id.hex()},
             {"name", name},
             {"trackers", urls}});
    else
      std::printf("%s\n", path.c_str());
  }
  if (urls.empty()) say("meshfile", "the torrent names no tracker, as none answers: other clients find nobody by it");
  if (!asked.as_json && !reply.guest)
    say("meshfile", "the torrent's file is named by its content; aria2c " + shell_quoted("--index-out=1=" + name) +
                        " restores the name (other clients: rename " + reply.torrent.id.hex() + ")");
  co_return 0;
}

// --- orders --------------------------------------------------------------------------------------------------------

/// Texts that every node reads alike, whatever its files dir.
std::vector<std::string> portable(const std::vector<std::string>& whats, const NodeOptions& node) {
  std::vector<std::string> out;
  for (const auto& text : whats) out.push_back(portable_text(parse_what(text, node.files.string())));
  return out;
}

/// Has the tracker pass a request on to other nodes.
template <class Request>
Task<Relayed> relay(const NodeOptions& node, const Handlers& handlers, Request request, std::vector<std::string> to) {
  const auto channel = co_await channel_for(node, handlers, false);
  Relay order;
  order.order.kind = Request::name;
  order.order.body = to_bencode(request);
  if (to.size() != 1 || to.front() != "all") order.nodes = std::move(to);
  co_return co_await channel->request(order, std::chrono::hours(24 * 365));
}

/// What each node answered to a get, wait or cancel; the lines of those that did it go to stdout.
int print_answers(const Relayed& reply, const Asked& asked, const char* did) {
  int status = 0;
  json nodes = json::array();
  for (const auto& answer : reply.answers) {
    auto one = static_cast<int>(known_result(answer.status));
    // What has no status of its own reads as 0.
    if (one == 0 && !answer.body.empty())
      one = static_cast<int>(known_result(from_bencode<GetReply>(answer.body).status));
    status = std::max(status, one);
    if (asked.as_json)
      nodes.push_back({{"node", answer.node}, {"status", one}, {"error", answer.error}});
    else if (one == 0)
      std::printf("%s: %s\n", printable(answer.node).c_str(), did);
    else
      say("meshfile", printable(answer.node) + ": " + answer.error);
  }
  if (asked.as_json) print({{"status", status}, {"nodes", nodes}});
  if (reply.answers.empty()) throw Error(Status::unreachable, "no node is in the mesh");
  return status;
}

Task<int> get(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  Get request = asked.get;
  request.detach = true;
  if (!asked.on.empty()) {
    request.whats = portable(request.whats, node);
    const Relayed reply = co_await relay(node, handlers, request, asked.on);
    co_return print_answers(reply, asked, "gets it");
  }
  const auto channel = co_await channel_for(node, handlers, true);
  const GetReply reply = co_await channel->request(request, std::chrono::seconds(30));
  if (asked.as_json)
    print({{"status", reply.status}, {"detached", true}});
  else if (::isatty(STDERR_FILENO) == 1)
    say("meshfile", "under way; meshfile status shows it, meshfile wait waits for it");
  co_return reply.status;
}

Task<int> wait(const NodeOptions& node, const Asked& asked, const Handlers& handlers,
               std::shared_ptr<std::vector<GetOutcome>> outcomes) {
  Wait request;
  request.whats = asked.whats;
  if (!asked.on.empty()) {
    request.whats = portable(request.whats, node);
    // A slice at a time, so that no node waits for a command that is gone.
    request.seconds = 20;
    Relayed all;
    std::vector<std::pair<std::string, Wait>> waiting;
    const auto sort_out = [&](Relayed reply) {
      for (auto& answer : reply.answers) {
        const auto state = answer.status == 0 ? from_bencode<GetReply>(answer.body) : GetReply{};
        if (!state.running) {
          all.answers.push_back(std::move(answer));
          continue;
        }
        auto again = request;
        again.numbers = state.numbers;
        waiting.emplace_back(answer.node, std::move(again));
      }
    };
    Relayed first = co_await relay(node, handlers, request, asked.on);
    sort_out(std::move(first));
    // One node after another: the last of them is what is waited for.
    while (!waiting.empty()) {
      const auto [name, again] = waiting.back();
      waiting.pop_back();
      const std::vector<std::string> to(1, name);
      Relayed next = co_await relay(node, handlers, again, to);
      sort_out(std::move(next));
    }
    std::ranges::sort(all.answers, {}, &Relayed::Answer::node);
    co_return print_answers(all, asked, "done");
  }
  // A node that is restarted goes on with its gets, and so does this.
  std::optional<GetReply> answer;
  bool reached = false;
  for (auto seen = std::chrono::steady_clock::now(); !answer;) {
    std::optional<Error> lost;
    bool connected = false;
    try {
      const auto channel = co_await channel_for(node, handlers, true);
      reached = connected = true;
      answer = co_await channel->request(request, std::chrono::hours(24 * 365));
    } catch (const Error& error) {
      if (error.status() != Status::unreachable || !reached) throw;
      lost = error;
      if (connected) seen = std::chrono::steady_clock::now();
    }
    if (lost && std::chrono::steady_clock::now() - seen > std::chrono::seconds(15)) throw Error(*lost);
    if (lost) co_await sleep_for(std::chrono::milliseconds(200));
  }
  const GetReply reply = *answer;
  json errors = json::array();
  for (const auto& one : *outcomes) {
    if (asked.as_json)
      errors.push_back({{"what", one.mesh_path}, {"status", one.status}, {"error", one.error}});
    else
      say("meshfile", one.error);
  }
  if (asked.as_json) print({{"status", reply.status}, {"errors", errors}});
  co_return reply.status;
}

Task<int> cancel(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  Cancel request;
  request.whats = asked.whats;
  request.discard = asked.discard;
  if (!asked.on.empty()) {
    request.whats = portable(request.whats, node);
    const Relayed reply = co_await relay(node, handlers, request, asked.on);
    co_return print_answers(reply, asked, "stopped");
  }
  const auto channel = co_await channel_for(node, handlers, true);
  const Cancelled reply = co_await channel->request(request, std::chrono::minutes(1));
  if (asked.as_json) print({{"stopped", reply.stopped}, {"discarded", reply.discarded}});
  co_return 0;
}

json to_json(const Deleted& deleted) {
  return {{"deleted", deleted.paths},
          {"count", deleted.count},
          {"bytes", deleted.bytes},
          {"errors", deleted.errors},
          {"status", deleted.status}};
}

void print_deleted(const std::string& node, const Deleted& deleted) {
  for (const auto& error : deleted.errors) say("meshfile", (node.empty() ? "" : printable(node) + ": ") + error);
  if (deleted.count == 0) return;
  std::printf("%sdeleted %lld, %s", node.empty() ? "" : (printable(node) + ": ").c_str(),
              static_cast<long long>(deleted.count), human_bytes(deleted.bytes).c_str());
  if (deleted.count == static_cast<std::int64_t>(deleted.paths.size()) && deleted.count <= 20)
    for (const auto& path : deleted.paths)
      std::printf("%s%s", &path == &deleted.paths.front() ? ": " : " ", printable(path).c_str());
  std::printf("\n");
}

Task<int> remove(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  Delete request;
  request.whats = portable(asked.whats, node);
  if (!asked.mesh) {
    const auto channel = co_await channel_for(node, handlers, true);
    Deleted reply = co_await channel->request(request, std::chrono::hours(24));
    for (const auto& missing : reply.missing) {
      reply.errors.push_back(printable(missing) + ": not found on this node");
      reply.status = static_cast<int>(worst(static_cast<Status>(reply.status), Status::not_found));
    }
    if (asked.as_json)
      print(to_json(reply));
    else
      print_deleted("", reply);
    co_return reply.status;
  }
  const std::vector<std::string> everyone(1, "all");
  const Relayed reply = co_await relay(node, handlers, request, everyone);
  int status = 0;
  bool found = false;
  json nodes = json::array();
  for (const auto& answer : reply.answers) {
    Deleted deleted;
    if (answer.status == 0) {
      deleted = from_bencode<Deleted>(answer.body);
      deleted.status = static_cast<int>(known_result(deleted.status));
    } else {
      deleted.status = static_cast<int>(known_result(answer.status));
      deleted.errors.push_back(answer.error);
    }
    // A node that has nothing of it has nothing to report.
    if (deleted.count == 0 && deleted.status == 0) continue;
    found = true;
    status = std::max(status, deleted.status);
    if (asked.as_json) {
      auto one = to_json(deleted);
      one["node"] = answer.node;
      nodes.push_back(std::move(one));
    } else {
      print_deleted(answer.node, deleted);
    }
  }
  if (asked.as_json) print({{"nodes", nodes}, {"absent", reply.absent}});
  for (const auto& name : reply.absent)
    say("meshfile", printable(name) + ": is not in the mesh now; what it has of this comes back with it");
  if (!found) {
    std::string whats;
    for (const auto& what : asked.whats) whats += (whats.empty() ? "" : ", ") + printable(what);
    throw Error(Status::not_found, whats + ": not found on any of " + std::to_string(reply.answers.size()) +
                                       (reply.answers.size() == 1 ? " node" : " nodes"));
  }
  co_return status;
}

Task<int> stream(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  const auto channel = co_await channel_for(node, handlers, true);
  Stream request = asked.stream;
  request.path = asked.path;
  const StreamEnd end = co_await channel->request(request, std::chrono::hours(24 * 365));
  if (asked.as_json) {
    const json out = {{"size", end.size}, {"from_sources", end.from_sources}, {"from_getters", end.from_getters}};
    std::fprintf(stderr, "%s\n", out.dump().c_str());
  }
  co_return 0;
}

/// Straight to stdout: a reader that is slow holds up the node in turn.
void write_out(const std::string& data) {
  for (std::size_t at = 0; at < data.size();) {
    const auto n = ::write(STDOUT_FILENO, data.data() + at, data.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      say("meshfile", "stdout: " + std::generic_category().message(errno));
      std::_Exit(static_cast<int>(Status::failed));
    }
    at += static_cast<std::size_t>(n);
  }
}

/// What a shell may put in place of the word that is being typed: one path a line, directories with a '/'.
Task<int> complete(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  constexpr std::size_t most = 1000;
  std::string_view word = asked.path;
  std::string lead;
  const auto strip = [&](std::string_view prefix) {
    if (!word.starts_with(prefix)) return;
    lead += prefix;
    word.remove_prefix(prefix.size());
  };
  strip("tar:");
  strip("file:");
  strip(node.files.string() + "/");
  while (word.starts_with('/')) strip("/");
  const auto slash = word.rfind('/');
  List question;
  question.pattern = slash == std::string_view::npos ? "" : std::string(word.substr(0, slash));
  question.prefix = std::string(slash == std::string_view::npos ? word : word.substr(slash + 1));
  question.local = asked.local;
  if (!question.pattern.empty() && !is_mesh_path(question.pattern)) co_return 0;
  const auto channel = co_await channel_for(node, handlers, asked.local);
  std::size_t said = 0;
  do {
    const Listed page = co_await channel->request(question, std::chrono::seconds(3));
    for (const auto& item : page.items) {
      if (printable(item.entry.path) != item.entry.path || ++said > most) continue;
      std::printf("%s%s%s\n", lead.c_str(), item.entry.path.c_str(), item.entry.kind == Kind::directory ? "/" : "");
    }
    question.after = page.next;
  } while (!question.after.empty() && said < most);
  co_return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return guarded("meshfile", [&] {
    CLI::App app("Shows what is in the mesh and what is going on in it, and has nodes get, delete and stream files.",
                 "meshfile");
    CommonOptions options;
    Asked asked;
    add_common(app, options);
    // A node's settings are the configuration file's, for when this starts one.
    std::string hash = "ondemand";
    const auto shown = app.get_options();
    add_node(app, options, hash);
    for (auto* option : app.get_options())
      if (std::ranges::find(shown, option) == shown.end()) option->group("");
    under(app, "Options");
    app.add_flag("--json", asked.as_json, "JSON on stdout");
    app.fallthrough();
    const auto add_on = [&](CLI::App* command, const char* help) {
      command->add_option("--on", asked.on, help)->type_name("all|NODE,NODE")->delimiter(',')->allow_extra_args(false);
    };
    auto* list_command = app.add_subcommand(
        "list", "What a directory, or the whole mesh, holds: size, time, number of nodes that have it");
    list_command->add_option("PATH", asked.path, "A path, directory or glob (default: /)")->default_str("/");
    list_command->add_flag("-r,--recursive", asked.recursive, "With everything below");
    list_command->add_flag("--local", asked.local, "Only this node's files");
    auto* get_command = app.add_subcommand("get", "Has this node get files, and returns at once");
    add_get(*get_command, asked.get);
    add_url(*get_command, asked.get, asked.cacert);
    int active = 0;
    add_limits(*get_command, asked.get.max_down, asked.get.max_up, active);
    add_on(get_command, "Have other nodes get them: all, or these");
    auto* wait_command = app.add_subcommand("wait", "Waits until gets are done, and says how they ended");
    wait_command->add_option("WHAT", asked.whats, "As it was asked for, or a file of it (default: every get)");
    wait_command->add_flag("--quiet", asked.quiet, "No progress");
    add_on(wait_command, "Wait for what other nodes get: all, or these");
    auto* cancel_command = app.add_subcommand("cancel", "Stops getting files; what has arrived is kept");
    cancel_command->add_option("WHAT", asked.whats, "What is not wanted any more")->required();
    cancel_command->add_flag("--discard", asked.discard, "Drop what has arrived as well");
    add_on(cancel_command, "On other nodes: all, or these");
    auto* delete_command = app.add_subcommand("delete", "Deletes files, globs, directories with all below");
    delete_command->add_option("WHAT", asked.whats, "A path, directory or glob; / empties the files directory")
        ->required();
    delete_command->add_flag("--mesh", asked.mesh, "On every node that has it");
    auto* stream_command = app.add_subcommand(
        "stream", "Writes a file to stdout while it arrives, without putting it into the files directory");
    stream_command->add_option("PATH", asked.path, "The file")->required();
    stream_command->add_option("--from", asked.stream.from, "Only this node's version")->type_name("NODE");
    stream_command->add_flag("--strict", asked.stream.strict, "Several versions of the path are an error");
    stream_command
        ->add_option("--spool", asked.stream.spool, "Keep at most this much on the disk at once (default: the file)")
        ->transform(CLI::AsSizeValue(true).description(""))
        ->type_name("SIZE");
    auto* status_command = app.add_subcommand("status", "This node's gets and transfers");
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
    torrent_command
        ->add_option(
            "--for", asked.seconds,
            "A guest torrent: anybody who has it can download the file, from this node alone, for so long (90s, "
            "30m, 1h, 7d; at most 30d)")
        ->transform(
            CLI::AsNumberWithUnit(std::map<std::string, std::int64_t>{{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}},
                                  CLI::AsNumberWithUnit::UNIT_REQUIRED))
        ->check(CLI::Range(std::int64_t{1}, std::int64_t{30} * 86400).description(""))
        ->type_name("TIME");
    // For the shells' completion; not for people.
    auto* complete_command = app.add_subcommand("complete", "")->group("");
    complete_command->add_option("WORD", asked.path);
    complete_command->add_flag("--local", asked.local);
    app.footer(
        "list, info, torrent and what is done on other nodes ask the node of the files directory, or, where none "
        "runs,\n"
        "the tracker. meshfile COMMAND --help says more.\n\n"
        "Exit status: 0 done, 1 failed, 2 usage, 3 not found, 4 no tracker or node reachable, 5 refused, 130 stopped.");
    for (auto* command : app.get_subcommands({})) command->fallthrough();
    app.require_subcommand(0, 1);
    app.allow_extras();
    if (const int status = parse(app, options, argc, argv); status >= 0) return status;
    if (const auto extra = app.remaining(); app.get_subcommands().empty())
      throw Error(Status::usage, (extra.empty() ? "say what to do" : "'" + printable(extra[0]) + "' is no command") +
                                     " (meshfile --help lists the commands)");
    else if (!extra.empty())
      throw Error(Status::usage, printable(extra[0]) + ": is not expected here (meshfile " +
                                     app.get_subcommands().front()->get_name() + " --help shows the usage)");
    if (asked.path.empty() && !complete_command->parsed()) asked.path = "/";
    asked.get.max_active = active;
    std::error_code ec;
    options.node.files = std::filesystem::absolute(options.node.files, ec).lexically_normal();
    for (const auto& what : asked.get.whats) static_cast<void>(parse_what(what, options.node.files.string()));
    for (const auto& what : asked.whats) static_cast<void>(parse_what(what, options.node.files.string()));
    asked.get.ca = read_ca(asked.cacert);
    std::signal(SIGPIPE, SIG_DFL);
    if (stream_command->parsed() && ::isatty(STDOUT_FILENO) == 1)
      throw Error(Status::usage, "stream: stdout is a terminal; send it to a file or a program");
    // These need a node: where none runs, this is the time to start one.
    if (stream_command->parsed() || (get_command->parsed() && asked.on.empty())) {
      options.node.linger_seconds = 30;
      options.node.hash_eagerly = hash == "eager";
      ensure_node(options.node);
    }
    asio::io_context io(1);
    ProgressView view(asked.quiet || asked.as_json);
    const auto outcomes = std::make_shared<std::vector<GetOutcome>>();
    Handlers handlers;
    handlers.on_note<StreamData>([](const ChannelPtr&, StreamData note) { write_out(note.data); });
    handlers.on_note<Progress>([&](const ChannelPtr&, Progress progress) { view.show(progress); });
    handlers.on_note<Outcomes>([&](const ChannelPtr&, Outcomes page) {
      view.clear();
      for (auto& one : page.outcomes) outcomes->push_back(std::move(one));
    });
    const auto& node = options.node;
    auto work = list_command->parsed()       ? list(node, asked, handlers)
                : get_command->parsed()      ? get(node, asked, handlers)
                : wait_command->parsed()     ? wait(node, asked, handlers, outcomes)
                : cancel_command->parsed()   ? cancel(node, asked, handlers)
                : delete_command->parsed()   ? remove(node, asked, handlers)
                : stream_command->parsed()   ? stream(node, asked, handlers)
                : status_command->parsed()   ? status(node, asked, handlers)
                : info_command->parsed()     ? info(node, asked, handlers)
                : complete_command->parsed() ? complete(node, asked, handlers)
                                             : torrent(node, asked, handlers);
    const int status = *run_to_end(io, std::move(work));
    view.clear();
    std::fflush(stdout);
    std::_Exit(status);
    return status;
  });
}
