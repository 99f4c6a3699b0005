// Archives from anywhere, unpacked without the help of root: nothing outside of the directory is made, changed or read.
// An even first byte: the rest is an archive as it is. An odd one: the rest describes entries, each with its kind, name
// and link, which are made into a tar.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "core/error.h"
#include "library/remove_tree.h"
#include "unpack/tree.h"
#include "unpack/unpacker.h"

namespace {

namespace fs = std::filesystem;

constexpr uid_t nobody = 65534;
fs::path base;
std::string before;

std::string look_around() {
  std::string out;
  for (const auto& item : fs::recursive_directory_iterator(base)) {
    const auto path = item.path().string().substr(base.string().size());
    if (path.starts_with("/in/")) continue;
    struct stat s {};
    if (::lstat(item.path().c_str(), &s) != 0) std::abort();
    out += path + ' ' + std::to_string(s.st_mode) + ' ' + std::to_string(s.st_size) + ' ' + std::to_string(s.st_nlink) +
           '\n';
  }
  return out;
}

std::string header(const std::string& name, const std::string& link, char type, std::size_t size) {
  std::string out(512, '\0');
  const auto put = [&](std::size_t at, const std::string& text, std::size_t most) {
    std::copy_n(text.begin(), std::min(text.size(), most), out.begin() + static_cast<std::ptrdiff_t>(at));
  };
  std::array<char, 16> number{};
  put(0, name, 100);
  put(100, "0000755", 7);
  std::snprintf(number.data(), number.size(), "%07o", ::geteuid());
  put(108, number.data(), 7);
  std::snprintf(number.data(), number.size(), "%07o", ::getegid());
  put(116, number.data(), 7);
  std::snprintf(number.data(), number.size(), "%011zo", size);
  put(124, number.data(), 11);
  put(136, "00000000001", 11);
  out[156] = type;
  put(157, link, 100);
  put(257, std::string("ustar\00000", 8), 8);
  put(148, "        ", 8);
  unsigned sum = 0;
  for (const char c : out) sum += static_cast<unsigned char>(c);
  std::snprintf(number.data(), number.size(), "%06o", sum);
  put(148, std::string(number.data()) + '\0', 7);
  return out;
}

std::string make_tar(const std::uint8_t* data, std::size_t size) {
  static const std::array<std::string, 12> parts = {"t",   "t/", "..", "../out",       "/",      "a", "/a/b",
                                                    "t/a", ".",  "//", "../../../out", "/canary"};
  std::string last_link = "t/a";
  static constexpr std::string_view types = "0512346L";
  std::string out;
  std::size_t at = 0;
  const auto byte = [&]() -> unsigned { return at < size ? data[at++] : 0; };
  const auto text = [&] {
    std::string name;
    for (auto count = byte() % 4 + 1; count > 0; --count) {
      const auto which = byte();
      name += which < 200   ? parts[which % parts.size()]
              : which < 250 ? last_link
                            : std::string(1, static_cast<char>(byte()));
    }
    name.resize(std::min<std::size_t>(name.size(), 120));
    return name;
  };
  while (at < size && out.size() < 20'000) {
    const auto how = byte();
    const char type = types[how % types.size()];
    auto name = text();
    if ((how & 64) != 0) name = "t/" + name;
    const auto link = type == '1' || type == '2' ? text() : std::string();
    const auto content = type == '0' ? std::string(byte(), 'x') : type == 'L' ? text() + '\0' : std::string();
    if (!link.empty()) last_link = name;
    out += header(name, link, type, content.size()) + content;
    out.resize((out.size() + 511) / 512 * 512);
  }
  return out + std::string(1024, '\0');
}

/// As root, the directory would be the thread's root, which hides what the checks of names miss.
class Nobody {
 public:
  Nobody() {
    if (was_root_ && (::setegid(nobody) != 0 || ::seteuid(nobody) != 0)) std::abort();
  }
  ~Nobody() {
    if (was_root_ && (::seteuid(0) != 0 || ::setegid(0) != 0)) std::abort();
  }
  Nobody(const Nobody&) = delete;
  Nobody& operator=(const Nobody&) = delete;

 private:
  bool was_root_ = ::geteuid() == 0;
};

class Bytes final : public mesh::ArchiveSource {
 public:
  explicit Bytes(std::string bytes) : bytes_(std::move(bytes)) {}
  std::span<const char> next() override {
    if (given_) return {};
    given_ = true;
    return bytes_;
  }

 private:
  std::string bytes_;
  bool given_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  std::string name = "/dev/shm/meshswarm-fuzz-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) std::abort();
  base = name;
  fs::create_directories(base / "in");
  fs::create_directories(base / "out");
  std::ofstream(base / "out/canary") << "canary";
  if (::geteuid() == 0)
    for (const auto& path : {base, base / "in", base / "out", base / "out/canary"})
      if (::lchown(path.c_str(), nobody, nobody) != 0) std::abort();
  before = look_around();
  std::atexit([] { fs::remove_all(base); });
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const Nobody as_nobody;
  const auto in = base / "in/x";
  if (::mkdir(in.c_str(), 0755) != 0) std::abort();
  const int fd = ::open(in.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  Bytes source(data[0] % 2 == 0 ? std::string(reinterpret_cast<const char*>(data) + 1, size - 1)
                                : make_tar(data + 1, size - 1));
  mesh::UnpackLimits limits;
  limits.bytes = 1 << 20;
  limits.entries = 100;
  try {
    const auto made = mesh::unpack(source, fd, limits, "fuzz");
    if (made.top.empty() || made.top.find('/') != std::string::npos || made.top == "..") std::abort();
    if (made.bytes > limits.bytes || made.entries > limits.entries) std::abort();
  } catch (const mesh::Error& error) {
    if (!std::string_view(error.what()).starts_with("fuzz: ")) std::abort();
  }
  ::close(fd);
  const int parent = ::open((base / "in").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  mesh::remove_below(parent, "x");
  ::close(parent);
  if (look_around() != before) std::abort();
  return 0;
}
