// What several commands of meshfile do: find a node, have requests passed on, print.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "meshfile/commands.h"
#include "serve/to_json.h"
#include "wire/codec.h"

namespace mesh::meshfile {

using nlohmann::json;

void print(const json& value);
[[nodiscard]] std::string shown_path(const FileEntry& entry);
/// The node of the files directory, or, where none runs and it need not be `local`, the tracker. Throws Error.
Task<ChannelPtr> channel_for(const NodeOptions& node, const Handlers& handlers, bool local);
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
  const auto channel = co_await channel_for(node, handlers, others);
  Relay order;
  order.order.kind = Request::name;
  order.order.body = to_bencode(request);
  order.spare_asker = others;
  if (to.size() != 1 || (to.front() != "all" && !others)) order.nodes = std::move(to);
  co_return co_await channel->request(order, std::chrono::hours(24 * 365));
}

}  // namespace mesh::meshfile
