// meshtracker: the tracker service. Parse, call, print.
#include <boost/asio/signal_set.hpp>
#include <csignal>

#include "core/memory.h"
#include "options.h"
#include "run_as.h"
#include "service.h"
#include "tracker.h"
#include "wire/endpoint.h"
#include "wire/flow.h"

namespace {

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
    std::string user;
    add_user(app, user);
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
    if (!user.empty()) run_as(user);

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
    const Tracker tracker(io, tracker_options);
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
