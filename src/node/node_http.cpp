// A node's HTTP gateway, and what it tells of the node.
#include <sys/statvfs.h>

#include "core/address.h"
#include "get/getter.h"
#include "mesh/tracker_links.h"
#include "node/node.h"
#include "page/page.h"
#include "serve/http_gateway.h"
#include "serve/range_teller.h"
#include "swarm/session.h"
#include "transfer/prefetcher.h"
#include "transfer/read_cache.h"
#include "transfer/read_profiles.h"
#include "transfer/transfers.h"
#include "version.h"
#include "wire/endpoint.h"
#include "wire/http_token.h"
#include "wire/mesh_key.h"
#include "wire/to_json.h"

namespace mesh {
namespace {

/// How it was set up, without what is secret.
nlohmann::json config_of(const NodeOptions& options) {
  nlohmann::json follow = nlohmann::json::array();
  for (const auto& directory : options.follow) follow.push_back(directory.string());
  return {{"name", options.name},
          {"files", options.files.string()},
          {"state", options.state_dir().string()},
          {"control", options.control_socket().string()},
          {"control_group", options.control_group},
          {"trackers", options.trackers},
          {"peers", options.peers},
          {"discover", options.discover},
          {"listen", options.listen},
          {"advertise", options.advertise},
          {"http", options.http},
          {"http_names", options.http_names},
          {"http_allow", options.http_allow},
          {"head", options.head},
          {"open", options.open},
          {"has_key", options.keys != nullptr},
          {"follow", follow},
          {"ignore", options.ignore},
          {"keep", options.keep},
          {"keep_max", options.keep_max},
          {"cache", options.cache},
          {"hash", options.hash_eagerly ? "eager" : "ondemand"},
          {"refuse", options.refuse},
          {"max_down", options.max_down},
          {"max_up", options.max_up},
          {"max_active", options.max_active},
          {"max_gets", options.max_gets},
          {"max_peers", options.max_peers}};
}

}  // namespace

/// What is counted from the start of the process, what goes up and down, and what it takes.
std::string Node::metrics() {
  Metrics out;
  const auto now = status();
  out.gauge("build_info", "1; the version is a label.", 1, {{"version", MESH_VERSION}, {"program", "meshseed"}});
  std::map<std::string, int> transfers;
  int peers = 0;
  for (const auto state : {TransferState::downloading, TransferState::seeding}) transfers[to_text(state)];
  for (const auto& one : now.transfers) ++transfers[to_text(one.state)], peers += one.peers;
  for (const auto& [state, count] : transfers)
    out.gauge("transfers", "Files that are moved, or offered to those who have a part, by state.", count,
              {{"state", state}});
  std::map<std::string, int> gets{{to_text(GetState::running), 0}, {to_text(GetState::failed), 0}};
  for (const auto& one : now.gets) ++gets[to_text(one.state)];
  for (const auto& [state, count] : gets)
    out.gauge("gets", "Gets under way, and those that failed and that nobody has heard of, by state.", count,
              {{"state", state}});
  const auto silence = std::chrono::duration<double>(watch_.silence(SelfWatch::Clock::now()));
  out.gauge("get_silence_seconds",
            "Of downloads under way the one for which nothing has come for the longest: for how long.",
            silence.count());
  const auto& totals = transfers_->totals();
  const auto& small = getter_->small_files();
  const auto files = static_cast<double>(totals.files + small.arrived());
  out.counter("files_received_total", "Files that have arrived.", files);
  const char* bytes = "Bytes of files that have arrived, by where from: the mesh, the origin of a URL, files here.";
  out.counter("received_bytes_total", bytes, static_cast<double>(totals.from_mesh + small.arrived_bytes()),
              {{"source", "mesh"}});
  out.counter("received_bytes_total", bytes, static_cast<double>(totals.from_origin), {{"source", "origin"}});
  out.counter("received_bytes_total", bytes, static_cast<double>(totals.reused), {{"source", "reused"}});
  out.counter("ranges_sent_bytes_total", "Bytes that were sent to readers elsewhere.",
              static_cast<double>(range_teller_->sent()));
  out.counter("pieces_failed_total", "Pieces that arrived and were not what they should be.",
              static_cast<double>(session_->pieces_failed()));
  out.gauge("peers", "Connections in swarms.", peers);
  out.gauge("torrents_loaded", "Swarms that this node is in.", now.torrents_loaded);
  out.gauge("entries", "Files, links and directories of this node that are in the mesh.", now.files);
  out.gauge("members", "Other nodes that this one knows of.", now.members);
  out.gauge("mesh_reachable", "1: a tracker or another node says what the mesh has.",
            now.tracker_connected || (now.has_no_tracker && now.members > 0) ? 1 : 0);
  for (const auto& tracker : links_->states())
    out.gauge("tracker_registered", "1: this node is registered there.", tracker.trouble.empty() ? 1 : 0,
              {{"tracker", tracker.tracker}});
  out.gauge("cache_bytes", "Bytes that were read and not got (meshfile cache).", static_cast<double>(now.cached));
  struct statvfs disk {};
  if (::statvfs(options_.files.c_str(), &disk) == 0) {
    const auto block = static_cast<double>(disk.f_frsize);
    out.gauge("disk_free_bytes", "Room on the file system of the files directory.",
              static_cast<double>(disk.f_bavail) * block);
    out.gauge("disk_size_bytes", "Size of that file system.", static_cast<double>(disk.f_blocks) * block);
    if (disk.f_files > 0)  // else there are as many as it takes
      out.gauge("disk_free_inodes", "Inodes that are free there.", static_cast<double>(disk.f_favail));
  }
  out.gauge("http_connections", "Connections to --http.", http_->connections());
  out.histogram("loop_latency_seconds", "How late the node's loop comes to what is due, each second.", watch_.loop());
  out.requests(watch_.requests());
  return out.text();
}

void Node::listen_for_http() {
  if (options_.http.empty()) return;
  HttpListener::Options options;
  options.names = options_.access().http_names;
  options.token = !options_.http_secret.empty() ? options_.http_secret
                  : options_.http_token.empty() ? state_->secret("http-token", random_secret).hex()
                                                : token_of(options_.http_token);
  http_ = HttpListener::open(workers_->loop(), options_.http, std::move(options));
  const auto timed = [this](std::string_view request, SelfWatch::Clock::duration took) {
    watch_.answered(request, took);
  };
  mesh_handlers_.on_answered = command_handlers_.on_answered = tracker_handlers_.on_answered = timed;
  http_->add_page("/metrics", Metrics::type, [this]() -> Task<std::string> { co_return metrics(); });
  http_->add_page("/config", "application/json",
                  [this]() -> Task<std::string> { co_return to_text(config_of(options_), 1) + "\n"; });
  http_->add_page("/status.json", "application/json", [this]() -> Task<std::string> {
    auto out = to_json(status());
    out["format"] = 1;
    co_return to_text(out, 1) + "\n";
  });
  http_->add_page("/stats", "application/json", [this]() -> Task<std::string> {
    const CacheUsage usage = co_await read_cache_->usage();
    auto out = to_json(status());
    out["cache"] = {{"bytes", usage.bytes},
                    {"most_bytes", usage.most_bytes},
                    {"contents", usage.contents},
                    {"open", usage.open},
                    {"unsaved", usage.unsaved}};
    out["http_connections"] = http_->connections();
    out["profiles"] = library_->db().profiles();
    out["ranges_sent"] = range_teller_->sent();
    co_return to_text(out, 1) + "\n";
  });
  page_ = std::make_unique<Page>(
      workers_->loop(), *http_, command_handlers_,
      Page::Options{options_.name, "meshseed", {options_.http_allow.begin(), options_.http_allow.end()}});
  gateway_ = std::make_unique<HttpGateway>(*http_, HttpGateway::Options{options_.read_patience}, read_from(), *getter_);
}

}  // namespace mesh
