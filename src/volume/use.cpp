#include "volume/use.h"

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>

#include "core/error.h"
#include "core/format.h"
#include "core/mesh_path.h"
#include "disk/mount_table.h"
#include "disk/tool.h"

namespace mesh {
namespace {

namespace fs = std::filesystem;

bool is_number(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

std::vector<std::string> processes() {
  std::vector<std::string> out;
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator("/proc", ec))
    if (auto name = entry.path().filename().string(); is_number(name)) out.push_back(std::move(name));
  return out;
}

std::string link_text(const fs::path& path) {
  std::error_code ec;
  auto out = fs::read_symlink(path, ec);
  return ec ? std::string() : out.string();
}

/// This namespace's table, and those of all others that this user may look into.
std::vector<std::vector<MountEntry>> all_tables() {
  std::vector<std::vector<MountEntry>> out;
  std::set<std::string> seen{link_text("/proc/self/ns/mnt")};
  out.push_back(mount_table());
  for (const auto& process : processes())
    if (auto name = link_text("/proc/" + process + "/ns/mnt"); !name.empty() && seen.insert(name).second)
      out.push_back(mount_table("/proc/" + process + "/mountinfo"));
  return out;
}

/// "7:3" of a loop device.
std::string number_of(const std::string& device) {
  struct stat s {};
  if (::stat(device.c_str(), &s) != 0 || !S_ISBLK(s.st_mode)) return {};
  return std::to_string(major(s.st_rdev)) + ":" + std::to_string(minor(s.st_rdev));
}

/// As a mount of it, or of what is around it, calls a directory: its file system, and where it is in that.
std::pair<std::string, std::string> place_in_file_system(const std::vector<MountEntry>& table, const fs::path& path) {
  const MountEntry* around = nullptr;
  const auto text = path.string();
  for (const auto& entry : table) {
    const bool is_around = entry.at == "/" || text == entry.at || text.starts_with(entry.at + "/");
    if (is_around && (around == nullptr || entry.at.size() >= around->at.size())) around = &entry;
  }
  if (around == nullptr) return {};
  const auto rest = around->at == "/" ? text : text.substr(around->at.size());
  return {around->device, (around->root == "/" ? "" : around->root) + rest};
}

/// Those of `table` that show the volume.
std::vector<std::string> mounts_in(const std::vector<MountEntry>& table, const Place& place, const Volume& volume) {
  std::vector<std::string> out;
  const auto data = place.data(volume);
  std::set<std::string> devices;
  if (is_disk(volume.form))
    for (const auto& file : {data, place.export_file(volume.name)})
      for (const auto& loop : loops_of(file)) devices.insert(number_of(loop));
  const auto [file_system, inside] = place_in_file_system(mount_table(), data);
  const auto upper = "upperdir=" + (data / "upper").string();
  for (const auto& entry : table) {
    bool is_of_it = false;
    if (is_disk(volume.form)) {
      is_of_it = devices.contains(entry.device);
    } else if (volume.form == Form::overlay) {
      const auto& words = entry.file_system_options;
      const auto at = words.find(upper);
      const auto end = at + upper.size();
      const bool is_its_lower = words.find((data / "upper").string() + ":") != std::string::npos;  // where it is ro
      is_of_it = entry.type == "overlay" &&
                 ((at != std::string::npos && (end == words.size() || words[end] == ',')) || is_its_lower);
    } else {
      is_of_it = entry.device == file_system && entry.root == inside && entry.at != data.string();
    }
    if (is_of_it) out.push_back(entry.at);
  }
  return out;
}

/// Of a file: whoever has it open in any way, whatever user or namespace that is; nothing where this user may not ask.
std::optional<bool> is_open(const fs::path& file) {
  const Fd fd(::open(file.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return std::nullopt;
  // Granted only while nobody else has it open (fcntl(2)).
  if (::fcntl(fd.get(), F_SETLEASE, F_WRLCK) == 0) {
    ::fcntl(fd.get(), F_SETLEASE, F_UNLCK);
    return false;
  }
  if (errno == EAGAIN || errno == EBUSY) return true;
  return std::nullopt;
}

struct Opener {
  std::string process;
  std::string command;
};
std::optional<Opener> opener_of(const fs::path& data) {
  struct stat wanted {};
  if (::stat(data.c_str(), &wanted) != 0) return std::nullopt;
  const bool is_tree = S_ISDIR(wanted.st_mode);
  const auto text = data.string();
  const auto is_it = [&](const fs::path& link) {
    struct stat s {};
    if (is_tree) {
      const auto to = link_text(link);
      if (to == text || to.starts_with(text + "/")) return true;
    }
    return ::stat(link.c_str(), &s) == 0 && is_same_file(s, wanted);
  };
  for (const auto& process : processes()) {
    if (process == std::to_string(::getpid())) continue;
    const auto directory = fs::path("/proc") / process;
    std::error_code ec;
    bool has_it = is_tree && (is_it(directory / "cwd") || is_it(directory / "root"));
    for (const auto& entry : fs::directory_iterator(directory / "fd", ec)) has_it = has_it || is_it(entry.path());
    if (!has_it) continue;
    Opener out{process, {}};
    std::ifstream in(directory / "comm");
    std::getline(in, out.command);
    return out;
  }
  return std::nullopt;
}

}  // namespace

std::vector<std::string> loops_of(const fs::path& file) {
  std::vector<std::string> out;
  struct stat wanted {};
  const bool is_there = ::stat(file.c_str(), &wanted) == 0;
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator("/sys/block", ec)) {
    const auto name = entry.path().filename().string();
    if (!name.starts_with("loop")) continue;
    std::ifstream in(entry.path() / "loop/backing_file");
    std::string backing;
    if (!std::getline(in, backing)) continue;
    bool is_it = backing == file.string();
    // By another path to it, or in another namespace.
    if (!is_it && is_there) {
      const Fd device(::open(("/dev/" + name).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
      struct loop_info64 info {};
      is_it = device && ::ioctl(device.get(), LOOP_GET_STATUS64, &info) == 0 && info.lo_inode == wanted.st_ino &&
              info.lo_device == wanted.st_dev;
    }
    if (is_it) out.push_back("/dev/" + name);
  }
  return out;
}

std::optional<std::string> mount_from(const std::string& device) {
  const auto number = number_of(device);
  for (const auto& table : all_tables())
    for (const auto& entry : table)
      if ((!number.empty() && entry.device == number) || entry.source == device) return entry.at;
  return std::nullopt;
}

std::vector<std::string> binds_of(const fs::path& directory) {
  const auto table = mount_table();
  const auto [file_system, inside] = place_in_file_system(table, directory);
  std::vector<std::string> out;
  for (const auto& entry : table)
    if (entry.device == file_system && entry.root == inside && entry.at != directory.string()) out.push_back(entry.at);
  return out;
}

std::string open_in(const fs::path& data) {
  const auto opener = opener_of(data);
  return opener ? "is open in " + printable(opener->command) + " (process " + opener->process + ")" : std::string();
}

std::vector<std::string> mounts_of(const Place& place, const Volume& volume) {
  return mounts_in(mount_table(), place, volume);
}

std::optional<Attachment> attachment_of(const Place& place, const Volume& volume) {
  auto out = place.find_attachment(volume.name);
  if (!out) return std::nullopt;
  if (out->how == "loop") {
    const auto loops = loops_of(place.data(volume));
    if (std::ranges::find(loops, out->path) == loops.end()) return std::nullopt;
  } else if (out->how == "export") {
    const auto table = mount_table();
    if (std::ranges::find(table, out->path, &MountEntry::at) == table.end()) return std::nullopt;
  }
  return out;
}

std::string why_in_use(const Place& place, const Volume& volume) {
  for (const auto& table : all_tables())
    if (const auto mounts = mounts_in(table, place, volume); !mounts.empty())
      return "is mounted on " + printable(mounts.back());
  const auto data = place.data(volume);
  if (const auto attached = attachment_of(place, volume)) return "is attached as " + printable(attached->path);
  if (is_disk(volume.form)) {
    if (const auto loops = loops_of(data); !loops.empty()) return "is attached as " + loops.front();
  } else {
    for (const auto& entry : mount_table())
      if (entry.at.starts_with(data.string() + "/")) return "has something mounted in it, on " + printable(entry.at);
  }
  const auto open = is_disk(volume.form) ? is_open(data) : std::nullopt;
  if (open && !*open) return {};
  if (auto opener = open_in(data); !opener.empty()) return opener;
  return open ? "is open in some process" : std::string();
}

std::int64_t own_bytes(const fs::path& data) {
  struct stat s {};
  if (::lstat(data.c_str(), &s) != 0) return 0;
  if (S_ISDIR(s.st_mode)) {
    std::int64_t out = 0;
    std::error_code ec;
    for (auto it = fs::recursive_directory_iterator(data, fs::directory_options::skip_permission_denied, ec);
         it != fs::recursive_directory_iterator(); it.increment(ec)) {
      if (ec) break;
      struct stat one {};
      if (::lstat(it->path().c_str(), &one) == 0 && S_ISREG(one.st_mode)) out += own_bytes(it->path());
    }
    return out;
  }
  const Fd fd(::open(data.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  constexpr std::size_t most = 512;
  std::vector<char> buffer(sizeof(fiemap) + most * sizeof(fiemap_extent));
  auto* map = reinterpret_cast<fiemap*>(buffer.data());
  std::int64_t out = 0;
  for (std::uint64_t at = 0;;) {
    std::memset(buffer.data(), 0, buffer.size());
    map->fm_start = at;
    map->fm_length = FIEMAP_MAX_OFFSET - at;
    map->fm_flags = FIEMAP_FLAG_SYNC;
    map->fm_extent_count = most;
    if (!fd || ::ioctl(fd.get(), FS_IOC_FIEMAP, map) != 0) return s.st_blocks * 512;
    if (map->fm_mapped_extents == 0) return out;
    for (std::uint32_t i = 0; i < map->fm_mapped_extents; ++i) {
      const auto& extent = map->fm_extents[i];
      if ((extent.fe_flags & (FIEMAP_EXTENT_SHARED | FIEMAP_EXTENT_DATA_INLINE)) == 0)
        out += static_cast<std::int64_t>(extent.fe_length);
      at = extent.fe_logical + extent.fe_length;
      if ((extent.fe_flags & FIEMAP_EXTENT_LAST) != 0) return out;
    }
  }
}

}  // namespace mesh
