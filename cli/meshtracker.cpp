// meshtracker: the tracker service. Parse, call, print.
#include <boost/asio/signal_set.hpp>
#include <csignal>

#include <nlohmann/json.hpp>

#include "core/format.h"
#include "core/memory.h"
#include "options.h"
#include "page/page.h"
#include "run_as.h"
#include "service.h"
#include "tracker.h"
#include "version.h"
#include "wire/endpoint.h"
#include "wire/flow.h"
#include "wire/http_listener.h"
#include "wire/http_token.h"
#include "wire/metrics.h"

namespace {

/// What the tracker says of itself over HTTP.
struct Figures {
  const mesh::Tracker& tracker;
  mesh::TimeHistogram loop{};
  mesh::RequestTimes requests{};

  [[nodiscard]] std::string metrics() const {
    mesh::Metrics out;
    const auto now = tracker.counts();
    const auto number = [](std::size_t count) { return static_cast<double>(count); };
    out.gauge("build_info", "1; the version is a label.", 1, {{"version", MESH_VERSION}, {"program", "meshtracker"}});
    out.gauge("tracker_nodes", "Nodes that are connected.", number(now.nodes));
    out.gauge("tracker_registered_nodes", "Nodes whose files are all known.", number(now.registered));
    out.gauge("tracker_paths", "Paths in the catalog.", number(now.paths));
    out.gauge("tracker_copies", "Copies of them, over all nodes.", number(now.copies));
    out.gauge("tracker_swarms", "Swarms.", number(now.swarms));
    out.histogram("loop_latency_seconds", "How late the loop comes to what is due, each second.", loop);
    out.requests(requests);
    return out.text();
  }
  [[nodiscard]] std::string status() const {
    const auto now = tracker.counts();
    const nlohmann::json out = {
        {"format", 1},        {"version", MESH_VERSION}, {"nodes", now.nodes},  {"registered", now.registered},
        {"paths", now.paths}, {"copies", now.copies},    {"swarms", now.swarms}};
    return out.dump(1) + "\n";
  }
};

mesh::Task<void> watch_loop(Figures* figures) {
  for (;;) {
    const auto due = std::chrono::steady_clock::now() + std::chrono::seconds(1);
    co_await mesh::sleep_for(std::chrono::seconds(1));
    figures->loop.note(std::chrono::steady_clock::now() - due);
  }
}

mesh::Task<void> keep_house() {
  mesh::Trimmer trimmer;
  for (;;) {
    co_await mesh::sleep_for(std::chrono::minutes(1));
    trimmer.give_back();
  }
}

}  // namespace

int main(int argc, char** argv) {
  using namespace mesh;
  return guarded("meshtracker", [&] {
    CLI::App app("The mesh's tracker: knows which node has which file, and brings those who want one together.",
                 "meshtracker");
    CommonOptions options;
    add_common(app, options);
    app.add_option("--listen", options.node.listen,
                   "Where to listen (default: [::]:6969, IPv4 and IPv6; 127.0.0.1:6969 without --key or --open)")
        ->type_name("ADDR:PORT");
    std::string http_at;
    std::string http_token;
    app.add_option("--http", http_at,
                   "Serve a page for browsers that shows the mesh, /metrics (for Prometheus) and /status.json here, to "
                   "who sends the token, and to this user and "
                   "root on this machine; in a configuration file it is tracker-http")
        ->type_name("ADDR:PORT");
    app.add_option("--http-token", http_token, "The file of that token, made where there is none")->type_name("FILE");
    add_user(app, options.node.user);
    TrackerOptions tracker_options;
    under(app, "Limits");
    add_connections(app, tracker_options.connections);
    add_count(app, "--max-paths", tracker_options.max_paths, "Paths of one node; further ones are not in the mesh");
    add_count(
        app, "--max-announces", tracker_options.max_announces,
        "Announces and scrapes of other BitTorrent clients, a second from one address, but for this machine's own");
    add_count(app, "--max-announced", tracker_options.max_announced_peers,
              "Other BitTorrent clients that are remembered, over all torrents");
    app.footer(
        "Serves on one port: /control for nodes, /announce and /scrape for any BitTorrent client, /healthz.\n\nExit "
        "status: 0 stopped by a signal, 1 failed, 2 usage.");
    if (const int status = parse(app, options, argc, argv); status >= 0) return status;
    HttpListener::Options http_options;
    if (!http_token.empty()) http_options.token = token_of(http_token);  // while it may be read
    run_as_configured(options.node.user, argc, argv);

    const auto where = options.node.listen.empty()
                           ? HostPort{options.node.is_on_network() ? any_host() : "127.0.0.1", 6969}
                           : parse_host_port(options.node.listen, 6969);
    boost::system::error_code ec;
    const auto address = asio::ip::make_address(where.host, ec);
    if (ec) throw Error(Status::usage, "--listen " + options.node.listen + ": is no IP address and port");
    if (!options.node.is_on_network() && !address.is_loopback())
      throw Error(Status::usage, "--listen " + options.node.listen +
                                     " is not on loopback; without --key FILE (only members), or --open (everyone who "
                                     "reaches the port may use "
                                     "it), all stays on loopback");
    std::signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    asio::io_context io(1);
    tracker_options.listen = {address, where.port};
    tracker_options.access = options.node.access();
    Tracker tracker(io, tracker_options);
    Figures figures{tracker};
    HttpListenerPtr http;
    std::optional<Page> page;
    if (!http_at.empty()) {
      http_options.names = tracker_options.access.http_names;
      http = HttpListener::open(io, http_at, std::move(http_options));
      page.emplace(io, *http, tracker.handlers(), Page::Options{options.node.name, "meshtracker", {}});
      http->add_page("/metrics", Metrics::type, [&figures]() -> Task<std::string> { co_return figures.metrics(); });
      http->add_page("/status.json", "application/json",
                     [&figures]() -> Task<std::string> { co_return figures.status(); });
      tracker.set_on_answered([&figures](std::string_view request, std::chrono::steady_clock::duration took) {
        note_request(figures.requests, request, took);
      });
      spawn(io, watch_loop(&figures));
    }
    asio::signal_set signals(io, SIGTERM, SIGINT);
    signals.async_wait([&](const boost::system::error_code&, int) { io.stop(); });
    service_log("meshtracker",
                options)("listening on " + to_text(tracker.local()) +
                         (options.node.keys   ? "; for nodes that have the mesh key " + options.node.keys->first().name
                          : options.node.open ? "; open: everyone who can reach this port may use it"
                                              : "; on loopback only, for this user and root"));
    const auto told = tell_service_manager(io, "listening on " + to_text(tracker.local()));
    spawn(io, keep_house());
    io.run();
    // Nothing here outlives the process: every fact is a node's, and the nodes will tell it again.
    std::_Exit(0);
    return 0;
  });
}
