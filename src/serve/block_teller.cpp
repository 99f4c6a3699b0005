#include "serve/block_teller.h"

#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include "core/address.h"
#include "core/merkle.h"
#include "core/parallel.h"
#include "core/piece_plan.h"
#include "core/sketch.h"

namespace mesh {
namespace {

/// An answer has no more.
constexpr std::int64_t most_answer_bytes = std::int64_t{4} << 20;
/// Nor is more read for one: it takes some tenths of a second, in which the asker does something else.
constexpr std::int64_t most_read_bytes = std::int64_t{256} << 20;
/// Who asks waits a little longer (transfer/block_asker.cpp).
constexpr auto wait_to_know = std::chrono::milliseconds(1000);
constexpr auto look_again_every = std::chrono::milliseconds(20);
constexpr std::size_t most_trees = 32;
constexpr std::size_t most_name = 64;

void check_size(std::int64_t size) {
  if (size <= 0 || size > most_torrent_bytes) throw Error(Status::failed, "no content has that size");
}

/// Each below `count`, and none twice. Throws Error.
std::vector<int> read_numbers(std::vector<std::uint32_t> asked, std::size_t most, int count) {
  if (asked.size() > most) asked.resize(most);
  for (const auto number : asked)
    if (std::cmp_greater_equal(number, count)) throw Error(Status::failed, "the content has no such part");
  if (std::set(asked.begin(), asked.end()).size() != asked.size())
    throw Error(Status::failed, "a part is asked for twice");
  return {asked.begin(), asked.end()};
}

/// What is told of each number asked for, as far as one answer goes, of some `most` bytes: `know` says what is known,
/// and `make` makes what is not, where it can be made: of `length` bytes each. Elsewhere the answer ends before what is
/// not known, or is that the first is not.
template <class Know, class Make>
std::vector<std::string> tell(std::size_t count, std::int64_t length, std::size_t most, bool can_make, const Know& know,
                              const Make& make) {
  std::vector<std::string> out;
  std::vector<std::size_t> unknown;
  std::size_t told = 0;
  for (std::size_t i = 0; i < count && told < most; ++i) {
    if (std::ssize(unknown) > 0 && std::ssize(unknown) * length >= most_read_bytes) break;
    out.push_back(know(i));
    told += out.back().size();
    if (!out.back().empty()) continue;
    if (!can_make) {  // what follows may be known by the time that it is asked for again
      if (i > 0) out.pop_back();
      break;
    }
    unknown.push_back(i);
  }
  const auto no_buffer = [] { return 0; };
  for_each_index(static_cast<int>(unknown.size()), all_threads(), no_buffer, [&](int i, int) {
    const auto at = unknown[static_cast<std::size_t>(i)];
    out[at] = make(at);
  });
  return out;
}

}  // namespace

void BlockTeller::serve(Handlers& handlers) {
  handlers.on<LeavesAsk>(
      [this](ChannelPtr channel, LeavesAsk asked) { return leaves(std::move(channel), std::move(asked)); });
  handlers.on<TellerAsk>(
      [this](ChannelPtr channel, TellerAsk asked) { return teller(std::move(channel), std::move(asked)); });
  handlers.on<SketchAsk>(
      [this](ChannelPtr channel, SketchAsk asked) { return sketch(std::move(channel), std::move(asked)); });
}

Task<Teller> BlockTeller::teller(ChannelPtr channel, TellerAsk asked) {
  Teller out;
  const auto now = AskTree::Time::clock::now();
  std::erase_if(askers_, [&](const auto& pair) { return now - pair.second.last > AskTree::kept; });
  const auto& self = asked.self;
  const bool is_known = askers_.contains(asked.id);
  // Only of what is held here; what is remembered of who asks is short.
  if (self.instance.empty() || self.instance.size() > most_name || self.name.size() > most_name ||
      self.channel_port == 0)
    co_return out;
  if (channel->remote().is_unspecified() || library_.inventory().find(asked.id, asked.size) == nullptr) co_return out;
  if (!is_known && askers_.size() >= most_trees) co_return out;
  auto& askers = askers_[asked.id];
  const auto at = channel->remote().to_string();
  // Nobody is who he says for somebody else.
  const auto known = askers.nodes.find(self.instance);
  if (known != askers.nodes.end() && known->second.addresses.front() != at) co_return out;
  askers.last = now;
  if (!asked.failed.empty()) askers.tree.failed(self.instance, asked.failed);
  const auto parent = askers.tree.parent_of(self.instance, now);
  if (askers.nodes.size() >= AskTree::most_askers) askers.nodes.clear();
  auto& node = askers.nodes[self.instance];
  node.name = self.name;
  node.instance = self.instance;
  node.channel_port = self.channel_port;
  node.addresses = {at};
  if (!parent || !askers.nodes.contains(*parent)) co_return out;
  const auto& teller = askers.nodes.at(*parent);
  if (can_be_sent_to(teller.addresses.front(), channel->remote())) out.node.push_back(teller);
  co_return out;
}

/// What `work` says is known of a content. One that is on its way here may become known while somebody waits: as far as
/// it is, it is told then.
Task<std::vector<std::string>> BlockTeller::answer(ChannelPtr channel, ContentId id, std::int64_t size, bool is_held,
                                                   std::function<std::vector<std::string>()> work) {
  std::vector<std::string> out;
  for (const auto until = AskTree::Time::clock::now() + wait_to_know;;) {
    {
      const auto mine = co_await turn_.take();
      if (!channel->is_open()) throw Error(Status::interrupted, "nobody waits for it any more");
      out = co_await run_on(workers_.reading(), work);
    }
    const bool may_come = asking && asking(id, size) && AskTree::Time::clock::now() < until && channel->is_open();
    if (is_held || out.empty() || !out.front().empty() || !may_come) break;
    co_await sleep_for(look_again_every);
  }
  std::int64_t bytes = 0;
  for (const auto& one : out) bytes += std::ssize(one);
  const std::function<bool()> unwanted = [channel] { return !channel->is_open(); };
  co_await upload_.spend(bytes, unwanted);
  co_return out;
}

/// Of what is here, and of what is on its way here.
Task<HashedFile> BlockTeller::roots_of(ContentId id, std::int64_t size) {
  const auto find = [this, id, size] { return load_roots(library_.db(), id, size); };
  auto found = co_await run_on(workers_.brief(), find);
  if (!found) throw Error(Status::not_found, "does not hold it");
  co_return std::move(*found);
}

/// Null where it is not held.
Task<StoragePtr> BlockTeller::open(ContentId id, std::int64_t size) {
  StoragePtr out;
  if (library_.inventory().find(id, size) == nullptr) co_return out;
  try {
    const auto held = co_await seeder_.open_for_seeding(id, size);
    out = held.storage;
  } catch (const Error&) {
    // It has changed. What is known of it is true still.
  }
  co_return out;
}

Task<Leaves> BlockTeller::leaves(ChannelPtr channel, LeavesAsk asked) {
  check_size(asked.size);
  const StoragePtr storage = co_await open(asked.id, asked.size);
  const HashedFile file = co_await roots_of(asked.id, asked.size);
  const auto pieces = read_numbers(asked.pieces, most_asked_pieces, file.layout.count());
  const auto most = static_cast<std::size_t>(upload_.handful(most_answer_bytes));
  const std::function<std::vector<std::string>()> work = [&] {
    auto& facts = library_.block_facts();
    const auto know = [&](std::size_t i) { return tell_leaves(facts.find_leaves(asked.id, file.layout, pieces[i])); };
    const auto make = [&](std::size_t i) {
      const auto piece = pieces[i];
      const auto made = make_leaves(*storage, file.layout, piece);
      facts.put_leaves(asked.id, file.layout, piece, made);
      return tell_leaves(made);
    };
    return tell(pieces.size(), file.layout.piece_length, most, storage != nullptr, know, make);
  };
  Leaves out;
  out.pieces = co_await answer(channel, asked.id, asked.size, storage != nullptr, work);
  co_return out;
}

Task<SketchTold> BlockTeller::sketch(ChannelPtr channel, SketchAsk asked) {
  check_size(asked.size);
  const StoragePtr storage = co_await open(asked.id, asked.size);
  const auto plan = chunk_plan_for(asked.size);
  const auto segments = read_numbers(asked.segments, most_asked_segments, plan.segments(asked.size));
  const auto most = static_cast<std::size_t>(upload_.handful(most_answer_bytes));
  const std::function<std::vector<std::string>()> work = [&] {
    auto& facts = library_.block_facts();
    const auto know = [&](std::size_t i) {
      // Of what is held here nobody else's word counts.
      const auto segment = segments[i];
      auto own = facts.find_chunks(asked.id, asked.size, segment, BlockFacts::From::this_node);
      if (!own && !storage) own = facts.find_chunks(asked.id, asked.size, segment, BlockFacts::From::anybody);
      return own.value_or(std::string());
    };
    const auto make = [&](std::size_t i) {
      const auto segment = segments[i];
      const auto read = [&](std::int64_t offset, std::span<char> out) {
        if (const auto ec = storage->read(segment * plan.segment + offset, out))
          throw Error(Status::failed, ec.message());
      };
      auto told = tell_chunks(cut_chunks(plan.length_of(segment, asked.size), plan, read));
      facts.put_chunks(asked.id, asked.size, segment, told, BlockFacts::From::this_node);
      return told;
    };
    return tell(segments.size(), plan.segment, most, storage != nullptr, know, make);
  };
  SketchTold out;
  out.segments = co_await answer(channel, asked.id, asked.size, storage != nullptr, work);
  co_return out;
}

}  // namespace mesh
