#include "library/tree_records.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <system_error>

#include "core/error.h"
#include "wire/codec.h"

namespace mesh {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t most_record_bytes = 16 * 1024;

bool is_same_file(const FileStamp& a, const FileStamp& b) { return a.inode != 0 && a == b; }

}  // namespace

std::optional<std::string> TreeRecords::key(int at, const std::string& name) const {
  struct statx s {};
  if (::statx(at, name.c_str(), AT_SYMLINK_NOFOLLOW, STATX_TYPE | STATX_INO | STATX_BTIME, &s) != 0 ||
      !S_ISDIR(s.stx_mode))
    return std::nullopt;
  char out[64];
  // A file system without times of birth: then the inode number alone, which a later directory may get again.
  std::snprintf(out, sizeof out, "%" PRIx64 "-%" PRIx64 ".%x", static_cast<std::uint64_t>(s.stx_ino),
                (s.stx_mask & STATX_BTIME) != 0 ? static_cast<std::uint64_t>(s.stx_btime.tv_sec) : 0,
                (s.stx_mask & STATX_BTIME) != 0 ? s.stx_btime.tv_nsec : 0);
  return out;
}

std::optional<TreeRecord> TreeRecords::read(const std::string& key) const {
  const Fd fd(::open((directory_ / key).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return std::nullopt;
  std::string bytes(most_record_bytes, '\0');
  const auto n = ::read(fd.get(), bytes.data(), bytes.size());
  if (n <= 0) return std::nullopt;
  bytes.resize(static_cast<std::size_t>(n));
  try {
    return from_bencode<TreeRecord>(bytes);
  } catch (const CodecError&) {
    return std::nullopt;  // torn: the tree counts as somebody's own
  }
}

bool TreeRecords::contains(int at, const std::string& name) const {
  const auto wanted = key(at, name);
  return wanted && ::access((directory_ / *wanted).c_str(), F_OK) == 0;
}

std::optional<TreeRecord> TreeRecords::find(int at, const std::string& name) const {
  const auto wanted = key(at, name);
  return wanted ? read(*wanted) : std::nullopt;
}

std::optional<TreeRecord> TreeRecords::find_unpacked(const std::string& parent, const ContentId& source,
                                                     const FileStamp& archive) const {
  std::error_code ec;
  for (const auto& item : fs::directory_iterator(directory_, ec)) {
    auto record = read(item.path().filename().string());
    if (!record || fs::path(record->path).parent_path() != parent) continue;
    if (!(source.is_set() && record->source == source) && !is_same_file(archive, record->archive)) continue;
    if (key(AT_FDCWD, record->path) == item.path().filename().string()) return record;
  }
  return std::nullopt;
}

void TreeRecords::put(int at, const std::string& name, const TreeRecord& record) const {
  const auto wanted = key(at, name);
  const auto fail = [&](const std::string& why) {
    return Error(Status::failed, directory_.string() + ": cannot write down what was unpacked: " + why);
  };
  if (!wanted) throw fail(std::generic_category().message(errno));
  std::error_code ec;
  fs::create_directories(directory_, ec);
  if (ec) throw fail(ec.message());
  const auto bytes = to_bencode(record);
  const auto fresh = directory_ / (".new-" + *wanted + "-" + std::to_string(::getpid()));
  const Fd fd(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd || ::write(fd.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()) ||
      ::fsync(fd.get()) != 0 || ::rename(fresh.c_str(), (directory_ / *wanted).c_str()) != 0) {
    const int error = errno;
    ::unlink(fresh.c_str());
    throw fail(std::generic_category().message(error));
  }
}

void TreeRecords::remove(int at, const std::string& name) const {
  if (const auto wanted = key(at, name)) ::unlink((directory_ / *wanted).c_str());
}

}  // namespace mesh
