#include <algorithm>
#include <cerrno>

#include "core/format.h"
#include "mount/file_system_shared.h"
#include "mount/pages.h"

namespace mesh {

using namespace tree;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr auto upgrade_every = seconds(5);
constexpr std::size_t most_chosen = 1000;
constexpr auto fails_again = seconds(2);

}  // namespace

Task<std::string> FileSystem::Shared::page_of(fuse_ino_t number, Clock::time_point until) {
  if (is_of_node(number)) {
    const auto found = find(number);
    if (!found) throw Error(Status::not_found, "no such node");
    const auto known = co_await mesh_status(until);
    const auto* status_of = find(*known, parent_path(found->entry.path));
    if (status_of == nullptr) throw Error(Status::not_found, "no such node");
    co_return last_part(found->entry.path) == node_json_name ? node_info_json(*status_of) : node_info(*status_of);
  }
  if (number == transfers_text || number == transfers_as_json) {
    const StatusAsk question;
    const StatusReply here = co_await client->ask(question, until);
    co_return number == transfers_text ? transfers(here) : transfers_json(here);
  }
  if (number == cluster_nodes_text || number == cluster_nodes_as_json) {
    const auto known = co_await mesh_status(until);
    co_return number == cluster_nodes_text ? cluster_nodes(*known) : cluster_nodes_json(*known);
  }
  if (number == vdi_status) co_return volumes->status();
  if (number == vdi_mount) co_return std::string("write PATH [NAME] here: volume/NAME is its disk\n");
  if (number == vdi_unmount) co_return std::string("write NAME here: volume/NAME goes, its writes stay (meshvol)\n");
  const ClusterAsk question;
  const ClusterTold told = co_await client->ask(question, until);
  if (number == config_tracker) co_return trackers(told);
  const auto known = co_await mesh_status(until);
  co_return number == cluster_info_text ? cluster_info(told, *known) : cluster_info_json(told, *known);
}

void FileSystem::Shared::op_open(fuse_req_t request, fuse_ino_t number, fuse_file_info* info) {
  auto& self = of(request);
  const bool is_read = (info->flags & (O_ACCMODE | O_TRUNC)) == O_RDONLY;
  if (is_volume(number)) return self.open_volume(request, number, *info);
  if (!is_read && !is_told(number)) return static_cast<void>(fuse_reply_err(request, EROFS));
  if ((info->flags & O_APPEND) != 0 && !is_read) return static_cast<void>(fuse_reply_err(request, EINVAL));
  if (number == vdi_list) {
    // On a thread that may wait.
    const auto pending = self.wait_for(request, Clock::now() + self.options.timeout, "vdi/list");
    self.volumes->list([&self, pending, given = *info](std::string text) {
      auto opened = given;
      opened.direct_io = 1;
      auto file = std::make_shared<OpenFile>(vdi_list, "vdi/list");
      file->set_source({{}, std::make_shared<const std::string>(std::move(text))});
      if (pending->take()) {
        opened.fh = self.open_files.add(file);
        if (fuse_reply_open(pending->request(), &opened) != 0) self.open_files.remove(opened.fh);
      }
      self.remove(pending);
    });
    return;
  }
  if (!is_mesh_file(number)) {
    const auto* own = own_entry(number);
    auto file = std::make_shared<OpenFile>(number, own != nullptr ? own->name : "node");
    const auto given = *info;
    auto work = [&self, file, given](PendingPtr to) -> Task<void> {
      auto opened = given;
      opened.direct_io = 1;
      // Who writes alone needs no node for that yet.
      const bool is_for_writing = (given.flags & O_ACCMODE) == O_WRONLY;
      std::string text;
      if (!is_for_writing) text = co_await self.page_of(file->number, to->until());
      file->set_source({{}, std::make_shared<const std::string>(std::move(text))});
      if (!to->take()) co_return;
      opened.fh = self.open_files.add(file);
      if (fuse_reply_open(to->request(), &opened) != 0) self.open_files.remove(opened.fh);
    };
    self.answer_later(request, file->path, std::move(work));
    return;
  }
  const auto found = self.find(number);
  if (!found) return static_cast<void>(fuse_reply_err(request, ESTALE));
  self.answer_later(request, found->entry.path, [&self, entry = found->entry, number, given = *info](PendingPtr to) {
    return self.open_file(std::move(to), entry, number, given);
  });
}

void FileSystem::Shared::take_opened(OpenFile& file, OpenTold told, std::int64_t handle, std::int64_t connection) {
  const auto id = file.entry.id;
  file.entry = told.entry;
  if (!file.entry.id.is_set()) file.entry.id = id;
  file.handle = handle;
  file.connection = connection;
  OpenFile::Source source;
  if (told.is_all) source.text = std::make_shared<const std::string>(std::move(told.data));
  source.is_proven = told.entry.id.is_set();
  file.set_source(source);
  if (!told.has_descriptor) return;
  auto local = std::make_shared<LocalFile>();
  local->fd = client->take_descriptor(handle, connection);
  struct stat now {};
  if (!local->fd || ::fstat(local->fd.get(), &now) != 0) {
    file.no_descriptor = true;
    file.connection = 0;  // it is asked for again
    return;
  }
  local->stamp = stamp_of(now);
  // As it was when it was found to be that version.
  source.local = std::move(local);
  if (source.local->stamp.size == told.entry.size && source.local->stamp.ctime == told.ctime)
    file.set_source(std::move(source));
  else
    file.connection = 0;
}

/// Throws Error. False: the connection was lost, or what is here has changed just now.
Task<bool> FileSystem::Shared::open_at_node(OpenFilePtr file, bool is_again, Clock::time_point until) {
  OpenAsk question;
  question.entry = file->entry;
  question.is_again = is_again;
  question.no_descriptor = file->no_descriptor;
  question.prefetch = options.prefetch;
  // A little less than there is here, so that the node has the time to say why.
  question.patience = std::max(1, static_cast<int>(options.timeout.count()) - 1);
  question.handle = client->new_handle();
  const auto handle = question.handle;
  std::optional<OpenTold> told;
  std::optional<Error> trouble;
  try {
    told = co_await client->ask(question, until);
  } catch (const Error& error) {
    trouble = error;
  }
  const auto connection = client->connection();
  if (told && !told->is_open) {
    if (chosen.size() >= most_chosen) chosen.clear();
    if (told->entry.path == file->path && is_shown(told->entry)) chosen[file->path] = {told->entry, Clock::now()};
    trouble = Error(Status::not_found, printable(file->path) + ": is another version by now");
  }
  if (trouble) {
    close_at_node(handle, connection);  // the node may be about to open it
    throw Error(*trouble);
  }
  close_at_node(file->handle, file->connection);
  take_opened(*file, std::move(*told), handle, connection);
  if (!file->source().local) client->drop(handle);
  if (file->is_closed) close_at_node(handle, connection);
  co_return file->connection != 0;
}

Task<void> FileSystem::Shared::open_file(PendingPtr to, FileEntry entry, fuse_ino_t number, fuse_file_info info) {
  auto file = std::make_shared<OpenFile>(number, entry.path);
  file->entry = entry;
  if (entry.kind != Kind::file) throw Error(Status::usage, printable(entry.path) + ": is no file");
  std::optional<Error> trouble;
  try {
    bool is_open = false;
    // One version for ever is that one or none.
    const bool is_again = is_version(number);
    while (!is_open && !to->is_answered()) is_open = co_await open_at_node(file, is_again, to->until());
  } catch (const Error& error) {
    trouble = error;
  }
  // The path is looked up again then: by what it stands for by now, or by that it is gone (open(2), ESTALE within).
  if (trouble && trouble->status() == Status::not_found) {
    to->fail(is_version(number) ? ENOENT : ESTALE);
    co_return;
  }
  if (trouble) throw Error(*trouble);
  if (!to->take()) {
    close_file(*file);
    co_return;
  }
  // Pages of it that the kernel has from before are right where they were read of the same: of a content, as the node
  // proved it, or of a file that is here and is as it was then.
  const auto source = file->source();
  const bool is_sure = source.local || source.is_proven;
  auto of = is_sure && file->entry.id.is_set() ? file->entry.id.hex() : std::string();
  if (source.local) of += " " + std::to_string(source.local->stamp.ctime);
  {
    const std::lock_guard lock(mutex);
    inodes_of(number).learn(number, file->entry.id);
    info.keep_cache = inodes_of(number).keep(number, of) ? 1 : 0;
  }
  info.fh = open_files.add(file);
  if (fuse_reply_open(to->request(), &info) == 0) co_return;
  open_files.remove(info.fh);
  close_file(*file);
  keep_nothing(number);
}

void FileSystem::Shared::close_at_node(std::int64_t handle, std::int64_t connection) {
  if (handle == 0) return;
  CloseNote note;
  note.handle = handle;
  client->note(note, connection);
  client->drop(handle);
}

void FileSystem::Shared::close_file(OpenFile& file) {
  file.is_closed = true;
  close_at_node(file.handle, file.connection);
}

void FileSystem::Shared::keep_nothing(fuse_ino_t number) {
  const std::lock_guard lock(mutex);
  inodes_of(number).keep_nothing(number);
}

void FileSystem::Shared::op_read(fuse_req_t request, fuse_ino_t number, std::size_t size, off_t offset,
                                 fuse_file_info* info) {
  auto& self = of(request);
  if (is_volume(number)) return self.read_volume(request, size, offset, *info);
  const auto& file = Handles<OpenFile>::at(info->fh);
  const auto source = file->source();
  if (source.text) {
    if (!source.is_proven && is_mesh_file(number)) self.keep_nothing(number);
    const auto bytes = part_of(*source.text, size, offset);
    fuse_reply_buf(request, bytes.data(), bytes.size());
    return;
  }
  if (source.local) {
    thread_local std::vector<char> buffer;
    if (const auto bytes = read_local(*source.local, buffer, size, offset)) {
      fuse_reply_buf(request, bytes->data(), bytes->size());
      return;
    }
  }
  self.answer_later(request, file->path, [&self, file, size, offset](PendingPtr to) {
    return self.read_file(std::move(to), file, size, offset);
  });
}

/// Whether the time of a read of some of this was up a moment ago.
bool FileSystem::Shared::has_failed(OpenFile& file, off_t offset, std::size_t size) {
  std::erase_if(file.reads, [](const OpenFile::Read& read) {
    return read.pending->is_answered() &&
           (!read.pending->is_timed_out() || Clock::now() - read.pending->until() > fails_again);
  });
  return std::ranges::any_of(file.reads, [&](const OpenFile::Read& read) {
    return read.pending->is_timed_out() && offset < read.offset + static_cast<off_t>(read.size) &&
           read.offset < offset + static_cast<off_t>(size);
  });
}

Task<void> FileSystem::Shared::read_file(PendingPtr to, OpenFilePtr file, std::size_t size, off_t offset) {
  const auto left = file->entry.size - offset;
  if (left <= 0) {
    if (to->take()) fuse_reply_buf(to->request(), nullptr, 0);
    co_return;
  }
  size = std::min(size, static_cast<std::size_t>(left));
  if (has_failed(*file, offset, size)) throw Error(Status::unreachable, "");  // as was said
  file->reads.push_back({to, offset, size});
  std::string bytes;
  bool is_proven = true;
  auto pause = milliseconds(10);
  std::string why;  ///< the last try came to nothing
  while (bytes.size() < size && !to->is_answered()) {
    const auto source = file->source();
    if (source.text) {
      is_proven = source.is_proven;
      bytes = part_of(*source.text, size, offset);
      break;
    }
    if (source.local) {
      // It has changed, or is here since a moment ago.
      std::vector<char> buffer;
      const auto all = read_local(*source.local, buffer, size, offset, &file->no_descriptor);
      if (all && all->size() == size) {
        bytes = *all;
        is_proven = true;
        break;
      }
      file->set_source({});
      file->connection = 0;
    }
    if (file->connection == 0 || !client->is_connected(file->connection)) {
      const std::function<Task<bool>()> open = [this, file, until = to->until()] {
        return open_at_node(file, true, until);
      };
      std::optional<Error> trouble;
      try {
        static_cast<void>(co_await file->opening.run(0, open));
      } catch (const Error& error) {
        trouble = error;
      }
      // Whoever has it may be coming back; and who opened it for this one may have had less time.
      const bool may_come = trouble && (trouble->status() == Status::not_found ||
                                        (trouble->status() == Status::unreachable && Clock::now() < to->until()));
      // The last try has hardly any time: what was wrong before says more.
      if (trouble && !may_come && trouble->status() == Status::unreachable && !why.empty())
        throw Error(Status::unreachable, "did not come in time: " + why);
      if (trouble && !may_come) throw Error(*trouble);
      if (trouble) why = trouble->what();
      if (trouble) co_await sleep_for(milliseconds(300));
      continue;
    }
    ReadAsk question;
    question.handle = file->handle;
    question.offset = offset + std::ssize(bytes);
    question.length = static_cast<std::int64_t>(size - bytes.size());
    std::optional<ReadTold> told;
    std::optional<Error> trouble;
    try {
      told = co_await client->ask_on(question, to->until(), file->connection);
    } catch (const Error& error) {
      trouble = error;
    }
    const bool is_final = trouble && trouble->status() != Status::unreachable &&
                          trouble->status() != Status::not_found && trouble->status() != Status::interrupted;
    if (is_final) throw Error(*trouble);
    if (trouble) why = trouble->what();
    if (!told) {
      // The node is gone, or has closed it, or nobody it knows brings this: it is opened anew, by whoever has it now.
      if (file->handle == question.handle) {
        close_at_node(file->handle, file->connection);
        file->connection = 0;
      }
      co_await sleep_for(pause);
      pause = std::min(pause * 2, milliseconds(1000));
      continue;
    }
    if (told->data.empty() || std::ssize(told->data) > question.length)
      throw Error(Status::failed, printable(file->path) + ": the node sent no sensible answer");
    if (told->id.is_set() && file->entry.id.is_set() && told->id != file->entry.id)
      throw Error(Status::failed, printable(file->path) + ": the node sent another version");
    bytes += told->data;
    if (told->id.is_set()) file->entry.id = told->id;
    is_proven = is_proven && told->is_proven;
    {
      const std::lock_guard lock(mutex);
      inodes_of(file->number).learn(file->number, told->id);
    }
    if (told->is_here && !file->no_descriptor && Clock::now() - file->upgraded > upgrade_every) {
      file->upgraded = Clock::now();
      spawn(loop, upgrade(file));
    }
  }
  if (!is_proven) keep_nothing(file->number);
  if (to->take()) fuse_reply_buf(to->request(), bytes.data(), bytes.size());
}

/// It is here by now: from its descriptor it is read without the node.
Task<void> FileSystem::Shared::upgrade(OpenFilePtr file) {
  try {
    const std::function<Task<bool>()> open = [this, file] {
      return open_at_node(file, true, Clock::now() + seconds(10));
    };
    static_cast<void>(co_await file->opening.run(0, open));
  } catch (const std::exception&) {
    // It is read as before.
  }
}

/// What is written to config/tracker are this node's trackers from then on; to vdi/, an order.
void FileSystem::Shared::op_write(fuse_req_t request, fuse_ino_t number, const char* data, std::size_t size,
                                  off_t offset, fuse_file_info* info) {
  constexpr std::size_t most = 64 * 1024;
  auto& self = of(request);
  if (is_volume(number)) return self.write_volume(request, std::string(data, size), offset, *info);
  if (!is_told(number)) return static_cast<void>(fuse_reply_err(request, EROFS));
  // Several orders may come by one descriptor.
  if ((offset != 0 && number == config_tracker) || size > most)
    return static_cast<void>(fuse_reply_err(request, EINVAL));
  if (number != config_tracker) return self.order(request, number, std::string(data, size));
  auto work = [&self, text = std::string(data, size)](PendingPtr to) -> Task<void> {
    SetTrackers order;
    std::optional<Error> trouble;
    try {
      order.trackers = read_trackers(text);
      static_cast<void>(co_await self.client->ask(order, to->until()));
    } catch (const Error& error) {
      trouble = error;
    }
    if (trouble) self.log(warning("config/tracker: " + std::string(trouble->what())).of("trackers-refused"));
    if (trouble) throw Error(*trouble);
    if (to->take()) fuse_reply_write(to->request(), text.size());
  };
  self.answer_later(request, "config/tracker", std::move(work));
}

void FileSystem::Shared::op_release(fuse_req_t request, fuse_ino_t number, fuse_file_info* info) {
  auto& self = of(request);
  if (is_volume(number)) {
    self.volumes->close(Handles<VolumeFiles::File>::at(info->fh));
    self.open_volumes.remove(info->fh);
    fuse_reply_err(request, 0);
    return;
  }
  post_to(self.loop, [&self, file = Handles<OpenFile>::at(info->fh)] {
    if (is_mesh_file(file->number)) self.close_file(*file);
  });
  self.open_files.remove(info->fh);
  fuse_reply_err(request, 0);
}

}  // namespace mesh
