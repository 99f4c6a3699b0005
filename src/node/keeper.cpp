#include "node/keeper.h"

#include <random>

#include "core/format.h"
#include "core/glob.h"
#include "wire/flow.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr const char* note_name = "kept";
constexpr auto look_every = milliseconds(20'000);
constexpr auto list_limit = seconds(120);
constexpr auto again_after = seconds(60);  // what could not be had
constexpr int most_tries = 3;              // to take the place of what is here
constexpr std::size_t most_paths = 100'000;
constexpr std::size_t most_at_once = 500;  // paths of one get

/// What tells a version of a path from another, as a listing shows it.
std::string version_of(const FileEntry& entry) {
  return std::to_string(entry.size) + ' ' + std::to_string(entry.mtime) + ' ' + entry.target;
}

struct Remembered {
  struct One {
    std::string path;
    std::string version;
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

}  // namespace

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

void Keeper::remember() {
  if (!std::exchange(unsaved_, false)) return;
  Remembered out;
  for (const auto& [path, version] : dealt_with_) out.all.push_back({path, version});
  library_.db().put_note(note_name, to_bencode(out));
}

bool Keeper::is_here(const FileEntry& entry) const {
  const auto* item = library_.inventory().find(std::string_view(entry.path));
  if (item == nullptr || item->entry.kind != entry.kind) return false;
  if (entry.kind == Kind::link) return item->entry.target == entry.target;
  if (entry.id.is_set() && item->entry.id.is_set()) return item->entry.id == entry.id;
  return item->entry.size == entry.size && item->entry.mtime == entry.mtime;
}

Task<Keeper::Found> Keeper::look() {
  Found out;
  for (const auto& glob : options_.globs) {
    List question;
    question.pattern = glob;
    question.glob = has_glob(glob);
    question.recursive = true;
    do {
      Listed page;
      try {
        page = co_await links_.ask(question, tracker_limit, list_limit);
      } catch (const Error& error) {
        if (error.status() != Status::not_found) throw;
      }
      for (auto& item : page.items) {
        const auto& entry = item.entry;
        if (!is_mesh_path(entry.path) || !entry_fault(entry).empty() || out.files.size() >= most_paths) continue;
        if (entry.kind == Kind::file || entry.kind == Kind::link) out.files.try_emplace(entry.path, entry);
      }
      question.after = page.next;
    } while (!question.after.empty() && !workers_.stopping());
  }
  for (const auto& [path, entry] : out.files)
    if (const auto* item = library_.inventory().find(std::string_view(path));
        item != nullptr && item->entry.kind == Kind::file)
      out.bytes += item->entry.size;
  co_return out;
}

std::vector<std::string> Keeper::wanted(const Found& found) {
  std::vector<std::string> out;
  auto bytes = found.bytes;
  const auto now = Clock::now();
  for (const auto& [path, entry] : found.files) {
    const auto version = version_of(entry);
    if (const auto known = dealt_with_.find(path); known != dealt_with_.end() && known->second == version) continue;
    if (is_here(entry)) {
      dealt_with_[path] = version;
      unsaved_ = true;
      continue;
    }
    if (const auto again = failed_.find(path); again != failed_.end() && now < again->second.again) continue;
    const auto* item = library_.inventory().find(std::string_view(path));
    const auto more = (entry.kind == Kind::file ? entry.size : 0) -
                      (item != nullptr && item->entry.kind == Kind::file ? item->entry.size : 0);
    if (options_.most_bytes > 0 && more > 0 && more > options_.most_bytes - bytes) {
      if (too_large_.insert(path + ' ' + version).second)
        log_(printable(path) + ": is not kept here: " + human_bytes(entry.size) + ", and --keep-max is " +
             human_bytes(options_.most_bytes) + ", of which " + human_bytes(bytes) + " are used");
      continue;
    }
    bytes += more;
    out.push_back(path);
    if (out.size() >= most_at_once) break;
  }
  return out;
}

Task<void> Keeper::get(std::vector<std::string> paths, const Found& found) {
  Get request;
  for (const auto& path : paths) request.whats.push_back("file:" + escape_glob(path));
  request.detach = true;
  Wait over;
  over.whats = request.whats;
  std::map<std::string, bool> was_here;
  for (const auto& path : paths) was_here[path] = library_.inventory().find(std::string_view(path)) != nullptr;
  static_cast<void>(co_await gets_.get(nullptr, request));
  try {
    static_cast<void>(co_await gets_.wait(nullptr, over));
  } catch (const Error&) {
    // It is over already.
  }
  for (const auto& path : paths) {
    const auto& entry = found.files.at(path);
    auto& failed = failed_[path];
    // What is here for good and is not that version is the user's, and stays; the next version is looked at anew.
    if (is_here(entry) || (was_here[path] && ++failed.tries >= most_tries)) {
      dealt_with_[path] = version_of(entry);
      failed_.erase(path);
      unsaved_ = true;
    } else {
      failed.again = Clock::now() + std::min<milliseconds>(again_after, 3 * every_);
    }
  }
}

Task<void> Keeper::run() {
  std::mt19937 random{std::random_device{}()};
  while (!workers_.stopping()) {
    while (!library_.inventory().is_complete() && !workers_.stopping()) co_await sleep_for(milliseconds(50));
    bool more = false;
    try {
      const auto found = co_await look();
      const auto paths = wanted(found);
      more = paths.size() >= most_at_once;
      if (!paths.empty()) co_await get(paths, found);
      // Of what is in the mesh no more, nothing need be remembered, but that somebody may bring the same again.
      while (dealt_with_.size() > most_paths) dealt_with_.erase(dealt_with_.begin());
      remember();
    } catch (const std::exception& error) {
      log_(std::string("--keep: ") + error.what());
    }
    const auto wait = more ? milliseconds(0)
                           : milliseconds(std::uniform_int_distribution<int>(static_cast<int>(every_.count() / 2),
                                                                             static_cast<int>(every_.count()))(random));
    for (const auto until = Clock::now() + wait; Clock::now() < until && !workers_.stopping();)
      co_await sleep_for(milliseconds(100));
  }
}

}  // namespace mesh
