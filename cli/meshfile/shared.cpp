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

Task<bool> Conversation::is_going(ChannelPtr channel) {
  if (!channel->is_open()) co_return true;
  const PlacesAsk question;
  try {
    const NodePaths places = co_await channel->request(question, std::chrono::seconds(2));
    if (!places.leaving) co_return false;
  } catch (const Error&) {
    co_return !channel->is_open();  // a tracker does not know the question
  }
  for (const auto until = std::chrono::steady_clock::now() + node_comes_back;
       channel->is_open() && std::chrono::steady_clock::now() < until;)
    co_await sleep_for(std::chrono::milliseconds(20));
  co_return true;
}

Task<void> Conversation::connect() {
  const auto now = std::chrono::steady_clock::now();
  if (lost_ != Lost::nothing) {
    if (now - connected_ > std::chrono::seconds(2)) losses_ = 0;
    co_await sleep_for(std::chrono::milliseconds(100));
  }
  channel_.reset();
  bool is_node = true;
  if (lost_ != Lost::tracker) channel_ = co_await find_node_patiently(node_, lost_ == Lost::node);
  while (!channel_ && !is_local_) {
    is_node = false;
    std::optional<Error> trouble;
    try {
      channel_ = co_await find_tracker(node_);
    } catch (const Error& error) {
      trouble = error;
    }
    if (trouble && (lost_ != Lost::tracker || std::chrono::steady_clock::now() - now > node_comes_back))
      throw Error(*trouble);
    if (trouble) co_await sleep_for(std::chrono::milliseconds(300));
  }
  if (!channel_)
    throw Error(Status::unreachable,
                "no node runs on " + node_.files.string() +
                    (lost_ == Lost::node ? " any more" : "; start meshseed, or give its --files or --control"));
  lost_ = is_node ? Lost::node : Lost::tracker;  // should it go from here on
  connected_ = std::chrono::steady_clock::now();
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
