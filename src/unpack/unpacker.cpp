#include "unpack/unpacker.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <iconv.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <clocale>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <string_view>
#include <system_error>
#include <thread>
#include <unordered_set>

#include "core/error.h"
#include "core/format.h"
#include "core/mesh_path.h"
#include "disk/sync_later.h"

namespace mesh {
namespace {

constexpr std::size_t deepest = 256;
constexpr std::int64_t ratio_free_bytes = std::int64_t{64} << 20;
constexpr std::size_t read_bytes = 256 * 1024;

using Reader = std::unique_ptr<archive, decltype(&archive_read_free)>;
using Writer = std::unique_ptr<archive, decltype(&archive_write_free)>;

std::string why_of(archive* a) {
  const char* text = archive_error_string(a);
  return text == nullptr ? "is damaged" : printable(text);
}

struct Name {
  std::string path;     ///< without "." parts and doubled '/'
  std::string refused;  ///< why it may not be; empty otherwise
};

Name read_name(const char* raw) {
  Name out;
  if (raw == nullptr) {
    out.refused = "has a name that cannot be read";
    return out;
  }
  const std::string_view text(raw);
  if (text.starts_with('/')) out.refused = "has an absolute name";
  out.path = plain_path(text);
  if (("/" + out.path + "/").find("/../") != std::string::npos) out.refused = "has a name with '..' in it";
  if (static_cast<std::size_t>(std::ranges::count(out.path, '/')) >= deepest)
    out.refused = "is nested deeper than " + std::to_string(deepest) + " directories";
  return out;
}

/// Whether a relative link at `link` stays below the top-level directory. An absolute one means the root of the
/// container that is unpacked, and is no more than text here: nothing is ever written or read through it.
bool stays_inside(std::string_view link, std::string_view target) {
  if (target.starts_with('/')) return true;
  auto depth = std::ranges::count(link, '/');  // of the directory that holds it; the top-level one is 1
  for (std::size_t at = 0; at <= target.size();) {
    const auto end = std::min(target.find('/', at), target.size());
    const auto part = target.substr(at, end - at);
    at = end + 1;
    if (part.empty() || part == ".") continue;
    depth += part == ".." ? -1 : 1;
    if (depth < 1) return false;
  }
  return true;
}

/// What could not be restored, of one kind.
struct Skips {
  std::int64_t count = 0;
  std::string first;
  void add(const std::string& what) {
    if (count++ == 0) first = what;
  }
};

class Unpacking {
 public:
  /// `confined`: the thread has the directory for its root.
  Unpacking(const UnpackLimits& limits, std::string name, int into, bool confined)
      : limits_(limits), name_(std::move(name)), into_(into), confined_(confined) {}

  Unpacked run(archive* in) {
    const Writer out(archive_write_disk_new(), &archive_write_free);
    int flags = ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_ACL | ARCHIVE_EXTRACT_XATTR |
                ARCHIVE_EXTRACT_SECURE_NODOTDOT | ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS;
    if (is_root_) flags |= ARCHIVE_EXTRACT_OWNER;  // by number: the container has its own names
    // The links are known here (see admit), and as root there is no way out; libarchive looks at each directory of each
    // name again, which is half of all system calls.
    if (!confined_) flags |= ARCHIVE_EXTRACT_SECURE_SYMLINKS;
    archive_write_disk_set_options(out.get(), flags);
    for (archive_entry* entry = nullptr; next(in, &entry);) {
      if (!admit(entry)) continue;
      write(in, out.get(), entry);
    }
    // Times and modes of directories are set here.
    if (archive_write_close(out.get()) < ARCHIVE_WARN) throw fail(why_of(out.get()));
    if (result_.top.empty()) throw fail("has nothing in it");
    sync_.finish(into_);
    summarise();
    return std::move(result_);
  }

 private:
  Error fail(const std::string& why) const { return {Status::failed, name_ + ": " + why}; }
  Error refuse(const std::string& path, const std::string& why) const {
    return fail("refused: its entry " + printable(path) + " " + why);
  }

  void check_stopped() const {
    if (limits_.stop != nullptr && *limits_.stop) throw Error(Status::interrupted, name_ + ": stopped");
  }

  bool next(archive* in, archive_entry** entry) {
    check_stopped();
    const int result = archive_read_next_header(in, entry);
    if (result == ARCHIVE_EOF) return false;
    // What is skipped on the way to it counts too.
    check_ratio(in, archive_filter_bytes(in, 0));
    if (result < ARCHIVE_WARN) throw fail(why_of(in));
    if (++result_.entries > limits_.entries)
      throw fail("has more than " + std::to_string(limits_.entries) + " entries (--max-entries sets the limit)");
    return true;
  }

  /// Checks an entry's names and makes them plain; false when it is to be left out.
  bool admit(archive_entry* entry) {
    const auto name = read_name(archive_entry_pathname(entry));
    const auto type = archive_entry_filetype(entry);
    const char* hard = archive_entry_hardlink(entry);
    if (!name.refused.empty()) throw refuse(name.path, name.refused);
    if (name.path.empty()) {
      if (type == AE_IFDIR) return false;  // "./", the directory that was packed
      throw fail("refused: one of its entries has no name");
    }
    const auto top = name.path.substr(0, name.path.find('/'));
    if (result_.top.empty()) result_.top = top;
    if (top != result_.top)
      throw fail("has more than one top-level entry: " + printable(result_.top) + ", " + printable(top) +
                 "; tar: needs a single directory");
    if (name.path == top && (hard != nullptr || type != AE_IFDIR))
      throw fail("its top-level entry " + printable(top) + " is no directory; tar: needs one");
    if (const auto link = link_above(name.path); !link.empty())
      throw refuse(name.path, "lies behind a link, " + printable(link));
    // A later entry of a name takes its place; a directory would not.
    if (links_.erase(name.path) > 0 && hard == nullptr && type == AE_IFDIR)
      throw refuse(name.path, "is a directory in the place of a link");
    archive_entry_copy_pathname(entry, name.path.c_str());
    if (hard != nullptr) {
      const auto target = read_name(hard);
      if (!target.refused.empty() || !target.path.starts_with(result_.top + "/"))
        throw refuse(name.path, "is a hard link out of the archive, to " + printable(hard));
      if (const auto link = link_above(target.path); !link.empty())
        throw refuse(name.path, "is a hard link to what lies behind a link, " + printable(link));
      if (links_.contains(target.path)) links_.insert(name.path);
      archive_entry_copy_hardlink(entry, target.path.c_str());
    } else if (type == AE_IFLNK) {
      const char* target = archive_entry_symlink(entry);
      if (target == nullptr || *target == '\0') throw refuse(name.path, "is a link to nothing");
      if (!stays_inside(name.path, target))
        throw refuse(name.path, "is a link out of the top-level directory, to " + printable(target));
      links_.insert(name.path);
    } else if (type == AE_IFBLK || type == AE_IFCHR) {
      if (!is_root_) {
        devices_.add(name.path);
        return false;
      }
    } else if (type != AE_IFREG && type != AE_IFDIR && type != AE_IFIFO) {
      others_.add(name.path);
      return false;
    }
    if (!limits_.keep_setid) drop_privileges(entry, name.path);
    if (!is_root_ && (archive_entry_uid(entry) != static_cast<la_int64_t>(::geteuid()) ||
                      archive_entry_gid(entry) != static_cast<la_int64_t>(::getegid())))
      owners_.add(name.path);
    return true;
  }

  /// Takes from an entry what would give other users of this machine more than they have.
  void drop_privileges(archive_entry* entry, const std::string& path) {
    const auto type = archive_entry_filetype(entry);
    const auto perm = archive_entry_perm(entry);
    auto kept = perm;
    if (type != AE_IFDIR) kept &= ~static_cast<mode_t>(06000);
    const bool device = type == AE_IFBLK || type == AE_IFCHR;
    // Its owner here may be anybody: numbers are the archive's.
    if (device && !is_harmless(type, archive_entry_rdevmajor(entry), archive_entry_rdevminor(entry)))
      kept = archive_entry_uid(entry) == 0 ? kept & 0700 : 0;
    bool dropped = kept != perm;
    if (dropped) archive_entry_set_perm(entry, kept);
    const char* name = nullptr;
    const void* value = nullptr;
    std::size_t size = 0;
    std::vector<std::pair<std::string, std::string>> others;
    bool capable = false;
    archive_entry_xattr_reset(entry);
    while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
      if (name == nullptr) continue;
      if (std::string_view(name) == "security.capability")
        capable = true;
      else
        others.emplace_back(name, std::string(static_cast<const char*>(value), size));
    }
    if (capable) {
      archive_entry_xattr_clear(entry);
      for (const auto& [other, bytes] : others)
        archive_entry_xattr_add_entry(entry, other.c_str(), bytes.data(), bytes.size());
    }
    if (dropped || capable) setids_.add(path);
  }

  /// Devices that every system lets everybody use: null, zero, full, random, urandom, tty, ptmx.
  static bool is_harmless(__LA_MODE_T type, dev_t major, dev_t minor) {
    if (type != AE_IFCHR) return false;
    if (major == 1) return minor == 3 || minor == 5 || minor == 7 || minor == 8 || minor == 9;
    return major == 5 && (minor == 0 || minor == 2);
  }

  /// The symbolic link of this archive through which `path` would lead; empty where there is none.
  [[nodiscard]] std::string link_above(const std::string& path) const {
    for (auto at = path.find('/'); at != std::string::npos; at = path.find('/', at + 1))
      if (auto above = path.substr(0, at); links_.contains(above)) return above;
    return {};
  }

  void write(archive* in, archive* out, archive_entry* entry) {
    const std::string path = archive_entry_pathname(entry);
    const auto type = archive_entry_filetype(entry);
    const bool device = type == AE_IFBLK || type == AE_IFCHR;
    const auto check = [&](int result) {
      if (result == ARCHIVE_OK) return true;
      const auto why = why_of(out);
      if (device && archive_errno(out) == EPERM) {
        devices_.add(path);
        return false;
      }
      if (result < ARCHIVE_WARN) throw fail(printable(path) + " cannot be unpacked: " + why);
      attributes_.add(path + " (" + why + ")");
      return true;
    };
    if (!check(archive_write_header(out, entry))) return;
    const bool has_data = !archive_entry_size_is_set(entry) || archive_entry_size(entry) > 0;
    if (type == AE_IFREG && has_data) {
      const void* block = nullptr;
      std::size_t size = 0;
      la_int64_t offset = 0;
      for (int result = 0; (result = archive_read_data_block(in, &block, &size, &offset)) != ARCHIVE_EOF;) {
        if (result < ARCHIVE_WARN) throw fail(printable(path) + ": " + why_of(in));
        count(in, static_cast<std::int64_t>(size));
        if (archive_write_data_block(out, block, size, offset) < ARCHIVE_WARN)
          throw fail(printable(path) + " cannot be written: " + why_of(out));
      }
    }
    check(archive_write_finish_entry(out));
    if (type == AE_IFREG && archive_entry_hardlink(entry) == nullptr && has_data)
      sync_.add(Fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)));  // none: not for this user
  }

  void count(archive* in, std::int64_t bytes) {
    result_.bytes += bytes;
    if (result_.bytes > limits_.bytes)
      throw fail("unpacks to more than " + human_bytes(limits_.bytes) + " (--max-unpacked sets the limit)");
    check_ratio(in, result_.bytes);
    check_stopped();
  }

  void check_ratio(archive* in, std::int64_t bytes) const {
    if (bytes > ratio_free_bytes && bytes / limits_.ratio > archive_filter_bytes(in, -1))
      throw fail("unpacks to more than " + std::to_string(limits_.ratio) +
                 " times its size (--max-ratio sets the limit)");
  }

  void summarise() {
    const auto line = [&](const Skips& skips, const std::string& what) {
      if (skips.count > 0)
        result_.skipped.push_back(std::to_string(skips.count) + " " + what + " (the first: " + printable(skips.first) +
                                  ")");
    };
    if (owners_.count > 0 && devices_.count > 0) {
      result_.skipped.push_back(std::to_string(owners_.count) + " owners and " + std::to_string(devices_.count) +
                                " devices are left out, which only root can make");
    } else {
      line(owners_, "owners are left out, which only root can set");
      line(devices_, "devices are left out, which only root can make");
    }
    result_.dropped_setid = setids_.count > 0;
    line(setids_,
         "entries lack their set-user-id or set-group-id bits, capabilities or device modes (--keep-setid keeps them)");
    line(attributes_, "entries lack some of their attributes");
    line(others_, "entries are left out, being neither file, directory, link, fifo nor device");
  }

  const UnpackLimits& limits_;
  std::string name_;
  int into_;
  bool confined_;
  bool is_root_ = ::geteuid() == 0;
  std::unordered_set<std::string> links_;  ///< symbolic ones that were made
  Unpacked result_;
  SyncLater sync_;
  Skips owners_, devices_, setids_, attributes_, others_;
};

/// All of them but mtree, which names files of this machine to copy, and raw, which is no archive. Filters are those
/// that libarchive has in itself: no program is run. Confined, only tar and cpio: a reader that converts names from
/// what the archive says they are in would load the converter from the archive's own tree.
Reader make_reader(bool confined) {
  Reader in(archive_read_new(), &archive_read_free);
  for (const auto support :
       {&archive_read_support_filter_bzip2, &archive_read_support_filter_compress, &archive_read_support_filter_gzip,
        &archive_read_support_filter_lzip, &archive_read_support_filter_lzma, &archive_read_support_filter_xz,
        &archive_read_support_filter_lz4, &archive_read_support_filter_zstd, &archive_read_support_filter_uu,
        &archive_read_support_filter_rpm, &archive_read_support_format_tar, &archive_read_support_format_cpio})
    support(in.get());
  if (confined) return in;
  for (const auto support :
       {&archive_read_support_format_zip, &archive_read_support_format_7zip, &archive_read_support_format_xar,
        &archive_read_support_format_iso9660, &archive_read_support_format_cab, &archive_read_support_format_lha,
        &archive_read_support_format_rar, &archive_read_support_format_rar5, &archive_read_support_format_ar,
        &archive_read_support_format_warc})
    support(in.get());
  return in;
}

/// Runs `work` on a thread that has `into` for its working directory and, as root, for its root.
Unpacked below(int into, const std::string& name, bool confine, const std::function<Unpacked(bool confined)>& work) {
  std::optional<Unpacked> result;
  std::exception_ptr error;
  // Names are bytes here; without a UTF-8 locale libarchive could not read those of pax archives.
  const std::unique_ptr<std::remove_pointer_t<locale_t>, decltype(&::freelocale)> utf8(
      ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr), &::freelocale);
  std::thread([&] {
    try {
      if (utf8) ::uselocale(utf8.get());
      if (::unshare(CLONE_FS) != 0 || ::fchdir(into) != 0)
        throw Error(Status::failed, name + ": cannot be unpacked: " + std::generic_category().message(errno));
      ::umask(022);
      // What libarchive might load to convert names is looked for before the root changes.
      if (const auto converter = ::iconv_open("UTF-8", "UTF-8"); converter != iconv_t(-1)) ::iconv_close(converter);
      // A name that got past every check would still end up in here.
      result = work(confine && ::geteuid() == 0 && ::chroot(".") == 0);
    } catch (...) {
      error = std::current_exception();
    }
    ::uselocale(LC_GLOBAL_LOCALE);
  }).join();
  if (error) std::rethrow_exception(error);
  return std::move(*result);
}

struct Feeding {
  ArchiveSource& source;
  std::exception_ptr error;
};

la_ssize_t feed(archive* in, void* context, const void** buffer) {
  auto& feeding = *static_cast<Feeding*>(context);
  try {
    const auto bytes = feeding.source.next();
    *buffer = bytes.data();
    return static_cast<la_ssize_t>(bytes.size());
  } catch (...) {
    feeding.error = std::current_exception();
    archive_set_error(in, ECANCELED, "the bytes ended too soon");
    return ARCHIVE_FATAL;
  }
}

}  // namespace

bool is_streamable(std::span<const char> head) {
  const std::string_view text(head.data(), head.size());
  using namespace std::string_view_literals;
  for (const auto magic : {"\x1f\x8b"sv, "BZh"sv,
                           "\xfd"
                           "7zXZ\0"sv,
                           "\x28\xb5\x2f\xfd"sv, "\x04\x22\x4d\x18"sv, "LZIP"sv, "\x1f\x9d"sv, "\x5d\0\0"sv, "070701"sv,
                           "070702"sv, "070707"sv, "\xc7\x71"sv, "\x71\xc7"sv})
    if (text.starts_with(magic)) return true;
  return text.size() > 262 && text.substr(257, 5) == "ustar";
}

Unpacked unpack(ArchiveSource& source, int into, const UnpackLimits& limits, const std::string& name) {
  return below(into, name, true, [&](bool confined) {
    const auto in = make_reader(true);
    Feeding feeding{source, {}};
    try {
      if (archive_read_open(in.get(), &feeding, nullptr, &feed, nullptr) < ARCHIVE_WARN)
        throw Error(Status::failed, name + ": " + why_of(in.get()));
      return Unpacking(limits, name, into, confined).run(in.get());
    } catch (const Error&) {
      if (feeding.error) std::rethrow_exception(feeding.error);
      throw;
    }
  });
}

Unpacked unpack(int file, int into, const UnpackLimits& limits, const std::string& name) {
  char head[512];
  const auto read = ::pread(file, head, sizeof head, 0);
  const bool plain = read > 0 && is_streamable({head, static_cast<std::size_t>(read)});
  return below(into, name, plain, [&](bool confined) {
    const auto in = make_reader(plain);
    if (archive_read_open_fd(in.get(), file, read_bytes) < ARCHIVE_WARN)
      throw Error(Status::failed, name + ": " + why_of(in.get()));
    return Unpacking(limits, name, into, confined).run(in.get());
  });
}

}  // namespace mesh
