#include <cerrno>

#include "core/mesh_path.h"
#include "mount/file_system_shared.h"

namespace mesh {

using namespace tree;

namespace {

constexpr double listed_while = 10;  // seconds of a listing: until who lists has looked at what is listed

}  // namespace

void FileSystem::Shared::op_opendir(fuse_req_t request, fuse_ino_t number, fuse_file_info* info) {
  auto& self = of(request);
  info->fh = self.open_directories.add(std::make_shared<OpenDirectory>(number));
  if (fuse_reply_open(request, info) != 0) self.open_directories.remove(info->fh);
}

void FileSystem::Shared::op_releasedir(fuse_req_t request, fuse_ino_t /*number*/, fuse_file_info* info) {
  of(request).open_directories.remove(info->fh);
  fuse_reply_err(request, 0);
}

Task<DirectoryPages::PagePtr> FileSystem::Shared::page_of(OpenDirectoryPtr directory, std::size_t number,
                                                          Clock::time_point until) {
  std::optional<std::string> after;
  {
    const std::lock_guard lock(directory->mutex);
    if (auto page = directory->pages.find(number)) co_return page;
    after = directory->pages.after(number);
  }
  auto page = std::make_shared<DirectoryPages::Page>();
  page->number = number;
  std::string next;
  if (after && directory->number == node) {
    const auto known = co_await mesh_status(until);
    for (const auto& one : known->nodes)
      if (is_mesh_path(one.node) && one.node.find('/') == std::string::npos && one.node.size() <= longest_name)
        page->entries.push_back(node_entry(one.node, true));
  } else if (after && is_of_node(directory->number)) {
    const auto found = find(directory->number);
    if (!found) throw Error(Status::not_found, "no such node");
    for (const auto* name : {node_info_name, node_json_name})
      page->entries.push_back(node_entry(found->entry.path + "/" + name, false));
  } else if (after) {
    const auto path = mesh_path(directory->number);
    if (!path) throw Error(Status::not_found, "is there no more");
    List question;
    question.pattern = *path;
    question.after = *after;
    question.local_if_alone = true;
    Listed listed = co_await client->ask(question, until);
    for (auto& item : listed.items)
      if (is_shown(item.entry) && parent_path(item.entry.path) == *path && is_mesh_path(item.entry.path))
        page->entries.push_back(std::move(item.entry));
    next = std::move(listed.next);
    if (next <= *after) next.clear();  // else it would go on for ever
    page->is_last = next.empty();
  }
  const std::lock_guard lock(directory->mutex);
  directory->pages.put(page, std::move(next));
  co_return page;
}

/// As much of the page as there is room for is the answer. False, and nothing is answered, where nothing is left of it
/// and another page comes after it.
bool FileSystem::Shared::fill(const PendingPtr& to, fuse_ino_t number, const DirectoryPages::Page& page,
                              std::size_t place, std::size_t size, bool is_plus) {
  const auto dots = page.number == 0 ? DirectoryPages::dots : 0;
  const auto all = page.entries.size() + dots;
  if (place >= all && !page.is_last) return false;
  if (!to->take()) return true;
  std::string out;
  std::vector<fuse_ino_t> told;
  auto& inodes = number == node || is_of_node(number) ? node_inodes : file_inodes;
  for (; place < all; ++place) {
    const bool is_dot = place < dots;
    const auto* entry = is_dot ? nullptr : &page.entries[place - dots];
    const std::string name(is_dot ? (place == 0 ? "." : "..") : last_part(entry->path));
    const auto next = place + 1 < all || page.is_last ? DirectoryPages::Position{page.number, place + 1}
                                                      : DirectoryPages::Position{page.number + 1, 0};
    const auto needed = is_plus ? fuse_add_direntry_plus(to->request(), nullptr, 0, name.c_str(), nullptr, 0)
                                : fuse_add_direntry(to->request(), nullptr, 0, name.c_str(), nullptr, 0);
    if (out.size() + needed > size) break;
    const auto at = out.size();
    out.resize(at + needed);
    fuse_entry_param param{};
    if (is_dot) {
      param.attr.st_mode = S_IFDIR;
      param.attr.st_ino = root;
    } else if (is_plus) {
      param = look_up(inodes, *entry, listed_while);
      told.push_back(param.ino);
    } else {
      param.attr = stat_of(stat_number(*entry), *entry);
    }
    const auto offset = DirectoryPages::offset(next);
    if (is_plus)
      fuse_add_direntry_plus(to->request(), out.data() + at, needed, name.c_str(), &param, offset);
    else
      fuse_add_direntry(to->request(), out.data() + at, needed, name.c_str(), &param.attr, offset);
  }
  if (fuse_reply_buf(to->request(), out.data(), out.size()) != 0)
    for (const auto one : told) forget(one, 1);
  return true;
}

Task<void> FileSystem::Shared::read_directory(PendingPtr to, OpenDirectoryPtr directory, std::size_t size, off_t offset,
                                              bool is_plus) {
  auto at = DirectoryPages::position(offset);
  while (!to->is_answered()) {
    const auto page = co_await page_of(directory, at.page, to->until());
    if (fill(to, directory->number, *page, at.place, size, is_plus)) co_return;
    at = {at.page + 1, 0};
  }
}

void FileSystem::Shared::list(fuse_req_t request, std::size_t size, off_t offset, fuse_file_info* info, bool is_plus) {
  auto& self = of(request);
  const auto& directory = Handles<OpenDirectory>::at(info->fh);
  const auto number = directory->number;
  if (own_entry(number) != nullptr && number != files && number != node) {
    std::string out;
    std::size_t place = 0;
    const auto add_param = [&](const char* name, const fuse_entry_param& param) {
      if (static_cast<off_t>(place++) < offset) return true;
      const auto room = size - out.size();
      const auto next = static_cast<off_t>(place);
      std::string one(512, '\0');
      const auto needed = is_plus ? fuse_add_direntry_plus(request, one.data(), one.size(), name, &param, next)
                                  : fuse_add_direntry(request, one.data(), one.size(), name, &param.attr, next);
      if (needed > room) return false;
      out.append(one, 0, needed);
      return true;
    };
    const auto add = [&](const char* name, const OwnEntry& entry) { return add_param(name, param_of(entry)); };
    bool goes_on = add(".", *own_entry(number)) && add("..", *own_entry(root));
    for (const auto& entry : own_entries)
      if (goes_on && entry.parent == number && entry.number != root) goes_on = add(entry.name, entry);
    if (number == volume)
      for (const auto& shown : self.volumes->all())
        if (goes_on) goes_on = add_param(shown->name.c_str(), param_of(*shown));
    fuse_reply_buf(request, out.data(), out.size());
    return;
  }
  const auto at = DirectoryPages::position(offset);
  DirectoryPages::PagePtr page;
  {
    const std::lock_guard lock(directory->mutex);
    if (offset == 0) directory->pages.begin_anew();
    page = directory->pages.find(at.page);
  }
  if (page) {
    // Most answers are of a page that is here.
    const auto now = std::make_shared<Pending>(request, Clock::now(), std::string());
    if (self.fill(now, number, *page, at.place, size, is_plus)) return;
  }
  auto path = self.mesh_path(number).value_or("node");
  self.answer_later(request, std::move(path), [&self, directory, size, offset, is_plus](PendingPtr to) {
    return self.read_directory(std::move(to), directory, size, offset, is_plus);
  });
}

void FileSystem::Shared::op_readdir(fuse_req_t request, fuse_ino_t /*number*/, std::size_t size, off_t offset,
                                    fuse_file_info* info) {
  list(request, size, offset, info, false);
}
void FileSystem::Shared::op_readdirplus(fuse_req_t request, fuse_ino_t /*number*/, std::size_t size, off_t offset,
                                        fuse_file_info* info) {
  list(request, size, offset, info, true);
}

}  // namespace mesh
