// What a Lookup does for what it has not been told: it asks keepers, and nodes.
#include <algorithm>
#include <utility>

#include "core/format.h"
#include "core/glob.h"
#include "lookup.h"
#include "no_such.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;

constexpr auto probe_limit = milliseconds(300);
constexpr auto visits_limit = milliseconds(3000);  // of a view, which has to go to each
constexpr std::size_t most_likely_patterns = 1'000;
constexpr std::size_t most_probed = 128;

}  // namespace

Task<std::string> Lookup::cover(CoverAsk asked) {
  if (beyond_ == nullptr || !beyond_->cover) co_return std::string();
  const auto pattern = asked.paths.size() == 1 ? asked.paths.front() : asked.pattern;
  const Covered told = co_await beyond_->cover(std::move(asked));
  co_await take(pattern, told);
  co_return told.view;
}

void Lookup::forget_told() {
  likely_.clear();
  unnamed_.clear();
}

/// What the mesh says it has, in place of what it said before.
Task<void> Lookup::take(const std::string& pattern, const Covered& told) {
  Slice slice;
  members_.set_known(told.known + 1);
  std::vector<NodeKey> keys;  // 0: of no use
  NodeKey own = 0;            // what the node itself says to its view is truer
  for (const auto& [key, node] : members_.all())
    if (node.seen.is_unspecified() && node.channel) own = key;
  for (const auto& one : told.nodes) {
    const auto key = members_.know_of(one.node, one.head);
    keys.push_back(key.value_or(0));
    if (!key) continue;
    if (auto& names = instances_[*key]; names.empty()) names = {one.node.instance};
    if (slice.is_over()) co_await slice.next();
  }
  likely_.erase(pattern);
  if (!told.likely.empty() || told.is_unsure) {
    if (likely_.size() > most_likely_patterns) likely_.clear();
    auto& likely = likely_[pattern];
    likely.is_unsure = told.is_unsure;
    for (const auto place : told.likely)
      if (place < keys.size() && keys[place] != 0) likely.nodes.push_back(keys[place]);
  }
  struct There {
    std::set<NodeKey> nodes;
    std::vector<const IndexedVersion*> versions;
    std::int64_t unnamed = 0;
  };
  std::map<std::string, There> now;
  for (const auto& version : told.versions) {
    if (!entry_fault(version.entry).empty()) continue;
    auto& there = now[version.entry.path];
    there.versions.push_back(&version);
    there.unnamed += std::max<std::int64_t>(0, version.count - static_cast<std::int64_t>(version.nodes.size()));
    for (const auto place : version.nodes)
      if (place < keys.size() && keys[place] != 0) there.nodes.insert(keys[place]);
    if (slice.is_over()) co_await slice.next();
  }
  // What was there, and is not any more. Of a version of which not all nodes were named, one that was named before may
  // have it still.
  std::vector<std::pair<NodeKey, std::string>> gone;
  std::vector<std::string> emptied;
  const auto look = [&](const std::string& path) {
    const auto at = now.find(path);
    bool was_directory = false;
    for (const auto& copy : catalog_.copies(path)) {
      const auto* node = members_.find(copy.node);
      if (node == nullptr || !node->is_known_of) continue;
      was_directory = was_directory || copy.kind == Kind::directory;
      const auto may_be_of = [&](const IndexedVersion* version) {
        return version->count > static_cast<std::int64_t>(version->nodes.size()) && version->entry.kind == copy.kind &&
               version->entry.size == copy.size && version->entry.mtime == copy.mtime;
      };
      if (at != now.end() &&
          (at->second.nodes.contains(copy.node) || std::ranges::any_of(at->second.versions, may_be_of)))
        continue;
      gone.emplace_back(copy.node, path);
    }
    const auto is_directory = [](const IndexedVersion* version) { return version->entry.kind == Kind::directory; };
    if (was_directory && (at == now.end() || std::ranges::none_of(at->second.versions, is_directory)))
      emptied.push_back(path);
    return true;
  };
  for (const auto& question : told.questions) {
    const auto& dir = question.directory;
    if (!question.only.empty() && !question.glob) {
      look(dir.empty() ? question.only : dir + "/" + question.only);
    } else {
      std::optional<Glob> glob;
      if (question.glob) glob.emplace(question.only);
      catalog_.list(dir, "", "", [&](const std::string& path) {
        const auto name = last_part(path);
        return !glob || name == question.only || glob->matches(name) ? look(path) : true;
      });
    }
    if (slice.is_over()) co_await slice.next();
  }
  // Nobody has what is below a directory that nobody has.
  for (const auto& directory : emptied) {
    const Catalog::Visit below = [&](const std::string& path) {
      if (path == directory) return true;
      for (const auto& copy : catalog_.copies(path))
        if (const auto* node = members_.find(copy.node); node != nullptr && node->is_known_of)
          gone.emplace_back(copy.node, path);
      return true;
    };
    const What what{directory, directory, false};
    co_await walk(what, {}, below);
  }
  for (const auto& [key, path] : gone) {
    if (const auto at = told_.find(key); at != told_.end()) at->second.count(catalog_.remove(key, path));
    unnamed_.erase(path);
    if (slice.is_over()) co_await slice.next();
  }
  for (auto& [path, there] : now) {
    for (const auto* version : there.versions)
      for (const auto place : version->nodes) {
        const auto key = place < keys.size() ? keys[place] : 0;
        const auto* node = members_.find(key);
        if (key == 0 || node == nullptr || !node->is_known_of) continue;
        // One keeper may not have heard yet what another knows, or the node has said itself.
        const auto mine = catalog_.copies(path);
        const auto copy = std::ranges::find(mine, key, &Copy::node);
        const bool is_known = !version->entry.id.is_set() && copy != mine.end() && copy->id != nullptr &&
                              copy->size == version->entry.size && copy->mtime == version->entry.mtime;
        if (!is_known) put(*node, version->entry);
      }
    const auto all = catalog_.copies(path);
    const bool counts_own = std::ranges::find(all, own, &Copy::node) != all.end() && !there.nodes.contains(own);
    if (counts_own && there.unnamed > 0) --there.unnamed;
    if (there.unnamed > 0)
      unnamed_[path] = there.unnamed;
    else
      unnamed_.erase(path);
    if (slice.is_over()) co_await slice.next();
  }
}

/// Where somebody who should know of it is silent, it may be there all the same. Throws Error(unreachable) then.
void Lookup::check_sure(const std::string& pattern) const {
  const auto at = likely_.find(pattern);
  if (at != likely_.end() && at->second.is_unsure)
    throw Error(Status::unreachable,
                printable(pattern) + ": not found, but the nodes that keep its directory do not answer");
}

/// Whom to ask for what no delta, and no keeper, has spoken of. Of a view: whom the keepers named; of a content, which
/// they know nothing of, some at random.
std::vector<NodeKey> Lookup::whom_to_probe(const ProbePath& question) {
  std::vector<NodeKey> out;
  if (!members_.is_brief()) {
    for (const auto& [key, node] : members_.all()) out.push_back(key);
  } else if (!question.id.is_set()) {
    if (const auto at = likely_.find(question.path); at != likely_.end()) out = at->second.nodes;
  } else if (beyond_ != nullptr && beyond_->everybody) {
    auto all = beyond_->everybody();
    std::ranges::shuffle(all, random_);
    if (all.size() > most_probed) all.resize(most_probed);
    for (const auto& node : all)
      if (const auto key = members_.know_of(node, false)) out.push_back(*key);
  }
  return out;
}

/// Whether somebody has it of whom no delta, or no keeper, has said so yet.
Task<bool> Lookup::probe(ProbePath question) {
  const auto found = std::make_shared<bool>(false);
  // A node that does not answer in time has no say.
  auto ask = [](Lookup* self, NodeKey key, ProbePath asked_for, std::shared_ptr<bool> hit) -> Task<void> {
    const Probed reply = co_await self->members_.request(key, asked_for, probe_limit);
    for (const auto& entry : reply.found)
      if ((asked_for.id.is_set() ? entry.id == asked_for.id : entry.path == asked_for.path) &&
          entry_fault(entry).empty())
        if (const auto node = self->members_.find(key); node != nullptr && self->put(*node, entry)) *hit = true;
  };
  const auto whom = whom_to_probe(question);
  Together asked(io_);
  const auto deadline = std::chrono::steady_clock::now() + visits_limit;
  for (const auto key : whom) {
    if (members_.is_brief()) co_await asked.fewer_than(most_asked_by_view);
    if (*found || std::chrono::steady_clock::now() > deadline) break;
    asked.add(ask(this, key, question, found));
  }
  if (!members_.is_brief()) co_await asked.all();
  // One that cannot be reached is not waited for.
  while (!*found && asked.waiting() > 0 && std::chrono::steady_clock::now() < deadline)
    co_await sleep_for(milliseconds(5));
  co_return *found;
}

/// One that had hashed it before it was visited tells of no change.
void Lookup::take_hashed(NodeKey key, const std::string& path, const FileEntry& made) {
  const auto* node = members_.find(key);
  if (node == nullptr || !node->is_known_of || made.path != path || !made.id.is_set() || !entry_fault(made).empty())
    return;
  for (const auto& copy : catalog_.copies(path))
    if (copy.node == key && copy.id == nullptr && copy.size == made.size && copy.mtime == made.mtime) {
      put(*node, made);
      on_hashed(made.id);
      return;
    }
}

/// The file with these bytes, under the first path that somebody else has it under; of what the asker alone has, under
/// its own.
Task<Resolved> Lookup::resolve_content(ChannelPtr channel, ContentId id, std::string from) {
  const auto* asker = members_.of(channel);
  const NodeKey own = asker != nullptr ? asker->key : 0;
  const auto find = [&] {
    auto all = catalog_.holders(id);
    const auto only = from.empty() ? std::nullopt : members_.named(from);
    std::erase_if(all, [&](const Catalog::Holder& holder) {
      return gone_.contains(holder.node) || (!from.empty() && only != holder.node);
    });
    return all;
  };
  const auto is_others = [&](const Catalog::Holder& holder) { return holder.node != own; };
  co_await members_.settle(false);
  auto holders_now = find();
  if (std::ranges::none_of(holders_now, is_others)) {
    co_await members_.settle(true);
    ProbePath question;
    question.id = id;
    if (find().empty()) co_await probe(question);
    holders_now = find();
  }
  if (holders_now.empty()) throw Error(Status::not_found, no_such("id:" + id.hex(), members_.count()));
  if (std::ranges::any_of(holders_now, is_others))
    std::erase_if(holders_now, [&](const Catalog::Holder& holder) { return holder.node == own; });
  const auto chosen = *std::ranges::min_element(holders_now, {}, &Catalog::Holder::path);
  Resolved out;
  const std::string path(chosen.path);
  for (const auto& copy : copies(path)) {
    if (copy.node != chosen.node || copy.id == nullptr || *copy.id != id) continue;
    ResolvedFile file;
    file.entry = entry_of(path, copy);
    file.own_wins = copy.node == own;
    file.own_known = known_elsewhere(path, own);
    name_holders(file, copy, own);
    for (const auto key : file.holders)
      if (const auto* node = members_.find(key); node != nullptr)
        out.nodes.push_back(members_.reference(*node, channel->remote()));
    out.files.push_back(std::move(file));
  }
  out.above = above({path});
  co_return out;
}

}  // namespace mesh
