#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/format.h"
#include "core/qcow2.h"
#include "volume/volumes.h"

namespace mesh {
namespace {

using namespace std::string_view_literals;

/// What others begin with (their own documents, and qemu's block drivers).
constexpr std::array others{std::pair{"KDMV"sv, "VMDK"},
                            std::pair{"COWD"sv, "VMDK"},
                            std::pair{"# Disk DescriptorFile"sv, "VMDK"},
                            std::pair{"vhdxfile"sv, "VHDX"},
                            std::pair{"conectix"sv, "VHD"},
                            std::pair{"<<< "sv, "VDI"},
                            std::pair{"QED\0"sv, "QED"},
                            std::pair{"OOOO"sv, "qcow"},
                            std::pair{"WithoutFreeSpace"sv, "Parallels"},
                            std::pair{"WithouFreSpacExt"sv, "Parallels"}};

}  // namespace

ImageKind image_kind(int fd, const std::string& shown) {
  const auto fail = [&](const std::string& why) { return Error(Status::failed, printable(shown) + ": " + why); };
  std::string head(most_qcow2_head_bytes, '\0');
  std::size_t size = 0;
  for (ssize_t n = 0; size < head.size() &&
                      (n = ::pread(fd, head.data() + size, head.size() - size, static_cast<off_t>(size))) != 0;) {
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw fail(std::generic_category().message(errno));
    size += static_cast<std::size_t>(n);
  }
  head.resize(size);
  struct stat s {};
  if (::fstat(fd, &s) != 0 || !S_ISREG(s.st_mode)) throw fail("is no file");
  for (const auto& [magic, name] : others)
    if (std::string_view(head).starts_with(magic))
      throw fail(std::string("is a ") + name + " image, not raw or qcow2; 'qemu-img convert -O qcow2' makes one of it");
  if (!head.starts_with("QFI\xfb")) return {Form::raw, s.st_size};
  if (head.size() >= 8 && head.substr(4, 4) == "\0\0\0\1"sv)
    throw fail("is a qcow image of the first version; 'qemu-img convert -O qcow2' makes a new one of it");
  const auto facts = read_qcow2(head);
  if (!facts) throw fail("is no sound qcow2 image");
  if (facts->is_elsewhere) throw fail("has its bytes in another file (an external data file), which is not taken");
  return {Form::qcow2, facts->size};
}

}  // namespace mesh
