#include "mount/volume_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>

#include "core/format.h"
#include "core/mesh_path.h"
#include "disk/mount_table.h"
#include "disk/tool.h"
#include "mount/tree.h"

namespace mesh {
namespace {

constexpr std::size_t most_notes = 100;

Error with_errno(int error, const std::string& text, Status status = Status::failed) {
  return {status, text, std::error_code(error, std::generic_category())};
}

int errno_of(const Error& error) {
  if (error.code()) return error.code().value();
  switch (error.status()) {
    case Status::not_found:
      return ENOENT;
    case Status::usage:
      return EINVAL;
    case Status::refused:
      return EBUSY;
    default:
      return EIO;
  }
}

/// Blanks separate; a backslash takes the meaning from what follows it.
std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> out;
  bool is_in = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == ' ' || c == '\t' || c == '\n') {
      is_in = false;
      continue;
    }
    if (!std::exchange(is_in, true)) out.emplace_back();
    out.back() += c == '\\' && i + 1 < text.size() ? text[++i] : c;
  }
  return out;
}

bool is_mounted(const std::string& directory) {
  const auto table = mount_table();
  return std::ranges::any_of(table, [&](const auto& one) { return one.at == directory; });
}

/// Where the file is that is open.
std::string fs_path_of(int fd) {
  std::error_code ec;
  const auto out = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), ec);
  return ec ? std::string() : out.string();
}

std::string last_line(std::string_view text) {
  while (text.ends_with("\n")) text.remove_suffix(1);
  text = text.substr(text.rfind('\n') + 1);
  if (text.starts_with("meshvol: ")) text.remove_prefix(9);
  return std::string(text);
}

}  // namespace

VolumeFiles::~VolumeFiles() { static_cast<void>(stop()); }

std::vector<std::string> VolumeFiles::stop() {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(is_stopped_, true)) return {};
  }
  orders_.stop();
  orders_.join();
  // What has been asked for is done.
  bytes_.join();
  std::map<std::string, FilePtr, std::less<>> files;
  {
    const std::lock_guard lock(mutex_);
    files.swap(files_);
  }
  std::vector<std::string> out;
  for (auto& [name, file] : files) {
    std::shared_ptr<const Fd> fd;
    {
      const std::lock_guard lock(mutex_);
      fd = std::exchange(file->fd, nullptr);
      if (file->opens > 0) out.push_back("volume/" + printable(name) + ": was open still");
    }
    if (fd && ::fsync(fd->get()) != 0)
      out.push_back("volume/" + printable(name) + ": " + std::generic_category().message(errno));
    fd.reset();
    auto words = options_.words;
    words.insert(words.end(), {"detach", "--", name});
    try {
      const auto ran = run_tool(std::move(words));
      if (ran.status != 0) out.push_back("volume/" + last_line(ran.err));
    } catch (const std::exception& error) {
      out.push_back("volume/" + printable(name) + ": " + error.what());
    }
  }
  return out;
}

VolumeFiles::FilePtr VolumeFiles::find(std::string_view name) const {
  const std::lock_guard lock(mutex_);
  const auto it = files_.find(name);
  return it == files_.end() ? nullptr : it->second;
}

VolumeFiles::FilePtr VolumeFiles::find(fuse_ino_t number) const {
  const std::lock_guard lock(mutex_);
  const auto it = std::ranges::find_if(files_, [&](const auto& pair) { return pair.second->number == number; });
  return it == files_.end() ? nullptr : it->second;
}

std::vector<VolumeFiles::FilePtr> VolumeFiles::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<FilePtr> out;
  for (const auto& [name, file] : files_) out.push_back(file);
  return out;
}

/// Of what is known here: what shows the disk may wait for a read in this mount.
struct stat VolumeFiles::stat_of(const File& file) {
  struct stat out {};
  out.st_blocks = file.size / 512;
  out.st_mtim.tv_sec = file.changed;
  out.st_atim = out.st_ctim = out.st_mtim;
  out.st_ino = file.number;
  out.st_mode = S_IFREG | 0600;
  out.st_nlink = 1;
  out.st_uid = file.user;
  out.st_gid = file.group;
  out.st_size = file.size;
  out.st_blksize = 64 * 1024;
  return out;
}

bool VolumeFiles::open(const FilePtr& file) {
  const std::lock_guard lock(mutex_);
  const auto it = files_.find(file->name);
  if (it == files_.end() || it->second != file || under_way_.contains(file->name)) return false;
  ++file->opens;
  return true;
}

void VolumeFiles::close(const FilePtr& file) {
  const std::lock_guard lock(mutex_);
  --file->opens;
  quieter_.notify_all();
}

bool VolumeFiles::with_bytes(const FilePtr& file, Work work) {
  constexpr std::size_t most_running = 8;
  const std::lock_guard lock(mutex_);
  if (is_stopped_ || !file->fd) return false;
  ++file->under_way;
  if (file->running >= most_running) {
    file->waiting.push_back(std::move(work));
    return true;
  }
  ++file->running;
  asio::post(bytes_, [this, file, work = std::move(work), fd = file->fd] { work_on(file, work, fd); });
  return true;
}

void VolumeFiles::work_on(const FilePtr& file, const Work& work, const std::shared_ptr<const Fd>& fd) {
  try {
    work(fd->get());
  } catch (const std::exception&) {
    // It has answered, or its asker's clock does.
  }
  const std::lock_guard lock(mutex_);
  --file->under_way;
  quieter_.notify_all();
  if (file->waiting.empty()) {
    --file->running;
    return;
  }
  auto next = std::move(file->waiting.front());
  file->waiting.pop_front();
  asio::post(bytes_, [this, file, next = std::move(next), fd] { work_on(file, next, fd); });
}

bool VolumeFiles::open_device(File& file, const std::string& device) {
  auto fd = std::make_shared<const Fd>(::open(device.c_str(), O_RDWR | O_CLOEXEC));
  const auto size = *fd ? ::lseek(fd->get(), 0, SEEK_END) : -1;
  if (size < 0) return false;
  file.fd = std::move(fd);
  file.size = size;
  return true;
}

std::string VolumeFiles::run(std::vector<std::string> words) const {
  words.insert(words.begin(), options_.words.begin(), options_.words.end());
  auto ran = run_tool(std::move(words));
  if (ran.status == 0) return std::move(ran.out);
  throw Error(ran.status == 127 ? Status::failed : known_status(ran.status), last_line(ran.err));
}

void VolumeFiles::show(const std::string& path, const std::string& name, uid_t user, gid_t group) {
  std::optional<nlohmann::json> known;
  try {
    known = nlohmann::json::parse(run({"info", "--json", "--", name}));
  } catch (const Error& error) {
    if (error.status() != Status::not_found) throw;
  }
  if (known && known->value("from", "") != "mesh:" + path)
    throw with_errno(EEXIST, printable(name) + ": is a volume already, and not of " + printable(path), Status::refused);
  if (!known) {
    try {
      static_cast<void>(run({"clone", "--lazy", "--mesh", options_.mount, "--", "path:" + path, name}));
    } catch (const Error& error) {
      if (error.status() != Status::refused) throw;
      throw with_errno(EEXIST, error.what(), Status::refused);  // somebody has just made it
    }
  }
  if (const auto at = known ? known->value("attached", "") : std::string(); !at.empty()) {
    // What a mount that ended without a word has left attached; what is somebody's stays so.
    const auto by = known->value("attached_by", "");
    const bool is_left = by == options_.mount || (!by.empty() && !is_mounted(by));
    if (!is_left)
      throw with_errno(EBUSY,
                       printable(name) + ": is attached as " + printable(at) +
                           (by.empty() ? " (meshvol detach)" : ", by the mount on " + printable(by)),
                       Status::refused);
    static_cast<void>(run({"detach", "--", name}));
  }
  auto device = run({"attach", "--by", options_.mount, "--", name});
  while (device.ends_with("\n")) device.pop_back();
  auto file = std::make_shared<File>();
  file->name = name;
  file->user = user;
  file->group = group;
  file->changed = ::time(nullptr);
  if (!open_device(*file, device)) {
    const auto error = errno;
    static_cast<void>(run({"detach", "--", name}));
    throw with_errno(EIO, printable(device) + ": " + std::generic_category().message(error));
  }
  const std::lock_guard lock(mutex_);
  file->number = last_number_++;
  files_[name] = file;
}

/// Nobody opens it meanwhile: it is under way (`order`).
void VolumeFiles::hide(const std::string& name) {
  FilePtr file;
  std::shared_ptr<const Fd> fd;
  {
    std::unique_lock lock(mutex_);
    const auto it = files_.find(name);
    if (it == files_.end()) throw with_errno(ENOENT, printable(name) + ": is not mounted here", Status::not_found);
    file = it->second;
    // The kernel says a moment after close(2) that it was closed.
    constexpr auto moment = std::chrono::seconds(1);
    if (!quieter_.wait_for(lock, moment, [&] { return file->opens == 0 && file->under_way == 0; }))
      throw with_errno(EBUSY, printable(name) + ": is open", Status::refused);
    fd = file->fd;
  }
  bool is_dead = false;
  if (fd && ::fsync(fd->get()) != 0) {
    const auto error = errno;
    // Of what shows it no more there is nothing to be hoped.
    is_dead = error == ENOTCONN;
    if (!is_dead) throw with_errno(error, printable(name) + ": " + std::generic_category().message(error));
    note(printable(name) + ": what showed it as a disk is gone; what was not synced may be lost");
  }
  const auto path = fd ? fs_path_of(fd->get()) : std::string();
  fd.reset();
  {
    const std::lock_guard lock(mutex_);
    file->fd.reset();
  }
  try {
    static_cast<void>(run({"detach", "--", name}));
  } catch (const Error& error) {
    // It stays, so that it can be tried again; unless nothing shows it, and no more is to be said.
    const std::lock_guard lock(mutex_);
    if (!is_dead || error.status() != Status::refused) {
      if (!path.empty()) static_cast<void>(open_device(*file, path));
      throw;
    }
  }
  const std::lock_guard lock(mutex_);
  files_.erase(name);
}

void VolumeFiles::note(const std::string& line) {
  const std::lock_guard lock(mutex_);
  notes_.push_back(human_time(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                  std::chrono::system_clock::now().time_since_epoch())
                                  .count()) +
                   "  " + line);
  if (notes_.size() > most_notes) notes_.pop_front();
}

/// One at a time of each name.
void VolumeFiles::order(const std::string& text, Done done, std::function<void(const std::vector<std::string>&)> work) {
  asio::post(orders_, [this, text, done = std::move(done), work = std::move(work)] {
    int error = 0;
    try {
      const auto words = words_of(text);
      if (words.empty() || words.size() > 2)
        throw with_errno(EINVAL, "'" + printable(text) + "': one or two words, with backslashes before blanks in them");
      work(words);
      note(printable(last_line(text)) + ": done");
    } catch (const Error& failed) {
      error = errno_of(failed);
      note(printable(last_line(text)) + ": " + failed.what());
    } catch (const std::exception& failed) {
      error = EIO;
      note(printable(last_line(text)) + ": " + failed.what());
    }
    done(error);
  });
}

void VolumeFiles::mount(std::string text, uid_t user, gid_t group, Done done) {
  order(text, std::move(done), [this, user, group](const std::vector<std::string>& words) {
    auto path = words.front();
    const auto here = options_.mount + "/files/";
    if (path.starts_with(here)) path = path.substr(here.size());
    while (path.starts_with("/")) path.erase(0, 1);
    if (path.starts_with("file:")) path.erase(0, 5);
    const auto name = words.size() > 1 ? words[1] : std::string(last_part(path));
    if (!is_mesh_path(path)) throw with_errno(EINVAL, printable(path) + ": " + std::string(path_fault(path)));
    if (!is_mesh_path(name) || name.find('/') != std::string::npos || name.size() > tree::longest_name)
      throw with_errno(EINVAL, printable(name) + ": is no name for it, which has no slashes");
    {
      const std::lock_guard lock(mutex_);
      if (files_.contains(name) || !under_way_.insert(name).second)
        throw with_errno(EEXIST, printable(name) + ": is mounted here already", Status::refused);
    }
    const std::shared_ptr<void> ends(nullptr, [&](void*) {
      const std::lock_guard lock(mutex_);
      under_way_.erase(name);
    });
    show(path, name, user, group);
  });
}

void VolumeFiles::unmount(std::string text, Done done) {
  order(text, std::move(done), [this](const std::vector<std::string>& words) {
    auto name = words.front();
    const auto here = options_.mount + "/volume/";
    if (name.starts_with(here)) name = name.substr(here.size());
    if (words.size() != 1) throw with_errno(EINVAL, "one name is to be written here");
    {
      const std::lock_guard lock(mutex_);
      if (!under_way_.insert(name).second)
        throw with_errno(EBUSY, printable(name) + ": is just being mounted or unmounted", Status::refused);
    }
    const std::shared_ptr<void> ends(nullptr, [&](void*) {
      const std::lock_guard lock(mutex_);
      under_way_.erase(name);
    });
    hide(name);
  });
}

void VolumeFiles::list(std::function<void(std::string text)> done) {
  asio::post(orders_, [this, done = std::move(done)] {
    std::string out;
    try {
      out = run({"list", "-r"});
    } catch (const std::exception& error) {
      out = std::string(error.what()) + "\n";
    }
    done(std::move(out));
  });
}

std::string VolumeFiles::status() const {
  const std::lock_guard lock(mutex_);
  std::string out;
  for (const auto& [name, file] : files_)
    out += printable(name) + ": mounted, " + std::to_string(file->size) + " bytes, " +
           (file->opens == 0 ? std::string("not open") : "open " + std::to_string(file->opens) + " times") + "\n";
  for (const auto& line : notes_) out += line + "\n";
  return out;
}

}  // namespace mesh
