// meshget: puts files of the mesh into the local files dir. Parse, call, print.
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <nlohmann/json.hpp>

#include "client.h"
#include "core/format.h"
#include "core/mesh_path.h"
#include "progress_view.h"

namespace {

using namespace mesh;

struct Asked {
  Get get;
  bool quiet = false;
  bool json = false;
  bool print0 = false;
  int linger = 30;
};

/// The get over one connection; nothing when the node went away before it had answered.
Task<std::optional<GetReply>> get_once(ChannelPtr channel, const Handlers& handlers, const Get& request) {
  asio::co_spawn(co_await asio::this_coro::executor, channel->run(handlers), asio::detached);
  try {
    co_return co_await channel->request(request, std::chrono::hours(24 * 365));
  } catch (const Error& error) {
    if (channel->is_open()) throw;
  }
  co_return std::nullopt;
}

Task<int> run(const NodeOptions& node, const Asked& asked, ProgressView& view) {
  Handlers handlers;
  handlers.on_note<Progress>([&](const ChannelPtr&, Progress progress) { view.show(progress); });
  std::vector<GetOutcome> outcomes;
  handlers.on_note<Outcomes>([&](const ChannelPtr&, Outcomes page) {
    for (auto& one : page.outcomes) outcomes.push_back(std::move(one));
  });
  std::optional<GetReply> reply;
  const auto lost_after = std::chrono::seconds(15);
  auto seen = std::chrono::steady_clock::now();
  while (!reply) {
    ChannelPtr channel = co_await find_node(node);
    if (channel) {
      outcomes.clear();
      reply = co_await get_once(channel, handlers, asked.get);
      if (!reply) seen = std::chrono::steady_clock::now();
    } else if (std::chrono::steady_clock::now() - seen > lost_after) {
      throw Error(Status::unreachable,
                  "the node went away and did not come back within 15 s; what has arrived is kept, and a get goes on "
                  "from there");
    }
    // A node that is restarted goes on where it was, and so does this.
    if (!reply) co_await sleep_for(std::chrono::milliseconds(200));
  }
  view.clear();
  for (const auto& one : outcomes) {
    if (!one.error.empty()) say("meshget", one.error);
    if (one.kept && one.print && !asked.quiet) say("meshget", printable(one.mesh_path) + ": is here already");
  }
  if (asked.json) {
    nlohmann::json files = nlohmann::json::array();
    for (const auto& one : outcomes)
      files.push_back({{"path", one.path},
                       {"mesh_path", one.mesh_path},
                       {"what", asked.get.whats.at(static_cast<std::size_t>(one.what))},
                       {"status", one.status},
                       {"error", one.error},
                       {"kept", one.kept},
                       {"size", one.size},
                       {"from_sources", one.from_sources},
                       {"from_getters", one.from_getters}});
    const nlohmann::json out = {{"status", reply->status}, {"detached", asked.get.detach}, {"files", files}};
    std::printf("%s\n", out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  } else {
    for (const auto& one : outcomes) {
      if (!one.print) continue;
      std::fwrite(one.path.data(), 1, one.path.size(), stdout);
      std::fputc(asked.print0 ? '\0' : '\n', stdout);
    }
  }
  std::fflush(stdout);
  co_return reply->status;
}

}  // namespace

int main(int argc, char** argv) {
  return guarded("meshget", [&] {
    CLI::App app("Gets files of the mesh into the local files directory, verified, and prints their paths.", "meshget");
    CommonOptions options;
    Asked asked;
    std::string hash = "ondemand";
    add_common(app, options);
    add_node(app, options, hash);
    add_get(app, asked.get);
    app.add_flag("--detach", asked.get.detach, "Return at once; the node goes on (meshfile status shows it)");
    app.add_option("--linger", asked.linger,
                   "Where no meshseed runs: go on serving others for this long after they last needed it")
        ->type_name("SECONDS")
        ->check(CLI::Range(0, 86400).description(""));
    app.add_flag("--quiet", asked.quiet, "No progress");
    app.add_flag("--json", asked.json, "The outcome as JSON");
    app.add_flag("--print0", asked.print0, "Paths end with NUL instead of a newline");
    app.footer(
        "Prints one absolute local path for each WHAT that it got; for a glob, one for each file.\n\n"
        "Exit status, the highest where there are several WHATs: 0 done, 1 a transfer failed, 2 usage, 3 not found,\n"
        "4 no tracker, node or peer reachable, 5 refused, 130 interrupted.");
    if (const int status = parse(app, options, argc, argv); status >= 0) return status;
    std::error_code ec;
    options.node.files = std::filesystem::absolute(options.node.files, ec).lexically_normal();
    for (const auto& what : asked.get.whats) static_cast<void>(parse_what(what, options.node.files.string()));
    options.node.hash_eagerly = hash == "eager";
    options.node.linger_seconds = asked.linger;
    std::signal(SIGPIPE, SIG_IGN);
    // The limits hold for this get; where it is the node, for the node as well.
    asked.get.max_down = options.node.max_down;
    asked.get.max_up = options.node.max_up;
    if (!app.get_option("--max-active")->empty()) asked.get.max_active = options.node.max_active;
    ensure_node(options.node);
    asio::io_context io(1);
    ProgressView view(asked.quiet);
    bool interrupted = false;
    asio::signal_set signals(io, SIGINT, SIGTERM);
    signals.async_wait([&](const boost::system::error_code& failed, int) {
      if (failed) return;
      interrupted = true;
      io.stop();
    });
    const auto status = run_to_end(io, run(options.node, asked, view));
    view.clear();
    if (interrupted) {
      say("meshget", "interrupted; what has arrived is kept, and the same meshget goes on from there");
      std::_Exit(static_cast<int>(Status::interrupted));
    }
    std::fflush(stdout);
    std::_Exit(*status);
    return 0;
  });
}
