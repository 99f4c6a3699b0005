#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "core/version_name.h"
#include "mount/file_system_shared.h"

namespace mesh {

using namespace tree;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr double short_while = 1;    // seconds that the kernel believes a name
constexpr double long_while = 3600;  // what a version is does not change
constexpr auto chosen_for = seconds(3);

}  // namespace

std::optional<Inodes::Inode> FileSystem::Shared::find(fuse_ino_t number) {
  const std::lock_guard lock(mutex);
  const auto* found = inodes_of(number).find(number);
  return found == nullptr ? std::nullopt : std::optional(*found);
}

std::optional<std::string> FileSystem::Shared::mesh_path(fuse_ino_t number) {
  if (number == files) return std::string();
  if (!is_mesh_file(number)) return std::nullopt;
  const auto found = find(number);
  return found ? std::optional(found->entry.path) : std::nullopt;
}

struct stat FileSystem::Shared::stat_of(std::uint64_t stat_number, const FileEntry& entry) {
  struct stat out {};
  out.st_ino = stat_number;
  const mode_t type = entry.kind == Kind::directory ? S_IFDIR : entry.kind == Kind::link ? S_IFLNK : S_IFREG;
  out.st_mode = type | (entry.kind == Kind::link ? 0777U : entry.mode & 0777U);
  out.st_nlink = 1;
  out.st_uid = ::geteuid();
  out.st_gid = ::getegid();
  out.st_blksize = 1 << 20;
  if (entry.kind == Kind::file) out.st_size = entry.size;
  if (entry.kind == Kind::link) out.st_size = std::ssize(entry.target);
  out.st_blocks = (out.st_size + 511) / 512;
  const auto second = std::int64_t{1'000'000'000};
  const auto mtime = entry.mtime == always_now ? ::time(nullptr) * second : entry.mtime;
  auto at = mtime / second;
  auto rest = mtime % second;
  if (rest < 0) --at, rest += second;
  out.st_mtim.tv_sec = at;
  out.st_mtim.tv_nsec = rest;
  out.st_atim = out.st_ctim = out.st_mtim;
  return out;
}

struct stat FileSystem::Shared::stat_of(const OwnEntry& entry) {
  struct stat out {};
  out.st_ino = entry.number;
  out.st_mode = entry.mode;
  out.st_nlink = 1;
  out.st_uid = ::geteuid();
  out.st_gid = ::getegid();
  out.st_mtim.tv_sec = out.st_atim.tv_sec = out.st_ctim.tv_sec = ::time(nullptr);
  return out;
}

fuse_entry_param FileSystem::Shared::param_of(const OwnEntry& entry) {
  fuse_entry_param out{};
  out.ino = entry.number;
  out.attr = stat_of(entry);
  out.attr_timeout = out.entry_timeout = short_while;
  return out;
}

fuse_entry_param FileSystem::Shared::look_up(Inodes& inodes, const FileEntry& entry, double name_while) {
  fuse_entry_param out{};
  const std::lock_guard lock(mutex);
  out.ino = inodes.look_up(entry);
  out.attr = stat_of(inodes.find(out.ino)->stat_number, entry);
  out.attr_timeout = entry.kind == Kind::file && is_mesh_file(out.ino) ? long_while : name_while;
  out.entry_timeout = name_while;
  return out;
}

void FileSystem::Shared::forget(fuse_ino_t number, std::uint64_t lookups) {
  if (number < first_of_nodes || is_volume(number)) return;
  const std::lock_guard lock(mutex);
  inodes_of(number).forget(number, lookups);
}

void FileSystem::Shared::reply_entry(const PendingPtr& to, Inodes& inodes, const FileEntry& entry) {
  if (!to->take()) return;
  const auto param = look_up(inodes, entry, short_while);
  if (fuse_reply_entry(to->request(), &param) != 0) forget(param.ino, 1);  // nobody has heard of it
}

FileEntry FileSystem::Shared::node_entry(std::string path, bool is_directory) {
  FileEntry out;
  out.path = std::move(path);
  out.kind = is_directory ? Kind::directory : Kind::file;
  out.mode = is_directory ? 0755 : 0444;
  out.mtime = always_now;
  return out;
}

const NodeStatus* FileSystem::Shared::find(const StatusReply& reply, std::string_view name) {
  const auto it = std::ranges::find(reply.nodes, name, &NodeStatus::node);
  return it == reply.nodes.end() ? nullptr : &*it;
}

Task<void> FileSystem::Shared::look_up_file(PendingPtr to, std::string path) {
  // Which it is was decided for who opened it a moment ago.
  if (const auto it = chosen.find(path); it != chosen.end()) {
    const auto [entry, when] = it->second;
    if (Clock::now() - when < chosen_for) {
      reply_entry(to, file_inodes, entry);
      co_return;
    }
    chosen.erase(it);
  }
  EntryAsk question;
  question.path = std::move(path);
  const EntryTold told = co_await client->ask(question, to->until());
  if (told.entry.empty() || told.entry.front().path != question.path || !is_shown(told.entry.front()))
    to->fail(ENOENT);
  else
    reply_entry(to, file_inodes, told.entry.front());
}

/// `parent`: of node/ empty, of a node's directory its name.
Task<void> FileSystem::Shared::look_up_node(PendingPtr to, std::string parent, std::string name) {
  const auto known = co_await mesh_status(to->until());
  const bool is_there = parent.empty()
                            ? find(*known, name) != nullptr
                            : find(*known, parent) != nullptr && (name == node_info_name || name == node_json_name);
  if (!is_there)
    to->fail(ENOENT);
  else
    reply_entry(to, node_inodes, node_entry(parent.empty() ? name : parent + "/" + name, parent.empty()));
}

void FileSystem::Shared::op_lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
  auto& self = of(request);
  if (const auto* own = own_entry(parent); own != nullptr && parent != files && parent != node) {
    const auto shown = parent == volume ? self.volumes->find(std::string_view(name)) : nullptr;
    if (shown) {
      const auto param = param_of(*shown);
      fuse_reply_entry(request, &param);
      return;
    }
    if (const auto one = parent == version ? read_version_name(name) : std::nullopt) {
      // Whether anybody has it is asked when it is opened.
      const auto param = self.look_up(self.version_inodes, *one, long_while);
      if (fuse_reply_entry(request, &param) != 0) self.forget(param.ino, 1);
      return;
    }
    for (const auto& entry : own_entries)
      if (entry.parent == parent && entry.number != root && std::strcmp(entry.name, name) == 0) {
        const auto param = self.param_of(entry);
        fuse_reply_entry(request, &param);
        return;
      }
    fuse_reply_err(request, ENOENT);
    return;
  }
  if (parent == node || is_of_node(parent)) {
    const auto directory = parent == node ? std::optional<Inodes::Inode>() : self.find(parent);
    auto above = directory ? directory->entry.path : std::string();
    if (parent != node && !directory) return static_cast<void>(fuse_reply_err(request, ESTALE));
    self.answer_later(request, "node/" + std::string(name), [&self, above, name = std::string(name)](PendingPtr to) {
      return self.look_up_node(std::move(to), above, name);
    });
    return;
  }
  const auto directory = self.mesh_path(parent);
  if (!directory) return static_cast<void>(fuse_reply_err(request, ESTALE));
  auto path = directory->empty() ? std::string(name) : *directory + "/" + name;
  if (!is_mesh_path(path)) return static_cast<void>(fuse_reply_err(request, ENOENT));
  self.answer_later(request, path, [&self, path](PendingPtr to) { return self.look_up_file(std::move(to), path); });
}

void FileSystem::Shared::op_forget(fuse_req_t request, fuse_ino_t number, std::uint64_t lookups) {
  of(request).forget(number, lookups);
  fuse_reply_none(request);
}

void FileSystem::Shared::op_forget_multi(fuse_req_t request, std::size_t count, fuse_forget_data* forgets) {
  for (std::size_t i = 0; i < count; ++i) of(request).forget(forgets[i].ino, forgets[i].nlookup);
  fuse_reply_none(request);
}

void FileSystem::Shared::op_getattr(fuse_req_t request, fuse_ino_t number, fuse_file_info* /*info*/) {
  auto& self = of(request);
  if (const auto* own = own_entry(number)) {
    const auto attr = stat_of(*own);
    fuse_reply_attr(request, &attr, short_while);
    return;
  }
  if (is_volume(number)) {
    const auto shown = self.volumes->find(number);
    if (!shown) return static_cast<void>(fuse_reply_err(request, ESTALE));
    const auto attr = VolumeFiles::stat_of(*shown);
    fuse_reply_attr(request, &attr, 0);
    return;
  }
  const auto found = self.find(number);
  if (!found) return static_cast<void>(fuse_reply_err(request, ESTALE));
  const auto attr = stat_of(found->stat_number, found->entry);
  fuse_reply_attr(request, &attr, found->entry.kind == Kind::file && is_mesh_file(number) ? long_while : short_while);
}

/// Writing may begin with making empty what is written to. A volume is as large as it is, like a device; nothing else
/// changes.
void FileSystem::Shared::op_setattr(fuse_req_t request, fuse_ino_t number, struct stat* attr, int to_set,
                                    fuse_file_info* info) {
  constexpr int harmless = FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_CTIME |
                           FUSE_SET_ATTR_MTIME_NOW | FUSE_SET_ATTR_ATIME_NOW;
  if (is_volume(number)) {
    const auto shown = of(request).volumes->find(number);
    const bool is_resized =
        (to_set & FUSE_SET_ATTR_SIZE) != 0 && attr->st_size != 0 && (!shown || attr->st_size != shown->size);
    if (is_resized || (to_set & ~harmless) != 0) return static_cast<void>(fuse_reply_err(request, EPERM));
    return op_getattr(request, number, info);
  }
  if (!is_told(number) || (to_set & ~harmless) != 0) return static_cast<void>(fuse_reply_err(request, EROFS));
  op_getattr(request, number, info);
}

void FileSystem::Shared::op_readlink(fuse_req_t request, fuse_ino_t number) {
  const auto found = is_mesh_file(number) ? of(request).find(number) : std::nullopt;
  if (!found || found->entry.kind != Kind::link)
    fuse_reply_err(request, EINVAL);
  else
    fuse_reply_readlink(request, found->entry.target.c_str());
}

}  // namespace mesh
