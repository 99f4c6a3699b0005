#include "wire/http_token.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "core/error.h"
#include "core/merkle.h"
#include "disk/fd.h"
#include "wire/mesh_key.h"

namespace mesh {

std::string token_of(const std::filesystem::path& file) {
  const auto fail = [&](const std::string& why) {
    return Error(Status::usage, "--http-token " + file.string() + ": " + why);
  };
  const auto reason = [] { return std::generic_category().message(errno); };
  struct stat s {};
  if (::lstat(file.c_str(), &s) != 0 && errno == ENOENT) {
    // Whole under its name, or not there.
    const auto part = file.string() + ".new-" + std::to_string(::getpid());
    ::unlink(part.c_str());
    const auto text = random_secret().hex() + "\n";
    const Fd fresh(::open(part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fresh) throw fail(reason());
    const bool is_written =
        ::write(fresh.get(), text.data(), text.size()) == std::ssize(text) && ::fsync(fresh.get()) == 0;
    const bool is_made = is_written && (::link(part.c_str(), file.c_str()) == 0 || errno == EEXIST);
    const auto why = is_made ? std::string() : reason();
    ::unlink(part.c_str());
    if (!is_made) throw fail(why);
  }
  const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd || ::fstat(fd.get(), &s) != 0) throw fail(reason());
  if (!S_ISREG(s.st_mode)) throw fail("is no file");
  if ((s.st_mode & (S_IRWXG | S_IRWXO)) != 0)
    throw fail("others may read or change it; mend that with: chmod 600 " + file.string());
  if (s.st_uid != ::geteuid() && s.st_uid != 0) throw fail("belongs to another user");
  std::string text(512, '\0');
  text.resize(static_cast<std::size_t>(std::max<ssize_t>(0, ::read(fd.get(), text.data(), text.size()))));
  while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
  const bool is_visible = std::ranges::all_of(text, [](char c) { return c > ' ' && c < '\x7f'; });
  if (!is_visible || text.size() < 16 || text.size() > 256)
    throw fail("is not one line of 16 to 256 visible characters");
  return text;
}

bool carries_token(std::string_view authorization, std::string_view token) {
  constexpr std::string_view scheme = "bearer ";
  if (authorization.size() < scheme.size()) return false;
  const auto is_same = [](char a, char b) { return (a >= 'A' && a <= 'Z' ? static_cast<char>(a + 32) : a) == b; };
  if (!std::ranges::equal(authorization.substr(0, scheme.size()), scheme, is_same)) return false;
  auto given = authorization.substr(scheme.size());
  while (given.starts_with(' ')) given.remove_prefix(1);
  // Of the hashes: they are as long as each other, and nobody chooses what is compared.
  const auto a = sha256(given);
  const auto b = sha256(token);
  return !token.empty() && CRYPTO_memcmp(a.bytes.data(), b.bytes.data(), a.bytes.size()) == 0;
}

}  // namespace mesh
