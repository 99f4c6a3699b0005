#include "lookup.h"

#include <algorithm>
#include <utility>

#include "core/format.h"
#include "core/glob.h"
#include "core/piece_plan.h"
#include "no_such.h"

namespace mesh {
namespace {

constexpr std::size_t path_bytes = 100;  // of a path, on average; as much again is kept beside it
constexpr std::size_t most_located = 8;  // holders of one small file; a getter spreads its questions over them
constexpr std::size_t most_holders = 16;

}  // namespace

FileEntry Lookup::entry_of(const std::string& path, const Copy& copy) {
  return {path,
          copy.kind,
          copy.size,
          copy.mtime,
          copy.mode,
          std::string(copy.target),
          copy.id != nullptr ? *copy.id : ContentId{},
          std::string(copy.origin)};
}

/// Where others say that this version is from.
std::string Lookup::origin_of(const std::string& path, const Copy& chosen) const {
  for (const auto& copy : copies(path))
    if (!copy.origin.empty() && copy.id != nullptr && chosen.id != nullptr && *copy.id == *chosen.id)
      return std::string(copy.origin);
  return {};
}

void Lookup::Told::count(const Catalog::Change& change) {
  paths += static_cast<std::size_t>(change.paths);
  path_bytes += static_cast<std::size_t>(change.bytes);
}

bool Lookup::put(const Members::Node& node, const FileEntry& entry) {
  auto& told = told_[node.key];
  const auto change = catalog_.put(node.key, entry);
  told.count(change);
  const bool is_full = told.paths > max_paths_ || told.path_bytes > max_paths_ * path_bytes;
  if (!is_full || (change.paths == 0 && change.bytes <= 0)) return true;
  told.count(catalog_.remove(node.key, entry.path));
  if (!std::exchange(told.has_too_many, true))
    if (node.channel)
      node.channel->note(
          Notice{"this node offers more than " + std::to_string(max_paths_) +
                 " paths (the tracker's --max-paths), or as many long ones as take their memory; the others "
                 "are not in the mesh, the first of them " +
                 printable(entry.path)});
  return false;
}

void Lookup::take_inventory(const ChannelPtr& channel, const InventoryDelta& delta) {
  const auto* node = members_.of(channel);
  if (node == nullptr) return;
  auto& told = told_[node->key];
  if (auto& names = instances_[node->key]; names.empty()) {
    names = node->hello.former;
    names.insert(names.begin(), node->hello.instance);
  }
  for (const auto& path : delta.removed) told.count(catalog_.remove(node->key, path));
  for (const auto& entry : delta.put)
    if (entry_fault(entry).empty() && put(*node, entry) && entry.id.is_set()) on_hashed(entry.id);
  if (delta.end) members_.set_registered(node->key);
}

void Lookup::forget(NodeKey node) {
  const auto it = told_.find(node);
  if (it == told_.end()) {
    if (!gone_.contains(node)) instances_.erase(node);
    return;
  }
  const bool has_any = it->second.paths > 0;
  told_.erase(it);
  if (!has_any) instances_.erase(node);
  if (!has_any) return;
  gone_.insert(node);
  if (gone_.size() == 1) spawn(io_, sweep());
}

std::vector<NodeKey> Lookup::holders(const ContentId& id, std::int64_t size) const {
  std::vector<NodeKey> out;
  for (const auto& holder : catalog_.holders(id, size))
    if (!gone_.contains(holder.node)) out.push_back(holder.node);
  return out;
}

/// Takes what nodes that are gone have said out of the catalog, a slice at a time; it counts no more from the first on.
Task<void> Lookup::sweep() {
  Slice slice;
  const Catalog::Due due = [&] { return slice.is_over(); };
  while (!gone_.empty()) {
    const auto leaving = gone_;
    std::string after;
    while (auto reached = catalog_.remove_nodes(leaving, after, due)) {
      after = std::move(*reached);
      co_await slice.next();
    }
    for (const auto key : leaving) gone_.erase(key), instances_.erase(key);
  }
}

/// Catalog::walk, a slice at a time.
Task<void> Lookup::walk(What what, std::string after, Catalog::Visit visit) {
  Slice slice;
  const Catalog::Due due = [&] { return slice.is_over(); };
  for (;;) {
    auto reached = catalog_.walk(what, after, visit, due);
    if (!reached) co_return;
    after = std::move(*reached);
    co_await slice.next();
  }
}

Task<void> Lookup::hash(std::map<NodeKey, HashFiles> work, std::shared_ptr<Refusals> refusals) {
  Together asked(io_);
  // What was hashed is in the catalog by the time of the reply: the node's delta came before it on the same channel.
  // When a node goes, its copies go with it, and the question is settled too.
  auto ask = [](Lookup* self, NodeKey key, HashFiles request, std::shared_ptr<Refusals> refused) -> Task<void> {
    const Made reply = co_await self->members_.request(key, request, make_limit);
    for (std::size_t i = 0; i < request.files.size() && i < reply.errors.size(); ++i) {
      if (!reply.errors[i].empty())
        (*refused)[request.files[i].path][key] = reply.errors[i];
      else if (i < reply.files.size())
        self->take_hashed(key, request.files[i].path, reply.files[i]);
    }
  };
  for (auto& [key, request] : work) {
    if (members_.is_brief()) co_await asked.fewer_than(most_asked_by_view);
    if (members_.contains(key)) asked.add(ask(this, key, std::move(request), refusals));
  }
  co_await asked.all();
}

std::vector<Copy> Lookup::copies(std::string_view path) const {
  auto out = catalog_.copies(path);
  if (!gone_.empty()) std::erase_if(out, [this](const Copy& copy) { return gone_.contains(copy.node); });
  for (auto& copy : out)
    if (const auto* node = members_.find(copy.node); node != nullptr) copy.head = members_.is_head(*node);
  return out;
}

/// The paths that a question names, a page of them; a path that is there is no glob, and the question says so then.
/// Throws Error.
Task<std::vector<std::string>> Lookup::find_paths(Resolve& question) {
  What what{question.pattern, question.pattern, question.glob};
  if (!what.pattern.empty() && !is_mesh_path(what.pattern))
    throw Error(Status::usage, printable(what.pattern) + ": the path " + std::string(path_fault(what.pattern)));
  const auto be_literal = [&] {
    what = read(std::move(what));
    question.glob = what.is_glob;
  };
  be_literal();
  if (what.is_glob)
    if (const auto fault = glob_fault(what.pattern); !fault.empty())
      throw Error(Status::usage, printable(what.pattern) + ": the path " + std::string(fault));
  std::vector<std::string> paths;
  const Catalog::Visit take = [&](const std::string& path) {
    if (!gone_.empty() && copies(path).empty()) return true;
    paths.push_back(path);
    return paths.size() < page_entries;
  };
  // A path that is there is told at once.
  if (what.is_glob || members_.is_brief() || !catalog_.contains(what.pattern)) co_await members_.settle(false);
  be_literal();
  co_await walk(what, question.after, take);
  if (paths.empty() && question.after.empty()) {
    co_await members_.settle(true);
    be_literal();
    co_await walk(what, question.after, take);
    if (paths.empty() && !what.pattern.empty()) {
      ProbePath unknown;
      unknown.path = what.pattern;
      co_await probe(unknown);
      be_literal();
      co_await walk(what, question.after, take);
    }
    if (paths.empty()) {
      if (what.pattern.empty() && members_.size() > 0) co_return paths;  // the whole of an empty mesh
      check_sure(question.pattern);
      throw Error(Status::not_found, no_such(question.pattern, members_.count()));
    }
  }
  co_return paths;
}

void Lookup::name_holders(ResolvedFile& file, const Copy& chosen, NodeKey asker) {
  if (chosen.id != nullptr && file.entry.size <= small_file_bytes) {
    // Small files are fetched by path.
    for (const auto& copy : copies(file.entry.path))
      if (copy.node != asker && copy.id != nullptr && *copy.id == file.entry.id) file.holders.push_back(copy.node);
    if (file.holders.empty()) file.holders.push_back(chosen.node);
  } else if (chosen.id != nullptr) {
    for (const auto& holder : holders(*chosen.id, file.entry.size))
      if (holder != asker || chosen.node == asker) file.holders.push_back(holder);
  } else {
    file.holders.push_back(chosen.node);
  }
  if (file.holders.size() > most_holders) {
    std::ranges::shuffle(file.holders, random_);
    file.holders.resize(most_holders);
  }
}

/// The directories that these paths lie in, and that are not among them.
std::vector<FileEntry> Lookup::above(const std::vector<std::string>& paths) const {
  std::set<std::string> directories;
  for (const auto& path : paths)
    for (auto up = parent_path(path); !up.empty(); up = parent_path(up))
      if (!directories.emplace(up).second) break;
  for (const auto& path : paths) directories.erase(path);
  std::vector<FileEntry> out;
  for (const auto& path : directories) {
    auto field = copies(path);
    std::erase_if(field, [](const Copy& copy) { return copy.kind != Kind::directory; });
    if (const auto choice = choose_version(field, {}); choice.chosen) out.push_back(entry_of(path, *choice.chosen));
  }
  return out;
}

/// What `own` has as a file under `path`.
std::optional<Copy> Lookup::own_copy(const std::string& path, NodeKey own) const {
  for (const auto& copy : copies(path))
    if (copy.node == own && copy.kind == Kind::file) return copy;
  return std::nullopt;
}

/// Whether to hash it may show that another node has or had the same.
bool Lookup::may_be_known(const std::string& path, const Copy& mine) const {
  const auto instance = instances_.find(mine.node);
  if (mine.id != nullptr || instance == instances_.end()) return false;
  return past_.had_size(path, mine.size, instance->second) || std::ranges::any_of(copies(path), [&](const Copy& copy) {
           return copy.node != mine.node && copy.kind == Kind::file && copy.size == mine.size;
         });
}

/// What `own` has under `path`, where another node has these bytes, or had them under that path.
ContentId Lookup::known_elsewhere(const std::string& path, NodeKey own) const {
  const auto mine = own_copy(path, own);
  const auto instance = instances_.find(own);
  if (!mine || mine->id == nullptr || instance == instances_.end()) return {};
  const auto now = holders(*mine->id, mine->size);
  const bool elsewhere = std::ranges::any_of(now, [&](NodeKey node) { return node != own; });
  return elsewhere || past_.had(path, *mine->id, mine->size, instance->second) ? *mine->id : ContentId{};
}

Task<Resolved> Lookup::resolve(ChannelPtr channel, Resolve question) {
  if (question.id.is_set()) co_return co_await resolve_content(channel, question.id, question.from);
  const bool asked_glob = question.glob;
  // A view knows of a node that is named by its instance.
  std::string from_instance = question.from;
  if (beyond_ != nullptr && beyond_->everybody && !question.from.empty()) {
    for (const auto& node : beyond_->everybody())
      if (node.name == question.from.substr(0, question.from.find('#')))
        static_cast<void>(members_.know_of(node, false));
    if (const auto key = members_.named(question.from)) from_instance = members_.find(*key)->hello.instance;
  }
  if (question.after.empty() && (question.pattern.empty() || is_mesh_path(question.pattern))) {
    CoverAsk about;
    about.pattern = question.pattern;
    about.glob = question.glob;
    about.below = true;
    about.from = from_instance;
    about.certain = question.strict;
    static_cast<void>(co_await cover(std::move(about)));
  }
  const auto paths = co_await find_paths(question);
  if (paths.empty() && question.after.empty()) co_return Resolved{};
  const auto* asker = members_.of(channel);
  const NodeKey own = asker != nullptr ? asker->key : 0;
  std::optional<NodeKey> from;
  if (!question.from.empty()) {
    from = members_.named(question.from);
    if (!from) throw Error(Status::not_found, printable(question.from) + ": " + members_.no_such_node(question.from));
  }
  const auto refusals = std::make_shared<Refusals>();
  const auto choose = [&](const std::string& path) {
    auto field = copies(path);
    if (!from && field.size() > 1) std::erase_if(field, [&](const Copy& c) { return c.node == own; });
    if (const auto it = refusals->find(path); it != refusals->end())
      std::erase_if(field, [&](const Copy& c) { return c.id == nullptr && it->second.contains(c.node); });
    return choose_version(field, {from, question.strict});
  };
  // Each round hashes what the choice hangs on; files that change meanwhile may need another.
  for (int round = 0; round < 3; ++round) {
    std::map<NodeKey, HashFiles> work;
    for (const auto& path : paths)
      for (const auto key : choose(path).to_hash) {
        for (const auto& copy : copies(path))
          if (copy.node == key) work[key].files.push_back(entry_of(path, copy));
      }
    for (const auto& path : paths) {
      const auto mine = own_copy(path, own);
      const auto refused = refusals->find(path);
      if (mine && may_be_known(path, *mine) && (refused == refusals->end() || !refused->second.contains(own)))
        work[own].files.push_back(entry_of(path, *mine));
    }
    if (work.empty()) break;
    co_await hash(std::move(work), refusals);
  }
  Resolved out;
  std::set<NodeKey> mentioned;
  for (const auto& path : paths) {
    const auto choice = choose(path);
    ResolvedFile file;
    file.entry.path = path;
    if (choice.conflict) {
      file.problem = "several versions, and --strict allows one:";
      for (const auto& copy : copies(path)) {
        file.problem +=
            " " + members_.node_name(copy.node) + " (" + human_bytes(copy.size) + ", " + human_time(copy.mtime);
        if (copy.id != nullptr) file.problem += ", " + copy.id->hex().substr(0, 12);
        file.problem += ")";
      }
    } else if (!choice.chosen) {
      if (from) continue;
      file.problem = choice.to_hash.empty() ? "no node holds it any more"
                                            : "it changes faster than it can be hashed; try again later";
      if (const auto it = refusals->find(path); it != refusals->end())
        file.problem = "on " + members_.node_name(it->second.begin()->first) + ": " + it->second.begin()->second;
    } else if (choice.chosen->kind == Kind::outside) {
      file.problem = "on " + members_.node_name(choice.chosen->node) + " it is a link out of the files directory, to " +
                     printable(choice.chosen->target) + "; start meshseed there with --follow DIR for where it leads";
    } else {
      file.entry = entry_of(path, *choice.chosen);
      if (file.entry.origin.empty()) file.entry.origin = origin_of(path, *choice.chosen);
      if (!from) {
        const auto all = choose_version(copies(path), {});
        file.own_wins = all.chosen && all.chosen->node == own;
      }
      file.own_known = known_elsewhere(path, own);
      name_holders(file, *choice.chosen, own);
      mentioned.insert(file.holders.begin(), file.holders.end());
    }
    out.files.push_back(std::move(file));
  }
  out.literal = asked_glob && !question.glob;
  out.above = above(paths);
  if (paths.size() == page_entries) out.next = paths.back();
  if (from && out.files.empty() && question.after.empty() && out.next.empty())
    throw Error(Status::not_found, printable(question.pattern) + ": not found on node " + printable(question.from));
  for (const auto key : mentioned)
    if (const auto* node = members_.find(key); node != nullptr)
      out.nodes.push_back(members_.reference(*node, channel->remote()));
  co_return out;
}

std::vector<NodeKey> Lookup::nodes_with(const PackFile& file) const {
  std::vector<NodeKey> out;
  for (const auto& copy : copies(file.path)) {
    const bool other = file.id.is_set() && copy.id != nullptr && *copy.id != file.id;
    if (copy.kind == Kind::file && copy.size == file.size && copy.mtime == file.mtime && !other)
      out.push_back(copy.node);
  }
  return out;
}

Task<Located> Lookup::locate(ChannelPtr channel, Locate question) {
  const auto* asker = members_.of(channel);
  const NodeKey own = asker != nullptr ? asker->key : 0;
  Located out;
  std::set<NodeKey> mentioned;
  if (question.files.size() > page_entries) question.files.resize(page_entries);
  CoverAsk about;
  for (const auto& file : question.files)
    if (is_mesh_path(file.path)) about.paths.push_back(file.path);
  static_cast<void>(co_await cover(std::move(about)));
  for (const auto& file : question.files) {
    auto& holders = out.files.emplace_back().nodes;
    for (const auto& copy : copies(file.path)) {
      if (copy.node == own || copy.kind != Kind::file || copy.size != file.size) continue;
      if (file.id.is_set() ? copy.id != nullptr && *copy.id == file.id : copy.mtime == file.mtime)
        holders.push_back(copy.node);
    }
    // Large files are not fetched by their paths.
    if (file.id.is_set() && file.size > small_file_bytes && holders.empty())
      for (const auto key : this->holders(file.id, file.size))
        if (key != own) holders.push_back(key);
    if (holders.size() > most_located) {
      std::ranges::shuffle(holders, random_);
      holders.resize(most_located);
    }
    mentioned.insert(holders.begin(), holders.end());
  }
  for (const auto key : mentioned)
    if (const auto* node = members_.find(key); node != nullptr)
      out.nodes.push_back(members_.reference(*node, channel->remote()));
  co_return out;
}

Task<Listed> Lookup::list(List question) {
  Listed out;
  if (question.after.empty() && (question.pattern.empty() || is_mesh_path(question.pattern))) {
    CoverAsk about;
    about.pattern = question.pattern;
    about.glob = question.glob;
    about.below = question.glob || question.recursive;
    out.view = co_await cover(std::move(about));
  }
  co_await members_.settle(false);
  std::string last;
  const auto most = question.page();
  const auto add = [&](const std::string& path) {
    const auto all = copies(path);
    if (all.empty()) return true;
    ListItem item;
    const auto choice = choose_version(all, {});
    // An undecided choice still has a newest mtime to show.
    const auto& shown = choice.chosen ? *choice.chosen : *std::ranges::max_element(all, {}, &Copy::mtime);
    item.entry = entry_of(path, shown);
    item.holders = static_cast<int>(all.size());
    if (const auto more = unnamed_.find(path); more != unnamed_.end())
      item.holders += static_cast<int>(std::min<std::int64_t>(more->second, INT32_MAX / 2));
    const auto versions = count_versions(all);
    item.versions = versions.certain;
    item.unsure = versions.unsure;
    out.items.push_back(std::move(item));
    last = path;
    return out.items.size() < most;
  };
  What what{question.pattern, question.pattern, question.glob};
  const Catalog::Visit visit = add;
  const auto page = [&]() -> Task<void> {
    what = read(std::move(what));
    out.literal = question.glob && !what.is_glob;
    if (what.is_glob && what.pattern != question.pattern) out.pattern = what.pattern;
    if (what.is_glob)
      if (const auto fault = glob_fault(what.pattern); !fault.empty())
        throw Error(Status::usage, printable(what.pattern) + ": the path " + std::string(fault));
    if (what.is_glob || question.recursive) {
      co_await walk(what, question.after, visit);
      co_return;
    }
    // A file is listed as itself, a directory as what is in it.
    const auto own = copies(what.pattern);
    const bool directory = what.pattern.empty() || own.empty() ||
                           std::ranges::any_of(own, [](const Copy& c) { return c.kind == Kind::directory; });
    if (directory)
      catalog_.list(what.pattern, question.prefix, question.after, add);
    else if (question.after.empty())
      add(what.pattern);
  };
  co_await page();
  if (out.items.empty() && question.after.empty() && question.prefix.empty()) {
    co_await members_.settle(true);
    co_await page();
    check_sure(question.pattern);
    const bool empty_directory = !what.is_glob && (what.pattern.empty() || !copies(what.pattern).empty());
    if (out.items.empty() && !empty_directory) throw Error(Status::not_found, no_such(what.pattern, members_.count()));
  }
  if (out.items.size() >= most) out.next = last;
  co_return out;
}

Task<Versions> Lookup::info(Info question) {
  if (is_mesh_path(question.path)) {
    CoverAsk about;
    about.paths.push_back(question.path);
    about.certain = true;
    static_cast<void>(co_await cover(std::move(about)));
  }
  if (members_.is_brief() || !catalog_.contains(question.path)) co_await members_.settle(false);
  if (!is_mesh_path(question.path))
    throw Error(Status::usage, printable(question.path) + ": the path " + std::string(path_fault(question.path)));
  auto all = copies(question.path);
  if (all.empty()) {
    co_await members_.settle(true);
    ProbePath unknown;
    unknown.path = question.path;
    co_await probe(unknown);
    all = copies(question.path);
  }
  if (all.empty()) check_sure(question.path);
  if (all.empty()) throw Error(Status::not_found, no_such(question.path, members_.count()));
  const auto choice = choose_version(all, {});
  Versions out;
  for (const auto& copy : all) {
    auto entry = entry_of(question.path, copy);
    auto it = std::ranges::find_if(out.versions, [&](const VersionInfo& v) {
      if (v.entry.kind != entry.kind) return false;
      if (entry.kind == Kind::file) return entry.id.is_set() && v.entry.id == entry.id;
      return v.entry.target == entry.target;
    });
    if (it == out.versions.end()) {
      out.versions.push_back({entry, false, {}});
      it = std::prev(out.versions.end());
    }
    if (entry.mtime > it->entry.mtime) it->entry = entry;
    it->nodes.push_back(members_.node_name(copy.node));
    if (choice.chosen && choice.chosen->node == copy.node) it->chosen = true;
  }
  co_return out;
}

}  // namespace mesh
