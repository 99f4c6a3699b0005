#include "node/keeper.h"

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
constexpr auto list_limit = seconds(120);
constexpr auto again_after = milliseconds(60'000);  // what could not be had
constexpr int most_tries = 3;                       // to take the place of what is here
constexpr std::size_t most_paths = 100'000;
constexpr std::size_t most_begun = 50;   // gets under way; those that nobody can serve stay for long
constexpr std::size_t most_small = 200;  // files of one get
/// Looking, and writing down, may take a twentieth of the time.
constexpr int share = 20;

}  // namespace

struct Keeper::Remembered {
  struct One {
    std::string path;
    Version version;
    template <class V>
    void describe(V& v) {
      v("p", path), v("v", version);
    }
  };
  std::vector<One> all;
  template <class V>
  void describe(V& v) {
    v("all", all);
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
  try {
    if (const auto text = library_.db().find_note(note_name); !text.empty())
      for (auto& one : from_bencode<Remembered>(text).all) dealt_with_[one.path] = std::move(one.version);
  } catch (const CodecError&) {
    log_("what --keep has dealt with cannot be read; it begins anew");
  }
}

Task<void> Keeper::remember() {
  if (!unsaved_ || Clock::now() < save_again_) co_return;
  unsaved_ = false;
  const auto begun = Clock::now();
  Remembered out;
  for (const auto& [path, version] : dealt_with_) out.all.push_back({path, version});
  const auto put = [this, all = std::move(out)] { library_.db().put_note(note_name, to_bencode(all)); };
  co_await run_on(workers_.brief(), put);
  save_again_ = Clock::now() + share * (Clock::now() - begun);
}

void Keeper::deal_with(const std::string& path, const Version& version) {
  auto& known = dealt_with_[path];
  if (known < version) known = version;
  failed_.erase(path);
  unsaved_ = true;
}

void Keeper::let_go(const What& what) {
  for (const auto& [path, entry] : found_)
    if (names(what, path)) deal_with(path, version_of(entry));
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
        const auto& path = entry.path;
        if (!is_mesh_path(path) || !entry_fault(entry).empty() || !names(what, path)) continue;
        if (entry.kind == Kind::file || entry.kind == Kind::link) found.try_emplace(path, std::move(entry));
      }
      question.after = page.next;
    } while (!question.after.empty() && found.size() < most_paths && !workers_.stopping());
  }
  found_ = std::move(found);
}

/// Nothing is remembered without end: of paths that are in the mesh no more, as many as there is room for.
void Keeper::forget_the_gone() {
  const auto is_gone = [this](const auto& pair) { return !found_.contains(pair.first); };
  std::erase_if(failed_, is_gone);
  std::erase_if(too_large_, is_gone);
  for (auto it = dealt_with_.begin(); it != dealt_with_.end() && dealt_with_.size() > 2 * most_paths;)
    it = is_gone(*it) ? dealt_with_.erase(it) : std::next(it);
}

/// Gets what is to be had and was not dealt with: each large file by itself, so that none waits for another.
Task<void> Keeper::begin() {
  const auto now = Clock::now();
  const auto size_of = [this](const std::string& path) -> std::int64_t {
    const auto* item = library_.inventory().find(std::string_view(path));
    return item != nullptr && item->entry.kind == Kind::file ? item->entry.size : 0;
  };
  std::int64_t used = 0;
  for (const auto& one : begun_) used += one.bytes;
  std::vector<std::string> wanted;
  Slice slice;
  for (auto it = found_.begin(); it != found_.end();) {
    const auto& [path, entry] = *it;
    const auto version = version_of(entry);
    used += size_of(path);
    const auto known = dealt_with_.find(path);
    const bool is_old = known != dealt_with_.end() && version <= known->second;
    if (!is_old && !under_way_.contains(path)) {
      const auto again = failed_.find(path);
      if (is_here(entry))
        deal_with(path, version);
      else if (again == failed_.end() || now >= again->second.again)
        wanted.push_back(path);
    }
    if (!slice.is_over()) {
      ++it;
      continue;
    }
    const auto here = path;
    co_await slice.next();
    it = found_.upper_bound(here);
  }
  more_ = false;
  std::vector<Begun> gets;
  Begun small;
  for (const auto& path : wanted) {
    const auto it = found_.find(path);
    if (it == found_.end()) continue;
    const auto& entry = it->second;
    const auto size = entry.kind == Kind::file ? entry.size : 0;
    if (begun_.size() + gets.size() >= most_begun) {
      more_ = true;
      break;
    }
    if (options_.most_bytes > 0 && size > 0 && size > options_.most_bytes - used) {
      const auto [told, fresh] = too_large_.try_emplace(path, version_of(entry));
      if (fresh || std::exchange(told->second, version_of(entry)) != version_of(entry))
        log_(printable(path) + ": is not kept here: " + human_bytes(size) + ", and --keep-max is " +
             human_bytes(options_.most_bytes) + ", of which " + human_bytes(used) + " are used");
      continue;
    }
    used += size;
    const bool is_small = size <= small_file_bytes;
    Begun alone;
    auto& into = is_small ? small : alone;
    into.files.push_back({path, version_of(entry), library_.inventory().find(std::string_view(path)) != nullptr});
    into.bytes += size;
    if (!is_small || small.files.size() >= most_small) gets.push_back(std::exchange(into, {}));
  }
  if (!small.files.empty()) gets.push_back(std::move(small));
  // What images are based on comes, too, as far as there is room.
  const auto room = options_.most_bytes - used;
  for (auto& one : gets) {
    if (options_.most_bytes > 0) one.bytes += std::max<std::int64_t>(room / std::ssize(gets), 0);
    const auto most = options_.most_bytes > 0 ? std::max<std::int64_t>(one.bytes, 1) : 0;
    begin_one(std::move(one), most);
  }
}

void Keeper::begin_one(Begun one, std::int64_t most_bytes) {
  Get request;
  for (const auto& file : one.files) request.whats.push_back(path_text(file.path));
  request.most_bytes = most_bytes;
  one.number = gets_.begin(std::move(request));
  for (const auto& file : one.files) under_way_.insert(file.path);
  begun_.push_back(std::move(one));
}

void Keeper::settle() {
  for (auto one = begun_.begin(); one != begun_.end();) {
    const auto status = gets_.take_ended(one->number);
    if (!status) {
      ++one;
      continue;
    }
    for (const auto& [path, version, was_here] : one->files) {
      under_way_.erase(path);
      const auto it = found_.find(path);
      const bool came =
          *status == Status::ok || (it != found_.end() && version_of(it->second) == version && is_here(it->second));
      auto& failed = failed_[path];
      // What is here for good and is not that version is the user's, and stays; the next version is looked at anew.
      if (came || (was_here && ++failed.tries >= most_tries))
        deal_with(path, version);
      else
        failed.again = Clock::now() + std::min<milliseconds>(again_after, 3 * every_);
    }
    one = begun_.erase(one);
  }
}

Task<void> Keeper::run() {
  while (!workers_.stopping()) {
    while (!library_.inventory().is_complete() && !workers_.stopping()) co_await workers_.rest(milliseconds(50));
    const auto begun = Clock::now();
    try {
      co_await look();
      forget_the_gone();
      co_await begin();
    } catch (const std::exception& error) {
      log_(std::string("--keep: ") + error.what());
    }
    const auto pause = milliseconds(std::uniform_int_distribution<int>(static_cast<int>(every_.count() / 2),
                                                                       static_cast<int>(every_.count()))(random_));
    const auto until = Clock::now() + std::max<Clock::duration>(pause, share * (Clock::now() - begun));
    while (Clock::now() < until && !workers_.stopping()) {
      try {
        settle();
        if (more_ && begun_.size() < most_begun / 2) co_await begin();
        co_await remember();
      } catch (const std::exception& error) {
        log_(std::string("--keep: ") + error.what());
        more_ = false;
      }
      co_await workers_.rest(milliseconds(100));
    }
  }
  save_again_ = {};
  co_await remember();
}

}  // namespace mesh
