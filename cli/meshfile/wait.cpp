#include <algorithm>

#include "meshfile/commands.h"
#include "meshfile/shared.h"

namespace mesh::meshfile {

Task<Status> wait(const NodeOptions& node, const Asked& asked, const Handlers& handlers,
                  std::shared_ptr<std::vector<GetOutcome>> outcomes) {
  Wait request;
  request.whats = asked.whats;
  if (!asked.on.empty()) {
    request.whats = portable(request.whats, node);
    // A slice at a time, so that no node waits for a command that is gone.
    request.seconds = 20;
    Relayed all;
    std::vector<std::pair<std::string, Wait>> waiting;
    const auto sort_out = [&](Relayed reply) {
      for (auto& answer : reply.answers) {
        const auto state = answer.status == Status::ok ? from_bencode<GetReply>(answer.body) : GetReply{};
        if (!state.running) {
          all.answers.push_back(std::move(answer));
          continue;
        }
        auto again = request;
        again.numbers = state.numbers;
        waiting.emplace_back(answer.node, std::move(again));
      }
    };
    Relayed first = co_await relay(node, handlers, request, asked.on);
    sort_out(std::move(first));
    // One node after another: the last of them is what is waited for.
    while (!waiting.empty()) {
      const auto [name, again] = waiting.back();
      waiting.pop_back();
      const std::vector<std::string> to(1, name);
      Relayed next = co_await relay(node, handlers, again, to);
      sort_out(std::move(next));
    }
    std::ranges::sort(all.answers, {}, &Relayed::Answer::node);
    co_return print_answers(all, asked, "done");
  }
  // A node that is restarted goes on with its gets, and so does this.
  Conversation conversation(node, handlers, true);
  const auto question = std::make_shared<Wait>(request);
  std::optional<GetReply> answer;
  while (!answer) {
    outcomes->clear();
    answer = co_await conversation.ask_once(question, std::chrono::hours(24 * 365));
  }
  const GetReply reply = *answer;
  json errors = json::array();
  for (const auto& one : *outcomes) {
    if (asked.as_json)
      errors.push_back({{"what", one.mesh_path}, {"status", one.status}, {"error", one.error}});
    else
      say("meshfile", one.error);
  }
  if (asked.as_json) print({{"status", reply.status}, {"errors", errors}});
  co_return reply.status;
}

}  // namespace mesh::meshfile
