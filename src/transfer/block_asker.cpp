#include "transfer/block_asker.h"

#include <algorithm>
#include <exception>
#include <numeric>
#include <random>
#include <utility>

#include "core/address.h"
#include "core/format.h"
#include "wire/while_checking.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr auto locate_limit = seconds(5);
/// A holder may have to read its file for it, a part at a time.
constexpr auto answer_limit = seconds(15);
/// One that has been told is to be quick, the way to it included: whoever told it can be asked as well.
constexpr auto passed_on_limit = milliseconds(1500);
constexpr auto teller_limit = seconds(3);
constexpr std::size_t most_holders = 3;  // that are asked, one after another
constexpr int most_tellers = 2;

const std::vector<std::string>& parts_of(const Leaves& told) { return told.pieces; }
const std::vector<std::string>& parts_of(const SketchTold& told) { return told.segments; }
std::vector<std::uint32_t>& numbers_of(LeavesAsk& question) { return question.pieces; }
std::vector<std::uint32_t>& numbers_of(SketchAsk& question) { return question.segments; }
constexpr std::size_t most_of(const LeavesAsk&) { return most_asked_pieces; }
constexpr std::size_t most_of(const SketchAsk&) { return most_asked_segments; }

}  // namespace

/// Who has the content, and whom one of them says to ask. What a node is asked goes on though nobody waits for it any
/// more, so it holds who asks.
Task<bool> BlockAsker::find_nodes(std::shared_ptr<BlockAsker> self) {
  const auto tracker = co_await self->links_.first(milliseconds(100));
  Locate question;
  question.files.push_back(self->wanted_);
  Located told = co_await tracker->request(question, locate_limit);
  auto& nodes = self->nodes_;
  nodes = std::move(told.nodes);
  std::ranges::shuffle(nodes, std::mt19937(std::random_device{}()));
  if (nodes.size() > most_holders) nodes.resize(most_holders);
  const std::string nobody_failed;
  auto teller = find_teller(self, nobody_failed);
  co_return co_await std::move(teller);
}

Task<bool> BlockAsker::find_teller(std::shared_ptr<BlockAsker> self, std::string failed) {
  if (self->nodes_.empty() || self->self_.instance.empty() || self->tellers_ >= most_tellers) co_return false;
  ++self->tellers_;
  const NodeRef holder = self->nodes_.back();
  const auto channel = co_await self->channels_.to(holder);
  TellerAsk question;
  question.id = self->file_.id;
  question.size = self->file_.layout.size;
  question.self = self->self_;
  question.failed = std::move(failed);
  Teller told = co_await channel->request(question, teller_limit);
  if (told.node.empty() || told.node.front().instance == self->self_.instance) co_return false;
  auto& teller = told.node.front();
  if (teller.addresses.empty() || !can_be_sent_to(teller.addresses.front(), channel->remote())) co_return false;
  teller.addresses.resize(1);
  self->teller_ = teller.instance;
  self->nodes_.push_back(std::move(teller));
  co_return true;
}

template <class Question>
Task<typename Question::Reply> BlockAsker::exchange(std::shared_ptr<BlockAsker> self, NodeRef to, Question question,
                                                    std::chrono::seconds limit) {
  const auto channel = co_await self->channels_.to(std::move(to));
  const auto used = self->channels_.use(channel);
  co_return co_await channel->request(std::move(question), limit);
}

/// Asks until `take` has had an answer for each of `numbers`, or nobody is left to be asked. `take` is given a position
/// among them and what was told; false: that is wrong, and so is whoever said it. What one does not know, the next is
/// asked.
template <class Question, class Take>
Task<void> BlockAsker::ask(std::vector<int> numbers, Take take) {
  if (numbers.empty()) co_return;
  // What a node was asked holds this until it has answered.
  const auto self = shared_from_this();
  std::exception_ptr given_up;
  auto until = Clock::time_point::max();
  const std::function<void()> go_on = [self, &given_up, &until] {
    try {
      self->check();
    } catch (...) {
      given_up = std::current_exception();
      throw;
    }
    if (Clock::now() > until) throw Error(Status::unreachable, "does not answer in time");
  };
  const auto find = [&](Task<bool> search) -> Task<void> {
    until = Clock::time_point::max();
    try {
      co_await while_checking(workers_.loop(), std::move(search), go_on);
    } catch (const Error&) {
      // Without anybody to ask nothing can be reused; without a teller, a holder is asked.
    }
    if (given_up) std::rethrow_exception(given_up);
  };
  if (!std::exchange(is_located_, true)) {
    auto nodes = find_nodes(self);
    co_await find(std::move(nodes));
  }
  std::vector<std::size_t> open(numbers.size());  // positions without an answer
  std::iota(open.begin(), open.end(), 0);
  while (!open.empty() && !nodes_.empty()) {
    check();
    const NodeRef node = nodes_.back();
    const bool is_holder = node.instance != teller_;
    std::string trouble;
    try {
      Question question;
      question.id = file_.id;
      question.size = file_.layout.size;
      const auto count = std::min(open.size(), most_of(question));
      for (std::size_t i = 0; i < count; ++i)
        numbers_of(question).push_back(static_cast<std::uint32_t>(numbers[open[i]]));
      until = is_holder ? Clock::time_point::max() : Clock::now() + passed_on_limit;
      auto work = exchange<Question>(self, node, std::move(question), answer_limit);
      const auto told = co_await while_checking(workers_.loop(), std::move(work), go_on);
      const auto& parts = parts_of(told);
      if (parts.empty() || parts.size() > count) throw Error(Status::failed, "sent no sensible answer");
      for (const auto& part : parts) received_ += std::ssize(part);
      std::vector<std::size_t> unknown;
      const auto look = [&] {
        for (std::size_t i = 0; i < parts.size(); ++i) {
          if (parts[i].empty())
            unknown.push_back(open[i]);
          else if (!take(open[i], parts[i]))
            return false;
        }
        return true;
      };
      if (!co_await run_on(workers_.brief(), look)) throw Error(Status::failed, "sent blocks of something else");
      const bool knows_none = unknown.size() == parts.size();
      if (!knows_none) told_by_.insert(node.name);
      open.erase(open.begin(), open.begin() + static_cast<std::ptrdiff_t>(parts.size()));
      open.insert(open.begin(), unknown.begin(), unknown.end());
      if (knows_none) throw Error(Status::failed, "does not know its blocks");
    } catch (const Error& error) {
      trouble = error.what();
    }
    if (given_up) std::rethrow_exception(given_up);
    if (trouble.empty()) continue;
    log_(warning(printable(wanted_.path) + ": " + printable(node.name) + ": " + printable(trouble) +
                 "; it is not asked again what its blocks are")
             .of("not-told", wanted_.path)
             .by(node.name));
    std::erase_if(nodes_, [&](const NodeRef& other) { return other.instance == node.instance; });
    if (!is_holder) {
      teller_.clear();
      auto another = find_teller(self, node.instance);
      co_await find(std::move(another));
    }
  }
}

Task<std::vector<std::vector<Sha256>>> BlockAsker::leaves(std::vector<int> pieces) {
  const auto mine = co_await turn_.take();
  std::vector<std::vector<Sha256>> out(pieces.size());
  auto& facts = library_.block_facts();
  std::vector<int> unknown;
  std::vector<std::size_t> places;
  const auto look = [&] {
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      out[i] = facts.find_leaves(file_.id, file_.layout, pieces[i]);
      if (out[i].empty()) unknown.push_back(pieces[i]), places.push_back(i);
    }
  };
  co_await run_on(workers_.brief(), look);
  const auto take = [&](std::size_t i, const std::string& told) {
    if (told.empty()) return true;
    auto& leaves = out[places[i]];
    leaves = read_leaves(told, file_.layout, unknown[i]);
    if (!leaves.empty()) facts.put_leaves(file_.id, file_.layout, unknown[i], leaves);
    return !leaves.empty();
  };
  co_await ask<LeavesAsk>(unknown, take);
  co_return out;
}

Task<std::vector<std::vector<Chunk>>> BlockAsker::chunks(std::vector<int> segments) {
  const auto mine = co_await turn_.take();
  std::vector<std::vector<Chunk>> out(segments.size());
  auto& facts = library_.block_facts();
  const auto size = file_.layout.size;
  const auto plan = chunk_plan_for(size);
  std::vector<int> unknown;
  std::vector<std::size_t> places;
  const auto look = [&] {
    for (std::size_t i = 0; i < segments.size(); ++i) {
      const auto told = facts.find_chunks(file_.id, size, segments[i], BlockFacts::From::anybody);
      auto read = told ? read_chunks(*told, plan.length_of(segments[i], size), plan) : std::nullopt;
      if (read)
        out[i] = std::move(*read);
      else
        unknown.push_back(segments[i]), places.push_back(i);
    }
  };
  co_await run_on(workers_.brief(), look);
  const auto take = [&](std::size_t i, const std::string& told) {
    if (told.empty()) return true;
    auto read = read_chunks(told, plan.length_of(unknown[i], size), plan);
    if (!read) return false;
    facts.put_chunks(file_.id, size, unknown[i], told, BlockFacts::From::anybody);
    out[places[i]] = std::move(*read);
    return true;
  };
  co_await ask<SketchAsk>(unknown, take);
  co_return out;
}

}  // namespace mesh
