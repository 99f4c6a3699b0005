#include "directory_index.h"

#include <algorithm>
#include <unordered_map>

#include "core/format.h"
#include "core/glob.h"
#include "core/mesh_path.h"
#include "core/path_walk.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t most_stamps = 100'000;  // in one message
constexpr std::size_t most_versions = 2'000;  // in one answer
constexpr std::size_t most_nodes = 20'000;    // that have told anything
constexpr std::size_t most_tellers_named = 64;
constexpr std::size_t most_versions_of_one = 256;  // of a path, in an answer
constexpr std::size_t most_answer_bytes = std::size_t{4} << 20;
constexpr auto expire_every = std::chrono::milliseconds(200);

const std::string& text_of(const FileEntry& entry) { return entry.kind == Kind::file ? entry.origin : entry.target; }

bool is_directory_name(const std::string& text) { return text.empty() || is_mesh_path(text); }

}  // namespace

bool DirectoryIndex::Version::is(const FileEntry& entry) const {
  return kind == entry.kind && size == entry.size && mtime == entry.mtime && id == entry.id && mode == entry.mode &&
         (text ? *text : std::string()) == text_of(entry);
}

DirectoryIndex::Teller& DirectoryIndex::teller_of(const Members::Node& node, const ChannelPtr& channel) {
  auto& place = tellers_[node.hello.instance];
  // Another run counts its directories anew.
  if (place && place->hello.run != node.hello.run) {
    auto drop_all = [](DirectoryIndex* self, std::shared_ptr<Teller> old) -> Task<void> {
      co_await self->forget(std::move(old));
    };
    place->member = 0;
    place->until = {};
    spawn(channel->executor(), drop_all(this, std::exchange(place, nullptr)));
  }
  if (!place) {
    if (tellers_.size() > most_nodes) {
      tellers_.erase(node.hello.instance);
      throw Error(Status::failed, "too many nodes tell this one what they have");
    }
    place = std::make_shared<Teller>();
    place->key = next_key_++;
    by_key_[place->key] = place;
  }
  place->hello = node.hello;
  place->seen = channel->remote();
  place->member = node.key;
  place->rests = false;
  return *place;
}

bool DirectoryIndex::is_live(NodeKey key) const {
  const auto it = by_key_.find(key);
  return it != by_key_.end() && (it->second->member != 0 || it->second->until > Clock::now());
}

std::size_t DirectoryIndex::Teller::beginnings() const {
  std::size_t out = stamps.size();
  for (const auto& [directory, paths] : beginning) out += 1 + paths.size();
  return out;
}

bool DirectoryIndex::has_room(const Teller& teller) const {
  return teller.copies + teller.stamps.size() < options_.max_copies_of_one && copies_ < options_.max_copies &&
         teller.bytes < options_.max_copies_of_one * options_.path_bytes &&
         bytes_ < options_.max_copies * options_.path_bytes;
}

void DirectoryIndex::cut(Teller& teller, const std::string& directory) {
  if (teller.cut.insert(directory).second) ++cut_[directory];
}

void DirectoryIndex::mend_cut(Teller& teller, const std::string& directory) {
  if (teller.cut.erase(directory) == 0) return;
  if (const auto at = cut_.find(directory); at != cut_.end() && --at->second == 0) cut_.erase(at);
}

bool DirectoryIndex::put(Teller& teller, const FileEntry& entry) {
  const auto at = paths_.find(entry.path);
  if (at != paths_.end())
    for (const auto& version : at->second)
      if (version.is(entry) && std::ranges::binary_search(version.nodes, teller.key)) return true;
  remove(teller, entry.path);
  if (!has_room(teller)) return false;
  auto& versions = paths_[entry.path];
  if (versions.empty()) bytes_ += entry.path.size();
  auto it = std::ranges::find_if(versions, [&](const Version& one) { return one.is(entry); });
  if (it == versions.end()) {
    Version fresh;
    fresh.size = entry.size;
    fresh.mtime = entry.mtime;
    fresh.id = entry.id;
    fresh.mode = entry.mode;
    fresh.kind = entry.kind;
    if (!text_of(entry).empty()) fresh.text = std::make_unique<std::string>(text_of(entry));
    bytes_ += text_of(entry).size();
    versions.push_back(std::move(fresh));
    it = std::prev(versions.end());
  }
  it->nodes.insert(std::ranges::lower_bound(it->nodes, teller.key), teller.key);
  ++teller.copies;
  ++copies_;
  teller.bytes += entry.path.size() + text_of(entry).size();
  return true;
}

void DirectoryIndex::remove(Teller& teller, std::string_view path) {
  const auto at = paths_.find(path);
  if (at == paths_.end()) return;
  for (auto version = at->second.begin(); version != at->second.end(); ++version) {
    const auto node = std::ranges::lower_bound(version->nodes, teller.key);
    if (node == version->nodes.end() || *node != teller.key) continue;
    version->nodes.erase(node);
    --teller.copies;
    --copies_;
    const auto text = version->text ? version->text->size() : 0;
    teller.bytes -= path.size() + text;
    if (!version->nodes.empty()) break;
    bytes_ -= text;
    at->second.erase(version);
    break;
  }
  if (!at->second.empty()) return;
  bytes_ -= path.size();
  paths_.erase(at);
}

Task<void> DirectoryIndex::drop(std::shared_ptr<Teller> teller, std::string directory, std::set<std::string> kept) {
  Slice slice;
  for (std::string after;;) {
    std::vector<std::string> gone;
    std::string last;
    bool more = false;
    list_paths(paths_, directory, "", after, [&](Paths::const_iterator at) {
      last = at->first;
      if (!kept.contains(at->first)) gone.push_back(at->first);
      more = slice.is_over();
      return !more;
    });
    for (const auto& path : gone) remove(*teller, path);
    if (!more) co_return;
    after = last;
    co_await slice.next();
  }
}

Task<void> DirectoryIndex::forget(std::shared_ptr<Teller> teller) {
  by_key_.erase(teller->key);
  for (const auto& [directory, stamp] : teller->stamps)
    if (const auto at = directories_.find(directory); at != directories_.end()) {
      at->second.erase(teller->key);
      if (at->second.empty()) directories_.erase(at);
    }
  auto told = std::exchange(teller->stamps, {});
  for (const auto& [directory, some] : teller->beginning) told.emplace(directory, 0);
  const auto cut_of = teller->cut;
  for (const auto& directory : cut_of) mend_cut(*teller, directory);
  teller->beginning.clear();
  for (const auto& [directory, stamp] : told) {
    std::set<std::string> none;
    co_await drop(teller, directory, std::move(none));
  }
}

/// Nodes that were lost, or have rested for too long.
void DirectoryIndex::expire() {
  const auto now = Clock::now();
  if (now - expired_ < std::min<milliseconds>(expire_every, options_.loss_lease)) return;
  expired_ = now;
  live_ = 0;
  std::vector<std::shared_ptr<Teller>> over;
  for (const auto& [instance, teller] : tellers_)
    if (teller->member != 0)
      ++live_;
    else if (teller->until <= now)
      over.push_back(teller);
  for (const auto& teller : over) {
    tellers_.erase(teller->hello.instance);
    by_key_.erase(teller->key);
    auto drop_all = [](DirectoryIndex* self, std::shared_ptr<Teller> old) -> Task<void> {
      co_await self->forget(std::move(old));
    };
    spawn(members_.executor(), drop_all(this, teller));
  }
}

void DirectoryIndex::rest(const ChannelPtr& channel) {
  const auto* node = members_.of(channel);
  const auto it = node == nullptr ? tellers_.end() : tellers_.find(node->hello.instance);
  if (it != tellers_.end()) it->second->rests = true;
}

void DirectoryIndex::left(NodeKey node) {
  for (const auto& [instance, teller] : tellers_) {
    if (teller->member != node) continue;
    teller->member = 0;
    // It may have lost a connection, and be back in a moment.
    teller->until = Clock::now() + (teller->rests ? options_.rest_lease : options_.loss_lease);
    return;
  }
}

Task<IndexTold> DirectoryIndex::tell(ChannelPtr channel, IndexTell said) {
  const auto* node = members_.of(channel);
  if (node == nullptr) throw Error(Status::refused, "only a node that has said hello can tell what it has");
  expire();
  const auto instance = node->hello.instance;
  static_cast<void>(teller_of(*node, channel));
  const auto teller = tellers_[instance];
  IndexTold out;
  Slice slice;
  const auto forget_one = [&](const std::string& directory) {
    teller->stamps.erase(directory);
    teller->beginning.erase(directory);
    mend_cut(*teller, directory);
    const auto at = directories_.find(directory);
    if (at == directories_.end()) return;
    at->second.erase(teller->key);
    if (at->second.empty()) directories_.erase(at);
  };
  for (const auto& directory : said.forget) {
    forget_one(directory);
    std::set<std::string> none;
    co_await drop(teller, directory, std::move(none));
    if (!by_key_.contains(teller->key)) throw Error(Status::unreachable, "the node is gone");
  }
  if (said.have.size() > most_stamps) said.have.resize(most_stamps);
  for (const auto& one : said.have) {
    const auto at = teller->stamps.find(one.directory);
    if (at == teller->stamps.end() || at->second != one.stamp) out.wanted.push_back(one.directory);
  }
  for (const auto& part : said.parts) {
    if (!is_directory_name(part.directory)) continue;
    const bool anew = part.begin;
    if (!teller->stamps.contains(part.directory) && teller->beginnings() >= options_.max_copies_of_one) {
      out.is_full = true;
      continue;
    }
    if (anew) mend_cut(*teller, part.directory);
    if (anew) teller->beginning[part.directory].clear();
    const bool more = !anew && teller->beginning.contains(part.directory);
    if (!anew && !more && !teller->stamps.contains(part.directory)) {
      out.wanted.push_back(part.directory);
      continue;
    }
    for (const auto& path : part.removed)
      if (parent_path(path) == part.directory) remove(*teller, path);
    for (const auto& entry : part.put) {
      if (!entry_fault(entry).empty() || parent_path(entry.path) != part.directory) continue;
      const bool is_in = put(*teller, entry);
      if (!is_in) {
        out.is_full = true;
        cut(*teller, part.directory);
      }
      if (is_in && (anew || more)) teller->beginning[part.directory].insert(entry.path);
      if (!slice.is_over()) continue;
      co_await slice.next();
      if (!by_key_.contains(teller->key)) throw Error(Status::unreachable, "the node is gone");
    }
    if (part.end && (anew || more)) {
      auto kept = teller->beginning[part.directory];
      co_await drop(teller, part.directory, std::move(kept));
      if (!by_key_.contains(teller->key)) throw Error(Status::unreachable, "the node is gone");
      teller->beginning.erase(part.directory);
    }
    if (part.end || !(anew || more)) {
      if (!by_key_.contains(teller->key)) throw Error(Status::unreachable, "the node is gone");
      teller->stamps[part.directory] = part.stamp;
      directories_[part.directory].insert(teller->key);
    }
  }
  out.hang_up = live_ > options_.max_channels;
  co_return out;
}

/// An answer as it is made.
struct DirectoryIndex::Answer {
  Indexed reply;
  asio::ip::address asker;
  std::unordered_map<NodeKey, std::uint32_t> places;  ///< in reply.nodes
  std::size_t versions = 0;
  std::size_t bytes = 0;
  std::set<NodeKey> from;

  std::uint32_t place(const Members& members, const Teller& teller) {
    const auto [at, fresh] = places.try_emplace(teller.key, static_cast<std::uint32_t>(reply.nodes.size()));
    if (fresh) {
      IndexedNode node;
      node.node = {teller.key,
                   teller.hello.node,
                   Members::addresses(teller.hello, teller.seen, asker),
                   teller.hello.peer_port,
                   teller.hello.channel_port,
                   teller.hello.instance};
      node.head = members.is_head(teller.hello);
      reply.nodes.push_back(std::move(node));
    }
    return at->second;
  }
};

bool DirectoryIndex::add(Answer& answer, IndexedDirectory& out, const std::string& path,
                         const std::vector<Version>& versions) {
  // Of more than anybody chooses from, the newest.
  std::vector<const Version*> some;
  for (const auto& version : versions) some.push_back(&version);
  if (some.size() > most_versions_of_one) {
    std::ranges::nth_element(some, some.begin() + most_versions_of_one, std::ranges::greater(),
                             [](const Version* one) { return one->mtime; });
    some.resize(most_versions_of_one);
  }
  for (const auto* one_of_them : some) {
    const auto& version = *one_of_them;
    std::vector<NodeKey> live;
    for (const auto key : version.nodes)
      if (is_live(key)) live.push_back(key);
    if (live.empty()) continue;
    IndexedVersion one;
    one.entry.path = path;
    one.entry.kind = version.kind;
    one.entry.size = version.size;
    one.entry.mtime = version.mtime;
    one.entry.mode = version.mode;
    one.entry.id = version.id;
    if (version.text) (version.kind == Kind::file ? one.entry.origin : one.entry.target) = *version.text;
    one.count = static_cast<std::int64_t>(live.size());
    // Who is asked for, and the head nodes, which decide between versions, before the others.
    std::ranges::shuffle(live, random_);
    std::ranges::stable_partition(
        live, [&](NodeKey key) { return answer.from.contains(key) || members_.is_head(by_key_.at(key)->hello); });
    if (live.size() > most_index_holders) live.resize(most_index_holders);
    for (const auto key : live) one.nodes.push_back(answer.place(members_, *by_key_.at(key)));
    out.versions.push_back(std::move(one));
    ++answer.versions;
    answer.bytes += 200 + path.size() + text_of(out.versions.back().entry).size();
  }
  return answer.versions < most_versions && answer.bytes < most_answer_bytes;
}

Task<Indexed> DirectoryIndex::ask(ChannelPtr channel, IndexAsk question) {
  expire();
  Answer answer;
  answer.asker = channel->remote();
  answer.reply.age = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begun_).count();
  if (!question.from.empty())
    for (const auto& [instance, teller] : tellers_)
      if (instance == question.from || teller->hello.node == question.from) answer.from.insert(teller->key);
  if (question.questions.size() > most_index_questions) question.questions.resize(most_index_questions);
  Slice slice;
  std::set<std::string> named;
  for (const auto& one : question.questions) {
    if (answer.versions >= most_versions || answer.bytes >= most_answer_bytes) break;
    if (slice.is_over()) co_await slice.next();
    auto& out = answer.reply.directories.emplace_back();
    if (!is_directory_name(one.directory)) continue;
    const auto tellers = directories_.find(one.directory);
    out.is_known = tellers != directories_.end();
    out.is_cut = cut_.contains(one.directory);
    if (!out.is_known) {
      for (auto& member : keepers_(one.directory))
        if (named.size() < 64 && named.insert(member.instance).second)
          answer.reply.keepers.push_back(std::move(member));
      continue;
    }
    if (!one.only.empty() && !one.glob) {
      const auto path = one.directory.empty() ? one.only : one.directory + "/" + one.only;
      if (const auto at = paths_.find(path); at != paths_.end()) add(answer, out, at->first, at->second);
      if (!out.versions.empty()) continue;
      std::vector<NodeKey> some(tellers->second.begin(), tellers->second.end());
      std::ranges::shuffle(some, random_);
      for (const auto key : some)
        if (out.tellers.size() < most_tellers_named && is_live(key))
          out.tellers.push_back(answer.place(members_, *by_key_.at(key)));
      continue;
    }
    std::optional<Glob> glob;
    if (one.glob && glob_fault(one.only).empty()) glob.emplace(one.only);
    for (std::string after = one.after;;) {
      std::string last;
      bool pauses = false;
      bool is_full = false;
      list_paths(paths_, one.directory, "", after, [&](Paths::const_iterator at) {
        last = at->first;
        const auto name = last_part(at->first);
        if (!one.glob || name == one.only || (glob && glob->matches(name)))
          is_full = !add(answer, out, at->first, at->second);
        pauses = slice.is_over();
        return !is_full && !pauses;
      });
      if (is_full) out.next = last;
      if (is_full || !pauses) break;
      after = last;
      co_await slice.next();
    }
  }
  co_return std::move(answer.reply);
}

}  // namespace mesh
