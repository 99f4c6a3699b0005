#include "node/keeper.h"

#include <sys/stat.h>

#include <algorithm>

#include "core/format.h"
#include "core/glob.h"
#include "core/piece_plan.h"
#include "wire/flow.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr const char* note_name = "kept";
constexpr auto look_every = milliseconds(20'000);
constexpr auto longest_pause = milliseconds(60'000);
constexpr auto list_limit = seconds(120);
/// What could not be had is tried again after so long, and each time after twice that.
constexpr auto first_again = milliseconds(30'000);
constexpr auto last_again = milliseconds(30 * 60'000);
constexpr auto nothing_came = seconds(15);  // so a get is given up: others wait for its turn
constexpr int most_conflicts = 3;           // with what is here
constexpr std::size_t most_paths = 50'000;  // found; and known are twice as many, which is as long as a list may be
constexpr std::size_t most_small = 200;     // files of one get
/// Its own work, and writing down, may take a twentieth of the time.
constexpr int share = 20;

/// Gives way to others now and then; what is put into the map or taken out meanwhile may be seen or not. `visit` must
/// live until it returns.
template <class Map, class Visit>
Task<void> for_each_in_slices(const Map& map, const Visit& visit) {
  Slice slice;
  for (auto it = map.begin(); it != map.end();) {
    visit(it->first, it->second);
    if (!slice.is_over()) {
      ++it;
      continue;
    }
    const auto here = it->first;
    co_await slice.next();
    it = map.upper_bound(here);
  }
}

std::int64_t now_on_clock() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

}  // namespace

struct Keeper::Remembered {
  std::vector<Known> all;
  template <class V>
  void describe(V& v) {
    v("known", all);
  }
};

Keeper::Keeper(Workers& workers, Options options, Log log, Library& library, TrackerLinks& links, GetQueue& gets)
    : workers_(workers),
      options_(std::move(options)),
      every_(options_.look_every.count() > 0 ? options_.look_every : look_every),
      log_(std::move(log)),
      library_(library),
      links_(links),
      gets_(gets) {
  if (options_.most_bytes > 0) budget_ = std::make_shared<std::int64_t>(0);
  try {
    if (const auto text = library_.db().find_note(note_name); !text.empty())
      for (auto& one : from_bencode<Remembered>(text).all) known_[one.path] = std::move(one);
  } catch (const CodecError&) {
    log_(warning("what --keep has dealt with cannot be read; it begins anew"));
  }
}

Task<void> Keeper::remember() {
  if (!unsaved_ || Clock::now() < save_again_) co_return;
  unsaved_ = false;
  const auto begun = Clock::now();
  Remembered out;
  for (const auto& [path, known] : known_) {
    out.all.push_back(known);
    out.all.back().path = path;
  }
  const auto put = [this, all = std::move(out)] { library_.db().put_note(note_name, to_bencode(all)); };
  co_await run_on(workers_.brief(), put);
  save_again_ = Clock::now() + share * (Clock::now() - begun);
}

void Keeper::deal_with(const std::string& path, const Version& version) {
  known_[path].dealt_with = version;
  failed_.erase(path);
  unsaved_ = true;
}

/// An older one than was dealt with is no news: whoever has the newer may be away. But a time that is to come says
/// nothing of what is older.
bool Keeper::is_dealt_with(const std::string& path, const Version& version) const {
  const auto it = known_.find(path);
  if (it == known_.end()) return false;
  const auto& newest = it->second.dealt_with;
  return version == newest || (version < newest && newest.mtime <= now_on_clock());
}

void Keeper::let_go(const What& what) {
  for (const auto& [path, entry] : found_)
    if (names(what, path) && !is_dealt_with(path, version_of(entry))) deal_with(path, version_of(entry));
}

std::int64_t Keeper::size_here(const std::string& path) const {
  const auto* item = library_.inventory().find(std::string_view(path));
  return item != nullptr && item->entry.kind == Kind::file ? item->entry.size : 0;
}

bool Keeper::is_here(const FileEntry& entry) const {
  const auto* item = library_.inventory().find(std::string_view(entry.path));
  if (item == nullptr || item->entry.kind != entry.kind) return false;
  if (entry.kind == Kind::link) return item->entry.target == entry.target;
  if (entry.id.is_set() && item->entry.id.is_set()) return item->entry.id == entry.id;
  return item->entry.size == entry.size && item->entry.mtime == entry.mtime;
}

Task<void> Keeper::look() {
  std::map<std::string, FileEntry> found;
  for (const auto& glob : options_.globs) {
    const auto what = parse_what(glob, {});
    List question;
    question.pattern = what.pattern;
    question.glob = what.is_glob;
    question.recursive = true;
    do {
      Listed page;
      try {
        page = co_await links_.ask(question, tracker_limit, list_limit);
      } catch (const Error& error) {
        if (error.status() != Status::not_found) throw;
      }
      for (auto& item : page.items) {
        auto& entry = item.entry;
        const auto path = entry.path;
        if (!is_mesh_path(path) || !entry_fault(entry).empty() || found.size() >= most_paths) continue;
        if (entry.kind == Kind::file || entry.kind == Kind::link) found.try_emplace(path, std::move(entry));
      }
      question.after = page.next;
    } while (!question.after.empty() && found.size() < most_paths && !workers_.stopping());
  }
  found_ = std::move(found);
}

/// Nothing is remembered without end: of paths that are neither in the mesh nor here, as many as there is room for.
void Keeper::forget_the_gone() {
  std::erase_if(failed_, [this](const auto& pair) { return !found_.contains(pair.first); });
  std::erase_if(too_large_, [this](const auto& pair) { return !found_.contains(pair.first); });
  for (auto it = known_.begin(); it != known_.end() && known_.size() > 2 * most_paths - most_small;) {
    const bool counts = it->second.brought && library_.inventory().find(std::string_view(it->first)) != nullptr;
    it = !counts && !found_.contains(it->first) ? known_.erase(it) : std::next(it);
  }
}

/// What earlier gets of this left on their way, in bytes on the disk, by path. That of what is in the mesh no more
/// goes.
Task<std::map<std::string, std::int64_t>> Keeper::look_at_partials() {
  const auto look = [this] {
    std::map<std::string, std::int64_t> out;
    for (const auto& [id, path] : library_.db().parts()) {
      struct stat s {};
      if (::stat(library_.part_file(id).c_str(), &s) == 0) out[path] += std::int64_t{s.st_blocks} * 512;
    }
    return out;
  };
  auto all = co_await run_on(workers_.brief(), look);
  std::vector<std::string> gone;
  std::erase_if(all, [&](const auto& pair) {
    const auto known = known_.find(pair.first);
    if (known == known_.end() || !known->second.begun || under_way_.contains(pair.first)) return true;
    if (!found_.contains(pair.first)) gone.push_back(pair.first);
    return !found_.contains(pair.first);
  });
  for (const auto& path : gone) co_await gets_.drop_partials(path);
  co_return all;
}

/// Bytes that are here by this, or on their way.
Task<std::int64_t> Keeper::used_by(const std::map<std::string, std::int64_t>& partials) {
  std::int64_t out = 0;
  for (const auto& [path, bytes] : partials) out += bytes;
  const auto add = [&](const std::string& path, const Known& known) { out += known.brought ? size_here(path) : 0; };
  co_await for_each_in_slices(known_, add);
  for (const auto& [number, one] : begun_) out += gets_.kept(number).spent - one.credit;
  co_return out;
}

/// Gets what is to be had and was not dealt with: each large file by itself, so that none waits for another.
Task<void> Keeper::begin() {
  const auto now = Clock::now();
  const auto partials = co_await look_at_partials();
  const auto used = co_await used_by(partials);
  if (budget_) *budget_ = options_.most_bytes - used;
  auto room = budget_ ? *budget_ : INT64_MAX;
  std::vector<std::string> wanted;
  const auto judge = [&](const std::string& path, const FileEntry& entry) {
    const auto version = version_of(entry);
    if (under_way_.contains(path) || is_dealt_with(path, version)) return;
    const auto failed = failed_.find(path);
    if (is_here(entry))
      deal_with(path, version);
    else if (failed == failed_.end() || failed->second.version != version || now >= failed->second.again)
      wanted.push_back(path);
  };
  co_await for_each_in_slices(found_, judge);
  // None is always the last: those that nobody can give would keep the others waiting.
  std::ranges::shuffle(wanted, random_);
  std::ranges::stable_partition(wanted, [this](const std::string& path) { return !failed_.contains(path); });
  more_ = false;
  auto large = std::ranges::count_if(begun_, [](const auto& pair) { return pair.second.is_large; });
  bool has_small = static_cast<std::size_t>(large) < begun_.size();
  Begun small;
  for (const auto& path : wanted) {
    const auto it = found_.find(path);
    if (it == found_.end()) continue;
    const auto& entry = it->second;
    const auto version = version_of(entry);
    const auto size = entry.kind == Kind::file ? entry.size : 0;
    const bool is_large = size > small_file_bytes;
    if (known_.size() + small.files.size() >= 2 * most_paths || (is_large ? large >= options_.most_large : has_small)) {
      more_ = true;
      continue;
    }
    // What is replaced, or gone on with, goes when this has come.
    const auto known = known_.find(path);
    const auto partial = partials.find(path);
    const auto credit = (known != known_.end() && known->second.brought ? size_here(path) : 0) +
                        (partial != partials.end() ? partial->second : 0);
    if (const auto grows = std::max<std::int64_t>(size - credit, 0); grows > room) {
      const auto [told, fresh] = too_large_.try_emplace(path, version);
      if (fresh || std::exchange(told->second, version) != version)
        log_(warning(printable(path) + ": is not kept here: " + human_bytes(size) + ", and of --keep-max, " +
                     human_bytes(options_.most_bytes) + ", " + human_bytes(std::max<std::int64_t>(room, 0)) +
                     " are left")
                 .of("not-kept", path, size));
      continue;
    } else if (budget_) {
      room -= grows;
    }
    Begun alone;
    auto& into = is_large ? alone : small;
    into.files.push_back({path, version});
    into.credit += std::min(credit, size);
    if (is_large) {
      ++large;
      alone.is_large = true;
      begin_one(std::move(alone));
    } else if (small.files.size() >= most_small) {
      has_small = true;
    }
  }
  if (!small.files.empty()) begin_one(std::move(small));
}

void Keeper::begin_one(Begun one) {
  Get request;
  for (const auto& file : one.files) {
    request.whats.push_back(path_text(file.path));
    known_[file.path].begun = true;
  }
  if (budget_) *budget_ += one.credit;
  const auto number = std::make_shared<std::int64_t>(0);
  *number = gets_.keep(std::move(request), budget_,
                       [this, number](const std::vector<GetOutcome>& outcomes) { end(*number, outcomes); });
  one.number = *number;
  one.came = Clock::now();
  for (const auto& file : one.files) under_way_.insert(file.path);
  begun_[one.number] = std::move(one);
}

void Keeper::end(std::int64_t number, const std::vector<GetOutcome>& outcomes) {
  const auto begun = begun_.find(number);
  if (begun == begun_.end() || workers_.stopping()) return;
  std::set<std::string_view> conflicts;
  for (const auto& one : outcomes) {
    if (one.status == Status::ok && !one.kept && known_.size() < 2 * most_paths) known_[one.mesh_path].brought = true;
    if (one.status != Status::ok && one.kept) conflicts.insert(one.mesh_path);
    if (one.status != Status::ok && one.status != Status::interrupted && !one.error.empty())
      log_(warning("--keep: " + one.error));
  }
  unsaved_ = true;
  for (const auto& [path, version] : begun->second.files) {
    under_way_.erase(path);
    if (is_dealt_with(path, version)) continue;  // deleted here meanwhile
    const bool came = std::ranges::any_of(
        outcomes, [&](const GetOutcome& one) { return one.status == Status::ok && one.mesh_path == path; });
    auto& failed = failed_[path];
    if (failed.version != version) failed = {version, 0, {}, {}};
    // What is here for good and is not that version is the user's, and stays; the next version is looked at anew.
    if (came || (conflicts.contains(path) && ++failed.conflicts >= most_conflicts)) {
      deal_with(path, version);
      continue;
    }
    failed.wait = std::clamp(2 * failed.wait, std::min<milliseconds>(first_again, 3 * every_), last_again);
    failed.again = Clock::now() + failed.wait;
  }
  begun_.erase(begun);
}

/// Who gives nothing has others wait.
void Keeper::tend() {
  const auto now = Clock::now();
  for (auto& [number, one] : begun_) {
    const auto kept = gets_.kept(number);
    if (kept.done != one.done || !kept.waits_for_bytes) {
      one.done = kept.done;
      one.came = now;
    }
    if (now - one.came > nothing_came) {
      one.came = now;
      gets_.stop_keeping(number);
    }
  }
}

Task<void> Keeper::run() {
  while (!workers_.stopping()) {
    while (!library_.inventory().is_complete() && !workers_.stopping()) co_await workers_.rest(milliseconds(50));
    Clock::duration worked{};
    try {
      co_await look();
      const auto begun = Clock::now();
      forget_the_gone();
      co_await begin();
      worked = Clock::now() - begun;
    } catch (const std::exception& error) {
      log_(warning(std::string("--keep: ") + error.what()));
    }
    const auto pause = milliseconds(std::uniform_int_distribution<int>(static_cast<int>(every_.count() / 2),
                                                                       static_cast<int>(every_.count()))(random_));
    const auto until =
        Clock::now() + std::max<Clock::duration>(pause, std::min<Clock::duration>(share * worked, longest_pause));
    while (Clock::now() < until && !workers_.stopping()) {
      const auto under_way = begun_.size();
      co_await workers_.rest(milliseconds(100));
      try {
        tend();
        if (more_ && begun_.size() < std::max<std::size_t>(under_way, 1)) co_await begin();
        co_await remember();
      } catch (const std::exception& error) {
        log_(warning(std::string("--keep: ") + error.what()));
        more_ = false;
      }
    }
  }
  save_again_ = {};
  co_await remember();
}

}  // namespace mesh
