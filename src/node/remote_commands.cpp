#include "node/remote_commands.h"

#include <algorithm>

#include "core/format.h"
#include "core/glob.h"
#include "core/seeds.h"
#include "library/remove_tree.h"

namespace mesh {
namespace {

constexpr std::size_t most_errors = 100;
constexpr std::size_t most_whats = 10'000;
constexpr std::size_t most_relayed_paths = 20;
constexpr std::size_t most_relayed_bytes = 12 * 1024;
constexpr int longest_wait_seconds = 60;

/// A reply that fits among those of many nodes: its lists are cut short until it does.
template <class Reply, class... List>
std::string bounded(const Reply& reply, List&... lists) {
  for (auto most = most_relayed_paths;; most /= 2) {
    ((lists.resize(std::min(lists.size(), most))), ...);
    auto out = to_bencode(reply);
    if (out.size() < most_relayed_bytes || most == 0) return out;
  }
}

}  // namespace

void RemoteCommands::serve_commands(Handlers& handlers) {
  handlers.on<Get>([this](ChannelPtr channel, Get request) {
    request.ordered = false;
    check_seeds(channel, request.seeds);
    return gets_.get(std::move(channel), std::move(request));
  });
  handlers.on<Wait>(
      [this](ChannelPtr channel, Wait request) { return gets_.wait(std::move(channel), std::move(request)); });
  handlers.on<Cancel>([this](ChannelPtr, Cancel request) { return cancel(std::move(request)); });
  handlers.on_note<Heard>([this](const ChannelPtr&, const Heard& note) {
    once_.heard<Delete>(note.once);
    once_.heard<Cancel>(note.once);
    once_.heard<Put>(note.once);
    once_.heard<ObjectDelete>(note.once);
  });
  handlers.on<Delete>([this](ChannelPtr, Delete request) { return remove(std::move(request)); });
  handlers.on<Relay>([this](ChannelPtr, Relay request) -> Task<Relayed> {
    const auto tracker = co_await links_.first(tracker_limit);
    co_return co_await tracker->request(request, question_limit);
  });
}

void RemoteCommands::check_seeds(const ChannelPtr& channel, const std::vector<std::string>& seeds) const {
  if ((!channel || !channel->is_of_own_user()) && has_outside_seed(seeds, library_.gate().files_dir()))
    throw Error(Status::refused, "a seed outside of the files directory is for the user alone that the node runs as");
}

void RemoteCommands::serve_mesh(Handlers& handlers) {
  handlers.on<Order>([this](ChannelPtr, Order order) { return execute(std::move(order)); });
}

Task<Ordered> RemoteCommands::execute(Order order) {
  const auto refuses = [&](const char* what) {
    const auto& refuse = options_.refuse;
    return std::ranges::find(refuse, what) != refuse.end();
  };
  const char* wanted = order.kind == Delete::name ? "delete" : "get";
  if (refuses(wanted))
    throw Error(Status::refused, "does not " + std::string(wanted) + " for other nodes (its --refuse says so)");
  log_(LogLine("order from " + printable(order.asker.empty() ? "a command at the tracker" : order.asker) + ": " +
               printable(order.kind))
           .of("order")
           .by(order.asker));
  Ordered out;
  if (order.kind == Get::name) {
    auto request = from_bencode<Get>(order.body);
    request.detach = true;
    request.ordered = true;
    request.pipe = false;
    request.except.clear();
    if (has_outside_seed(request.seeds, library_.gate().files_dir()))
      throw Error(Status::refused, "does not read files outside of the files directory for other nodes");
    // What it replaces is gone as what is deleted is.
    if (request.force && refuses("delete"))
      throw Error(Status::refused, "does not replace local files for other nodes (its --refuse delete says so)");
    if (refuses("url") && std::ranges::any_of(request.whats, [this](const std::string& what) {
          return !parse_what(what, library_.gate().files_dir()).url.empty();
        }))
      throw Error(Status::refused, "does not get URLs for other nodes (its --refuse url says so)");
    GetReply done = co_await gets_.get(nullptr, std::move(request));
    out.body = bounded(done, done.errors, done.whats);
  } else if (order.kind == Wait::name) {
    auto request = from_bencode<Wait>(order.body);
    // The asker may be gone; it asks again.
    request.seconds = std::clamp(request.seconds, 1, longest_wait_seconds);
    const GetReply done = co_await gets_.wait(nullptr, std::move(request));
    out.body = to_bencode(done);
  } else if (order.kind == Cancel::name) {
    auto request = from_bencode<Cancel>(order.body);
    if (request.discard && refuses("delete"))
      throw Error(Status::refused, "does not drop partial downloads for other nodes (its --refuse delete says so)");
    Cancelled done = co_await cancel(std::move(request));
    out.body = bounded(done, done.stopped, done.discarded);
  } else if (order.kind == Delete::name) {
    auto request = from_bencode<Delete>(order.body);
    Deleted done = co_await remove(std::move(request));
    out.body = bounded(done, done.paths, done.errors, done.missing);
  } else {
    throw Error(Status::failed, "does not know the order '" + printable(order.kind) + "'");
  }
  co_return out;
}

/// A path that is here, on its way here, or somewhere in the mesh, as far as that is known, is no glob: what another
/// name happens to match must not go in its place.
Task<What> RemoteCommands::read(What what) {
  if (!what.is_glob) co_return what;
  const auto look = [&] {
    return as_it_stands(what, [&](const std::string& path) { return library_.gate().look(path).has_value(); });
  };
  if (gets_.knows(what.pattern))
    what.is_glob = false;
  else
    what = co_await run_on(workers_.brief(), look);
  if (!what.is_glob || links_.is_alone()) co_return what;
  List question;
  question.pattern = what.pattern;
  question.glob = true;
  try {
    const auto find_limit = std::chrono::milliseconds(links_.any() ? 100 : 3000);
    const Listed page = co_await links_.ask(question, find_limit, std::chrono::seconds(5));
    if (page.literal) what.is_glob = false;
    if (may_stand_for(page.pattern, what.pattern)) what.pattern = page.pattern;
  } catch (const Error&) {
    // Nobody knows of it, or nobody can be asked.
  }
  co_return what;
}

Task<Cancelled> RemoteCommands::cancel(Cancel asked) {
  std::function<Task<Cancelled>(Cancel)> work = [this](Cancel request) { return gets_.cancel(std::move(request)); };
  co_return co_await once_.run(std::move(asked), std::move(work));
}

Task<Deleted> RemoteCommands::remove(Delete asked) {
  std::function<Task<Deleted>(Delete)> work = [this](Delete request) { return remove_now(std::move(request)); };
  co_return co_await once_.run(std::move(asked), std::move(work));
}

Task<Deleted> RemoteCommands::remove_now(Delete asked) {
  Deleted out;
  std::vector<What> whats;
  if (asked.whats.size() > most_whats)
    throw Error(Status::usage, "a delete names at most " + std::to_string(most_whats) + " files, directories or globs");
  for (const auto& text : asked.whats) whats.push_back(parse_what(text, library_.gate().files_dir()));
  for (auto& what : whats) {
    what = co_await read(std::move(what));
    // What is on its way here is not wanted any more either.
    const Cancelled stopped = co_await gets_.drop(what, true);
    const auto partials = stopped.discarded.size();
    auto missing = std::make_shared<std::optional<Error>>();
    const auto before = out.count;
    const auto errors = out.errors.size();
    std::vector<std::string> gone;
    const auto work = [&] {
      Removal removal;
      removal.force = asked.force;
      struct stat state {};
      if (::stat(library_.state_dir().c_str(), &state) == 0) removal.keep = directory_id(state);
      removal.on_removed = [&](const std::string& path, bool is_directory, std::int64_t bytes) {
        ++out.count;
        out.bytes += bytes;
        if (out.paths.size() < page_entries) out.paths.push_back(path + (is_directory ? "/" : ""));
        gone.push_back(path);
      };
      removal.on_error = [&](const std::string& error) {
        if (out.errors.size() < most_errors) out.errors.push_back(error);
        out.status = worst(out.status, Status::failed);
      };
      try {
        remove_tree(library_.gate(), what, removal);
      } catch (const Error& error) {
        *missing = error;
      }
    };
    co_await run_on(workers_.brief(), work);
    const auto forget = [&] {
      const StateDb::Batch batch(library_.db());
      for (const auto& path : gone) library_.db().remove_received(path);
    };
    co_await run_on(workers_.brief(), forget);
    // The mesh hears of it before the asker does; the watcher would say so a moment later.
    library_.remove(gone);
    if (*missing && (*missing)->status() != Status::not_found) {
      out.errors.push_back((*missing)->what());
      out.status = worst(out.status, (*missing)->status());
    } else if (out.count == before && partials == 0 && errors == out.errors.size() && !what.pattern.empty()) {
      out.missing.push_back(what.pattern);
    }
    if (partials > 0) {
      ++out.count;
      out.paths.push_back(what.pattern + " (a partial download)");
    }
  }
  std::ranges::sort(out.paths);
  if (out.count > 0)
    log_(LogLine("deleted " + std::to_string(out.count) + (out.count == 1 ? " name, " : " names, ") +
                 human_bytes(out.bytes))
             .of("deleted", {}, out.bytes));
  co_return out;
}

}  // namespace mesh
