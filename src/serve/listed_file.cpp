#include "serve/listed_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "core/error.h"

namespace mesh {

FileStamp stamp_now(int fd) {
  struct stat s {};
  if (::fstat(fd, &s) != 0) throw Error(Status::failed, std::generic_category().message(errno));
  return stamp_of(s);
}

PathGate::Opened open_listed(const PathGate& gate, const std::string& path, std::int64_t size, std::int64_t mtime) {
  auto opened = gate.open_offered(path);
  if (opened.local.entry.size != size || opened.local.entry.mtime != mtime)
    throw Error(Status::failed, "it has changed since it was listed");
  if (PathGate::is_being_written(opened.fd.get())) throw Error(Status::failed, "somebody has it open for writing");
  return opened;
}

void read_listed(const PathGate::Opened& file, std::string& out) {
  const auto before = out.size();
  const auto size = static_cast<std::size_t>(file.local.entry.size);
  out.resize(before + size);
  const auto fail = [&](const std::string& why) {
    out.resize(before);
    throw Error(Status::failed, why);
  };
  for (std::size_t at = 0; at < size;) {
    const auto n = ::pread(file.fd.get(), out.data() + before + at, size - at, static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(std::generic_category().message(errno));
    if (n == 0) fail("became shorter while it was read");
    at += static_cast<std::size_t>(n);
  }
  if (stamp_now(file.fd.get()) != file.local.stamp) fail("it changed while it was read");
}

}  // namespace mesh
