#include "fan_out.h"

#include <algorithm>
#include <set>

namespace mesh {
namespace {

constexpr auto status_limit = std::chrono::seconds(2);
constexpr auto order_limit = std::chrono::minutes(10);  // a tree of millions of files takes a while to delete
constexpr std::size_t most_answer_bytes = 16 * 1024;    // of one node, of which there may be a thousand

}  // namespace

void FanOut::know_everybody() {
  if (beyond_ == nullptr || !beyond_->everybody) return;
  const auto all = beyond_->everybody();
  for (const auto& node : all) static_cast<void>(members_.know_of(node, false));
  members_.set_known(all.size() + 1);
}

Task<Relayed> FanOut::relay(ChannelPtr channel, Relay asked) {
  // Who asks is this tracker's word, not the asker's.
  const auto* asker = members_.of(channel);
  asked.order.asker = asker != nullptr ? members_.name_of(*asker) : std::string();
  const auto own = asker != nullptr ? asker->key : 0;
  know_everybody();
  co_await members_.settle(false);
  const auto reply = std::make_shared<Relayed>();
  Together orders(io_);
  auto pass_on = [](FanOut* self, NodeKey key, std::string name, Order order,
                    std::shared_ptr<Relayed> all) -> Task<void> {
    Relayed::Answer answer;
    answer.node = name;
    try {
      Ordered done = co_await self->members_.request(key, order, order_limit);
      if (done.body.size() > most_answer_bytes) throw Error(Status::failed, "answered at too great length");
      answer.body = std::move(done.body);
    } catch (const Error& error) {
      answer.status = error.status();
      answer.error = error.what();
    }
    all->answers.push_back(std::move(answer));
  };
  std::set<std::string> wanted(asked.nodes.begin(), asked.nodes.end());
  std::set<std::string> found;
  std::vector<std::pair<NodeKey, std::string>> some;
  for (const auto& [key, node] : members_.all()) {
    const auto name = members_.name_of(node);
    if (asked.spare_asker && key == own) continue;
    if (!wanted.empty() && !wanted.contains(name) && !wanted.contains(node.hello.instance)) continue;
    found.insert(name);
    found.insert(node.hello.instance);
    some.emplace_back(key, name);
  }
  for (const auto& [key, name] : some) {
    // A tracker has channels to all; a view visits them.
    if (members_.is_brief()) co_await orders.fewer_than(most_asked_by_view);
    orders.add(pass_on(this, key, name, asked.order, reply));
  }
  for (const auto& name : wanted) {
    if (found.contains(name)) continue;
    Relayed::Answer answer;
    answer.node = name;
    answer.status = members_.absent().contains(name) ? Status::unreachable : Status::not_found;
    answer.error = members_.no_such_node(name);
    reply->answers.push_back(std::move(answer));
  }
  co_await orders.all();
  for (const auto& [name, since] : members_.absent())
    if (wanted.empty()) reply->absent.push_back(name);
  std::ranges::sort(reply->answers, {}, &Relayed::Answer::node);
  co_return std::move(*reply);
}

Task<StatusReply> FanOut::status() {
  const auto reply = std::make_shared<StatusReply>();
  Together asked(io_);
  know_everybody();
  auto ask = [](FanOut* self, NodeKey key, std::string name, std::shared_ptr<StatusReply> all) -> Task<void> {
    NodeStatus one;
    one.node = name;
    try {
      const StatusAsk question;
      StatusReply answer = co_await self->members_.request(key, question, status_limit);
      if (!answer.nodes.empty()) one = std::move(answer.nodes.front());
      one.node = name;
    } catch (const Error& error) {
      one.error = error.what();
    }
    all->nodes.push_back(std::move(one));
  };
  std::vector<std::pair<NodeKey, std::string>> some;
  for (const auto& [key, node] : members_.all()) some.emplace_back(key, members_.name_of(node));
  for (const auto& [key, name] : some) {
    if (members_.is_brief()) co_await asked.fewer_than(most_asked_by_view);
    asked.add(ask(this, key, name, reply));
  }
  co_await asked.all();
  std::ranges::sort(reply->nodes, {}, &NodeStatus::node);
  co_return std::move(*reply);
}

}  // namespace mesh
