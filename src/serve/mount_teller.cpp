#include "serve/mount_teller.h"

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

#include "core/format.h"
#include "core/mesh_path.h"
#include "core/piece_plan.h"
#include "core/same_version.h"
#include "wire/descriptors.h"
#include "wire/link.h"
#include "wire/mesh_key.h"

namespace mesh {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::size_t most_reads = 64;
constexpr std::size_t most_idle = 2;  ///< readers of a file that are kept for the next read
constexpr auto rests_after = seconds(5);
constexpr std::int64_t most_bytes = std::int64_t{32} << 20;
constexpr int most_patience = 24 * 3600;
constexpr auto look_every = milliseconds(200);

}  // namespace

/// A file that is read through the node.
struct MountTeller::OpenFile {
  explicit OpenFile(asio::io_context& io) : changed(io) {}
  FileEntry entry;
  std::vector<NodeRef> holders;
  std::vector<std::uint32_t> keys;
  NodesByKey nodes;
  /// Nobody had hashed it: one reader knows what it was told of it, and proves that once it can be.
  bool is_candidate = false;
  std::shared_ptr<ReadStreams> streams = std::make_shared<ReadStreams>();
  milliseconds patience{};
  Prefetch prefetch = Prefetch::none;
  std::vector<std::unique_ptr<VersionReader>> idle;
  std::size_t busy = 0;
  bool is_closed = false;
  bool rests = true;
  Clock::time_point last_read{};
  Event changed;

  [[nodiscard]] std::size_t most() const { return is_candidate ? 1 : most_reads; }
  void close() {
    is_closed = true;
    idle.clear();
    changed.notify();
  }
};

struct MountTeller::Mount {
  std::weak_ptr<Channel> channel;
  std::string session;
  ChannelPtr descriptors;
  std::map<std::int64_t, OpenFilePtr> files;
  std::set<std::int64_t> opening;
};

MountTeller::MountTeller(ReadFrom from, Getter& getter, Options options)
    : from_(from), getter_(getter), options_(std::move(options)), read_(from.workers.loop()) {}
MountTeller::~MountTeller() = default;

void MountTeller::serve(Handlers& handlers) {
  handlers.on<MountAsk>([this](ChannelPtr channel, MountAsk) -> Task<MountTold> {
    auto it = mounts_.find(channel.get());
    if (it == mounts_.end()) {
      if (mounts_.size() >= most_mounts) throw Error(Status::failed, "too many mounts are served by this node");
      it = mounts_.emplace(channel.get(), std::make_shared<Mount>()).first;
      it->second->channel = channel;
      it->second->session = random_secret().hex();
    }
    MountTold out;
    out.node = options_.node;
    out.session = it->second->session;
    out.is_ready = it->second->descriptors != nullptr;
    co_return out;
  });
  handlers.on<EntryAsk>([this](ChannelPtr, EntryAsk asked) { return entry(std::move(asked.path)); });
  handlers.on<OpenAsk>(
      [this](ChannelPtr channel, OpenAsk asked) { return open(std::move(channel), std::move(asked)); });
  handlers.on<ReadAsk>([this](ChannelPtr channel, ReadAsk asked) { return read(std::move(channel), asked); });
  handlers.on_note<CloseNote>([this](const ChannelPtr& channel, CloseNote note) {
    if (const auto mount = mounts_.find(channel.get()); mount != mounts_.end()) close(*mount->second, note.handle);
  });
  handlers.on<ClusterAsk>([this](ChannelPtr, ClusterAsk) -> Task<ClusterTold> { co_return options_.cluster(); });
  handlers.on<SetTrackers>([this](ChannelPtr channel, SetTrackers asked) -> Task<ClusterTold> {
    // Who may command the node by its group may not lead it into another mesh.
    if (!channel->is_of_own_user())
      throw Error(Status::refused, "the trackers of a node are for the user that it runs as, and root, to set");
    options_.set_trackers(asked.trackers);
    co_return options_.cluster();
  });
}

void MountTeller::close(Mount& mount, std::int64_t handle) {
  mount.opening.erase(handle);
  const auto file = mount.files.extract(handle);
  if (file.empty()) return;
  file.mapped()->close();
}

void MountTeller::is_over(const ChannelPtr& channel) {
  const auto mount = mounts_.extract(channel.get());
  if (mount.empty()) return;
  for (const auto& [handle, file] : mount.mapped()->files) file->close();
  if (mount.mapped()->descriptors) mount.mapped()->descriptors->close();
}

void MountTeller::tend() {
  const auto now = Clock::now();
  for (const auto& [channel, mount] : mounts_)
    for (const auto& [handle, file] : mount->files) {
      if (file->rests || file->busy > 0 || now - file->last_read < rests_after) continue;
      file->rests = true;
      file->idle.resize(std::min<std::size_t>(file->idle.size(), 1));
      for (const auto& reader : file->idle) reader->rest();
    }
}

MountTeller::MountPtr MountTeller::of(const ChannelPtr& channel) const {
  const auto it = mounts_.find(channel.get());
  if (it == mounts_.end()) throw Error(Status::usage, "this connection is no mount's");
  return it->second;
}

Task<void> MountTeller::take(std::string session, ChannelPtr channel) {
  const auto it = std::ranges::find_if(mounts_, [&](const auto& pair) { return pair.second->session == session; });
  if (it == mounts_.end() || it->second->descriptors) co_return;
  const auto mount = it->second;
  mount->descriptors = channel;
  // From here on nobody reads or writes it but send_descriptor.
  for (;;) {
    const auto asking = mount->channel.lock();
    if (!asking || !asking->is_open() || !channel->is_open() || from_.workers.stopping()) break;
    co_await from_.workers.rest(seconds(1));
  }
}

/// As a listing of its directory has it.
Task<std::optional<FileEntry>> MountTeller::list_one(std::string path) {
  List question;
  question.pattern = std::string(parent_path(path));
  question.prefix = std::string(last_part(path));
  co_return co_await list_one(std::move(question), std::move(path));
}

/// Of what the answer lists, what is at that path. What has a name itself comes first of those that begin with it.
Task<std::optional<FileEntry>> MountTeller::list_one(List question, std::string path) {
  question.most = 1;
  const Listed listed = co_await from_.links.ask(question, tracker_limit, seconds(60));
  for (const auto& item : listed.items)
    if (item.entry.path == path && entry_fault(item.entry).empty()) co_return item.entry;
  co_return std::nullopt;
}

Task<EntryTold> MountTeller::entry(std::string path) {
  if (!is_mesh_path(path)) throw Error(Status::not_found, printable(path) + ": " + std::string(path_fault(path)));
  EntryTold out;
  std::optional<Error> trouble;
  try {
    auto found = co_await list_one(path);
    if (!found) {
      // By its whole path: then whoever is just coming back is waited for before it is said not to be there.
      List question;
      question.pattern = path;
      found = co_await list_one(question, path);
      if (!found) found = co_await list_one(path);  // a directory, then
    }
    if (found) out.entry.push_back(*found);
  } catch (const Error& error) {
    trouble = error;
  }
  if (trouble && trouble->status() == Status::not_found) co_return out;
  // What is here is here, whoever else can be asked.
  if (trouble) {
    const auto* item = from_.library.inventory().find(std::string_view(path));
    if (item == nullptr) throw Error(*trouble);
    out.entry.push_back(item->entry);
  }
  co_return out;
}

/// What is here of that version; null where it is not.
const Inventory::Item* MountTeller::own(const FileEntry& entry) const {
  const auto& inventory = from_.library.inventory();
  if (entry.id.is_set()) return inventory.find(entry.id, entry.size);
  const auto* item = inventory.find(std::string_view(entry.path));
  return item != nullptr && is_same_version(item->entry, entry) ? item : nullptr;
}

/// Hands over what is here. False where it is not, or may have changed.
Task<bool> MountTeller::open_own(MountPtr mount, std::int64_t handle, FileEntry entry, OpenTold& out) {
  const auto* item = own(entry);
  if (item == nullptr || item->touched || !mount->descriptors) co_return false;
  const auto id = item->entry.id;
  const auto open = [&gate = from_.library.gate(), path = item->entry.path,
                     stamp = item->stamp]() -> std::shared_ptr<PathGate::Opened> {
    auto opened = gate.open_offered(path);
    if (opened.local.stamp != stamp) return nullptr;
    return std::make_shared<PathGate::Opened>(std::move(opened));
  };
  std::shared_ptr<PathGate::Opened> opened;
  try {
    opened = co_await run_on(from_.workers.brief(), open);
  } catch (const Error&) {
    // It is gone, or not offered any more.
  }
  if (!opened || !mount->opening.contains(handle) || !mount->descriptors->is_open()) co_return false;
  const auto socket = mount->descriptors->link().next_layer().native_handle();
  if (!send_descriptor(socket, handle, opened->fd.get())) co_return false;
  out.is_open = true;
  out.entry = std::move(entry);
  if (id.is_set()) out.entry.id = id;
  out.has_descriptor = true;
  out.ctime = opened->local.stamp.ctime;
  co_return true;
}

/// Which version it is to be, and who has it. Null where that is another one than was asked for: `out`.
Task<MountTeller::OpenFilePtr> MountTeller::choose(const OpenAsk& asked, seconds patience, Prefetch prefetch,
                                                   OpenTold& out) {
  const auto path = asked.entry.path;
  const auto wanted = asked.entry;
  const bool is_again = asked.is_again;
  Get request;
  Plan plan;
  bool is_by_id = false;
  if (is_again && wanted.id.is_set()) {
    const What by_id{path, "id:" + wanted.id.hex(), false, {}, wanted.id};
    try {
      co_await getter_.resolver().resolve_what(request, 0, by_id, plan, false, nullptr, true);
    } catch (const Error& error) {
      // Who has it may have begun anew, and hashed nothing since.
      if (error.status() != Status::not_found) throw;
    }
    is_by_id = !plan.files.empty();
  }
  auto found = plan.files.begin();
  if (!is_by_id) {
    const What by_path{path, path, false};
    co_await getter_.resolver().resolve_what(request, 0, by_path, plan, false, nullptr, true);
    found = plan.files.find(path);
  }
  if (found == plan.files.end()) throw Error(Status::not_found, printable(path) + ": not found");
  const auto& chosen = found->second.file;
  if (!chosen.problem.empty()) throw Error(Status::failed, printable(path) + ": " + chosen.problem);
  auto entry = chosen.entry;
  if (chosen.own_wins && !is_by_id)
    if (const auto* item = from_.library.inventory().find(std::string_view(path))) entry = item->entry;
  out.entry = entry;
  if (!is_same_version(entry, wanted)) {
    if (is_again) throw Error(Status::failed, printable(path) + ": there is another version by now");
    co_return nullptr;
  }
  out.entry.path = path;
  auto file = std::make_shared<OpenFile>(from_.workers.loop());
  file->entry = out.entry;
  file->is_candidate = !entry.id.is_set();
  file->patience = patience;
  file->prefetch = prefetch;
  file->keys = chosen.holders;
  file->nodes = std::move(plan.nodes);
  for (const auto key : file->keys)
    if (const auto node = file->nodes.find(key); node != file->nodes.end()) file->holders.push_back(node->second);
  co_return file;
}

Task<OpenTold> MountTeller::open(ChannelPtr channel, OpenAsk asked) {
  const auto mount = of(channel);
  const auto& path = asked.entry.path;
  const auto handle = asked.handle;
  if (const auto fault = entry_fault(asked.entry); !fault.empty() || asked.entry.kind != Kind::file || handle <= 0)
    throw Error(Status::usage, printable(path) + ": no file that could be open: " + fault);
  const auto prefetch = asked.prefetch.empty() ? Prefetch::none : read_prefetch(asked.prefetch);
  if (!prefetch) throw Error(Status::usage, "prefetch is boot, all or none");
  if (mount->files.size() + mount->opening.size() >= most_mount_opens)
    throw Error(Status::failed, "too many files are open in this mount");
  // One that the mount waits for no more is not opened.
  mount->opening.insert(handle);
  const std::shared_ptr<void> opening(nullptr, [mount, handle](void*) { mount->opening.erase(handle); });
  const auto check = [&] {
    if (!mount->opening.contains(handle)) throw Error(Status::interrupted, "nobody waits for it any more");
  };
  OpenTold out;
  if (own(asked.entry) != nullptr) {
    // It is here; whether it is still what the path stands for, the mesh says.
    if (!asked.is_again) {
      const EntryTold now = co_await entry(path);
      check();
      if (now.entry.empty()) throw Error(Status::not_found, printable(path) + ": not found");
      out.entry = now.entry.front();
      if (!is_same_version(out.entry, asked.entry)) co_return out;
    }
    const bool is_here = !asked.no_descriptor && co_await open_own(mount, handle, asked.entry, out);
    if (is_here) co_return out;
  }
  const auto patience = seconds(std::clamp(asked.patience, 1, most_patience));
  const OpenFilePtr file = co_await choose(asked, patience, *prefetch, out);
  check();
  if (!file) co_return out;
  const bool is_own = !asked.no_descriptor && co_await open_own(mount, handle, file->entry, out);
  if (is_own) co_return out;
  out.is_open = true;
  if (file->entry.size <= small_file_bytes && !file->keys.empty()) {
    out.data = co_await getter_.small_files().fetch_one(file->entry, file->keys, file->nodes);
    out.is_all = true;
    co_return out;
  }
  check();
  mount->files[handle] = file;
  co_return out;
}

Task<ReadTold> MountTeller::read(ChannelPtr channel, ReadAsk asked) {
  const auto mount = of(channel);
  const auto it = mount->files.find(asked.handle);
  if (it == mount->files.end()) throw Error(Status::not_found, "no such handle");
  const auto file = it->second;
  if (asked.offset < 0 || asked.length <= 0 || asked.offset >= file->entry.size)
    throw Error(Status::usage, printable(file->entry.path) + ": no such range");
  const std::weak_ptr<Channel> weak = channel;
  // The file's readers keep it.
  const std::function<bool()> is_stopped = [of = std::weak_ptr<OpenFile>(file), weak] {
    const auto read_of = of.lock();
    const auto asking = weak.lock();
    return !read_of || read_of->is_closed || !asking || !asking->is_open();
  };
  const auto until = Clock::now() + file->patience;
  const auto length = std::min({asked.length, most_mount_read_bytes, file->entry.size - asked.offset});
  // A turn, of the file's and of the node's; and room in what the mount is yet to take.
  const auto check = [&] {
    if (is_stopped()) throw Error(Status::interrupted, "closed");
    if (from_.workers.stopping()) throw Error(Status::unreachable, "the node is shutting down");
    if (Clock::now() > until) throw Error(Status::unreachable, printable(file->entry.path) + ": did not come in time");
  };
  for (;;) {
    co_await channel->drained();
    check();
    const bool is_files_turn = file->busy < file->most();
    if (is_files_turn && bytes_ + length <= most_bytes) break;
    auto& awaited = is_files_turn ? read_ : file->changed;
    co_await awaited.wait_for(look_every);
  }
  ++file->busy;
  bytes_ += length;
  ReadTold out;
  std::optional<Error> trouble;
  try {
    out.data.resize(static_cast<std::size_t>(length));
    co_await read_into(file, is_stopped, asked.offset, out);
  } catch (const Error& error) {
    trouble = error;
  } catch (const std::exception& error) {
    trouble = Error(Status::failed, error.what());
  }
  --file->busy;
  bytes_ -= length;
  file->rests = false;
  file->last_read = Clock::now();
  file->changed.notify();
  read_.notify();
  if (trouble) throw Error(*trouble);
  out.id = file->entry.id;
  out.is_here = own(file->entry) != nullptr;
  co_return out;
}

/// All of `out.data`.
Task<void> MountTeller::read_into(OpenFilePtr file, std::function<bool()> is_stopped, std::int64_t offset,
                                  ReadTold& out) {
  const auto until = Clock::now() + file->patience;
  const std::span<char> all(out.data);
  std::size_t got = 0;
  const auto shrunk = [&] { return Error(Status::failed, printable(file->entry.path) + ": has become shorter"); };
  // What nobody has hashed and is here, where its descriptor could not be handed over.
  if (const auto* item = own(file->entry); item != nullptr && !file->entry.id.is_set()) {
    LocalReader local(from_.workers, from_.library, LocalEntry{item->entry, item->stamp}, true);
    std::optional<std::string> trouble;
    try {
      while (got < all.size()) {
        const auto into = all.subspan(got);
        const auto n = co_await local.read(offset + static_cast<std::int64_t>(got), into);
        if (n == 0) throw shrunk();
        got += n;
      }
    } catch (const Error& error) {
      trouble = error.what();
    }
    if (trouble) throw Error(Status::failed, *trouble);  // it is gone, or another one
    co_return;
  }
  std::unique_ptr<VersionReader> reader;
  if (file->idle.empty()) {
    VersionReader::Options options;
    options.patience = file->patience;
    options.is_stopped = is_stopped;
    options.prefetch = file->prefetch;
    options.streams = file->streams;
    reader = std::make_unique<VersionReader>(from_, file->entry, file->holders, std::move(options));
  } else {
    reader = std::move(file->idle.back());
    file->idle.pop_back();
  }
  out.is_proven = reader->wanted().id.is_set();
  std::optional<Error> trouble;
  try {
    while (got < all.size()) {
      const auto into = all.subspan(got);
      const auto n = co_await reader->read(offset + static_cast<std::int64_t>(got), into);
      if (n == 0) throw shrunk();
      got += n;
      if (got < all.size() && Clock::now() > until)
        throw Error(Status::unreachable, printable(file->entry.path) + ": did not come in time");
    }
  } catch (const Error& error) {
    trouble = error;
  }
  if (reader->wanted().id.is_set()) file->entry.id = reader->wanted().id;
  if (!file->is_closed && file->idle.size() < most_idle) file->idle.push_back(std::move(reader));
  if (trouble) throw Error(*trouble);
}

}  // namespace mesh
