#include "mesh/index_teller.h"

#include <algorithm>
#include <optional>

#include "core/format.h"
#include "core/mesh_path.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr auto tell_limit = seconds(30);
constexpr auto gather = milliseconds(100);  // changes come in bunches
constexpr auto look_every = milliseconds(1000);
constexpr auto try_again_after = milliseconds(1000);
constexpr auto compare_every = std::chrono::minutes(10);
/// One with no channel to it may be gone, or have begun anew, without this node's notice.
constexpr auto visit_every = seconds(60);
constexpr auto losses_within = seconds(5);
constexpr std::size_t many_losses = 2;
constexpr std::size_t most_telling = 8;      // keepers at once
constexpr std::size_t most_changes = 2'000;  // of a directory; more, and all of it is told
constexpr std::size_t most_parts = 500;      // in one message

}  // namespace

IndexTeller::IndexTeller(asio::io_context& io, Facts facts, KeeperLinks& links)
    : io_(io), facts_(std::move(facts)), links_(links), wake_(io) {}

IndexTeller::~IndexTeller() { close(); }

void IndexTeller::close() {
  closed_ = true;
  alive_.reset();
  wake_.notify();
}

void IndexTeller::wake() { wake_.notify(); }

void IndexTeller::begin() {
  if (std::exchange(begun_, true)) return;
  spawn(io_, run());
}

void IndexTeller::changed(const InventoryDelta& delta) {
  if (!begun_ || closed_) return;
  const auto note = [this](const std::string& path) {
    const std::string name(parent_path(path));
    const auto [at, fresh] = directories_.try_emplace(name);
    if (fresh) unassigned_.insert(name);
    at->second.stamp = ++last_stamp_;
    for (const auto& [instance, keeper] : keepers_)
      if (keeper->busy || keeper->assigned.contains(name) || keeper->told.contains(name))
        if (auto& changes = keeper->changes[name]; changes.size() <= most_changes) changes.insert(path);
  };
  for (const auto& path : delta.removed) note(path);
  for (const auto& entry : delta.put) note(entry.path);
  ++version_;
  wake();
}

bool IndexTeller::is_told() const {
  if (!begun_) return true;
  return is_assigned_ && unassigned_.empty() && std::ranges::none_of(keepers_, [&](const auto& pair) {
           return pair.second->busy || lacks_something(*pair.second);
         });
}

/// Which keepers each directory has.
Task<void> IndexTeller::assign() {
  const auto alive = std::weak_ptr<bool>(alive_);
  const auto changes = facts_.changes();
  const bool anew = changes != assigned_for_;
  if (!anew && unassigned_.empty()) co_return;
  assigned_for_ = changes;
  std::vector<std::string> names(unassigned_.begin(), unassigned_.end());
  unassigned_.clear();
  if (anew) {
    names.clear();
    for (const auto& [name, directory] : directories_) names.push_back(name);
  }
  std::map<std::string, Keeper> fresh;
  Slice slice;
  for (const auto& name : names) {
    for (auto& member : facts_.keepers(ring_key(name))) {
      auto& keeper = fresh[member.instance];
      keeper.assigned.insert(name);
      keeper.member = std::move(member);
    }
    if (!slice.is_over()) continue;
    co_await slice.next();
    if (alive.expired()) co_return;
  }
  if (anew)
    for (const auto& [instance, keeper] : keepers_) keeper->assigned.clear();
  for (auto& [instance, some] : fresh) {
    auto& keeper = keepers_[instance];
    if (!keeper) keeper = std::make_shared<Keeper>();
    // It has begun anew, and knows nothing.
    if (some.member.keeps < keeper->kept) keeper->compared = {};
    keeper->kept = some.member.keeps;
    keeper->member = std::move(some.member);
    for (const auto& name : some.assigned)
      if (directories_.contains(name)) keeper->assigned.insert(name);
  }
  ++version_;
}

bool IndexTeller::lacks_something(const Keeper& keeper) const {
  for (const auto& [name, stamp] : keeper.told)
    if (!keeper.assigned.contains(name)) return true;
  return std::ranges::any_of(keeper.assigned, [&](const std::string& name) {
    const auto at = directories_.find(name);
    const auto told = keeper.told.find(name);
    return at == directories_.end() || told == keeper.told.end() || told->second != at->second.stamp;
  });
}

bool IndexTeller::is_due(const std::string& instance, Keeper& keeper, Clock::time_point now) const {
  if (keeper.busy || now < keeper.again) return false;
  if (keeper.assigned.empty() && keeper.told.empty()) return false;
  const auto link = links_.number_of(instance);
  const bool rests = keeper.hangs_up || (link == 0 && links_.is_resting(instance, keeper.link));
  if (!keeper.told.empty()) {
    // It was lost, and with it perhaps what was told on it; but not where this node hung up.
    if (link != keeper.link && !rests) return true;
    if (now - keeper.compared > (rests ? seconds(visit_every) : seconds(compare_every))) return true;
  }
  if (keeper.clean == version_) return false;
  if (lacks_something(keeper)) return true;
  keeper.clean = version_;
  return false;
}

/// Where several links are lost at once, much has died: those that rest are looked at, too.
void IndexTeller::look_for_losses() {
  const auto now = Clock::now();
  std::erase_if(losses_, [&](Clock::time_point at) { return now - at > losses_within; });
  for (const auto& [instance, keeper] : keepers_) {
    if (keeper->link == 0 || keeper->hangs_up || keeper->busy) continue;
    if (links_.number_of(instance) != 0 || links_.is_resting(instance)) continue;
    if (!std::exchange(keeper->is_lost, true)) losses_.push_back(now);
  }
  if (losses_.size() < many_losses) return;
  losses_.clear();
  for (const auto& [instance, keeper] : keepers_)
    if (links_.number_of(instance) == 0) keeper->compared = {};
}

/// Where nothing is left in it: it is nobody's any more.
bool IndexTeller::is_gone(const std::string& directory) {
  if (!facts_.list(directory, {}, 1).empty()) return false;
  for (const auto& [instance, keeper] : keepers_) keeper->assigned.erase(directory);
  directories_.erase(directory);
  ++version_;
  return true;
}

Task<void> IndexTeller::run() {
  const auto alive = std::weak_ptr<bool>(alive_);
  Slice slice;
  for (std::string after;;) {
    const auto page = facts_.page(after, page_entries);
    if (page.empty()) break;
    after = page.back().path;
    for (const auto& entry : page) {
      const std::string name(parent_path(entry.path));
      const auto [at, fresh] = directories_.try_emplace(name);
      if (!fresh) continue;
      at->second.stamp = ++last_stamp_;
      unassigned_.insert(name);
    }
    if (slice.is_over()) co_await slice.next();
    if (alive.expired()) co_return;
  }
  while (!closed_) {
    co_await assign();
    if (alive.expired()) co_return;
    is_assigned_ = true;
    look_for_losses();
    const auto now = Clock::now();
    std::vector<KeeperPtr> due;
    for (const auto& [instance, keeper] : keepers_)
      if (is_due(instance, *keeper, now)) due.push_back(keeper);
    for (const auto& keeper : due) {
      if (telling_ >= most_telling) break;
      keeper->busy = true;
      ++telling_;
      spawn(io_, tell(keeper));
    }
    std::erase_if(keepers_, [](const auto& pair) {
      const auto& keeper = *pair.second;
      return !keeper.busy && keeper.assigned.empty() && keeper.told.empty();
    });
    co_await wake_.wait_for(look_every);
    if (alive.expired()) co_return;
    co_await sleep_for(gather);
    if (alive.expired()) co_return;
  }
}

Task<void> IndexTeller::tell(KeeperPtr keeper) {
  const auto alive = std::weak_ptr<bool>(alive_);
  bool went_well = false;
  try {
    co_await tell_all(keeper);
    went_well = true;
  } catch (const std::exception&) {
    // It is gone, and another one will be the keeper, or it is back later.
  }
  if (alive.expired()) co_return;
  keeper->busy = false;
  --telling_;
  std::erase_if(keeper->changes, [&](const auto& pair) {
    return !keeper->assigned.contains(pair.first) && !keeper->told.contains(pair.first);
  });
  if (!went_well) {
    keeper->again = Clock::now() + try_again_after;
    // What is gone for good is not told that it keeps nothing any more.
    if (keeper->assigned.empty()) keeper->told.clear();
  }
  ++version_;
  wake();
}

/// What it should know, and does not.
Task<void> IndexTeller::tell_all(KeeperPtr keeper) {
  const auto alive = std::weak_ptr<bool>(alive_);
  const KeeperLinks::Link link = co_await links_.to(keeper->member);
  if (alive.expired()) co_return;
  const auto now = Clock::now();
  keeper->is_lost = false;
  if (link.number != keeper->link || now - keeper->compared > seconds(visit_every)) {
    keeper->link = link.number;
    keeper->compared = now;
    keeper->hangs_up = false;
    co_await compare(keeper, link.channel);
    if (alive.expired()) co_return;
  }
  IndexTell said;
  for (const auto& [name, stamp] : keeper->told)
    if (!keeper->assigned.contains(name) || !directories_.contains(name)) said.forget.push_back(name);
  std::vector<std::string> whole;
  std::size_t entries = 0;
  const auto assigned = keeper->assigned;
  for (const auto& name : assigned) {
    const auto at = directories_.find(name);
    if (at == directories_.end()) continue;
    const auto told = keeper->told.find(name);
    if (told != keeper->told.end() && told->second == at->second.stamp) continue;
    const auto changes = keeper->changes.find(name);
    if (told == keeper->told.end() || changes == keeper->changes.end() || changes->second.size() > most_changes) {
      whole.push_back(name);
      continue;
    }
    if (is_gone(name)) {
      said.forget.push_back(name);
      continue;
    }
    DirectoryPart part;
    part.directory = name;
    part.stamp = at->second.stamp;
    for (const auto& path : changes->second) {
      if (auto entry = facts_.find(path))
        part.put.push_back(std::move(*entry));
      else
        part.removed.push_back(path);
    }
    entries += part.put.size() + part.removed.size();
    keeper->changes.erase(changes);
    said.parts.push_back(std::move(part));
    if (entries < page_entries && said.parts.size() < most_parts) continue;
    IndexTell batch;
    std::swap(batch, said);
    co_await send(keeper, link.channel, std::move(batch));
    if (alive.expired()) co_return;
    entries = 0;
  }
  // Small directories go together.
  for (const auto& name : whole) {
    const auto at = directories_.find(name);
    if (at == directories_.end()) continue;
    auto all = facts_.list(name, {}, page_entries);
    if (all.size() >= page_entries) {
      // What was gathered so far is not to be lost with it.
      if (!said.parts.empty() || !said.forget.empty()) {
        IndexTell batch;
        std::swap(batch, said);
        co_await send(keeper, link.channel, std::move(batch));
        if (alive.expired()) co_return;
        entries = 0;
      }
      co_await tell_whole(keeper, link.channel, name);
      if (alive.expired()) co_return;
      continue;
    }
    if (all.empty() && is_gone(name)) {
      if (keeper->told.contains(name)) said.forget.push_back(name);
      continue;
    }
    DirectoryPart part;
    part.directory = name;
    part.stamp = at->second.stamp;
    part.begin = part.end = true;
    entries += all.size();
    part.put = std::move(all);
    keeper->changes.erase(name);
    said.parts.push_back(std::move(part));
    if (entries < page_entries && said.parts.size() < most_parts) continue;
    IndexTell batch;
    std::swap(batch, said);
    co_await send(keeper, link.channel, std::move(batch));
    if (alive.expired()) co_return;
    entries = 0;
  }
  if (!said.parts.empty() || !said.forget.empty()) co_await send(keeper, link.channel, std::move(said));
  if (alive.expired()) co_return;
  if (keeper->hangs_up && facts_.may_rest(keeper->member.instance)) links_.rest(keeper->member.instance);
}

/// Whether the keeper still has what it was told.
Task<void> IndexTeller::compare(KeeperPtr keeper, ChannelPtr channel) {
  if (keeper->told.empty()) co_return;
  std::vector<DirectoryStamp> all;
  for (const auto& [name, stamp] : keeper->told) all.push_back({name, stamp});
  for (std::size_t from = 0; from < all.size(); from += page_entries) {
    IndexTell said;
    const auto to = std::min(all.size(), from + page_entries);
    said.have.assign(all.begin() + static_cast<std::ptrdiff_t>(from), all.begin() + static_cast<std::ptrdiff_t>(to));
    co_await send(keeper, channel, std::move(said));
  }
}

/// What a keeper says of itself beside its answer.
void IndexTeller::note(Keeper& keeper, const IndexTold& heard) {
  if (heard.is_full && !std::exchange(said_full_, true))
    facts_.log(
        warning("the index of " + keeper.member.node +
                " has no room for all that this node has; where no tracker answers, some of it may not be found"));
  keeper.hangs_up = keeper.hangs_up || heard.hang_up;
}

Task<void> IndexTeller::send(KeeperPtr keeper, ChannelPtr channel, IndexTell said) {
  const auto alive = std::weak_ptr<bool>(alive_);
  std::vector<DirectoryStamp> stamps;
  for (const auto& part : said.parts)
    if (part.end || !part.begin) stamps.push_back({part.directory, part.stamp});
  const auto note_down = [&] {
    for (auto& one : stamps) keeper->told[one.directory] = one.stamp;
  };
  // Until it has said that it knows, it does not.
  for (const auto& one : stamps) keeper->told.erase(one.directory);
  const IndexTold heard = co_await channel->request(said, tell_limit);
  if (alive.expired()) co_return;
  note_down();
  for (const auto& name : said.forget) keeper->told.erase(name), keeper->changes.erase(name);
  for (const auto& name : heard.wanted) {
    // One that wants the same again and again is not told at once.
    if (std::ranges::find(stamps, name, &DirectoryStamp::directory) != stamps.end())
      keeper->again = Clock::now() + try_again_after;
    keeper->told.erase(name);
  }
  note(*keeper, heard);
}

/// A directory of many entries.
Task<void> IndexTeller::tell_whole(KeeperPtr keeper, ChannelPtr channel, std::string directory) {
  const auto alive = std::weak_ptr<bool>(alive_);
  const auto at = directories_.find(directory);
  if (at == directories_.end()) co_return;
  const auto stamp = at->second.stamp;
  keeper->told.erase(directory);
  keeper->changes.erase(directory);  // what changes from here on is told behind it
  std::string after;
  for (bool begin = true, end = false; !end; begin = false) {
    DirectoryPart part;
    part.directory = directory;
    part.stamp = stamp;
    part.begin = begin;
    part.put = facts_.list(directory, after, page_entries);
    end = part.put.size() < page_entries;
    part.end = end;
    if (!part.put.empty()) after = part.put.back().path;
    IndexTell said;
    said.parts.push_back(std::move(part));
    const IndexTold heard = co_await channel->request(said, tell_limit);
    if (alive.expired()) co_return;
    const auto& wanted = heard.wanted;
    if (std::ranges::find(wanted, directory) != wanted.end()) {
      keeper->again = Clock::now() + try_again_after;
      co_return;
    }
    note(*keeper, heard);
  }
  keeper->told[directory] = stamp;
}

}  // namespace mesh
