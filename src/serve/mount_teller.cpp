#include "serve/mount_teller.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/format.h"
#include "core/merkle.h"
#include "core/mesh_path.h"
#include "core/piece_plan.h"
#include "core/same_version.h"
#include "wire/descriptors.h"
#include "wire/link.h"
#include "wire/mesh_key.h"
#include "wire/while_checking.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::size_t most_reads = 64;
constexpr int most_patience = 24 * 3600;

}  // namespace

/// A file that is read through the node.
struct MountTeller::OpenFile {
  explicit OpenFile(asio::io_context& io) : changed(io) {}
  FileEntry entry;
  std::vector<NodeRef> holders;
  std::shared_ptr<ReadStreams> streams = std::make_shared<ReadStreams>();
  milliseconds patience{};
  Prefetch prefetch = Prefetch::none;
  std::vector<std::unique_ptr<VersionReader>> idle;
  std::size_t busy = 0;
  bool is_closed = false;
  Event changed;

  /// A version that nobody has hashed is read by one reader, which knows what it was told of it.
  [[nodiscard]] std::size_t most() const { return entry.id.is_set() ? most_reads : 1; }
};

struct MountTeller::Mount {
  std::weak_ptr<Channel> channel;
  std::string session;
  ChannelPtr descriptors;
  std::map<std::int64_t, std::shared_ptr<OpenFile>> files;
  std::int64_t last_handle = 0;
};

MountTeller::MountTeller(ReadFrom from, Getter& getter, Options options)
    : from_(from), getter_(getter), options_(std::move(options)) {}
MountTeller::~MountTeller() = default;

void MountTeller::serve(Handlers& handlers) {
  handlers.on<MountAsk>([this](ChannelPtr channel, MountAsk) -> Task<MountTold> {
    forget_closed();
    auto& mount = mounts_[channel.get()];
    if (!mount) {
      mount = std::make_shared<Mount>();
      mount->channel = channel;
      mount->session = random_secret().hex();
    }
    MountTold out;
    out.node = options_.node;
    out.session = mount->session;
    out.is_ready = mount->descriptors != nullptr;
    co_return out;
  });
  handlers.on<EntryAsk>([this](ChannelPtr, EntryAsk asked) { return entry(std::move(asked.path)); });
  handlers.on<OpenAsk>(
      [this](ChannelPtr channel, OpenAsk asked) { return open(std::move(channel), std::move(asked)); });
  handlers.on<ReadAsk>(
      [this](ChannelPtr channel, ReadAsk asked) { return read(std::move(channel), std::move(asked)); });
  handlers.on_note<CloseNote>([this](const ChannelPtr& channel, CloseNote note) {
    const auto mount = mounts_.find(channel.get());
    if (mount == mounts_.end()) return;
    const auto file = mount->second->files.extract(note.handle);
    if (!file.empty()) file.mapped()->is_closed = true;
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

/// What a mount has open is closed with its connection.
void MountTeller::forget_closed() {
  std::erase_if(mounts_, [](const auto& pair) {
    const auto channel = pair.second->channel.lock();
    if (channel && channel->is_open()) return false;
    for (const auto& [handle, file] : pair.second->files) file->is_closed = true;
    if (pair.second->descriptors) pair.second->descriptors->close();
    return true;
  });
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
  forget_closed();
}

Task<EntryTold> MountTeller::entry(std::string path) {
  if (!is_mesh_path(path)) throw Error(Status::not_found, printable(path) + ": " + std::string(path_fault(path)));
  EntryTold out;
  List question;
  question.pattern = std::string(parent_path(path));
  question.prefix = std::string(last_part(path));
  question.most = 1;  // what has the name itself comes first of those that begin with it
  std::optional<Error> trouble;
  try {
    const Listed listed = co_await from_.links.ask(question, tracker_limit, seconds(60));
    for (const auto& item : listed.items)
      if (item.entry.path == path && entry_fault(item.entry).empty()) out.entry.push_back(item.entry);
  } catch (const Error& error) {
    trouble = error;
  }
  // What is here is here, whoever else can be asked.
  if (trouble && trouble->status() == Status::not_found) co_return out;
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

/// Hands over what is here. False where it is not.
Task<bool> MountTeller::open_own(MountPtr mount, const FileEntry& entry, OpenTold& out) {
  const auto* item = own(entry);
  if (item == nullptr || !mount->descriptors) co_return false;
  const auto known = item->entry;
  const auto open = [&gate = from_.library.gate(), path = item->entry.path,
                     stamp = item->stamp]() -> std::shared_ptr<PathGate::Opened> {
    auto opened = gate.open_offered(path);
    if (!is_same_but_ctime(opened.local.stamp, stamp)) return nullptr;
    return std::make_shared<PathGate::Opened>(std::move(opened));
  };
  std::shared_ptr<PathGate::Opened> opened;
  try {
    opened = co_await run_on(from_.workers.brief(), open);
  } catch (const Error&) {
    // It is gone, or not offered any more.
  }
  if (!opened) co_return false;
  const auto number = ++mount->last_handle;
  const auto socket = mount->descriptors->link().next_layer().native_handle();
  if (!mount->descriptors->is_open() || !send_descriptor(socket, number, opened->fd.get())) co_return false;
  out.handle = number;
  out.entry = entry;
  if (known.id.is_set()) out.entry.id = known.id;
  out.has_descriptor = true;
  out.ctime = opened->local.stamp.ctime;
  co_return true;
}

Task<OpenTold> MountTeller::open(ChannelPtr channel, OpenAsk asked) {
  const auto mount = of(channel);
  const auto& path = asked.entry.path;
  if (const auto fault = entry_fault(asked.entry); !fault.empty() || asked.entry.kind != Kind::file)
    throw Error(Status::usage, printable(path) + ": no file that could be open: " + fault);
  const auto prefetch = asked.prefetch.empty() ? Prefetch::none : read_prefetch(asked.prefetch);
  if (!prefetch) throw Error(Status::usage, "prefetch is boot, all or none");
  OpenTold out;
  if (own(asked.entry) != nullptr) {
    // It is here; whether it is still what the path stands for, the mesh says.
    if (!asked.is_again) {
      const EntryTold now = co_await entry(path);
      if (now.entry.empty()) throw Error(Status::not_found, printable(path) + ": not found");
      out.entry = now.entry.front();
      if (!is_same_version(out.entry, asked.entry)) co_return out;
    }
    const bool is_here = co_await open_own(mount, asked.entry, out);
    if (is_here) co_return out;
  }
  if (mount->files.size() >= most_mount_opens) throw Error(Status::failed, "too many files are open in this mount");
  const auto patience = seconds(std::clamp(asked.patience, 1, most_patience));
  // Which version it is to be, and who has it.
  Get request;
  Plan plan;
  if (asked.is_again && asked.entry.id.is_set()) {
    const What by_id{path, "id:" + asked.entry.id.hex(), false, {}, asked.entry.id};
    try {
      co_await getter_.resolver().resolve_what(request, 0, by_id, plan, false, nullptr, true);
    } catch (const Error& error) {
      // Who has it may have begun anew, and hashed nothing since.
      if (error.status() != Status::not_found) throw;
    }
  }
  auto found = plan.files.begin();
  if (plan.files.empty()) {
    const What by_path{path, path, false};
    co_await getter_.resolver().resolve_what(request, 0, by_path, plan, false, nullptr, true);
    found = plan.files.find(path);
  }
  if (found == plan.files.end()) throw Error(Status::not_found, printable(path) + ": not found");
  const auto& chosen = found->second.file;
  if (!chosen.problem.empty()) throw Error(Status::failed, printable(path) + ": " + chosen.problem);
  auto entry = chosen.entry;
  std::vector<std::uint32_t> keys = chosen.holders;
  if (chosen.own_wins)
    if (const auto* item = from_.library.inventory().find(std::string_view(path))) entry = item->entry;
  if (!is_same_version(entry, asked.entry)) {
    if (asked.is_again) throw Error(Status::failed, printable(path) + ": there is another version by now");
    out.entry = entry;
    co_return out;
  }
  entry.path = path;
  out.entry = entry;
  auto file = std::make_shared<OpenFile>(from_.workers.loop());
  file->entry = entry;
  file->patience = patience;
  file->prefetch = *prefetch;
  for (const auto key : keys)
    if (const auto node = plan.nodes.find(key); node != plan.nodes.end()) file->holders.push_back(node->second);
  if (const bool is_own = co_await open_own(mount, entry, out); is_own) co_return out;
  if (entry.size <= small_file_bytes && entry.size > 0) {
    out.data = co_await getter_.small_files().fetch_one(entry, keys, plan.nodes);
    out.is_all = true;
  }
  if (!channel->is_open()) throw Error(Status::interrupted, "the mount is gone");
  out.handle = ++mount->last_handle;
  if (!out.is_all) mount->files[out.handle] = std::move(file);
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
  const std::function<bool()> is_stopped = [file, weak] {
    const auto asking = weak.lock();
    return file->is_closed || !asking || !asking->is_open();
  };
  const auto until = std::chrono::steady_clock::now() + file->patience;
  while (file->busy >= file->most()) {
    if (is_stopped() || from_.workers.stopping()) throw Error(Status::interrupted, "closed");
    if (std::chrono::steady_clock::now() > until)
      throw Error(Status::unreachable, printable(file->entry.path) + ": did not come in time");
    co_await file->changed.wait_for(milliseconds(200));
  }
  // What nobody has hashed and is here, where there was no room for its descriptor.
  if (const auto* item = own(file->entry); item != nullptr && !file->entry.id.is_set()) {
    ReadTold out;
    out.data.resize(
        static_cast<std::size_t>(std::min({asked.length, most_mount_read_bytes, item->entry.size - asked.offset})));
    LocalReader local(from_.workers, from_.library, LocalEntry{item->entry, item->stamp}, true);
    const std::span<char> into(out.data);
    const auto n = co_await local.read(asked.offset, into);
    out.data.resize(n);
    if (n == 0) throw Error(Status::failed, printable(file->entry.path) + ": has become shorter");
    co_return out;
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
  ++file->busy;
  ReadTold out;
  out.is_proven = reader->wanted().id.is_set();
  std::optional<Error> trouble;
  try {
    const auto length = std::min({asked.length, most_mount_read_bytes, file->entry.size - asked.offset});
    out.data.resize(static_cast<std::size_t>(length));
    std::size_t got = 0;
    // As much as is asked for: whoever asked has to have it all.
    while (got < out.data.size()) {
      const auto into = std::span<char>(out.data).subspan(got);
      const auto n = co_await reader->read(asked.offset + static_cast<std::int64_t>(got), into);
      if (n == 0) throw Error(Status::failed, printable(file->entry.path) + ": has become shorter");
      got += n;
      if (got < out.data.size() && std::chrono::steady_clock::now() > until)
        throw Error(Status::unreachable, printable(file->entry.path) + ": did not come in time");
    }
  } catch (const Error& error) {
    trouble = error;
  } catch (const std::exception& error) {
    trouble = Error(Status::failed, error.what());
  }
  --file->busy;
  if (reader->wanted().id.is_set()) file->entry.id = reader->wanted().id;
  if (!file->is_closed) file->idle.push_back(std::move(reader));
  file->changed.notify();
  if (trouble) throw Error(*trouble);
  out.id = file->entry.id;
  out.is_here = own(file->entry) != nullptr;
  co_return out;
}

}  // namespace mesh
