#include "meshfile/shared.h"
#include "core/format.h"
#include "core/mesh_path.h"

namespace mesh::meshfile {

void print(const json& value) { std::printf("%s\n", to_text(value, 2).c_str()); }

std::string shown_path(const FileEntry& entry) {
  auto out = printable(entry.path);
  if (entry.kind == Kind::directory) out += "/";
  if (entry.kind == Kind::link) out += " -> " + printable(entry.target);
  if (entry.kind == Kind::outside) out += " -> " + printable(entry.target) + " (outside: not served)";
  return out;
}

std::string new_once() { return random_secret().hex().substr(0, 32); }

Task<bool> Conversation::is_closing(ChannelPtr channel) {
  constexpr auto moment = std::chrono::milliseconds(300);
  for (const auto until = std::chrono::steady_clock::now() + moment;
       channel->is_open() && std::chrono::steady_clock::now() < until;)
    co_await sleep_for(std::chrono::milliseconds(10));
  co_return !channel->is_open();
}

Task<void> Conversation::connect() {
  if (is_local_)
    channel_ = co_await find_node_patiently(node_, is_lost_);
  else
    channel_ = co_await find_node_or_tracker(node_, is_lost_);
  if (!channel_)
    throw Error(Status::unreachable,
                "no node runs on " + node_.files.string() +
                    (is_lost_ ? " any more" : "; start meshseed, or give its --files or --control"));
  is_lost_ = true;  // should it go from here on
  spawn(co_await asio::this_coro::executor, channel_->run(handlers_));
}

void say_view(const std::string& view) {
  if (!view.empty()) say("meshfile", view);
}

std::string path_named(const std::string& text, const NodeOptions& node) {
  const auto what = parse_what(text, files_dir(node));
  if (what.id.is_set() || !what.url.empty())
    throw Error(Status::usage, printable(text) + ": this command takes a path");
  return what.pattern;
}

std::vector<std::string> portable(const std::vector<std::string>& whats, const NodeOptions& node) {
  std::vector<std::string> out;
  for (const auto& text : whats) out.push_back(portable_text(parse_what(text, files_dir(node))));
  return out;
}

Status print_answers(const Relayed& reply, const Asked& asked, const char* did) {
  Status status = Status::ok;
  json nodes = json::array();
  for (const auto& answer : reply.answers) {
    Status one = answer.status;
    auto error = answer.error;
    if (one == Status::ok && !answer.body.empty()) {
      // What has no status of its own reads as ok.
      const auto got = from_bencode<GetReply>(answer.body);
      one = got.status;
      if (error.empty() && !got.errors.empty()) error = got.errors.front();
    }
    status = worst(status, one);
    if (asked.as_json)
      nodes.push_back({{"node", answer.node}, {"status", one}, {"error", error}});
    else if (one == Status::ok)
      std::printf("%s: %s\n", printable(answer.node).c_str(), did);
    else
      say("meshfile", printable(answer.node) + ": " + error);
  }
  if (asked.as_json) print({{"status", status}, {"nodes", nodes}});
  if (reply.answers.empty()) throw Error(Status::unreachable, "no node is in the mesh");
  return status;
}

}  // namespace mesh::meshfile
