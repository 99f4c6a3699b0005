#include "transfer/block_asker.h"

#include <algorithm>
#include <random>
#include <utility>

#include "core/format.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr auto locate_limit = seconds(5);
/// A holder may have to read its file for it, a part at a time.
constexpr auto answer_limit = seconds(15);

const std::vector<std::string>& parts_of(const Leaves& told) { return told.pieces; }
const std::vector<std::string>& parts_of(const SketchTold& told) { return told.segments; }
std::vector<std::uint32_t>& numbers_of(LeavesAsk& question) { return question.pieces; }
std::vector<std::uint32_t>& numbers_of(SketchAsk& question) { return question.segments; }
constexpr std::size_t most_of(const LeavesAsk&) { return most_asked_pieces; }
constexpr std::size_t most_of(const SketchAsk&) { return most_asked_segments; }

/// `told` as leaves of this piece; empty where they do not make its root.
std::vector<Sha256> read_leaves(std::string_view told, const PieceLayout& layout, int piece) {
  std::vector<Sha256> out;
  const auto count = static_cast<std::size_t>((layout.length_of(piece) + block_bytes - 1) / block_bytes);
  if (told.size() != count * 32) return out;
  for (std::size_t i = 0; i < count; ++i) out.push_back(*Sha256::from(told.substr(i * 32, 32)));
  if (root_of_leaves(out, layout.piece_length, layout.count() == 1) != layout.roots[static_cast<std::size_t>(piece)])
    out.clear();
  return out;
}

}  // namespace

Task<void> BlockAsker::find_nodes() {
  is_located_ = true;
  const auto tracker = co_await links_.first(milliseconds(100));
  Locate question;
  question.files.push_back(wanted_);
  Located told = co_await tracker->request(question, locate_limit);
  nodes_ = std::move(told.nodes);
  std::ranges::shuffle(nodes_, std::mt19937(std::random_device{}()));
}

/// Asks until `take` has had an answer for each of `numbers`, or nobody is left to be asked. `take` is given a position
/// among them and what was told; false: that is wrong, and so is whoever said it. An empty text: it is not known there.
template <class Question, class Take>
Task<void> BlockAsker::ask(std::vector<int> numbers, Take take) {
  if (numbers.empty()) co_return;
  if (!is_located_) {
    try {
      co_await find_nodes();
    } catch (const Error&) {
      // Without anybody to ask nothing can be reused.
    }
  }
  std::size_t done = 0;
  while (done < numbers.size() && !nodes_.empty()) {
    const NodeRef node = nodes_.back();
    std::string trouble;
    try {
      const auto channel = co_await channels_.to(node);
      const auto used = channels_.use(channel);
      Question question;
      question.id = file_.id;
      question.size = file_.layout.size;
      const auto end = std::min(numbers.size(), done + most_of(question));
      for (auto i = done; i < end; ++i) numbers_of(question).push_back(static_cast<std::uint32_t>(numbers[i]));
      const auto told = co_await channel->request(question, answer_limit);
      const auto& parts = parts_of(told);
      if (parts.empty() || parts.size() > end - done) throw Error(Status::failed, "sent no sensible answer");
      for (const auto& part : parts) received_ += std::ssize(part);
      const auto check = [&] {
        for (std::size_t i = 0; i < parts.size(); ++i)
          if (!take(done + i, parts[i])) return false;
        return true;
      };
      if (!co_await run_on(workers_.brief(), check)) throw Error(Status::failed, "sent blocks of something else");
      done += parts.size();
    } catch (const Error& error) {
      trouble = error.what();
    }
    if (trouble.empty()) continue;
    log_(printable(wanted_.path) + ": " + node.name + ": " + trouble + "; it is not asked again what its blocks are");
    std::erase_if(nodes_, [&](const NodeRef& other) { return other.instance == node.instance; });
  }
}

Task<std::vector<std::vector<Sha256>>> BlockAsker::leaves(std::vector<int> pieces) {
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
  std::vector<std::vector<Chunk>> out(segments.size());
  auto& facts = library_.block_facts();
  const auto size = file_.layout.size;
  const auto plan = chunk_plan_for(size);
  std::vector<int> unknown;
  std::vector<std::size_t> places;
  const auto look = [&] {
    for (std::size_t i = 0; i < segments.size(); ++i) {
      const auto told = facts.find_chunks(file_.id, size, segments[i]);
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
    facts.put_chunks(file_.id, size, unknown[i], told);
    out[places[i]] = std::move(*read);
    return true;
  };
  co_await ask<SketchAsk>(unknown, take);
  co_return out;
}

}  // namespace mesh
