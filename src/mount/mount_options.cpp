#include "mount/mount_options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

#include "core/error.h"
#include "core/format.h"

namespace mesh {
namespace {

/// Known to the kernel, or to libfuse.
constexpr std::array passed_on{"allow_other", "ro", "noexec", "noatime", "sync", "dirsync"};
/// What is so anyway, what cannot be had (nosuid and nodev are always so), and what is for mount(8) and systemd.
constexpr std::array passed_over{"rw",         "exec",        "suid",
                                 "nosuid",     "dev",         "nodev",
                                 "atime",      "diratime",    "async",
                                 "auto",       "noauto",      "relatime",
                                 "norelatime", "strictatime", "nostrictatime",
                                 "lazytime",   "nolazytime",  "nodiratime",
                                 "user",       "users",       "group",
                                 "owner",      "nouser",      "nofail",
                                 "_netdev",    "defaults",    "default_permissions"};

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> out(1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ',')
      out.emplace_back();
    else
      out.back() += text[i] == '\\' && i + 1 < text.size() ? text[++i] : text[i];
  }
  std::erase(out, "");
  return out;
}

}  // namespace

MountOptions read_mount_options(std::string_view text) {
  MountOptions out;
  for (const auto& word : split(text)) {
    const auto equals = std::min(word.find('='), word.size());
    const auto name = word.substr(0, equals);
    const auto value = equals < word.size() ? word.substr(equals + 1) : std::string();
    const auto is_among = [&](const auto& names) { return std::ranges::find(names, word) != names.end(); };
    if (is_among(passed_on)) {
      out.for_kernel += "," + word;
    } else if (is_among(passed_over) || name.starts_with("x-") || name == "user" || name == "comment") {
      continue;
    } else if (name == "prefetch") {
      out.prefetch = value;
    } else if (name == "files") {
      out.files = value;
    } else if (name == "control") {
      out.control = value;
    } else if (name == "place") {
      out.place = value;
    } else if (name == "timeout") {
      int seconds = 0;
      const auto [end, failed] = std::from_chars(value.data(), value.data() + value.size(), seconds);
      if (failed != std::errc{} || end != value.data() + value.size() || seconds < 1 || seconds > 86'400)
        throw Error(Status::usage, "-o " + printable(word) + ": is no number of seconds from 1 to 86400");
      out.timeout = seconds;
    } else {
      throw Error(Status::usage, "-o " + printable(word) + ": is not known");
    }
  }
  return out;
}

}  // namespace mesh
