#include "disk/trusted_dir.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>

#include <cerrno>
#include <climits>
#include <deque>
#include <system_error>

#include "core/error.h"
#include "core/format.h"

namespace mesh {
namespace {

namespace fs = std::filesystem;

constexpr int most_links = 40;  // as the kernel

Error trouble(const std::string& path, int error) {
  const auto status = error == ENOENT ? Status::not_found : error == EACCES ? Status::refused : Status::failed;
  return {status, printable(path) + ": " + std::generic_category().message(error)};
}

class Walk {
 public:
  Walk(const fs::path& path, const Trust& trust, mode_t make, const std::string& mend)
      : asked_(path.lexically_normal().string()), trust_(trust), make_(make), mend_(mend) {
    push(asked_);
  }

  Fd run() {
    at_ = Fd(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!at_) throw trouble("/", errno);
    judge(rest_.empty());
    while (!rest_.empty()) {
      const auto part = rest_.front();
      rest_.pop_front();
      step(part);
    }
    return std::move(at_);
  }

 private:
  void push(const std::string& path) {
    std::size_t place = 0;
    for (std::size_t at = 0; at <= path.size();) {
      const auto end = std::min(path.find('/', at), path.size());
      const auto part = path.substr(at, end - at);
      at = end + 1;
      if (!part.empty() && part != ".") rest_.insert(rest_.begin() + static_cast<std::ptrdiff_t>(place++), part);
    }
  }

  void step(const std::string& part) {
    if (part == "..") {
      Fd up(::openat(at_.get(), "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
      if (!up) throw trouble(where_, errno);
      at_ = std::move(up);
      where_ = fs::path(where_).parent_path().string();
      return judge(rest_.empty());
    }
    const auto shown = (where_ == "/" ? "" : where_) + "/" + part;
    Fd next(::openat(at_.get(), part.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!next && errno == ENOENT && make_ != 0) {
      const mode_t mode = rest_.empty() ? make_ : 0755;
      if (::mkdirat(at_.get(), part.c_str(), mode) != 0 && errno != EEXIST)
        throw Error(Status::failed, printable(shown) + ": cannot be made: " + std::generic_category().message(errno));
      next = Fd(::openat(at_.get(), part.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    }
    if (!next) throw trouble(shown, errno);
    struct stat s {};
    if (::fstat(next.get(), &s) != 0) throw trouble(shown, errno);
    if (S_ISLNK(s.st_mode)) {
      if (!is_ours(s.st_uid)) throw refuse(shown, "is a symbolic link of user " + user_name(s.st_uid), "remove it");
      if (++links_ > most_links) throw trouble(asked_, ELOOP);
      std::string target(PATH_MAX, '\0');
      const auto n = ::readlinkat(next.get(), "", target.data(), target.size());
      if (n <= 0) throw trouble(shown, n < 0 ? errno : ENOENT);
      target.resize(static_cast<std::size_t>(n));
      if (target.front() == '/') {
        at_ = Fd(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
        if (!at_) throw trouble("/", errno);
        where_ = "/";
      }
      return push(target);
    }
    if (!S_ISDIR(s.st_mode)) throw trouble(shown, ENOTDIR);
    at_ = std::move(next);
    where_ = shown;
    judge(rest_.empty());
  }

  /// Whether the directory that was reached can be trusted.
  void judge(bool last) const {
    struct stat s {};
    if (::fstat(at_.get(), &s) != 0) throw trouble(where_, errno);
    if (!is_ours(s.st_uid) && !(last && trust_.any_owner_at_end))
      throw refuse(where_, "belongs to user " + user_name(s.st_uid) + ", who could put something else in its place",
                   "chown " + user_name(::geteuid()) + " " + where_);
    if (last && trust_.any_writer_at_end) return;
    const bool sticky = (s.st_mode & S_ISVTX) != 0 && (!last || trust_.sticky_at_end);
    if (sticky) return;
    if ((s.st_mode & S_IWOTH) != 0)
      throw refuse(where_, "everybody may write to it, and put something else in place of what it holds",
                   "chmod o-w " + where_);
    if ((s.st_mode & S_IWGRP) != 0 && trust_.group != s.st_gid)
      throw refuse(where_, "its group may write to it, and put something else in place of what it holds",
                   "chmod g-w " + where_);
  }

  [[nodiscard]] static bool is_ours(uid_t owner) { return owner == 0 || owner == ::geteuid(); }
  [[nodiscard]] Error refuse(const std::string& path, const std::string& why, const std::string& how) const {
    return {Status::usage, printable(path) + ": " + why + "; mend that with: " + printable(how) +
                               (mend_.empty() ? "" : "; or " + mend_)};
  }

  std::string asked_;
  const Trust& trust_;
  mode_t make_;
  const std::string& mend_;
  std::deque<std::string> rest_;
  Fd at_;
  std::string where_ = "/";
  int links_ = 0;
};

}  // namespace

Fd open_trusted(const fs::path& path, const Trust& trust, mode_t make, const std::string& mend) {
  std::error_code ec;
  const auto absolute = fs::absolute(path, ec);
  if (ec || absolute.empty()) throw trouble(path.string(), ec ? ec.value() : ENOENT);
  return Walk(absolute, trust, make, mend).run();
}

std::string user_name(uid_t user) {
  std::string buffer(16 * 1024, '\0');
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwuid_r(user, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr)
    return printable(found->pw_name);
  return std::to_string(user);
}

std::optional<gid_t> group_number(const std::string& name) {
  if (name.empty()) return std::nullopt;
  std::string buffer(64 * 1024, '\0');
  group entry{};
  group* found = nullptr;
  if (::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr)
    throw Error(Status::usage, "--control-group " + printable(name) + ": is no group here");
  return found->gr_gid;
}

}  // namespace mesh
