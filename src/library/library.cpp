#include "library/library.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <system_error>

#include "core/format.h"
#include "core/glob.h"
#include "core/mesh_path.h"
#include "core/seeds.h"
#include "disk/directory.h"
#include "disk/state_dir.h"
#include "library/temporary.h"
#include "wire/flow.h"

namespace mesh {

Library::Library(asio::io_context& loop, const StateDir& state, const Options& options, Log log)
    : loop_(loop),
      log_(std::move(log)),
      state_dir_(state.handle()),
      gate_(options.files, state.fd(), options.follow, options.group),
      db_(state_dir_ / "state.db"),
      block_facts_(state_dir_ / "blocks"),
      inventory_([this](const std::string& path, const FileStamp& now) { return db_.find_origin(path, now); }),
      trees_(state_dir_),
      installer_(gate_, db_, own_files_, parts_dir(), state.path() / "parts") {
  if (!is_same_mount(gate_.root(), state.fd()))
    throw Error(Status::usage, state.path().string() +
                                   ": --state must be on the same file system, and the same mount of it, as the files "
                                   "directory " +
                                   options.files.string());
  // What an interrupted placement left; partial downloads have a record, and stay.
  sweep_parts(state, [this](std::string_view name) {
    const auto id = ContentId::from(from_hex(name));
    return id && db_.find_part(*id).has_value();
  });
  for (const auto& path : db_.made())
    if (!gate_.open_own_directory(path)) db_.remove_made(path);
  const std::vector<Glob> ignored(options.ignore.begin(), options.ignore.end());
  gate_.never_offer([this, ignored](int at, const std::string& path) {
    const auto name = last_part(path);
    return is_own_temporary(name) || is_temporary(at, path) ||
           std::ranges::any_of(ignored, [&](const Glob& glob) { return glob.matches(name); }) ||
           trees_.contains(at, path);
  });
  watching_.ignore = options.ignore;
  watching_.most_watches = options.most_watches;
  watching_.own = &own_files_;
  watching_.is_private = [this](const std::string& path) { return trees_.contains(gate_.root(), path); };
}

Library::~Library() {
  alive_.reset();
  stop_watching();
}

void Library::watch() {
  const auto take = [this, alive = std::weak_ptr<bool>(alive_)](std::vector<TreeChange> changes) {
    // A directory that a get is making is nobody's model yet: it is told of when it is what it is to be.
    std::erase_if(changes, [this](const TreeChange& change) {
      const auto& stamp = change.entry.stamp;
      return change.kind == TreeChange::Kind::put && change.entry.entry.kind == Kind::directory &&
             db_.is_made(change.entry.entry.path, {stamp.device, stamp.inode});
    });
    for (auto& change : changes)
      if (change.kind == TreeChange::Kind::put && change.entry.entry.kind == Kind::file)
        if (const auto id = db_.find_hash(change.entry.stamp)) change.entry.entry.id = *id;
    const auto batch = std::make_shared<std::vector<TreeChange>>(std::move(changes));
    post_to(loop_, [this, alive, batch] {
      if (!alive.expired()) apply(std::move(*batch));
    });
  };
  watcher_ = std::make_unique<Watcher>(gate_, watching_, take, log_);
}

void Library::apply(std::vector<TreeChange> changes) {
  const bool ends = std::ranges::any_of(changes, [](const auto& c) { return c.kind == TreeChange::Kind::scan_ends; });
  const bool first = !inventory_.is_complete();
  std::vector<std::string> files;
  for (const auto& change : changes)
    if (change.kind == TreeChange::Kind::put && change.entry.entry.kind == Kind::file) files.push_back(change.path);
  say(inventory_.apply(std::move(changes)));
  for (const auto& path : files) tell_touched(path);
  if (!ends || !first) return;
  log_(LogLine("files directory scanned: " + std::to_string(inventory_.size()) + " entries").of("scanned"));
  on_scanned();
}

void Library::tell_touched(const std::string& path) const {
  if (const auto* item = inventory_.find(path); item != nullptr && item->touched && on_touched) on_touched(item->entry);
}

/// A link to a file changes its ctime, and no event tells of that.
void Library::touched(const std::string& path) {
  if (inventory_.find(path) == nullptr) return;
  const auto now = gate_.look(path);
  if (!now || now->entry.kind != Kind::file) return;
  say(inventory_.set(*now));
  tell_touched(path);
}

void Library::lose(const ContentId& id) {
  Change change;
  change.is_withdrawn = true;
  change.withdrawn = id;
  on_change(change);
}

Storage::Watch Library::watch_of(std::string path, const FileStamp& stamp) {
  Storage::Watch out;
  out.stamp = stamp;
  const auto alive = std::weak_ptr<bool>(alive_);
  out.on_fault = [this, alive, path](std::string why) {
    post_to(loop_, [this, alive, path, why = std::move(why)] {
      if (!alive.expired()) withdraw(path, why);
    });
  };
  out.on_touched = [this, alive, path] {
    post_to(loop_, [this, alive, path] {
      if (!alive.expired()) touched(path);
    });
  };
  return out;
}

void Library::say(InventoryDelta delta) {
  if (delta.put.empty() && delta.removed.empty()) return;
  Change change;
  change.delta = std::move(delta);
  on_change(change);
}

bool Library::has_file(const std::string& seed) const {
  std::error_code ec;
  if (is_outside(seed)) return std::filesystem::is_regular_file(seed, ec);
  const auto found = gate_.look(seed);
  return found && found->entry.kind == Kind::file;
}

Fd Library::make_nameless(std::int64_t size) const {
  Fd fd(::open(parts_dir().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!fd && (errno == EOPNOTSUPP || errno == EISDIR)) {
    auto name = (parts_dir() / "nameless-XXXXXX").string();
    fd = Fd(::mkostemp(name.data(), O_CLOEXEC));
    if (fd) ::unlink(name.c_str());
  }
  if (!fd || ::ftruncate(fd.get(), size) != 0) throw std::system_error(errno, std::generic_category());
  return fd;
}

void Library::put(const LocalEntry& entry) { say(inventory_.set(entry)); }

void Library::put(const std::vector<LocalEntry>& entries) {
  InventoryDelta delta;
  for (const auto& entry : entries)
    for (auto& one : inventory_.set(entry).put) delta.put.push_back(std::move(one));
  say(std::move(delta));
}

void Library::remove(const std::vector<std::string>& paths) {
  InventoryDelta delta;
  for (const auto& path : paths)
    for (auto& one : inventory_.withdraw(path).removed) delta.removed.push_back(std::move(one));
  say(std::move(delta));
}

void Library::withdraw(const std::string& path, const std::string& why) {
  Change change;
  change.is_withdrawn = true;
  if (const auto* item = inventory_.find(path)) {
    change.withdrawn = item->entry.id;
    log_(warning(printable(path) + ": is not offered any more: " + why).of("not-offered", path));
    change.delta = inventory_.withdraw(path);
  }
  const bool was_known = !change.delta.removed.empty();
  on_change(change);
  if (!was_known) return;
  // If it is there after all, as something else, it is a new candidate.
  const auto now = gate_.look(path);
  if (!now) return;
  try {
    if (now->entry.kind == Kind::file && PathGate::is_being_written(gate_.open_file(path).get())) return;
    put(*now);
  } catch (const Error&) {
  }
}

}  // namespace mesh
