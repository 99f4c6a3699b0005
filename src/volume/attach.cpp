// Mounting, and disks as devices or files.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fstream>

#include "core/error.h"
#include "core/format.h"
#include "disk/mount_table.h"
#include "disk/tool.h"
#include "volume/use.h"
#include "volume/volumes.h"

namespace mesh {
namespace {

namespace fs = std::filesystem;

Error failed(const fs::path& path) {
  return {Status::failed, printable(path.string()) + ": " + std::generic_category().message(errno)};
}

void needs_root(const std::string& what) {
  if (::geteuid() != 0) throw Error(Status::refused, what + " needs root");
}

std::string trimmed(std::string text) {
  while (text.ends_with("\n")) text.pop_back();
  return text;
}

std::string directory_to_mount_on(const std::string& directory) {
  std::error_code ec;
  const auto out = fs::canonical(directory, ec);
  if (ec) throw Error(Status::failed, printable(directory) + ": " + ec.message());
  if (!fs::is_directory(out, ec)) throw Error(Status::failed, printable(directory) + ": is no directory");
  return out.string();
}

bool has_word(const std::string& options, std::string_view word) {
  return ("," + options + ",").find("," + std::string(word) + ",") != std::string::npos;
}

void bind(const fs::path& from, const std::string& directory, const std::string& options) {
  for (const auto& part : {std::string("bind"), std::string("rbind"), std::string("remount"), std::string("move")})
    if (has_word(options, part)) throw Error(Status::usage, "-o " + part + ": is no option of a volume's mount");
  must_run({"mount", "--bind", "--", from.string(), directory}, printable(directory));
  if (options.empty() || options == "rw") return;
  try {
    must_run({"mount", "-o", "remount,bind," + options, "--", directory}, printable(directory));
  } catch (const Error&) {
    ::umount2(directory.c_str(), UMOUNT_NOFOLLOW);
    throw;
  }
}

void unmount_at(const std::string& directory) {
  if (::umount2(directory.c_str(), UMOUNT_NOFOLLOW) == 0) return;
  if (errno == EBUSY) throw Error(Status::refused, printable(directory) + ": is in use");
  throw failed(directory);
}

constexpr auto end_limit = std::chrono::minutes(1);

/// The process ends, or has ended; one of another program, which has the number by now and not `word` among its
/// arguments, is let alone.
void end_process(pid_t process, const std::string& word, const std::string& shown) {
  const Fd handle(static_cast<int>(::syscall(SYS_pidfd_open, process, 0)));
  if (!handle) return;
  std::ifstream in("/proc/" + std::to_string(process) + "/cmdline");
  std::string all((std::istreambuf_iterator<char>(in)), {});
  if (('\0' + all).find('\0' + word + '\0') == std::string::npos) return;
  if (::syscall(SYS_pidfd_send_signal, handle.get(), SIGTERM, nullptr, 0) != 0) return;
  // It writes down what it still has; that may take as long as the disk does. Whoever waits holds the place's lock.
  pollfd wait{handle.get(), POLLIN, 0};
  int ready = 0;
  do ready = ::poll(&wait, 1, static_cast<int>(std::chrono::milliseconds(end_limit).count()));
  while (ready < 0 && errno == EINTR);
  if (ready == 0)
    throw Error(Status::failed, shown + ": process " + std::to_string(process) +
                                    ", which shows it as a disk, does not end; its disk or its image does not answer");
}

}  // namespace

/// qemu-storage-daemon shows the disk in a qcow2 image as a file (its --export fuse).
std::string Volumes::start_export(const Volume& volume, const std::string& by) {
  const auto shown = printable(volume.name);
  const auto file = place_.export_file(volume.name);
  const auto data = place_.data(volume);
  if (!has_tool("qemu-storage-daemon"))
    throw Error(Status::usage, shown +
                                   ": is a qcow2 image, which is shown as a disk by qemu-storage-daemon (package "
                                   "qemu-system-common); QEMU opens " +
                                   printable(data.string()) + " itself");
  // Commas are doubled in its options.
  const auto quoted = [](const std::string& text) {
    std::string out;
    for (const char c : text) out += c == ',' ? std::string(",,") : std::string(1, c);
    return out;
  };
  stop_export(volume);
  {
    const Fd made(::open(file.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!made) throw failed(file);
  }
  const auto pid_file = file.string() + ".pid";
  ::unlink(pid_file.c_str());
  must_run({"qemu-storage-daemon", "--blockdev",
            "driver=file,node-name=file,discard=unmap,filename=" + quoted(data.string()), "--blockdev",
            "driver=qcow2,node-name=disk,discard=unmap,file=file", "--export",
            "type=fuse,id=export,node-name=disk,writable=on,growable=off,mountpoint=" + quoted(file.string()),
            "--daemonize", "--pidfile", pid_file},
           shown);
  Attachment out;
  out.volume = volume.name;
  out.how = "export";
  out.by = by;
  out.path = file.string();
  std::ifstream in(pid_file);
  in >> out.process;
  write_record(place_.attachment(volume.name), out);
  return out.path;
}

void Volumes::stop_export(const Volume& volume) {
  const auto file = place_.export_file(volume.name);
  std::int64_t process = 0;
  std::ifstream in(file.string() + ".pid");
  in >> process;
  if (process > 0) end_process(static_cast<pid_t>(process), file.string() + ".pid", printable(volume.name));
  // What one that was killed has left.
  for (const auto& entry : mount_table())
    if (entry.at == file.string()) {
      if (::geteuid() == 0)
        unmount_at(file.string());
      else
        must_run({"fusermount3", "-u", "--", file.string()}, printable(volume.name));
    }
  ::unlink((file.string() + ".pid").c_str());
  ::unlink(file.c_str());
}

/// Its disk, which mount and losetup can take.
std::string Volumes::show_as_file(const Volume& volume) {
  return volume.form == Form::qcow2 ? start_export(volume) : place_.data(volume).string();
}

std::string Volumes::attach(const std::string& name, const std::string& by) {
  const auto lock = place_.lock();
  const auto volume = place_.get(name);
  if (!is_disk(volume.form))
    throw Error(Status::usage, printable(name) + ": is a tree of files, and no disk; 'meshvol mount' mounts it");
  check_unused(volume);
  Attachment out;
  out.volume = name;
  out.by = by;
  if (volume.form == Form::qcow2) return start_export(volume, by);
  if (::geteuid() == 0) {
    out.how = "loop";
    out.path = trimmed(
        must_run({"losetup", "--find", "--show", "--partscan", "--", place_.data(volume).string()}, printable(name)));
  } else {
    out.how = "file";
    out.path = place_.data(volume).string();
  }
  write_record(place_.attachment(name), out);
  return out.path;
}

void Volumes::detach(const std::string& name) {
  const auto lock = place_.lock();
  const auto volume = place_.get(name);
  const auto attached = place_.find_attachment(name);
  const auto mounted = mounts_of(place_, volume);
  if (!mounted.empty()) throw Error(Status::refused, printable(name) + ": is mounted on " + printable(mounted.back()));
  if (!attached || !attachment_of(place_, volume)) {
    if (attached) remove_file(place_.attachment(name));
    if (attached && attached->how == "export") stop_export(volume);
    throw Error(Status::refused, printable(name) + ": is not attached");
  }
  if (attached->how == "loop") {
    if (const auto at = mount_from(attached->path))
      throw Error(Status::refused, printable(name) + ": " + attached->path + " is mounted on " + printable(*at));
    must_run({"losetup", "--detach", attached->path}, printable(name));
  } else if (attached->how == "export") {
    if (const auto loops = loops_of(attached->path); !loops.empty())
      throw Error(Status::refused, printable(name) + ": is in use as " + loops.front());
    if (const auto opener = open_in(attached->path); !opener.empty())
      throw Error(Status::refused, printable(name) + ": " + opener);
    stop_export(volume);
  }
  remove_file(place_.attachment(name));
}

void Volumes::mount(const std::string& name, const std::string& directory, const std::string& options) {
  needs_root("mounting");
  const auto at = directory_to_mount_on(directory);
  const auto lock = place_.lock();
  const auto volume = place_.get(name);
  const auto shown = printable(name);
  const auto data = place_.data(volume);
  if (volume.form == Form::subvolume || volume.form == Form::directory) return bind(data, at, options);
  check_unused(volume);
  if (volume.form == Form::overlay) {
    const auto base = place_.base(volume.base);
    const auto quoted = [](const fs::path& path) {
      std::string out;
      for (const char c : path.string()) {
        if (c == ':' || c == ',' || c == '\\') out += '\\';
        out += c;
      }
      return out;
    };
    const bool is_read_only = has_word(options, "ro");
    const auto layers = is_read_only ? "lowerdir=" + quoted(data / "upper") + ":" + quoted(base)
                                     : "lowerdir=" + quoted(base) + ",upperdir=" + quoted(data / "upper") +
                                           ",workdir=" + quoted(data / "work");
    must_run({"mount", "-t", "overlay", "-o", (options.empty() ? "" : options + ",") + layers, "--", "meshvol", at},
             shown);
    return;
  }
  const auto file = show_as_file(volume);
  try {
    must_run({"mount", "-o", "loop" + (options.empty() ? "" : "," + options), "--", file, at}, shown);
  } catch (const Error& error) {
    if (volume.form == Form::qcow2) {
      stop_export(volume);
      remove_file(place_.attachment(name));
    }
    const bool is_no_fs = std::string_view(error.what()).find("wrong fs type") != std::string_view::npos ||
                          std::string_view(error.what()).find("specify the filesystem type") != std::string_view::npos;
    if (is_no_fs)
      throw Error(Status::failed, shown +
                                      ": has no file system of its own that this machine can mount; if it has "
                                      "partitions, attach it, and mount those of the device");
    throw;
  }
}

void Volumes::mount_metadata(const std::string& directory, const std::string& options) {
  needs_root("mounting");
  const auto at = directory_to_mount_on(directory);
  const auto lock = place_.lock();
  const auto from = place_.metadata();
  std::error_code ec;
  fs::create_directories(from, ec);
  if (ec) throw Error(Status::failed, printable(from.string()) + ": " + ec.message());
  bind(from, at, options);
}

void Volumes::unmount(const std::string& name, const std::optional<std::string>& directory) {
  needs_root("unmounting");
  const auto lock = place_.lock();
  const auto volume = place_.get(name);
  auto mounts = mounts_of(place_, volume);
  if (directory) {
    std::error_code ec;
    const auto at = fs::weakly_canonical(*directory, ec).string();
    if (std::ranges::find(mounts, at) == mounts.end())
      throw Error(Status::refused, printable(name) + ": is not mounted on " + printable(*directory));
    mounts = {at};
  }
  if (mounts.empty()) throw Error(Status::refused, printable(name) + ": is not mounted");
  std::ranges::reverse(mounts);
  for (const auto& at : mounts) unmount_at(at);
  // What was shown for the mount alone.
  if (volume.form == Form::qcow2 && mounts_of(place_, volume).empty()) {
    stop_export(volume);
    remove_file(place_.attachment(name));
  }
}

void Volumes::unmount_metadata(const std::optional<std::string>& directory) {
  needs_root("unmounting");
  const auto lock = place_.lock();
  const auto mounts = binds_of(place_.metadata());
  std::optional<std::string> at;
  std::error_code ec;
  if (directory) {
    at = fs::weakly_canonical(*directory, ec).string();
    if (std::ranges::find(mounts, *at) == mounts.end())
      throw Error(Status::refused, printable(*directory) + ": the place is not mounted there");
  } else if (!mounts.empty()) {
    at = mounts.back();
  }
  if (!at) throw Error(Status::refused, "the place is not mounted");
  unmount_at(*at);
}

}  // namespace mesh
