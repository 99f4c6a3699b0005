#include "packs.h"

#include <algorithm>
#include <set>
#include <unordered_set>

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr auto list_limit = seconds(2);
constexpr auto make_pack_limit = seconds(10);
constexpr auto wait_limit = seconds(30);
constexpr auto not_again_for = seconds(5);
constexpr auto silent_for = seconds(60);
constexpr std::size_t most_known = 10'000;
constexpr std::size_t most_candidates = 16;
constexpr std::size_t most_tries = 3;
constexpr std::size_t more_makers = 3;

}  // namespace

Task<Pack> Packs::prepare(ChannelPtr channel, PreparePack question) {
  const auto* asker = members_.of(channel);
  if (asker == nullptr) throw Error(Status::refused, "only a registered node can have a pack made");
  const auto own = asker->key;
  const bool has_list = !question.files.empty();
  if (has_list) {
    if (const auto fault = pack_fault(question.files); !fault.empty())
      throw Error(Status::failed, "no sensible pack: " + fault);
    if (pack_id(question.files) != question.pack) throw Error(Status::failed, "a pack's id does not fit its list");
  }
  forget_old();
  auto& place = known_[question.pack];
  if (!place) place = std::make_shared<Known>(io_);
  const auto known = place;
  for (const auto begun = Clock::now();;) {
    const auto now = Clock::now();
    if (known->is_made && swarms_.has_maker(known->pack.torrent.id)) {
      if (swarms_.is_maker(known->pack.torrent.id, own))
        throw Error(Status::failed, "the pack is what this node has made itself");
      co_return known->pack;
    }
    known->is_made = false;
    if (now - begun > wait_limit) throw Error(Status::failed, "the pack takes too long to make");
    if (known->is_making || (!has_list && now < known->list_due)) {
      co_await known->changed.wait_for(milliseconds(100));
      continue;
    }
    if (now - known->tried < not_again_for) throw Error(Status::failed, known->trouble);
    if (has_list) break;
    known->list_due = now + list_limit;
    co_return Pack{};
  }
  known->is_making = true;
  known->list_due = {};
  std::optional<Error> trouble;
  try {
    known->pack = co_await make(std::make_shared<const std::vector<PackFile>>(std::move(question.files)), own);
    known->is_made = true;
  } catch (const Error& error) {
    trouble = error;
  } catch (const std::exception& error) {
    trouble = Error(Status::failed, error.what());
  }
  known->is_making = false;
  if (trouble) {
    known->tried = Clock::now();
    known->trouble = trouble->what();
  }
  known->changed.notify();
  if (trouble) throw Error(*trouble);
  co_return known->pack;
}

/// What no swarm is left of is made anew when it is wanted again.
void Packs::forget_old() {
  if (known_.size() < most_known) return;
  std::erase_if(known_, [&](const auto& pair) {
    const auto& known = *pair.second;
    return !known.is_making && (!known.is_made || !swarms_.has_maker(known.pack.torrent.id));
  });
  if (known_.size() >= most_known) throw Error(Status::failed, "too many packs at once");
}

/// Nodes that have at least half of the files, those that lack least first.
Task<std::vector<Packs::Candidate>> Packs::candidates(Files files, NodeKey asker) {
  std::set<NodeKey> some;
  for (const auto at : {std::size_t{0}, files->size() / 2, files->size() - 1}) {
    const auto& file = (*files)[at];
    auto nodes = lookup_.nodes_with(file);
    const auto now = Clock::now();
    std::erase_if(silent_, [now](const auto& pair) { return pair.second < now; });
    std::erase_if(nodes, [&](NodeKey node) { return node == asker || silent_.contains(node); });
    std::ranges::shuffle(nodes, random_);
    if (nodes.size() > most_candidates) nodes.resize(most_candidates);
    some.insert(nodes.begin(), nodes.end());
  }
  std::vector<Candidate> out;
  for (const auto node : some) out.push_back({node, {}});
  std::ranges::shuffle(out, random_);
  Slice slice;
  for (std::uint32_t i = 0; i < files->size(); ++i) {
    const auto nodes = lookup_.nodes_with((*files)[i]);
    const std::unordered_set<NodeKey> have(nodes.begin(), nodes.end());
    for (auto& one : out)
      if (!have.contains(one.node)) one.missing.push_back(i);
    if (slice.is_over()) co_await slice.next();
  }
  std::erase_if(out, [&](const Candidate& one) { return one.missing.size() * 2 > files->size(); });
  std::ranges::stable_sort(out, {}, [](const Candidate& one) { return one.missing.size(); });
  co_return out;
}

/// `like`: what another node has made, and is to be made again; may be null.
Task<Pack> Packs::ask_to_make(NodeKey node, Files files, std::vector<std::uint32_t> left_out, const Pack* like) {
  MakePack question;
  question.files = *files;
  question.left_out = std::move(left_out);
  const bool exactly = like != nullptr;
  question.exactly = exactly;
  if (exactly) question.infohash = like->torrent.infohash;
  const auto begun = Clock::now();
  std::optional<Pack> answer;
  std::optional<Error> trouble;
  try {
    answer = co_await members_.request(node, question, make_pack_limit);
  } catch (const Error& error) {
    trouble = error;
  }
  if (trouble && Clock::now() - begun >= make_pack_limit) silent_[node] = Clock::now() + silent_for;
  if (trouble) throw Error(*trouble);
  Pack made = std::move(*answer);
  if (!members_.contains(node)) throw Error(Status::unreachable, "the node is gone");
  if (!are_indices(made.left_out, files->size()) || made.left_out.size() == files->size() ||
      made.torrent.size != pack_size(*files, made.left_out) || (exactly && made.left_out != question.left_out))
    throw Error(Status::failed, members_.node_name(node) + ": made no sensible pack");
  made.is_known = true;
  made.torrent.holders = 1;
  co_return made;
}

Task<Pack> Packs::make(Files files, NodeKey asker) {
  const auto nodes = co_await candidates(files, asker);
  std::string trouble = "no node has them all";
  std::optional<Pack> made;
  std::size_t next = 0;
  for (; next < std::min(nodes.size(), most_tries) && !made; ++next) {
    try {
      made = co_await ask_to_make(nodes[next].node, files, nodes[next].missing, nullptr);
      swarms_.seeds_pack(nodes[next].node, made->torrent);
    } catch (const Error& error) {
      trouble = error.what();
      made.reset();
    }
  }
  if (!made) throw Error(Status::failed, trouble);
  // Others that have as much help from the start.
  const auto last = std::min(nodes.size(), next + more_makers);
  for (; next < last; ++next)
    if (nodes[next].missing.size() <= made->left_out.size()) spawn(io_, help(nodes[next].node, files, *made));
  co_return *made;
}

Task<void> Packs::help(NodeKey node, Files files, Pack made) {
  try {
    const Pack also = co_await ask_to_make(node, files, made.left_out, &made);
    if (also.torrent.id == made.torrent.id) swarms_.seeds_pack(node, also.torrent);
  } catch (const std::exception&) {
    // It is one source less.
  }
}

}  // namespace mesh
