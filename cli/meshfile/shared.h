// What several commands of meshfile do: find a node, have requests passed on, print.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "meshfile/commands.h"
#include "wire/codec.h"
#include "wire/to_json.h"

namespace mesh::meshfile {

using nlohmann::json;

void print(const json& value);
[[nodiscard]] std::string shown_path(const FileEntry& entry);
/// What a command asks the node of the files directory, or, where none runs and it need not be `is_local`, the tracker.
/// A node that goes away meanwhile, or is just going or coming back, is waited for, and asked again.
class Conversation {
 public:
  Conversation(const NodeOptions& node, const Handlers& handlers, bool is_local)
      : node_(node), handlers_(handlers), is_local_(is_local) {}

  /// Throws Error. A request with a `once` is done once, however often it is sent (node/once.h).
  template <class Request>
  Task<typename Request::Reply> ask(Request request, std::chrono::milliseconds limit) {
    const auto shared = std::make_shared<Request>(std::move(request));
    std::optional<typename Request::Reply> reply;
    while (!reply) reply = co_await ask_once(shared, limit);
    co_return std::move(*reply);
  }
  /// The same; nothing where the node went away before it had answered, and what is asked may be another by now.
  template <class Request>
  Task<std::optional<typename Request::Reply>> ask_once(std::shared_ptr<Request> request,
                                                        std::chrono::milliseconds limit) {
    if (!channel_ || !channel_->is_open()) co_await connect();
    const auto channel = channel_;
    std::optional<typename Request::Reply> reply;
    std::optional<Error> trouble;
    try {
      reply = co_await channel->request(*request, limit);
      if constexpr (requires { request->once; }) {
        Heard heard;
        heard.once = request->once;
        channel->note(heard);
      }
    } catch (const Error& error) {
      trouble = error;
    }
    if (trouble && !co_await is_going(channel)) throw Error(*trouble);
    // What ends it each time it is asked is no restart.
    if (trouble && ++losses_ > most_losses) throw Error(*trouble);
    co_return reply;
  }

 private:
  static constexpr int most_losses = 5;  ///< at once after it was connected, in a row
  Task<void> connect();
  /// Whether the node goes, or has gone: then that is why it did not answer. Waits for its end.
  static Task<bool> is_going(ChannelPtr channel);

  const NodeOptions& node_;
  const Handlers& handlers_;
  bool is_local_;
  ChannelPtr channel_;
  enum class Lost { nothing, node, tracker } lost_ = Lost::nothing;
  int losses_ = 0;
  std::chrono::steady_clock::time_point connected_{};
};

/// One question of that kind.
template <class Request>
Task<typename Request::Reply> ask(const NodeOptions& node, const Handlers& handlers, bool is_local, Request request,
                                  std::chrono::milliseconds limit) {
  Conversation conversation(node, handlers, is_local);
  co_return co_await conversation.ask(std::move(request), limit);
}

/// The path that a command names, which takes no other WHAT. Throws Error(usage).
[[nodiscard]] std::string path_named(const std::string& text, const NodeOptions& node);
/// For people: whose word a listing is, where that is worth saying.
void say_view(const std::string& view);
/// Texts that every node reads alike, whatever its files dir.
std::vector<std::string> portable(const std::vector<std::string>& whats, const NodeOptions& node);
/// What each node answered to a get, wait or cancel; the lines of those that did it go to stdout.
Status print_answers(const Relayed& reply, const Asked& asked, const char* did);

/// Has the tracker pass a request on to these nodes; "all" or "others" alone: to all, or to all but this one.
template <class Request>
Task<Relayed> relay(const NodeOptions& node, const Handlers& handlers, Request request, std::vector<std::string> to) {
  // Which node is spared is for the tracker to see, by the channel of the one that runs here.
  const bool others = to.size() == 1 && to.front() == "others";
  Relay order;
  order.order.kind = Request::name;
  order.order.body = to_bencode(request);
  order.spare_asker = others;
  if (to.size() != 1 || (to.front() != "all" && !others)) order.nodes = std::move(to);
  constexpr std::chrono::milliseconds limit = std::chrono::hours(24 * 365);
  co_return co_await ask(node, handlers, others, std::move(order), limit);
}

}  // namespace mesh::meshfile
