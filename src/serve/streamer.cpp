#include "serve/streamer.h"

#include <optional>

#include "core/format.h"
#include "core/piece_plan.h"

namespace mesh {
namespace {

constexpr std::size_t note_bytes = 256 * 1024;
constexpr auto look_every = std::chrono::milliseconds(50);

/// Sends all `size` bytes as `reader` gives them; false where it gives no more before that. A TorrentReader gives
/// nothing where its torrent has ended.
template <class AnyReader>
Task<bool> send(ChannelPtr channel, AnyReader& reader, std::int64_t size, std::int64_t offset = 0) {
  while (offset < size) {
    StreamData note;
    note.data.resize(note_bytes);
    const std::optional<std::size_t> length = co_await reader.read(offset, note.data);
    if (length.value_or(0) == 0) co_return false;
    note.data.resize(*length);
    channel->note(note);
    co_await channel->drained();
    offset += static_cast<std::int64_t>(*length);
  }
  co_return true;
}

Task<void> send_all(ChannelPtr channel, ReaderPtr reader, std::int64_t offset) {
  const bool is_sent = co_await send(channel, *reader, reader->size(), offset);
  if (!is_sent) throw Error(Status::failed, "the file has become shorter");
}

/// Says what is sent; where an earlier answer had begun with something else, that cannot be gone on with. Throws Error.
void begin(Channel& channel, const Stream& asked, const FileEntry& file) {
  const bool is_same = asked.offset == 0 || (asked.id.is_set() && asked.id == file.id);
  if (!is_same || asked.offset > file.size)
    throw Error(Status::failed, printable(asked.path) +
                                    ": the node was restarted, and what it has sent cannot be gone on with: another "
                                    "version is chosen now, or it cannot be told that it is the same");
  StreamBegin note;
  note.path = file.path;
  note.size = file.size;
  note.id = file.id;
  channel.note(note);
}

}  // namespace

Task<StreamEnd> Streamer::stream(ChannelPtr channel, Stream asked) {
  const auto what = parse_what(asked.path, library_.gate().files_dir());
  if (what.pattern.empty())
    throw Error(Status::usage, printable(asked.path) + ": a stream is of one file, and this is a directory");
  ++streams_;
  const std::shared_ptr<void> counted(nullptr, [this](void*) { --streams_; });
  std::optional<Error> missing;
  Resolver::Chosen chosen;
  try {
    chosen = co_await getter_.resolver().choose(what.pattern, asked.from, asked.strict);
  } catch (const Error& error) {
    missing = error;
  }
  if (missing && missing->status() == Status::not_found && what.is_glob)
    throw Error(Status::usage, printable(asked.path) + ": a stream is of one file, and this is a glob");
  if (missing) throw Error(*missing);
  const auto& wanted = chosen.file.entry;
  StreamEnd end;
  end.size = wanted.size;
  // The asker's own copy is not among what the tracker chooses from, but may be what others would get.
  const auto* own = chosen.file.own_wins ? library_.inventory().find(std::string_view(wanted.path)) : nullptr;
  if (own != nullptr && own->entry.kind == Kind::file) {
    end.size = own->entry.size;
    LocalEntry entry{own->entry, own->stamp};
    begin(*channel, asked, entry.entry);
    ReaderPtr reader = std::make_unique<LocalReader>(workers_, library_, std::move(entry));
    co_await send_all(channel, std::move(reader), asked.offset);
    co_return end;
  }
  if (wanted.size == 0) {
    begin(*channel, asked, wanted);
    co_return end;
  }
  const bool is_here = wanted.id.is_set() && library_.inventory().find(wanted.id, wanted.size) != nullptr;
  if (wanted.size <= small_file_bytes && !is_here) {
    begin(*channel, asked, wanted);
    StreamData note;
    note.data = co_await getter_.small_files().fetch_one(wanted, chosen.file.holders, chosen.nodes);
    note.data.erase(0, static_cast<std::size_t>(asked.offset));
    channel->note(note);
    end.from_sources = end.size;
    co_return end;
  }
  const std::function<bool()> is_stopped = [channel] { return !channel->is_open(); };
  const auto counters = std::make_shared<Received>();
  auto reader = co_await spools_.open(wanted, chosen.file.holders, asked.spool, is_stopped, counters);
  auto known = wanted;
  if (const auto id = reader->id(); id.is_set()) known.id = id;
  begin(*channel, asked, known);
  co_await send_all(channel, std::move(reader), asked.offset);
  end.from_sources = counters->from_sources;
  end.from_getters = counters->from_getters;
  co_return end;
}

Task<void> Streamer::pipe(ChannelPtr channel, GetTaskPtr task, std::shared_ptr<bool> over) {
  SwarmTorrentPtr sent;
  while (channel->is_open()) {
    const auto download = task->downloads.empty() ? nullptr : task->downloads.front();
    const auto torrent = download ? download->torrent() : nullptr;
    if (!torrent || torrent == sent || task->cancelled) {
      if (*over) co_return;
      co_await sleep_for(look_every);
      continue;
    }
    // Another torrent than before: another version, from the beginning.
    sent = torrent;
    StreamBegin begin;
    begin.path = download->wanted().path;
    begin.size = download->wanted().size;
    if (torrent->role != Role::provisional) begin.id = download->wanted().id;
    channel->note(begin);
    try {
      const std::function<bool()> is_stopped = [channel, task] { return !channel->is_open() || task->cancelled; };
      TorrentReader reader(workers_, session_, torrent, is_stopped);
      static_cast<void>(co_await send(channel, reader, begin.size));
    } catch (const std::exception&) {
      // The get says what is wrong.
    }
  }
}

}  // namespace mesh
