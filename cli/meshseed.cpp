// meshseed: the node as a service. Parse, call, print.
#include <cstdio>

#include "client.h"
#include "node/own_identity.h"
#include "node/run_node.h"
#include "options.h"
#include "run_as.h"
#include "service.h"
#include "wire/http_token.h"

int main(int argc, char** argv) {
  using namespace mesh;
  return guarded("meshseed", [&] {
    CLI::App app("A node of the mesh: offers the files directory, and fetches into it what meshget asks for.",
                 "meshseed");
    CommonOptions options;
    std::string hash = "ondemand";
    add_common(app, options);
    add_node(app, options, hash);
    bool print_identity = false;
    under(app, "Node");
    add_user(app, options.node.user);
    app.add_flag(
        "--print-identity", print_identity,
        "Print by what this node is known to the others, whatever its name, and exit: head = and this in the key "
        "file makes it a head node");
    app.footer(
        "Runs in the foreground until SIGTERM or SIGINT; a get that had not ended goes on at the next start.\n\n"
        "Exit status: 0 stopped by a signal, 1 failed, 2 usage.");
    if (const int status = parse(app, options, argc, argv); status >= 0) return status;
    // Root's, as the key is, where it was made for several services.
    if (!options.node.http.empty() && !options.node.http_token.empty())
      options.node.http_secret = token_of(options.node.http_token);
    run_as_configured(options.node.user, argc, argv);
    if (print_identity) {
      // A node that runs has seen to its identity, and only it may.
      const auto state = take_state(options.node);
      const auto identity =
          state ? identity_of(*state, service_log("meshseed", options))
                : known_identity(StateDir(options.node.state_dir(), Trust{group_number(options.node.control_group)}));
      std::printf("%s\n", identity->instance().c_str());
      return 0;
    }
    options.node.hash_eagerly = hash == "eager";
    const auto log = service_log("meshseed", options);
    NodeEvents events;
    events.log = log;
    events.serves = [](asio::io_context& io) { return tell_service_manager(io, "serving"); };
    events.take = [&] { return take_turn(options.node, log); };
    return run_node(options.node, events.take(), events);
  });
}
