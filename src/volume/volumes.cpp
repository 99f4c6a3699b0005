#include "volume/volumes.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "core/error.h"
#include "core/format.h"
#include "core/merkle.h"
#include "core/mesh_path.h"
#include "disk/copy_bytes.h"
#include "disk/tool.h"
#include "volume/use.h"

namespace mesh {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t most_backing_files = 64;  ///< below each other
constexpr std::int64_t sector = 512;

std::int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

Error failed(const fs::path& path) {
  return {Status::failed, printable(path.string()) + ": " + std::generic_category().message(errno)};
}

FileStamp stamp_at(const fs::path& path) {
  struct stat s {};
  if (::lstat(path.c_str(), &s) != 0) throw failed(path);
  return stamp_of(s);
}

Fd open_to_read(const fs::path& path) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) throw failed(path);
  return fd;
}

std::string random_id() {
  std::string bytes(16, '\0');
  if (::getrandom(bytes.data(), bytes.size(), 0) != std::ssize(bytes)) throw Error(Status::failed, "no random bytes");
  return "l" + to_hex(bytes);
}

void check_size(const std::string& name, std::int64_t size) {
  if (size < sector) throw Error(Status::usage, printable(name) + ": a volume has at least 512 bytes");
}

}  // namespace

void Volumes::check_unused(const Volume& volume) const {
  if (const auto why = why_in_use(place_, volume); !why.empty())
    throw Error(Status::refused, printable(volume.name) + ": " + why);
}

Volumes::Way Volumes::way_to_clone_disk() const {
  const auto fail = [](const std::string& why) { return Error(Status::usage, why); };
  const auto where = printable(place_.location().string());
  switch (place_.options().type) {
    case PlaceType::automatic:
      if (place_.has_reflinks()) return Way::reflink;
      return has_tool("qemu-img") ? Way::overlay : Way::copy;
    case PlaceType::reflink:
      if (place_.has_reflinks()) return Way::reflink;
      throw fail(where + ": this file system has no reflinks (xfs and btrfs have them); type qcow2 makes clones here");
    case PlaceType::qcow2:
      if (has_tool("qemu-img")) return Way::overlay;
      throw fail("type qcow2 needs qemu-img (package qemu-utils); type plain copies without it");
    case PlaceType::plain:
      return Way::copy;
    case PlaceType::loop:
      throw fail("type loop makes no clones; auto, reflink and qcow2 do, and plain copies");
    case PlaceType::btrfs:
      throw fail("type btrfs clones volumes of kind fs, and archives (tar:); for disks auto and reflink do it");
  }
  return Way::copy;
}

void Volumes::check_clone_of_archive() const {
  const auto type = place_.options().type;
  if (type == PlaceType::loop)
    throw Error(Status::usage, "type loop has no trees of files; auto, btrfs and plain have");
  if (type == PlaceType::btrfs && !place_.is_btrfs())
    throw Error(Status::usage, printable(place_.location().string()) + ": is not on btrfs; type auto has trees here");
}

std::pair<Place::Making, Fd> Volumes::begin(const std::string& name) {
  auto lock = place_.lock();
  place_.check_free(name);
  auto making = Place::Making::begin(place_, record_name(name));
  if (!making) throw Error(Status::refused, printable(name) + ": is just being made by another command");
  return {std::move(*making), std::move(lock)};
}

Volume Volumes::finish(Volume volume, Place::Making making) {
  if (is_disk(volume.form)) {
    if (::chmod(making.data().c_str(), 0600) != 0) throw failed(making.data());
    sync_file(making.data());
    volume.fresh = stamp_at(making.data());
  } else {
    sync_tree(making.data());
  }
  volume.made = now();
  volume.user = ::geteuid();
  const auto lock = place_.lock();
  place_.check_free(volume.name);
  place_.put(volume, making);
  return volume;
}

Volume Volumes::make_disk(const std::string& name, std::int64_t size) {
  check_size(name, size);
  const auto type = place_.options().type;
  if (type == PlaceType::btrfs)
    throw Error(Status::usage, "type btrfs makes volumes of kind fs alone; auto, reflink, qcow2 and loop make disks");
  if (type == PlaceType::reflink) static_cast<void>(way_to_clone_disk());
  auto [making, lock] = begin(name);
  lock = Fd();
  Volume volume;
  volume.name = name;
  volume.size = (size + sector - 1) / sector * sector;
  if (type == PlaceType::qcow2) {
    static_cast<void>(way_to_clone_disk());
    volume.form = Form::qcow2;
    must_run({"qemu-img", "create", "-q", "-f", "qcow2", making.data().string(), std::to_string(volume.size)},
             printable(name));
  } else {
    const Fd fd(::open(making.data().c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!fd || ::ftruncate(fd.get(), volume.size) != 0) throw failed(making.data());
  }
  return finish(std::move(volume), std::move(making));
}

Volume Volumes::make_fs(const std::string& name, std::int64_t size) {
  check_size(name, size);
  const auto& options = place_.options();
  const bool on_btrfs = options.type == PlaceType::btrfs || (options.type == PlaceType::automatic && place_.is_btrfs());
  if (options.type == PlaceType::btrfs) check_clone_of_archive();
  if (options.type == PlaceType::reflink) static_cast<void>(way_to_clone_disk());
  const bool is_tree = on_btrfs || options.type == PlaceType::plain;
  if (!is_tree && !has_tool("mkfs." + options.default_fs))
    throw Error(Status::usage,
                "default_fs " + options.default_fs + ": there is no mkfs." + options.default_fs + " here");
  auto [making, lock] = begin(name);
  lock = Fd();
  Volume volume;
  volume.name = name;
  volume.has_fs = true;
  if (is_tree) {
    volume.form = on_btrfs ? Form::subvolume : Form::directory;
    if (on_btrfs)
      must_run({"btrfs", "subvolume", "create", making.data().string()}, printable(name));
    else if (::mkdir(making.data().c_str(), 0755) != 0)
      throw failed(making.data());
    say_(printable(name) + ": shares the room of " + printable(options.location.string()) +
         "; its size is not enforced");
  } else {
    volume.size = (size + sector - 1) / sector * sector;
    {
      const Fd fd(::open(making.data().c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
      if (!fd || ::ftruncate(fd.get(), volume.size) != 0) throw failed(making.data());
    }
    std::vector<std::string> words{"mkfs." + options.default_fs};
    const auto& kind = options.default_fs;
    if (kind.starts_with("ext"))
      words.insert(words.end(), {"-q", "-F"});
    else if (kind == "xfs" || kind == "btrfs")
      words.insert(words.end(), {"-q", "-f"});
    words.push_back(making.data().string());
    must_run(words, printable(name) + ": no " + kind);
  }
  return finish(std::move(volume), std::move(making));
}

/// A backing file's name in an image that is volume `name`, or, where that is empty, a base.
std::string Volumes::relative(const fs::path& backing, const std::string& name) const {
  const auto from = name.empty() ? backing.parent_path() : (place_.location() / name).parent_path();
  // QEMU takes what stands before a colon for a protocol, unless a slash comes before that.
  const auto out = backing.lexically_relative(from).string();
  return out.starts_with("../") ? out : "./" + out;
}

void Volumes::copy_disk(const fs::path& from, const fs::path& to, bool must_reflink) const {
  const auto in = open_to_read(from);
  struct stat s {};
  if (::fstat(in.get(), &s) != 0) throw failed(from);
  const Fd out(::open(to.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!out) throw failed(to);
  if (!must_reflink) return copy_bytes(in.get(), out.get(), s.st_size, [] { return false; });
  if (::ioctl(out.get(), FICLONE, in.get()) != 0) throw failed(to);
}

/// `backing`: as it is to be named in it. It is not looked at: its size is known.
void Volumes::make_overlay(const fs::path& file, const std::string& backing, Form form, std::int64_t size) const {
  must_run({"qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", backing, "-F", name_of(form), file.string(),
            std::to_string((size + sector - 1) / sector * sector)},
           printable(file.filename().string()));
}

/// A file of the mesh into a new one. True where both share their bytes.
bool Volumes::copy_open(const MeshImage& image, const fs::path& to) const {
  struct stat before {};
  struct stat after {};
  if (::fstat(image.fd.get(), &before) != 0) throw failed(image.path);
  const Fd out(::open(to.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!out) throw failed(to);
  const bool is_shared = ::ioctl(out.get(), FICLONE, image.fd.get()) == 0;
  if (!is_shared) copy_bytes(image.fd.get(), out.get(), before.st_size, [] { return false; });
  if (::fstat(image.fd.get(), &after) != 0 || stamp_of(after) != stamp_of(before))
    throw Error(Status::failed, printable(image.path) + ": was changed while it was read");
  return is_shared;
}

void Volumes::say_copied(const Volume& volume) const {
  say_(printable(volume.name) + ": is a copy of " + printable(volume.from) +
       ", with its holes; a place with reflinks, or type qcow2, shares what is the same");
}

/// The volume's file, of a base that is a disk.
void Volumes::make_of_base(const Base& base, Way way, Volume& volume, const Place::Making& making) const {
  volume.base = base.id;
  volume.size = base.size;
  const auto at = place_.base(base.id);
  if (way == Way::overlay) {
    volume.form = Form::qcow2;
    return make_overlay(making.data(), relative(at, volume.name), base.form, base.size);
  }
  if (way == Way::copy) say_copied(volume);
  volume.form = base.form;
  copy_disk(at, making.data(), way == Way::reflink);
  if (!base.backing.empty()) lay_on(making.data(), base.backing, volume.name);
}

/// Its backing file is that base from now on. `name`: of the volume whose file it is, or is to be; empty: it is a base.
void Volumes::lay_on(const fs::path& file, const std::string& id, const std::string& name) const {
  const auto base = place_.find_base(id);
  if (!base) throw Error(Status::failed, printable(name) + ": what it lies on is gone");
  rebase(file, relative(place_.base(id), name), base->form);
}

/// As an image has it; empty where it has none. Throws Error where it says so in a way that another program might
/// understand, and this one does not.
std::string Volumes::backing_name_of(int fd, const std::string& path) {
  if (image_kind(fd, path).form != Form::qcow2) return {};
  std::string head(qcow2_head_bytes, '\0');
  if (::pread(fd, head.data(), head.size(), 0) != std::ssize(head)) throw failed(path);
  const auto where = find_backing_name(head);
  // The offset of the name, 0 where there is none (docs/interop/qcow2, bytes 8 to 15).
  const bool says_so = std::string_view(head).substr(8, 8).find_first_not_of('\0') != std::string_view::npos;
  if (!where && says_so) throw Error(Status::failed, printable(path) + ": is no sound qcow2 image");
  if (!where) return {};
  std::string name(where->size, '\0');
  if (::pread(fd, name.data(), name.size(), static_cast<off_t>(where->offset)) != std::ssize(name))
    throw Error(Status::failed, printable(path) + ": is cut off");
  return name;
}

/// What the image says that it lies on; nothing where it lies on nothing.
std::optional<MeshImage> Volumes::backing_of(const MeshImage& image) const {
  const auto shown = printable(image.path);
  const auto name = backing_name_of(image.fd.get(), image.path);
  if (name.empty()) return std::nullopt;
  const auto backing = locate_backing(image.path, name, files_);
  if (backing.path.empty())
    throw Error(Status::failed, shown + ": its backing file '" + printable(name) + "' " + backing.fault);
  auto out = open_(backing.path);
  if (!out)
    throw Error(Status::not_found,
                shown + ": its backing file " + printable(backing.path) + " is not here; meshget brings both");
  return out;
}

/// Of what was looked at, whose owner may be anybody, this is the copy, which nobody else can change.
void Volumes::check_copy(const MeshImage& image, const fs::path& copy, const FileStamp& stamp, const ImageKind& kind,
                         bool has_backing) const {
  struct stat s {};
  const auto shown = printable(image.path);
  if (::fstat(image.fd.get(), &s) != 0 || stamp_of(s) != stamp)
    throw Error(Status::failed, shown + ": was changed while it was read");
  const auto fd = open_to_read(copy);
  const auto now = image_kind(fd.get(), image.path);
  if (now.form != kind.form || now.size != kind.size || backing_name_of(fd.get(), image.path).empty() == has_backing)
    throw Error(Status::failed, shown + ": was changed while it was read");
}

/// What is here of it becomes a base, once; with what it lies on. `above`: those that lie on it.
std::string Volumes::pin(const MeshImage& image, Place::Making& for_whom, std::vector<std::string> above) {
  const auto shown = printable(image.path);
  struct stat s {};
  if (::fstat(image.fd.get(), &s) != 0) throw failed(image.path);
  const auto stamp = stamp_of(s);
  const auto content = image.entry.id.is_set() ? image.entry.id.hex() : std::string();
  const auto kind = image_kind(image.fd.get(), image.path);
  const auto below = backing_of(image);
  for (;;) {
    std::optional<Place::Making> making;
    auto id = content.empty() ? "s" + sha256(std::to_string(stamp.device) + " " + std::to_string(stamp.inode) + " " +
                                             std::to_string(stamp.size) + " " + std::to_string(stamp.mtime) + " " +
                                             std::to_string(stamp.ctime))
                                          .hex()
                                          .substr(0, 40)
                              : content;
    if (std::ranges::find(above, id) != above.end() || above.size() > most_backing_files)
      throw Error(Status::failed, shown + ": lies on itself, or on more than 64 others");
    {
      const auto lock = place_.lock();
      for (const auto& base : place_.bases()) {
        if (!is_disk(base.form)) continue;
        const bool is_it = base.id == id || (!content.empty() && base.content == content) || base.of == stamp;
        if (!is_it) continue;
        for_whom.needs(base.id);
        return base.id;
      }
      making = Place::Making::begin(place_, id);
    }
    if (!making) {
      place_.wait_for_maker(id);
      continue;
    }
    Base base;
    base.id = id;
    base.form = kind.form;
    base.size = kind.size;
    base.made = now();
    base.from = "mesh:" + image.path;
    base.content = content;
    base.of = stamp;
    above.push_back(id);
    if (below) base.backing = pin(*below, *making, above);
    const bool is_shared = copy_open(image, making->data());
    check_copy(image, making->data(), stamp, kind, below.has_value());
    if (!is_shared)
      say_(shown + ": " + human_bytes(stamp.size) + " were copied into " + printable(place_.location().string()) +
           ", once for all its clones");
    if (below) lay_on(making->data(), base.backing, {});
    if (::chmod(making->data().c_str(), 0400) != 0) throw failed(making->data());
    sync_file(making->data());
    const auto lock = place_.lock();
    place_.put(base, *making);
    for_whom.needs(id);
    return id;
  }
}

Volume Volumes::clone(const MeshImage& image, const std::string& name) {
  const auto way = way_to_clone_disk();
  auto [making, lock] = begin(name);
  lock = Fd();
  Volume volume;
  volume.name = name;
  volume.from = "mesh:" + image.path;
  if (way == Way::copy && !backing_of(image)) {
    struct stat s {};
    if (::fstat(image.fd.get(), &s) != 0) throw failed(image.path);
    const auto kind = image_kind(image.fd.get(), image.path);
    volume.form = kind.form;
    volume.size = kind.size;
    copy_open(image, making.data());
    check_copy(image, making.data(), stamp_of(s), kind, false);
    say_copied(volume);
    return finish(std::move(volume), std::move(making));
  }
  const auto id = pin(image, making, {});
  const auto base = place_.find_base(id);
  if (!base) throw Error(Status::failed, printable(image.path) + ": was taken away");
  make_of_base(*base, way, volume, making);
  return finish(std::move(volume), std::move(making));
}

Volume Volumes::clone_lazily(const FileEntry& image, const std::string& at, const std::string& name) {
  const auto type = place_.options().type;
  if (type == PlaceType::btrfs || type == PlaceType::loop || type == PlaceType::plain || !has_tool("qemu-img"))
    throw Error(Status::usage, "--lazy makes a qcow2 overlay: types auto, reflink and qcow2 do, with qemu-img");
  Volume volume;
  volume.name = name;
  volume.from = "mesh:" + image.path;
  volume.form = Form::qcow2;
  volume.lazy = image;
  volume.lazy_at = at;
  {
    const auto fd = open_to_read(at);
    const auto kind = image_kind(fd.get(), image.path);
    std::string head(qcow2_head_bytes, '\0');
    if (kind.form == Form::qcow2 && ::pread(fd.get(), head.data(), head.size(), 0) == std::ssize(head) &&
        find_backing_name(head))
      throw Error(Status::usage,
                  printable(image.path) +
                      ": lies on another image, and cannot be cloned before both are here; without --lazy "
                      "they are brought first");
    volume.size = kind.size;
    auto [making, lock] = begin(name);
    lock = Fd();
    make_overlay(making.data(), at, kind.form, kind.size);
    return finish(std::move(volume), std::move(making));
  }
}

Volume Volumes::clone(const Volume& of, const std::string& name) {
  const auto shown = printable(of.name);
  if (of.lazy) settle(of);
  const auto fresh = place_.get(of.name);
  if (is_disk(fresh.form)) {
    const auto way = way_to_clone_disk();
    if (fresh.lazy)
      throw Error(Status::refused, shown +
                                       ": its image is still arriving; it can be cloned when that is here, or clone " +
                                       printable(fresh.lazy->path) + " itself");
    if (way == Way::overlay) return clone_disk_on_top(fresh, name);
  } else if (place_.options().type == PlaceType::loop) {
    check_clone_of_archive();
  }
  auto [making, lock] = begin(name);
  // It stays as it is, and where it is, while it is copied; what is mounted of it, too, but for what is not written
  // yet.
  const auto source = place_.get(of.name);
  const auto from = place_.data(source);
  Volume volume = source;
  volume.name = name;
  volume.from = "volume:" + source.name;
  if (!source.base.empty()) making.needs(source.base);
  const auto used = why_in_use(place_, source);
  for (const auto& at : mounts_of(place_, source))
    if (const Fd mounted(::open(at.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)); mounted) ::syncfs(mounted.get());
  if (is_disk(source.form)) {
    const auto way = way_to_clone_disk();
    if (way == Way::copy && !used.empty())
      throw Error(Status::refused, shown + ": " + used + "; it cannot be copied while it changes");
    if (!used.empty()) say_(shown + ": " + used + "; the clone is as after a power failure at this moment");
    // Long work holds up nobody.
    if (way == Way::copy) lock = Fd();
    const auto before = stamp_at(from);
    copy_disk(from, making.data(), way == Way::reflink);
    if (way == Way::copy && stamp_at(from) != before)
      throw Error(Status::failed, shown + ": was changed while it was copied");
    if (source.form == Form::qcow2)
      if (const auto id = lies_on(from); !id.empty()) lay_on(making.data(), id, name);
  } else if (source.form == Form::subvolume) {
    must_run({"btrfs", "subvolume", "snapshot", from.string(), making.data().string()}, printable(name));
  } else {
    if (source.form == Form::overlay && !used.empty())
      throw Error(Status::refused, shown + ": " + used + "; unmount it first");
    if (source.form == Form::directory && !used.empty())
      say_(shown + ": " + used + "; what changes while it is copied may be torn");
    lock = Fd();
    must_run({"cp", "-a", "--reflink=auto", "--sparse=always", "--", from.string(), making.data().string()},
             printable(name));
    // What the overlay keeps for itself is of that one alone.
    if (source.form == Form::overlay) {
      remove_data(making.data() / "work");
      if (::mkdir((making.data() / "work").c_str(), 0700) != 0) throw failed(making.data());
    } else {
      say_(printable(name) + ": is a copy of all that is in " + shown);
    }
  }
  lock = Fd();
  return finish(std::move(volume), std::move(making));
}

/// Both lie on what it has been until now.
Volume Volumes::clone_disk_on_top(Volume of, const std::string& name) {
  auto [making, lock] = begin(name);
  of = place_.get(of.name);
  Volume volume;
  volume.name = name;
  volume.from = "volume:" + of.name;
  volume.form = Form::qcow2;
  volume.has_fs = of.has_fs;
  volume.size = of.size;
  const auto at = place_.data(of);
  const bool is_fresh = of.form == Form::qcow2 && !of.base.empty() && is_same_but_ctime(stamp_at(at), of.fresh);
  if (!is_fresh) {
    check_unused(of);
    if (!of.base.empty()) making.needs(of.base);
    const auto id = random_id();
    const auto top = place_.base(id + ".top");
    const auto target = relative(place_.base(id), of.name);
    make_overlay(top, target, of.form, of.size);
    if (::chmod(top.c_str(), 0600) != 0) throw failed(top);
    sync_file(top);
    sync_file(at);
    place_.put_under(of, id);
  }
  const auto base = place_.find_base(of.base);
  if (!base) throw Error(Status::failed, printable(of.name) + ": what it lies on is gone");
  making.needs(base->id);
  lock = Fd();
  make_of_base(*base, Way::overlay, volume, making);
  return finish(std::move(volume), std::move(making));
}

std::string Volumes::pin_tree(const MeshImage& archive, const Unpack& unpack, Place::Making& for_whom) {
  struct stat s {};
  if (::fstat(archive.fd.get(), &s) != 0) throw failed(archive.path);
  const auto stamp = stamp_of(s);
  const auto content = archive.entry.id.is_set() ? archive.entry.id.hex() : std::string();
  const bool on_btrfs = place_.is_btrfs();
  auto id =
      "t" + sha256(archive.path + " " + std::to_string(stamp.device) + " " + std::to_string(stamp.inode) + " " +
                   std::to_string(stamp.size) + " " + std::to_string(stamp.mtime) + " " + std::to_string(stamp.ctime))
                .hex()
                .substr(0, 40);
  for (;;) {
    std::optional<Place::Making> making;
    {
      const auto lock = place_.lock();
      for (const auto& base : place_.bases()) {
        const bool is_tree = !is_disk(base.form);
        if (!is_tree || (base.id != id && (content.empty() || base.content != content))) continue;
        for_whom.needs(base.id);
        return base.id;
      }
      making = Place::Making::begin(place_, id);
    }
    if (!making) {
      place_.wait_for_maker(id);
      continue;
    }
    Base base;
    base.id = id;
    base.form = on_btrfs ? Form::subvolume : Form::directory;
    base.made = now();
    base.from = "tar:" + archive.path;
    base.content = content;
    base.of = stamp;
    if (on_btrfs)
      must_run({"btrfs", "subvolume", "create", making->data().string()}, printable(archive.path));
    else if (::mkdir(making->data().c_str(), 0755) != 0)
      throw failed(making->data());
    static_cast<void>(unpack(archive.fd.get(), making->data()));
    struct stat after {};
    if (::fstat(archive.fd.get(), &after) != 0 || stamp_of(after) != stamp)
      throw Error(Status::failed, printable(archive.path) + ": was changed while it was read");
    sync_tree(making->data());
    const auto lock = place_.lock();
    place_.put(base, *making);
    // One that is read-only cannot be moved.
    if (on_btrfs)
      must_run({"btrfs", "property", "set", "-ts", place_.base(id).string(), "ro", "true"}, printable(archive.path));
    for_whom.needs(id);
    return id;
  }
}

Volume Volumes::clone_archive(const MeshImage& archive, const Unpack& unpack, const std::string& name) {
  check_clone_of_archive();
  auto [making, lock] = begin(name);
  lock = Fd();
  Volume volume;
  volume.name = name;
  volume.from = "tar:" + archive.path;
  volume.has_fs = true;
  if (place_.options().type == PlaceType::plain) {
    volume.form = Form::directory;
    if (::mkdir(making.data().c_str(), 0755) != 0) throw failed(making.data());
    static_cast<void>(unpack(archive.fd.get(), making.data()));
    say_(printable(name) + ": is a tree of its own, and shares nothing; types auto and btrfs share it");
    return finish(std::move(volume), std::move(making));
  }
  volume.base = pin_tree(archive, unpack, making);
  const auto base = place_.base(volume.base);
  if (is_subvolume(base)) {
    volume.form = Form::subvolume;
    must_run({"btrfs", "subvolume", "snapshot", base.string(), making.data().string()}, printable(name));
  } else {
    volume.form = Form::overlay;
    struct stat s {};
    if (::stat(base.c_str(), &s) != 0) throw failed(base);
    if (::mkdir(making.data().c_str(), 0755) != 0 ||
        ::mkdir((making.data() / "upper").c_str(), s.st_mode & 07777) != 0 ||
        ::mkdir((making.data() / "work").c_str(), 0700) != 0)
      throw failed(making.data());
  }
  return finish(std::move(volume), std::move(making));
}

void Volumes::drop(const std::string& name) {
  const auto lock = place_.lock();
  const auto volume = place_.get(name);
  check_unused(volume);
  if (const auto attached = place_.find_attachment(name); attached && attached->how == "export") stop_export(volume);
  place_.remove(volume);
}

Volume Volumes::resize(const std::string& name, std::int64_t size) {
  check_size(name, size);
  const auto lock = place_.lock();
  auto volume = place_.get(name);
  const auto shown = printable(name);
  if (!is_disk(volume.form))
    throw Error(Status::usage, shown + ": is a tree, and shares the room of its place; disks have sizes");
  size = (size + sector - 1) / sector * sector;
  if (size < volume.size)
    throw Error(Status::usage, shown + ": has " + human_bytes(volume.size) + " (" + std::to_string(volume.size) +
                                   " bytes) already, and a volume only grows");
  check_unused(volume);
  const auto file = place_.data(volume);
  if (volume.form == Form::qcow2) {
    must_run({"qemu-img", "resize", "-q", "-f", "qcow2", file.string(), std::to_string(size)}, shown);
  } else if (::truncate(file.c_str(), size) != 0) {
    throw failed(file);
  }
  sync_file(file);
  volume.size = size;
  write_record(place_.record(name), volume);
  if (volume.has_fs && volume.form == Form::raw && has_tool("resize2fs") &&
      run_tool({"dumpe2fs", "-h", file.string()}).status == 0) {
    const auto checked = run_tool({"e2fsck", "-f", "-p", file.string()});
    if (checked.status > 1) throw Error(Status::failed, shown + ": its file system is not sound: e2fsck -f mends it");
    must_run({"resize2fs", file.string()}, shown);
  } else if (volume.has_fs) {
    say_(shown + ": its file system grows once it is mounted (xfs_growfs, btrfs filesystem resize max)");
  }
  return volume;
}

void Volumes::settle(Volume volume) {
  auto image = open_(volume.lazy->path);
  if (!image) return;
  const auto& wanted = *volume.lazy;
  const bool is_it = wanted.id.is_set() && image->entry.id.is_set()
                         ? image->entry.id == wanted.id
                         : image->entry.size == wanted.size && image->entry.mtime == wanted.mtime;
  if (!is_it || !why_in_use(place_, volume).empty()) return;
  const auto name = volume.name;
  std::optional<Place::Making> making;
  {
    const auto lock = place_.lock();
    making = Place::Making::begin(place_, "settle-" + record_name(name));
  }
  if (!making) return;
  const auto id = pin(*image, *making, {});
  const auto lock = place_.lock();
  const auto now = place_.find(name);
  const auto base = place_.find_base(id);
  if (now && now->lazy && base && why_in_use(place_, *now).empty()) {
    volume = *now;
    // Until the image is changed, too, the record needs neither more nor less than it does after.
    volume.base = id;
    write_record(place_.record(name), volume);
    const auto file = place_.data(volume);
    lay_on(file, id, name);
    sync_file(file);
    volume.lazy.reset();
    volume.lazy_at.clear();
    write_record(place_.record(name), volume);
    say_(printable(name) + ": its image, " + printable(wanted.path) + ", is whole here, and it lies on that now");
  }
  making->end();
}

void Volumes::settle() {
  for (const auto& volume : place_.volumes()) {
    if (!volume.lazy || volume.is_dropped) continue;
    try {
      settle(volume);
    } catch (const Error& error) {
      say_(printable(volume.name) + ": goes on as it is: " + error.what());  // others do not wait for it
    }
  }
}

void Volumes::flatten(const std::string& name, const std::function<void(int file, std::int64_t size)>& take) {
  const auto shown = printable(name);
  std::optional<Place::Making> making;
  std::vector<std::pair<fs::path, Form>> layers;
  FileStamp before;
  {
    const auto lock = place_.lock();
    const auto volume = place_.get(name);
    if (!is_disk(volume.form))
      throw Error(Status::usage, shown + ": is a tree, and no file; tar -C makes an archive of it where it is mounted");
    if (volume.lazy) throw Error(Status::refused, shown + ": its image is still arriving");
    check_unused(volume);
    making = Place::Making::begin(place_, "commit-" + record_name(name));
    if (!making) throw Error(Status::refused, shown + ": another command makes a file of it");
    // What lies on what, from the bottom up.
    layers.emplace_back(place_.data(volume), volume.form);
    while (layers.back().second == Form::qcow2) {
      const auto id = lies_on(layers.back().first);
      if (id.empty()) break;
      const auto base = place_.find_base(id);
      if (!base) throw Error(Status::failed, shown + ": what it lies on is gone");
      making->needs(id);
      layers.emplace_back(place_.base(id), base->form);
    }
    std::ranges::reverse(layers);
    before = stamp_at(layers.back().first);
  }
  // The bytes of what it was cloned from stay as and where they are, and what was written since goes on top: so whoever
  // has the former gets little more than that.
  const auto whole = making->data() / "disk";
  const auto part = making->data() / "layer";
  if (::mkdir(making->data().c_str(), 0700) != 0) throw failed(making->data());
  copy_disk(layers.front().first, whole, false);
  for (std::size_t i = 1; i < layers.size(); ++i) {
    copy_disk(layers[i].first, part, false);
    rebase(part, "./disk", layers.front().second);
    must_run({"qemu-img", "commit", "-q", "-f", "qcow2", part.string()}, shown);
    if (::unlink(part.c_str()) != 0) throw failed(part);
  }
  if (const auto volume = place_.get(name); stamp_at(place_.data(volume)) != before)
    throw Error(Status::failed, shown + ": was changed meanwhile");
  const auto file = open_to_read(whole);
  take(file.get(), stamp_at(whole).size);
}

}  // namespace mesh
