#include "mount/inodes.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>

#include "core/same_version.h"

namespace mesh {

std::uint64_t Inodes::look_up(const FileEntry& entry) {
  auto stat = stat_number(entry);
  if (const auto it = current_.find(entry.path); it != current_.end()) {
    auto& known = inodes_.at(it->second);
    if (is_same_version(known.inode.entry, entry)) {
      const auto id = known.inode.entry.id;
      known.inode.entry = entry;
      if (!entry.id.is_set()) known.inode.entry.id = id;
      ++known.lookups;
      return it->second;
    }
    // Of the same size and time, and yet another one.
    if (known.inode.stat_number == stat) ++stat;
  }
  const auto number = next_++;
  current_[entry.path] = number;
  inodes_[number] = {{entry, stat, {}}, 1};
  return number;
}

const Inodes::Inode* Inodes::find(std::uint64_t number) const {
  const auto it = inodes_.find(number);
  return it == inodes_.end() ? nullptr : &it->second.inode;
}

void Inodes::forget(std::uint64_t number, std::uint64_t lookups) {
  const auto it = inodes_.find(number);
  if (it == inodes_.end()) return;
  it->second.lookups -= std::min(lookups, it->second.lookups);
  if (it->second.lookups > 0) return;
  const auto at = current_.find(it->second.inode.entry.path);
  if (at != current_.end() && at->second == number) current_.erase(at);
  inodes_.erase(it);
}

void Inodes::learn(std::uint64_t number, const ContentId& id) {
  if (const auto it = inodes_.find(number); it != inodes_.end() && id.is_set()) it->second.inode.entry.id = id;
}

bool Inodes::keep(std::uint64_t number, const std::string& of) {
  const auto it = inodes_.find(number);
  if (it == inodes_.end()) return false;
  const bool is_same = !of.empty() && it->second.inode.kept == of;
  it->second.inode.kept = of;
  return is_same;
}

void Inodes::keep_nothing(std::uint64_t number) {
  if (const auto it = inodes_.find(number); it != inodes_.end()) it->second.inode.kept.clear();
}

std::uint64_t stat_number(const FileEntry& entry) {
  auto text = entry.path + '\0';
  if (entry.kind == Kind::file) text += std::to_string(entry.size) + " " + std::to_string(entry.mtime);
  const std::uint64_t number = XXH3_64bits(text.data(), text.size());
  return number < 1024 ? number + 1024 : number;  // the lowest are the mount's own
}

}  // namespace mesh
