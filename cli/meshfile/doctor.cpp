// `meshfile doctor`: what is amiss on this machine and between this node and the others, and what mends it. It looks at
// what a start of the node looks at, changes nothing, and runs no program.
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <set>

#include "core/format.h"
#include "core/mends.h"
#include "disk/trusted_dir.h"
#include "meshfile/commands.h"
#include "meshfile/shared.h"
#include "run_as.h"
#include "wire/mesh_key.h"

namespace mesh::meshfile {
namespace {

namespace fs = std::filesystem;

constexpr auto walk_limit = std::chrono::seconds(3);
constexpr std::size_t most_walked = 500'000;

/// What was found, in the order in which it was looked for.
class Findings {
 public:
  void ok(const std::string& check, const std::string& what) { add("OK", check, what, ""); }
  void warn(const std::string& check, const std::string& what, const std::string& mend) {
    add("WARN", check, what, mend);
  }
  void fault(const std::string& check, const std::string& what, const std::string& mend) {
    has_fault_ = true;
    add("FAULT", check, what, mend);
  }
  /// An error that a start of the node would end with: many say themselves what mends them.
  void fault(const std::string& check, const Error& error, const std::string& mend) {
    const std::string text = error.what();
    for (const std::string_view mark : {"; mend that with: ", ": mend that with: ", " mend that with: "})
      if (const auto at = text.find(mark); at != std::string::npos)
        return fault(check, text.substr(0, at), text.substr(at + mark.size()));
    fault(check, text, mend);
  }
  [[nodiscard]] bool has_fault() const { return has_fault_; }
  void print(bool as_json) const {
    json all = json::array();
    for (const auto& one : all_) {
      if (as_json)
        all.push_back({{"level", one[0]}, {"check", one[1]}, {"what", one[2]}, {"mend", one[3]}});
      else
        std::printf("%s\t%s\t%s\t%s\n", one[0].c_str(), one[1].c_str(), one[2].c_str(), one[3].c_str());
    }
    if (as_json) meshfile::print(all);
  }

 private:
  void add(const std::string& level, const std::string& check, const std::string& what, const std::string& mend) {
    all_.push_back({level, check, printable(what), printable(mend)});
  }
  std::vector<std::array<std::string, 4>> all_;
  bool has_fault_ = false;
};

std::string names_of(const std::vector<std::string>& all) {
  std::string out;
  for (std::size_t i = 0; i < std::min<std::size_t>(all.size(), 5); ++i) out += (i > 0 ? ", " : "") + all[i];
  return all.size() > 5 ? out + ", and " + std::to_string(all.size() - 5) + " more" : out;
}

void check_key(const NodeOptions& node, Findings& findings) {
  const std::string get_key = "on the head node: mesh-rollout THIS-HOST; or, of a mesh that is new, here: meshkey init";
  if (!node.key_trouble.empty() && ::geteuid() != 0)
    findings.ok("key", "is not for this user to read; the node has it");
  else if (!node.key_trouble.empty())
    findings.fault("key", Error(Status::usage, node.key_trouble), get_key);
  else if (node.keys)
    findings.ok("key", "mesh key " + node.keys->first().name + " (every node has to show the same here)");
  else if (node.open)
    findings.warn("key", "open: everyone who reaches the ports may read, delete and send files",
                  "meshkey init, and take 'open' out of the configuration");
  else
    findings.warn("key", "neither a key nor open: all stays on loopback, and other machines are not reached", get_key);
}

void check_kernel(Findings& findings) {
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH;
  const Fd root(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  const Fd fd(static_cast<int>(::syscall(SYS_openat2, root.get(), ".", &how, sizeof how)));
  if (fd || (errno != ENOSYS && errno != EPERM))
    findings.ok("openat2", "the kernel has it");
  else
    findings.fault("openat2", "the kernel has no openat2, or a sandbox forbids it",
                   "run Linux 5.6 or newer; in a container allow openat2 in its seccomp profile");
}

/// Whether it is there, and as it has to be.
bool check_directory(const NodeOptions& node, bool is_served, Findings& findings) {
  const auto where = node.files.string();
  struct stat s {};
  if (::stat(where.c_str(), &s) != 0) {
    findings.fault("files", where + ": " + std::generic_category().message(errno),
                   node.user.empty() ? "mkdir -p " + where
                                     : "install -d -o " + node.user + " -g " + node.user + " -m 2775 " + where);
    return false;
  }
  if (!S_ISDIR(s.st_mode)) {
    findings.fault("files", where + ": is no directory", "move it away, or name another one with files = in mesh.conf");
    return false;
  }
  try {
    // As a start does; where a node is at it, that one was content with it.
    if (!is_served) {
      const auto group = group_number(node.control_group);
      static_cast<void>(open_trusted(node.files, {group, true, true, true}, 0, "name another directory with --files"));
      Trust trust{group};
      if (fs::exists(node.state_dir()))
        static_cast<void>(open_trusted(node.state_dir(), trust, 0, "name another directory with --state"));
    }
  } catch (const Error& error) {
    findings.fault("files", error, "name another directory with files = in mesh.conf");
    return false;
  }
  if (!is_served && ::access(where.c_str(), R_OK | W_OK | X_OK) != 0) {
    findings.fault("files", where + ": this user may not write to it",
                   s.st_uid == ::geteuid() ? "chmod u+rwx " + where
                   : !node.user.empty()    ? "chown " + node.user + " " + where
                                           : "run it as " + user_name(s.st_uid));
    return false;
  }
  findings.ok("files", where + ": a directory of " + user_name(s.st_uid));
  return true;
}

void check_disk(const NodeOptions& node, Findings& findings) {
  const auto where = node.files.string();
  struct statfs kind {};
  if (::statfs(where.c_str(), &kind) == 0) {
    const auto type = static_cast<unsigned long>(kind.f_type);
    if (type == 0x6969UL || type == 0xFF534D42UL || type == 0xFE534D42UL)
      findings.warn("file system", where + ": is on a network file system: what others change there is not noticed",
                    "have files = name a directory on a disk of this machine");
    else if (type == 0x01021994UL)
      findings.warn("file system", where + ": is on a tmpfs: it takes memory, and is gone after a restart",
                    "have files = name a directory on a disk");
    else
      findings.ok("file system", "a local one");
  }
  struct statvfs s {};
  if (::statvfs(where.c_str(), &s) != 0) return;
  const auto free = static_cast<std::int64_t>(s.f_bavail) * static_cast<std::int64_t>(s.f_frsize);
  const auto all = static_cast<std::int64_t>(s.f_blocks) * static_cast<std::int64_t>(s.f_frsize);
  const auto left = human_bytes(free) + " free of " + human_bytes(all);
  const std::string mend(mends::disk);
  const auto room = mends::look_at_disk(free, all);
  if (room == mends::Disk::full)
    findings.fault("disk", where + ": full: " + left, mend);
  else if (room == mends::Disk::low)
    findings.warn("disk", where + ": nearly full: " + left, mend);
  else
    findings.ok("disk", left);
  // Some file systems have as many as it takes.
  if (s.f_files == 0) return;
  if (s.f_favail < 100)
    findings.fault("inodes", where + ": no inode is left for another file", "delete files, many small ones best");
  else if (s.f_favail < s.f_files / 50)
    findings.warn("inodes", where + ": " + std::to_string(s.f_favail) + " inodes are left",
                  "delete files, many small ones best");
  else
    findings.ok("inodes", std::to_string(s.f_favail) + " free");
}

/// Whose the node's directories are, where that is not root.
std::optional<uid_t> owner_of(const NodeOptions& node) {
  for (const auto& path : {node.state_dir(), node.files, node.files.parent_path()}) {
    struct stat s {};
    if (::stat(path.c_str(), &s) == 0 && s.st_uid != 0) return s.st_uid;
  }
  return std::nullopt;
}

/// What lies in the files directory: how many directories are to be watched, and links that lead out of it.
void check_tree(const NodeOptions& node, Findings& findings) {
  const auto until = std::chrono::steady_clock::now() + walk_limit;
  std::error_code ec;
  const auto root = fs::canonical(node.files, ec);
  std::vector<fs::path> inside{root};
  for (const auto& follow : node.follow)
    if (auto real = fs::canonical(follow, ec); !ec) inside.push_back(std::move(real));
  const auto lies_in = [&](const fs::path& path) {
    return std::ranges::any_of(inside, [&](const fs::path& dir) {
      return std::mismatch(dir.begin(), dir.end(), path.begin(), path.end()).first == dir.end();
    });
  };
  std::int64_t directories = 1;
  std::vector<std::string> out;
  std::int64_t shut = 0;
  std::string first_shut;
  std::size_t count = 0;
  bool is_whole = true;
  const auto options = fs::directory_options::skip_permission_denied;
  for (fs::recursive_directory_iterator it(root, options, ec), end; !ec && it != end; it.increment(ec)) {
    if (++count > most_walked || std::chrono::steady_clock::now() > until) {
      is_whole = false;
      break;
    }
    std::error_code why;
    const auto kind = it->symlink_status(why).type();
    if (kind == fs::file_type::directory && it->path().filename() == ".mesh" && it.depth() == 0) {
      it.disable_recursion_pending();
      continue;
    }
    directories += kind == fs::file_type::directory ? 1 : 0;
    if (kind == fs::file_type::regular && ::access(it->path().c_str(), R_OK) != 0) {
      ++shut;
      if (first_shut.empty()) first_shut = it->path().string();
    }
    if (kind != fs::file_type::symlink) continue;
    const auto target = fs::weakly_canonical(it->path(), why);
    if (!why && !lies_in(target)) out.push_back(it->path().lexically_relative(root).string());
  }
  if (shut > 0)
    findings.warn("readable",
                  first_shut + (shut > 1 ? " and " + std::to_string(shut - 1) + " more files" : "") +
                      ": cannot be read by user " + user_name(::geteuid()) + ", and are not in the mesh",
                  "chmod a+r, or chgrp " + user_name(::geteuid()) + " and chmod g+r, what is to be there");
  if (out.empty()) {
    findings.ok("links",
                "none leads out of the files directory" + std::string(is_whole ? "" : ", as far as was looked"));
  } else {
    findings.warn(
        "links", names_of(out) + ": lead out of the files directory, and what they lead to is not served",
        "put the files themselves there; or, where all that lies in the other directory may be served, name it "
        "with follow = in mesh.conf");
  }
  std::int64_t most = 0;
  if (!(std::ifstream("/proc/sys/fs/inotify/max_user_watches") >> most)) return;
  const auto text = std::to_string(directories) + (is_whole ? "" : " or more") + " directories, " +
                    std::to_string(most) + " watches for this user";
  if (directories > most)
    findings.fault("inotify", text + ": changes are noticed late",
                   "sysctl fs.inotify.max_user_watches=" + std::to_string(4 * directories));
  else if (directories > most / 2)
    findings.warn("inotify", text, "sysctl fs.inotify.max_user_watches=" + std::to_string(4 * directories));
  else
    findings.ok("inotify", text);
}

void check_clock(const MeshChecked& mesh, Findings& findings) {
  std::vector<std::int64_t> off;
  std::vector<std::string> others;
  for (const auto& node : mesh.nodes)
    if (node.trouble.empty()) off.push_back(node.clock_off);
  if (off.empty()) return;
  std::ranges::sort(off);
  const auto median = off[off.size() / 2];
  const auto shown = [](std::int64_t ms) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.1f s", static_cast<double>(std::abs(ms)) / 1000);
    return std::string(text.data()) + (ms > 0 ? " behind" : " ahead of");
  };
  const std::string mend = "here: " + std::string(mends::clock);
  if (std::abs(median) > mends::clock_fault_ms)
    findings.fault("clock", "this clock is " + shown(median) + " the other nodes': older versions may win", mend);
  else if (std::abs(median) > mends::clock_warn_ms)
    findings.warn("clock", "this clock is " + shown(median) + " the other nodes'", mend);
  else
    findings.ok("clock", "as the other nodes'");
  for (const auto& node : mesh.nodes)
    if (node.trouble.empty() && std::abs(node.clock_off - median) > mends::clock_warn_ms) others.push_back(node.node);
  if (!others.empty() && std::abs(median) <= mends::clock_warn_ms)
    findings.warn("clock", names_of(others) + ": other clocks than this one", "the same on those nodes");
}

void check_mesh(const MeshChecked& mesh, Findings& findings) {
  for (const auto& tracker : mesh.trackers) {
    if (tracker.trouble.empty())
      findings.ok("tracker", tracker.tracker + ": this node is registered");
    else
      findings.fault("tracker", tracker.tracker + ": " + tracker.trouble,
                     "on its host: systemctl status meshtracker; its port has to be open, and its key this one");
  }
  if (mesh.trackers.empty() && mesh.no_view.empty())
    findings.ok("index", "no tracker is named; other nodes say what there is");
  if (mesh.trackers.empty() && !mesh.no_view.empty())
    findings.fault("index", mesh.no_view, "name a tracker (tracker = in mesh.conf) or another node (peer =)");
  if (mesh.nodes.empty()) {
    findings.warn("nodes", "no other node is known", "mesh-rollout HOST... brings this mesh to other machines");
    return;
  }
  std::vector<std::string> silent;
  std::vector<std::string> differ;
  std::vector<std::string> cut_off;
  std::set<std::string> versions{mesh.version};
  std::size_t dialed = 0;
  std::string why;
  for (const auto& node : mesh.nodes) {
    if (node.is_old) {
      differ.push_back(node.node);
      continue;
    }
    if (!node.trouble.empty()) {
      silent.push_back(node.node);
      why = node.trouble;
      continue;
    }
    if (node.told.version != mesh.version) differ.push_back(node.node + " (" + node.told.version + ")");
    dialed += node.told.has_dialed ? 1 : 0;
    if (node.told.has_dialed && !(node.told.reaches_channel && node.told.reaches_peers)) cut_off.push_back(node.node);
  }
  if (differ.empty())
    findings.ok("versions", "all are of " + mesh.version);
  else
    findings.warn("versions", names_of(differ) + ": of another version than this node's " + mesh.version,
                  std::string(mends::version));
  const auto count = std::to_string(mesh.nodes.size());
  if (silent.size() == mesh.nodes.size())
    findings.fault("nodes", "none of " + count + " other nodes is reached: " + why,
                   "this machine's firewall and routes; meshfile doctor there");
  else if (!silent.empty())
    findings.warn("nodes", names_of(silent) + ": not reached: " + why,
                  "where they run no more, nothing; else their firewall, and meshfile doctor there");
  else
    findings.ok("nodes", "all of " + count + " other nodes are reached");
  const auto ports = std::to_string(mesh.peer_port) + " and " + std::to_string(mesh.channel_port);
  const auto mend = "open TCP ports " + ports +
                    " in this machine's firewall; behind an address translation name the outer " +
                    "address with advertise = in mesh.conf";
  if (dialed == 0) {
    if (silent.size() < mesh.nodes.size())
      findings.warn("ports", "no other node could try to reach this one", "meshfile doctor again, in a moment");
  } else if (cut_off.size() == dialed) {
    findings.fault("ports", "no other node reaches this one at TCP ports " + ports, mend);
  } else if (!cut_off.empty()) {
    findings.warn("ports", names_of(cut_off) + ": do not reach this node at TCP ports " + ports, mend);
  } else {
    findings.ok("ports", "other nodes reach this one at TCP ports " + ports);
  }
  check_clock(mesh, findings);
}

}  // namespace

Status diagnose_configuration(const Error& error, bool as_json) {
  Findings findings;
  findings.fault("configuration", error, "correct what it names; meshseed(8) has every setting");
  findings.print(as_json);
  return Status::failed;
}

Task<Status> doctor(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  Findings findings;
  findings.ok("configuration", "can be read");
  check_key(node, findings);
  // From here on with the rights that the node has.
  if (!node.user.empty() && ::geteuid() == 0) {
    try {
      run_as(node.user);
    } catch (const Error& error) {
      findings.fault("user", error, "user = in mesh.conf has to name one that there is");
    }
  }
  check_kernel(findings);
  ChannelPtr channel;
  std::optional<Error> refused;
  bool is_astray = false;
  try {
    channel = co_await find_node_patiently(node, false);
  } catch (const Error& error) {
    if (error.status() == Status::refused) refused = error;
    is_astray = !refused;  // it is the directory, which is looked at below
  }
  // What is somebody else's is not to be called wrong, nor to be taken from him.
  const bool is_own = !node.user.empty() && user_name(::geteuid()) == node.user;
  if (const auto owner = owner_of(node); is_astray && !is_own && owner && *owner != ::geteuid()) {
    findings.fault(
        "node", node.files.string() + ": is of user " + user_name(*owner) + ", as what runs there will be",
        "ask as that user: sudo -u " + user_name(*owner) + " meshfile --files " + node.files.string() + " doctor");
    findings.print(asked.as_json);
    co_return Status::failed;
  }
  const bool is_held = is_locked(node.state_dir() / "lock");
  const bool is_there = check_directory(node, channel != nullptr || refused || is_held, findings);
  if (is_there) check_disk(node, findings);
  if (is_there && ::access(node.files.c_str(), R_OK | X_OK) == 0) check_tree(node, findings);
  bool has_no_node = false;
  if (channel) {
    spawn(co_await asio::this_coro::executor, channel->run(handlers));
    std::optional<MeshChecked> mesh;
    std::string trouble;
    try {
      mesh = co_await channel->request(MeshCheckAsk{}, std::chrono::seconds(60));
    } catch (const Error& error) {
      trouble = error.what();
    }
    if (mesh) {
      findings.ok("node", mesh->node + " runs, and answers");
      check_mesh(*mesh, findings);
    } else {
      findings.fault("node", "does not answer: " + trouble, "systemctl restart meshseed");
    }
  } else if (refused) {
    findings.fault("node", *refused,
                   node.control_group.empty() ? "run this as root, or as the user that the node runs as"
                                              : "usermod -aG " + node.control_group + " " + user_name(::geteuid()));
  } else if (is_held) {
    findings.fault("node", "a program holds " + (node.state_dir() / "lock").string() + " and does not answer",
                   "systemctl restart meshseed; where it was started by hand, kill it, and start it again");
  } else {
    has_no_node = !findings.has_fault();
    findings.fault("node", "none runs on " + node.files.string(), "systemctl start meshseed");
  }
  findings.print(asked.as_json);
  co_return has_no_node ? Status::unreachable : findings.has_fault() ? Status::failed : Status::ok;
}

}  // namespace mesh::meshfile
