#include "volume/place.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>

#include "core/error.h"
#include "core/format.h"
#include "core/mesh_path.h"
#include "core/qcow2.h"
#include "disk/directory.h"
#include "disk/tool.h"
#include "disk/trusted_dir.h"

namespace mesh {
namespace {

namespace fs = std::filesystem;

constexpr const char* own_name = ".meshvol";
constexpr const char* own_directories[] = {"volumes", "bases", "making", "attached", "exports", "overlays"};

Error failed(const fs::path& path) {
  return {Status::failed, printable(path.string()) + ": " + std::generic_category().message(errno)};
}

bool is_there(const fs::path& path) {
  struct stat s {};
  return ::lstat(path.c_str(), &s) == 0;
}

void move(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) throw failed(to);
  sync_directory(to.parent_path());
  if (from.parent_path() != to.parent_path()) sync_directory(from.parent_path());
}

/// What cannot be listed is not taken for empty: what nobody needs is removed.
std::vector<std::string> listed(const fs::path& directory) {
  const Fd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd && errno == ENOENT) return {};
  if (!fd) throw failed(directory);
  std::vector<std::string> out;
  std::error_code ec;
  for (auto it = fs::directory_iterator(directory, ec); !ec && it != fs::directory_iterator(); it.increment(ec))
    out.push_back(it->path().filename().string());
  if (ec) throw Error(Status::failed, printable(directory.string()) + ": " + ec.message());
  return out;
}

template <class T, class Read>
std::vector<T> read_all(const fs::path& directory, std::vector<std::string>* faults, const Read& read) {
  std::vector<T> out;
  for (const auto& name : listed(directory)) {
    if (!name.ends_with(".json")) continue;
    try {
      if (auto one = read(directory / name)) out.push_back(std::move(*one));
    } catch (const Error& error) {
      if (faults == nullptr) throw;
      faults->push_back(error.what());
    }
  }
  return out;
}

}  // namespace

bool is_subvolume(const fs::path& path) {
  constexpr ino_t root_of_subvolume = 256;
  struct stat s {};
  struct statfs file_system {};
  return ::lstat(path.c_str(), &s) == 0 && S_ISDIR(s.st_mode) && s.st_ino == root_of_subvolume &&
         ::statfs(path.c_str(), &file_system) == 0 &&
         static_cast<unsigned long>(file_system.f_type) == BTRFS_SUPER_MAGIC;
}

namespace {

/// With those in it, which a container's system makes (systemd-tmpfiles does): the innermost first.
void remove_subvolume(const fs::path& top) {
  std::vector<fs::path> all{top};
  std::error_code ec;
  for (auto it = fs::recursive_directory_iterator(top, ec); !ec && it != fs::recursive_directory_iterator();
       it.increment(ec))
    if (is_subvolume(it->path())) all.push_back(it->path());
  for (auto it = all.rbegin(); it != all.rend(); ++it) {
    static_cast<void>(run_tool({"btrfs", "property", "set", "-f", "-ts", it->string(), "ro", "false"}));
    must_run({"btrfs", "subvolume", "delete", it->string()}, printable(it->string()));
  }
}

}  // namespace

void remove_data(const fs::path& data) {
  struct stat s {};
  if (::lstat(data.c_str(), &s) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return;
    throw failed(data);
  }
  if (!S_ISDIR(s.st_mode)) return remove_file(data);
  if (is_subvolume(data)) return remove_subvolume(data);
  std::error_code ec;
  fs::remove_all(data, ec);
  if (ec) throw Error(Status::failed, printable(data.string()) + ": cannot be removed: " + ec.message());
}

void rebase(const fs::path& image, const std::string& backing, Form form) {
  must_run({"qemu-img", "rebase", "-q", "-f", "qcow2", "-u", "-b", backing, "-F", name_of(form), image.string()},
           printable(image.string()));
}

std::string lies_on(const fs::path& file) {
  const Fd fd(::open(file.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) throw failed(file);
  std::string head(qcow2_head_bytes, '\0');
  if (::pread(fd.get(), head.data(), head.size(), 0) != std::ssize(head)) return {};
  const auto where = find_backing_name(head);
  if (!where) return {};
  std::string name(where->size, '\0');
  if (::pread(fd.get(), name.data(), name.size(), static_cast<off_t>(where->offset)) != std::ssize(name)) return {};
  return fs::path(name).filename().string();
}

Place::Place(PlaceOptions options, bool to_change) : options_(std::move(options)) {
  // As mount tables and /proc have it: what is mounted or open there is looked for by name.
  const auto find = [this] {
    std::error_code ec;
    if (auto real = fs::canonical(options_.location, ec); !ec) options_.location = std::move(real);
    own_ = options_.location / own_name;
  };
  find();
  if (!to_change) return;
  // By it root is going to run programs, and VMs get their disks: nobody else may change what lies here.
  static_cast<void>(open_trusted(options_.location, {}, 0755, "choose another location"));
  find();
  static_cast<void>(open_trusted(own_, {}, 0755, "choose another location"));
  for (const auto* name : own_directories) {
    // In trees there may be what makes others root.
    const std::string_view word(name);
    const mode_t mode = word == "bases" || word == "making" || word == "overlays" ? 0700 : 0755;
    const auto path = own_ / name;
    if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) throw failed(path);
    if (struct stat s{};
        ::lstat(path.c_str(), &s) != 0 || ((s.st_mode & 07777) != mode && ::chmod(path.c_str(), mode) != 0))
      throw failed(path);
  }
}

fs::path Place::metadata() const {
  return options_.metadata.empty() ? options_.location : options_.location / options_.metadata;
}

bool Place::has_reflinks() const {
  const auto nameless = [this] { return Fd(::open(own_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)); };
  const auto from = nameless();
  const auto to = nameless();
  const std::string block(4096, 'x');
  return from && to && ::write(from.get(), block.data(), block.size()) == std::ssize(block) &&
         ::ioctl(to.get(), FICLONE, from.get()) == 0;
}

bool Place::is_btrfs() const {
  struct statfs file_system {};
  return ::statfs(options_.location.c_str(), &file_system) == 0 &&
         static_cast<unsigned long>(file_system.f_type) == BTRFS_SUPER_MAGIC;
}

std::vector<Volume> Place::volumes(std::vector<std::string>* faults) const {
  auto out = read_all<Volume>(own_ / "volumes", faults, read_volume);
  std::ranges::sort(out, {}, &Volume::name);
  return out;
}

std::vector<Base> Place::bases(std::vector<std::string>* faults) const {
  return read_all<Base>(own_ / "bases", faults, read_base);
}

fs::path Place::record(const std::string& name) const { return own_ / "volumes" / (record_name(name) + ".json"); }
fs::path Place::attachment(const std::string& name) const { return own_ / "attached" / (record_name(name) + ".json"); }
fs::path Place::overlay(const std::string& name) const { return own_ / "overlays" / record_name(name); }
fs::path Place::export_file(const std::string& name) const { return own_ / "exports" / record_name(name); }
fs::path Place::data(const Volume& volume) const {
  return volume.form == Form::overlay ? overlay(volume.name) : options_.location / volume.name;
}

std::optional<Volume> Place::find(const std::string& name) const {
  auto out = read_volume(record(name));
  return out && !out->is_dropped ? out : std::nullopt;
}

Volume Place::get(const std::string& name) const {
  if (auto out = find(name)) return *out;
  throw Error(Status::not_found, printable(name) + ": there is no such volume in " + printable(location().string()));
}

std::optional<Base> Place::find_base(const std::string& id) const { return read_base(base_record(id)); }
std::optional<Attachment> Place::find_attachment(const std::string& name) const {
  return read_attachment(attachment(name));
}

Fd Place::lock() {
  const auto path = own_ / "lock";
  Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!fd) throw failed(path);
  while (::flock(fd.get(), LOCK_EX) != 0)
    if (errno != EINTR) throw failed(path);
  recover();
  return fd;
}

std::optional<Place::Making> Place::Making::begin(const Place& place, const std::string& key) {
  const auto stem = place.own_ / "making" / key;
  // The programs that make the data have it open as well: the lock is free when the last of them has ended.
  Fd fd(::open((stem.string() + ".intent").c_str(), O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  if (!fd) throw failed(stem);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return std::nullopt;
  // Whoever had it may have taken it away a moment ago.
  if (!is_still_at(AT_FDCWD, (stem.string() + ".intent").c_str(), fd.get())) return begin(place, key);
  return Making(stem.string() + ".intent", stem.string() + ".data", std::move(fd));
}

Place::Making::~Making() {
  if (!fd_) return;
  try {
    remove_data(data_);
    ::unlink(intent_.c_str());
  } catch (const Error&) {
    // The next command does it.
  }
}

void Place::Making::needs(const std::string& base) {
  const auto line = base + "\n";
  if (::write(fd_.get(), line.data(), line.size()) != std::ssize(line)) throw failed(intent_);
}

void Place::Making::end() {
  ::unlink(intent_.c_str());
  fd_ = Fd();
}

void Place::wait_for_maker(const std::string& key) const {
  const Fd fd(::open((own_ / "making" / (key + ".intent")).c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return;
  while (::flock(fd.get(), LOCK_SH) != 0 && errno == EINTR) continue;
}

void Place::check_free(const std::string& name) const {
  if (const auto fault = path_fault(name); !fault.empty())
    throw Error(Status::usage, "'" + printable(name) + "' is no name for a volume: " + std::string(fault));
  if (name == "-") throw Error(Status::usage, "'-' is the place itself, and no name for a volume");
  if (name == own_name || is_below(name, own_name))
    throw Error(Status::usage, printable(name) + ": " + own_name + " is meshvol's own");
  if (const auto other = read_volume(record(name)))
    throw Error(Status::refused,
                printable(name) + (other->is_dropped ? ": one of that name was dropped, and cannot be removed yet"
                                                     : ": there is a volume of that name"));
  for (std::string above(parent_path(name)); !above.empty(); above = parent_path(above))
    if (read_volume(record(above)))
      throw Error(Status::refused,
                  printable(name) + ": " + printable(above) + " is a volume, and no directory for others");
  const auto there = options_.location / name;
  if (is_there(there))
    throw Error(Status::refused, printable(there.string()) + ": is there already, and is no volume of meshvol's");
  if (!options_.metadata.empty() && (name == options_.metadata || is_below(name, options_.metadata)))
    throw Error(Status::usage, printable(name) + ": " + printable(options_.metadata) + " is the place's metadata");
}

void Place::move_into_place(const fs::path& data, const Volume& volume) const {
  const auto to = this->data(volume);
  for (auto it = fs::path(volume.name).parent_path(); volume.form != Form::overlay && !it.empty(); it = fs::path()) {
    auto directory = options_.location;
    for (const auto& part : it) {
      directory /= part;
      if (::mkdir(directory.c_str(), 0755) == 0)
        sync_directory(directory.parent_path());
      else if (errno != EEXIST)
        throw failed(directory);
    }
  }
  if (move_to_free_name(AT_FDCWD, data.string(), AT_FDCWD, to.string()) != 0) throw failed(to);
  sync_directory(to.parent_path());
}

void Place::put(const Volume& volume, Making& making) {
  write_record(record(volume.name), volume);
  try {
    move_into_place(making.data(), volume);
  } catch (const Error&) {
    remove_file(record(volume.name));
    throw;
  }
  making.end();
}

void Place::put(const Base& base, Making& making) {
  move(making.data(), this->base(base.id));
  write_record(base_record(base.id), base);
  making.end();
}

void Place::put_under(Volume& volume, const std::string& base) {
  volume.under = base;
  write_record(record(volume.name), volume);
  take_over(volume);
}

/// From wherever it was left.
void Place::take_over(Volume& volume) const {
  const auto id = volume.under;
  const auto at = data(volume);
  const auto top = base(id + ".top");
  if (!is_there(base(id))) move(at, base(id));
  // A base's backing file is beside it.
  const auto below = volume.form == Form::qcow2 ? lies_on(base(id)) : std::string();
  if (const auto it = below.empty() ? std::nullopt : find_base(below)) {
    rebase(base(id), "./" + below, it->form);
    sync_file(base(id));
  }
  if (::chmod(base(id).c_str(), 0400) != 0) throw failed(base(id));
  if (is_there(top)) move(top, at);
  if (!find_base(id)) {
    Base under;
    under.id = id;
    under.form = volume.form;
    under.size = volume.size;
    under.made = volume.made;
    under.from = "volume:" + volume.name;
    under.backing = below;
    write_record(base_record(id), under);
  }
  volume.form = Form::qcow2;
  volume.base = id;
  volume.under.clear();
  struct stat s {};
  if (::stat(at.c_str(), &s) == 0) volume.fresh = stamp_of(s);
  write_record(record(volume.name), volume);
}

void Place::remove(Volume volume) {
  volume.is_dropped = true;
  write_record(record(volume.name), volume);
  finish_removal(volume);
  free_bases();
}

void Place::finish_removal(const Volume& volume) const {
  remove_file(attachment(volume.name));
  remove_file(export_file(volume.name));
  remove_data(data(volume));
  // Directories that were made for it.
  if (volume.form != Form::overlay)
    for (auto above = fs::path(volume.name).parent_path(); !above.empty(); above = above.parent_path())
      if (::rmdir((options_.location / above).c_str()) != 0) break;
  remove_file(record(volume.name));
}

std::set<std::string> Place::needed_bases(const std::vector<Volume>& volumes, const std::vector<Base>& bases) const {
  std::set<std::string> out;
  for (const auto& volume : volumes) {
    out.insert(volume.base);
    out.insert(volume.under);
  }
  for (const auto& base : bases) out.insert(base.backing);
  for (const auto& name : listed(own_ / "making")) {
    if (!name.ends_with(".intent")) continue;
    const auto path = own_ / "making" / name;
    std::ifstream in(path);
    if (!in && is_there(path)) throw failed(path);
    for (std::string base; std::getline(in, base);) out.insert(base);
    if (in.bad()) throw failed(path);
  }
  return out;
}

void Place::free_bases() const { free_bases(volumes(), bases()); }

void Place::free_bases(const std::vector<Volume>& volumes, std::vector<Base> bases) const {
  for (bool again = true; std::exchange(again, false);) {
    const auto needed = needed_bases(volumes, bases);
    for (const auto& base : bases) {
      if (needed.contains(base.id)) continue;
      remove_file(base_record(base.id));
      remove_data(this->base(base.id));
      again = true;
    }
    std::erase_if(bases, [&](const Base& base) { return !needed.contains(base.id); });
  }
}

/// True where something was left to be done.
bool Place::recover(Volume volume) const {
  const auto made = own_ / "making" / (record_name(volume.name) + ".data");
  if (volume.is_dropped) {
    try {
      finish_removal(volume);
    } catch (const Error&) {
      // What cannot be removed holds up nobody; it is tried again by the next one.
    }
  } else if (!volume.under.empty() && !is_there(base(volume.under))) {
    // Nothing has been moved yet, and somebody may have it open by now: it stays what it was.
    volume.under.clear();
    write_record(record(volume.name), volume);
  } else if (!volume.under.empty()) {
    take_over(volume);
    // Somebody may have written to it since.
    volume.fresh = {};
    write_record(record(volume.name), volume);
  } else if (is_there(made) && !is_there(data(volume)))
    move_into_place(made, volume);
  else
    return false;
  return true;
}

void Place::recover() const {
  // A record that cannot be read may need any of what is here.
  std::vector<std::string> faults;
  auto all = volumes(&faults);
  static_cast<void>(bases(&faults));
  if (!faults.empty()) throw Error(Status::failed, faults.front());
  bool is_changed = false;
  for (const auto& volume : all) is_changed = recover(volume) || is_changed;
  for (const auto& name : listed(own_ / "making"))
    // Nobody makes it any more: with this it goes.
    if (name.ends_with(".intent")) static_cast<void>(Making::begin(*this, name.substr(0, name.rfind('.'))));
  for (const auto& name : listed(own_ / "bases")) {
    const auto id = name.substr(0, name.find('.'));
    const bool is_whole = name.find('.') == std::string::npos ? find_base(id).has_value() : name == id + ".json";
    if (!is_whole) remove_data(own_ / "bases" / name);
  }
  free_bases(is_changed ? volumes() : std::move(all), bases());
}

}  // namespace mesh
