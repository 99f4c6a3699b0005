// meshget: puts files of the mesh into the local files dir. Parse, call, print.
#include <algorithm>
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/thread_pool.hpp>
#include <csignal>
#include <nlohmann/json.hpp>

#include "client.h"
#include "core/format.h"
#include "core/glob.h"
#include "core/mesh_path.h"
#include "core/url.h"
#include "handler.h"
#include "progress_view.h"

namespace {

using namespace mesh;

struct Asked {
  Get get;
  UnpackLimits limits;
  std::string cacert;
  bool quiet = false;
  bool json = false;
  bool print0 = false;
  int linger = 30;
};

/// Ctrl-C, as it reaches what is under way. There is one command, and one of these.
struct Interruption {
  std::atomic<bool> stop = false;
  std::weak_ptr<Channel> channel;  ///< of the get that runs
  void check() const {
    if (stop) throw Error(Status::interrupted, "stopped");
  }
};
Interruption interruption;

/// The get over one connection; nothing when the node went away before it had answered.
Task<std::optional<GetReply>> get_once(ChannelPtr channel, const Handlers& handlers, const Get& request,
                                       Handler* handler) {
  spawn(co_await asio::this_coro::executor, channel->run(handlers));
  try {
    if (handler != nullptr) {
      const PlacesAsk question;
      const NodePaths places = co_await channel->request(question, std::chrono::seconds(10));
      handler->set_places(places);
    }
    co_return co_await channel->request(request, std::chrono::hours(24 * 365));
  } catch (const Error& error) {
    if (channel->is_open()) throw;
  }
  co_return std::nullopt;
}

/// One get of this node, on which it goes on when the node is restarted meanwhile. `handler` may be null; what it
/// throws ends the get.
Task<GetReply> get(const NodeOptions& node, const Get& request, ProgressView& view, Handler* handler,
                   std::vector<GetOutcome>& outcomes) {
  std::exception_ptr trouble;
  const auto guard = [&trouble](const ChannelPtr& channel, const std::function<bool()>& work) {
    if (trouble) return;
    try {
      if (!work()) channel->close();
    } catch (...) {
      trouble = std::current_exception();
      channel->close();
    }
  };
  Handlers handlers;
  handlers.on_note<Progress>([&](const ChannelPtr&, Progress progress) { view.show(progress); });
  handlers.on_note<Outcomes>([&](const ChannelPtr&, Outcomes page) {
    for (auto& one : page.outcomes) outcomes.push_back(std::move(one));
  });
  if (handler != nullptr) {
    handlers.on_note<StreamBegin>(
        [&](const ChannelPtr& channel, StreamBegin file) { guard(channel, [&] { return handler->begin(file); }); });
    handlers.on_note<StreamData>([&](const ChannelPtr& channel, StreamData note) {
      guard(channel, [&] { return handler->take(std::move(note.data)); });
    });
  }
  Get numbered = request;
  numbered.once = new_once();
  auto seen = std::chrono::steady_clock::now();
  for (;;) {
    ChannelPtr channel = co_await find_node(node);
    interruption.check();
    if (channel) {
      interruption.channel = channel;
      outcomes.clear();
      auto reply = co_await get_once(channel, handlers, numbered, handler);
      channel->close();
      if (trouble) std::rethrow_exception(trouble);
      if (reply) co_return *reply;
      interruption.check();
      seen = std::chrono::steady_clock::now();
    } else if (std::chrono::steady_clock::now() - seen > node_comes_back) {
      throw Error(Status::unreachable,
                  "the node went away and did not come back within 15 s; what has arrived is kept, and a get goes on "
                  "from there");
    }
    // A node that is restarted goes on where it was, and so does this.
    co_await sleep_for(std::chrono::milliseconds(200));
  }
}

/// One WHAT with a prefix that does more than name a file. Whatever goes wrong is in the outcome.
Task<void> get_handled(const NodeOptions& node, Get request, int what, ProgressView& view, Handler& handler,
                       std::vector<GetOutcome>& results) {
  asio::thread_pool pool(1);
  const auto request_text = request.whats.at(static_cast<std::size_t>(what));
  GetOutcome brought;
  bool failed = false;
  try {
    if (const auto source = handler.source()) {
      request.whats.assign(1, *source);
      request.pipe = true;
      std::vector<GetOutcome> outcomes;
      static_cast<void>(co_await get(node, request, view, &handler, outcomes));
      for (auto& one : outcomes) {
        one.what = what;
        if (one.status == Status::ok && one.print && one.error.empty()) {
          brought = std::move(one);
          continue;
        }
        failed = failed || one.status != Status::ok;
        one.print = false;
        if (one.status == Status::not_found && has_glob(*source)) {
          one.status = Status::usage;
          one.error = printable(without_secrets(request_text)) + ": no file is called so, and tar: takes no glob";
        }
        if (one.status != Status::ok || !one.error.empty()) results.push_back(std::move(one));
      }
    }
    if (!failed) {
      Progress unpacking;
      unpacking.phase = "unpacking";
      view.show(unpacking);
      // On a thread, so that Ctrl-C is heard.
      const auto work = [&handler, brought] { return handler.finish(brought); };
      GetOutcome done = co_await run_on(pool, work);
      done.what = what;
      results.push_back(std::move(done));
    }
  } catch (const Error& error) {
    GetOutcome trouble;
    trouble.what = what;
    trouble.mesh_path = brought.mesh_path;
    trouble.status = error.status();
    trouble.error = error.what();
    results.push_back(std::move(trouble));
  }
}

std::int64_t fetched(const GetOutcome& one) { return one.from_sources + one.from_getters + one.from_origin; }

/// What came, from where, and how fast.
void say_summary(const std::vector<GetOutcome>& outcomes, std::chrono::steady_clock::duration took) {
  std::int64_t files = 0;
  std::int64_t bytes = 0;
  std::int64_t origin = 0;
  std::int64_t reused = 0;
  std::int64_t mesh = 0;
  for (const auto& one : outcomes) {
    if (one.status != Status::ok || one.kept || one.size <= 0) continue;
    ++files;
    bytes += one.size;
    origin += one.from_origin;
    reused += one.reused;
    // Of small files nobody says where from: it is the mesh.
    const bool is_told = fetched(one) + one.reused > 0;
    mesh += is_told ? one.from_sources + one.from_getters : one.size;
  }
  if (files == 0) return;
  // What a get that was stopped had left.
  const auto before = bytes - mesh - origin - reused;
  const auto seconds = std::max(std::chrono::duration<double>(took).count(), 0.001);
  std::array<char, 32> time{};
  std::snprintf(time.data(), time.size(), seconds < 10 ? "%.1f s" : "%.0f s", seconds);
  say("meshget", std::to_string(files) + (files == 1 ? " file, " : " files, ") + human_bytes(bytes) + ": " +
                     human_bytes(mesh) + " from the mesh, " + human_bytes(origin) + " from origins, " +
                     human_bytes(reused) + " reused" + (before > 0 ? ", " + human_bytes(before) + " here before" : "") +
                     "; " + time.data() + ", " +
                     human_bytes(static_cast<std::int64_t>(static_cast<double>(mesh + origin) / seconds)) + "/s");
}

Task<Status> run(const NodeOptions& node, const Asked& asked, const HandlerOptions& handling, ProgressView& view) {
  Get plain = asked.get;
  plain.whats.clear();
  std::vector<int> index;  // of the plain ones, in what was asked for
  std::vector<std::pair<int, std::unique_ptr<Handler>>> handled;
  for (int i = 0; i < static_cast<int>(asked.get.whats.size()); ++i) {
    const auto& what = asked.get.whats[static_cast<std::size_t>(i)];
    if (auto handler = handler_for(what, handling)) {
      handled.emplace_back(i, std::move(handler));
    } else {
      plain.whats.push_back(what);
      index.push_back(i);
    }
  }
  std::vector<GetOutcome> outcomes;
  const auto begun = std::chrono::steady_clock::now();
  if (!plain.whats.empty()) {
    const GetReply reply = co_await get(node, plain, view, nullptr, outcomes);
    for (auto& one : outcomes) one.what = index.at(static_cast<std::size_t>(one.what));
    // Detached, it has failed before anybody could turn to something else.
    for (std::size_t i = 0; i < reply.errors.size(); ++i) {
      GetOutcome failed;
      failed.what = index.at(i < reply.whats.size() ? static_cast<std::size_t>(reply.whats[i]) : 0);
      failed.status = reply.status;
      failed.error = reply.errors[i];
      outcomes.push_back(std::move(failed));
    }
  }
  for (auto& [what, handler] : handled)
    if (!interruption.stop) co_await get_handled(node, asked.get, what, view, *handler, outcomes);
  interruption.check();
  std::ranges::stable_sort(outcomes, {}, &GetOutcome::what);
  view.clear();
  Status status = Status::ok;
  for (const auto& one : outcomes) {
    status = worst(status, one.status);
    if (!one.error.empty()) say_failure("meshget", one.status, one.error);
    if (one.left_out > 0)
      say("meshget", printable(one.mesh_path) + ": " + std::to_string(one.left_out) +
                         (one.left_out == 1 ? " name in it is" : " names in it are") +
                         " not offered (being written or just changed, not UTF-8, or of another kind than "
                         "files, directories and links)");
    if (one.reused > 0 && one.status == Status::ok && !asked.quiet)
      say("meshget",
          printable(one.mesh_path) + ": reused " + human_bytes(one.reused) + ", fetched " + human_bytes(fetched(one)));
    if (one.kept && one.print && !asked.quiet)
      say("meshget", printable(one.mesh_path.empty() ? one.path : one.mesh_path) + ": is here already");
  }
  if (!asked.quiet && !asked.get.detach) say_summary(outcomes, std::chrono::steady_clock::now() - begun);
  if (asked.json) {
    nlohmann::json files = nlohmann::json::array();
    for (const auto& one : outcomes)
      files.push_back({{"path", one.path},
                       {"mesh_path", one.mesh_path},
                       {"what", without_secrets(asked.get.whats.at(static_cast<std::size_t>(one.what)))},
                       {"status", one.status},
                       {"error", one.error},
                       {"kept", one.kept},
                       {"size", one.size},
                       {"from_sources", one.from_sources},
                       {"from_getters", one.from_getters},
                       {"from_origin", one.from_origin},
                       {"bytes_reused", one.reused},
                       {"bytes_fetched", fetched(one)},
                       {"left_out", one.left_out}});
    const nlohmann::json out = {{"status", status}, {"detached", asked.get.detach}, {"files", files}};
    std::printf("%s\n", out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  } else {
    for (const auto& one : outcomes) {
      if (!one.print) continue;
      if (!asked.print0 && printable(one.path) != one.path) {
        say("meshget", one.path +
                           ": is here; its name is not printed on stdout, for its control characters (--print0 or "
                           "--json prints it)");
        continue;
      }
      std::fwrite(one.path.data(), 1, one.path.size(), stdout);
      std::fputc(asked.print0 ? '\0' : '\n', stdout);
    }
  }
  co_return status;
}

}  // namespace

int main(int argc, char** argv) {
  return guarded("meshget", [&] {
    CLI::App app("Gets files of the mesh into the local files directory, verified, and prints their paths.", "meshget");
    CommonOptions options;
    Asked asked;
    std::string hash = "ondemand";
    under(app, "This get");
    add_get(app, asked.get);
    app.add_flag("--detach", asked.get.detach, "Return at once; the node goes on (meshfile status shows it)");
    app.add_flag("--quiet", asked.quiet, "No progress");
    app.add_flag("--json", asked.json, "The outcome as JSON");
    app.add_flag("--print0", asked.print0, "Paths end with NUL instead of a newline");
    under(app, "URLs");
    add_url(app, asked.get, asked.cacert);
    under(app, "Archives (tar:)");
    add_unpack(app, asked.limits);
    add_common(app, options);
    add_node(app, options, hash, "The node that it becomes where none runs");
    add_user(app, options.node.user);
    app.get_option("--user")->group("");
    under(app, "The node that it becomes where none runs");
    app.add_option("--linger", asked.linger,
                   "Where no meshseed runs: go on serving others for this long after they last needed it")
        ->type_name("SECONDS")
        ->check(CLI::Range(0, 86400).description(""));
    app.footer(
        "Prints one absolute local path for each WHAT that it got; for a glob, one for each file; for tar:, the "
        "directory.\n\n"
        "Exit status, the highest where there are several WHATs: 0 done, 1 a transfer failed, 2 usage, 3 not found,\n"
        "4 no tracker, node or peer reachable, 5 refused, 130 interrupted.");
    if (const int status = parse(app, options, argc, argv); status >= 0) return status;
    std::error_code ec;
    options.node.files = std::filesystem::absolute(options.node.files, ec).lexically_normal();
    HandlerOptions handling;
    handling.files = files_dir(options.node);
    handling.state = options.node.state_dir().string();
    handling.force = asked.get.force;
    handling.group = options.node.control_group;
    handling.limits = asked.limits;
    handling.limits.stop = &interruption.stop;
    handling.tell = [](const std::string& line) { say("meshget", line); };
    // Mistakes are found before anything begins.
    bool needs_node = false;
    bool are_urls = true;
    for (const auto& what : asked.get.whats) {
      const auto handler = handler_for(what, handling);
      if (handler && asked.get.detach)
        throw Error(Status::usage, printable(without_secrets(what)) +
                                       ": is not to be had with --detach: nobody would wait to unpack it");
      const auto source = handler ? handler->source() : what;
      needs_node = needs_node || source;
      if (source) are_urls = !parse_what(*source, handling.files).url.empty() && are_urls;
    }
    asked.get.ca = read_ca(asked.cacert);
    find_seeds(asked.get);
    options.node.hash_eagerly = hash == "eager";
    options.node.linger_seconds = asked.linger;
    std::signal(SIGPIPE, SIG_IGN);
    // The limits hold for this get; where it is the node, for the node as well.
    asked.get.max_down = options.node.max_down;
    asked.get.max_up = options.node.max_up;
    if (!app.get_option("--max-active")->empty()) asked.get.max_active = options.node.max_active;
    std::optional<HeldNode> held;
    if (needs_node) held.emplace(options.node, are_urls);
    asio::io_context io(1);
    ProgressView view(asked.quiet);
    // What is being unpacked is taken away before the end; a second Ctrl-C does not wait for it.
    asio::signal_set signals(io, SIGINT, SIGTERM);
    const std::function<void(const boost::system::error_code&, int)> interrupt = [&](const auto& failed, int) {
      if (failed) return;
      if (interruption.stop.exchange(true)) return io.stop();
      if (const auto channel = interruption.channel.lock()) channel->close();
      signals.async_wait(interrupt);
    };
    signals.async_wait(interrupt);
    std::optional<Status> status;
    try {
      status = run_to_end(io, run(options.node, asked, handling, view));
    } catch (const Error&) {
      if (!interruption.stop) throw;
    }
    view.clear();
    if (interruption.stop) {
      say("meshget", "interrupted; what has arrived is kept, and the same meshget goes on from there");
      std::_Exit(static_cast<int>(Status::interrupted));
    }
    leave("meshget", static_cast<int>(*status));
  });
}
