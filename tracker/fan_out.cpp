#include "fan_out.h"

#include <algorithm>
#include <set>

namespace mesh {
namespace {

constexpr auto status_limit = std::chrono::seconds(2);
constexpr auto least_between_glances = std::chrono::milliseconds(900);
constexpr auto rest_of_a_glance = std::chrono::milliseconds(4);  // for each node
constexpr auto least_between_hours = std::chrono::seconds(9);
constexpr auto rest_of_an_hour = std::chrono::milliseconds(50);
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

template <class Answer, class Question, class Taken, class Failed>
Task<std::vector<Answer>> FanOut::ask_all(Question question, Taken taken, Failed failed) {
  const auto all = std::make_shared<std::vector<Answer>>();
  Together asked(io_);
  know_everybody();
  auto ask = [](FanOut* self, NodeKey key, std::string name, Question what, Taken take, Failed fail,
                std::shared_ptr<std::vector<Answer>> out) -> Task<void> {
    Answer one;
    try {
      auto answer = co_await self->members_.request(key, what, status_limit);
      one = take(std::move(answer));
    } catch (const Error& error) {
      one = fail(error);
    }
    one.node = std::move(name);
    out->push_back(std::move(one));
  };
  std::vector<std::pair<NodeKey, std::string>> some;
  for (const auto& [key, node] : members_.all()) some.emplace_back(key, members_.name_of(node));
  for (const auto& [key, name] : some) {
    if (members_.is_brief()) co_await asked.fewer_than(most_asked_by_view);
    asked.add(ask(this, key, name, question, taken, failed, all));
  }
  co_await asked.all();
  std::ranges::sort(*all, {}, &Answer::node);
  co_return std::move(*all);
}

Task<StatusReply> FanOut::status() {
  const auto taken = [](StatusReply answer) {
    return answer.nodes.empty() ? NodeStatus{} : std::move(answer.nodes.front());
  };
  const auto failed = [](const Error& error) {
    NodeStatus one;
    one.error = error.what();
    return one;
  };
  StatusReply reply;
  const StatusAsk question;
  reply.nodes = co_await ask_all<NodeStatus>(question, taken, failed);
  co_return reply;
}

Task<Glances> FanOut::glance(GlanceAsk asked) {
  while (is_looking_) co_await looked_.wait();
  // A second between two, and where there are many nodes as long as keeps this loop's work for it small.
  const auto age = Clock::now() - looked_at_;
  const auto rest = std::max<Clock::duration>(least_between_glances, members_.all().size() * rest_of_a_glance);
  const auto hour_rest = std::max<Clock::duration>(least_between_hours, members_.all().size() * rest_of_an_hour);
  const bool has_hour = hour_asked_at_ && Clock::now() - *hour_asked_at_ < hour_rest;
  if (!last_ || age > rest || (asked.hour && !has_hour)) co_await look(asked.hour && !has_hour);
  co_return *last_;
}

Task<void> FanOut::look(bool hour) {
  is_looking_ = true;
  const auto begun = std::chrono::system_clock::now();
  const auto taken = [begun](Glances answer) {
    auto one = answer.nodes.empty() ? Glance{} : std::move(answer.nodes.front());
    bound(one);
    // As if all had been asked at one moment.
    const auto later = std::chrono::system_clock::now() - begun;
    if (one.clock > 0) one.clock -= std::chrono::duration_cast<std::chrono::milliseconds>(later).count();
    return one;
  };
  const auto failed = [](const Error& error) {
    Glance one;
    one.error = error.what();
    one.is_old = one.error.find("does not serve") != std::string::npos;
    return one;
  };
  GlanceAsk question;
  question.hour = hour;
  auto out = std::make_shared<Glances>();
  bool is_well = false;
  try {
    out->nodes = co_await ask_all<Glance>(question, taken, failed);
    is_well = true;
  } catch (const std::exception&) {
    // What was found before stays.
  }
  if (!is_well && last_) {
    is_looking_ = false;
    looked_.notify();
    co_return;
  }
  for (auto& one : out->nodes) {
    add(out->hour, one.hour);
    one.hour = {};
  }
  if (!hour && last_) out->hour = last_->hour;
  for (const auto& [name, since] : members_.absent()) out->absent.push_back(name);
  last_ = std::move(out);
  looked_at_ = Clock::now();
  if (hour) hour_asked_at_ = looked_at_;
  is_looking_ = false;
  looked_.notify();
}

}  // namespace mesh
