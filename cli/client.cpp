#include "client.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <sstream>
#include <thread>

#include "core/format.h"
#include "node/run_node.h"

namespace mesh {

namespace fs = std::filesystem;
using std::chrono::seconds;

Task<ChannelPtr> find_node(const NodeOptions& options, std::string path) {
  const auto socket = options.control_socket();
  const auto group = group_number(options.control_group);
  Trust trust{group, true};
  trust.any_owner_at_end = group.has_value();
  Fd dir;
  try {
    dir = open_trusted(socket.parent_path(), trust, 0, "name another directory with --files, --state or --control");
  } catch (const Error& error) {
    if (error.status() == Status::usage) throw;
    co_return nullptr;  // nothing is there, or nothing for this user
  }
  struct stat s {};
  const bool knows_owner = group && ::fstat(dir.get(), &s) == 0;
  const std::function<bool(uid_t)> believes = [owner = knows_owner ? s.st_uid : 0](uid_t user) {
    return user == 0 || user == ::geteuid() || user == owner;
  };
  const auto name = socket.filename().string();
  const auto shown = socket.string();
  ChannelPtr channel;
  try {
    channel = co_await connect_local(dir.get(), name, shown, believes, path);
  } catch (const Error& error) {
    if (error.status() == Status::refused) throw;
    // Nothing listens: no node, or one that is just going.
  }
  if (!channel && ::faccessat(dir.get(), name.c_str(), F_OK, 0) == 0 &&
      ::faccessat(dir.get(), name.c_str(), W_OK, 0) != 0)
    throw Error(Status::refused, shown + ": a node runs here, and this user may not ask it; run as its owner");
  co_return channel;
}

namespace {

/// Whether somebody holds the lock of the state directory: /proc/locks names its inode. (The device that it names is
/// another one than stat(2)'s on some file systems.) To take it, to see, might keep a node from its start.
bool is_held(const struct stat& lock) {
  std::ifstream locks("/proc/locks");
  const auto wanted = ":" + std::to_string(lock.st_ino) + " ";
  for (std::string line; std::getline(locks, line);)
    if (line.find("FLOCK") != std::string::npos && line.find(wanted) != std::string::npos) return true;
  return false;
}

/// Whether a node is just going, or may be about to come back, though none listens. It says in its lock where it
/// listens, and touches that while it lives. One that ends as it should takes its socket away.
bool may_come(const NodeOptions& options) {
  constexpr auto comes_back = 60;  // seconds; one that was killed longer ago is not being restarted
  struct stat socket {};
  const bool is_left = ::lstat(options.control_socket().c_str(), &socket) == 0 && S_ISSOCK(socket.st_mode);
  const auto lock = options.state_dir() / "lock";
  struct stat s {};
  if (::stat(lock.c_str(), &s) != 0) {
    // This user may not look (--control-group). What is left from before this machine began is nobody's.
    timespec up{};
    return is_left && ::clock_gettime(CLOCK_BOOTTIME, &up) == 0 &&
           socket.st_ctim.tv_sec > std::time(nullptr) - up.tv_sec;
  }
  if (std::time(nullptr) - s.st_mtim.tv_sec > comes_back) return false;
  std::string elsewhere;
  std::ifstream in(lock);
  std::getline(in, elsewhere);
  if (!elsewhere.empty() && elsewhere != options.control_socket().string()) return false;
  return is_left || is_held(s);
}

}  // namespace

bool is_locked(const fs::path& lock) {
  struct stat s {};
  return ::stat(lock.c_str(), &s) == 0 && is_held(s);
}

Task<ChannelPtr> find_node_patiently(const NodeOptions& options, bool is_lost) {
  bool is_said = false;
  for (const auto begun = std::chrono::steady_clock::now();;) {
    const ChannelPtr channel = co_await find_node(options);
    const auto waited = std::chrono::steady_clock::now() - begun;
    if (channel || waited >= node_comes_back || (!is_lost && !may_come(options))) co_return channel;
    if (waited >= seconds(1) && !std::exchange(is_said, true))
      say("meshfile", "the node of " + options.files.string() + " does not answer; it is waited for, 15 s at most");
    co_await sleep_for(std::chrono::milliseconds(100));
  }
}

Task<ChannelPtr> find_tracker(const NodeOptions& options) {
  ChannelPtr channel;
  if (!options.key_trouble.empty())
    throw Error(Status::usage, options.key_trouble + ", and no node runs on " + options.files.string());
  if (options.trackers.empty())
    throw Error(Status::unreachable,
                "no node runs on " + options.files.string() +
                    ", and no tracker is known; start meshseed, or name one with --tracker HOST:PORT");
  std::string trouble = "no tracker is reachable:";
  for (const auto& tracker : options.trackers) {
    try {
      channel = co_await connect_channel(tracker, "/control", seconds(5), options.access());
    } catch (const Error& error) {
      trouble += std::string(" ") + error.what();
    }
    if (channel) co_return channel;
  }
  throw Error(Status::unreachable, trouble);
}

std::string new_once() { return random_secret().hex().substr(0, 32); }

void start_private_node(const NodeOptions& options) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    throw Error(Status::failed, "cannot make a pipe: " + std::generic_category().message(errno));
  const pid_t child = ::fork();
  if (child < 0) throw Error(Status::failed, "cannot start a node: " + std::generic_category().message(errno));
  if (child == 0) {
    // Twice forked, so that nobody has to wait for it, and in a session of its own, so that Ctrl-C is the command's
    // alone.
    ::setsid();
    if (::fork() != 0) std::_Exit(0);
    ::close(ends[0]);
    const int null = ::open("/dev/null", O_RDWR);
    ::dup2(null, STDIN_FILENO);
    ::dup2(null, STDOUT_FILENO);
    ::dup2(null, STDERR_FILENO);
    const auto tell = [&ends](const std::string& text) {
      if (ends[1] < 0) return;  // a node that begins anew serves once more
      [[maybe_unused]] const auto written = ::write(ends[1], text.data(), text.size());
      ::close(std::exchange(ends[1], -1));
    };
    int status = 0;
    try {
      auto state = take_state(options);
      if (!state) throw already_runs(options);
      Fd file;
      NodeEvents events;
      events.begins = [&](const StateDir& at) {
        file = Fd(::openat(at.fd(), "meshget.log", O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600));
      };
      events.log = [&](const LogLine& said) {
        const std::time_t now = std::time(nullptr);
        char stamp[32];
        std::tm tm{};
        localtime_r(&now, &tm);
        std::strftime(stamp, sizeof stamp, "%F %T ", &tm);
        const std::string line = stamp + printable(said.text) + "\n";
        [[maybe_unused]] const auto written = ::write(file.get(), line.data(), line.size());
      };
      events.serves = [&](asio::io_context&) {
        tell("ready");
        return nullptr;
      };
      status = run_node(options, std::move(state), events);
    } catch (const Error& error) {
      const bool is_busy = error.code() == std::errc::device_or_resource_busy;
      tell(std::to_string(static_cast<int>(error.status())) + (is_busy ? " busy " : " - ") + error.what());
    } catch (const std::exception& error) {
      tell(std::string("1 - ") + error.what());
    }
    std::_Exit(status);
  }
  ::close(ends[1]);
  ::waitpid(child, nullptr, 0);
  std::string said;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    said.append(buffer, static_cast<std::size_t>(n));
  ::close(ends[0]);
  if (said == "ready") return;
  std::istringstream words(said);
  int status = 0;
  std::string busy;
  if (!(words >> status >> busy))
    throw Error(Status::failed,
                "the node ended before it served; see " + (options.state_dir() / "meshget.log").string());
  std::string text;
  std::getline(words >> std::ws, text, '\0');
  const auto code = busy == "busy" ? std::make_error_code(std::errc::device_or_resource_busy) : std::error_code();
  throw Error(known_status(status), text, code);
}

namespace {

/// Whether the node that runs here will leave; nothing where none answers.
Task<std::optional<bool>> ask_to_make_way(const NodeOptions& options) {
  const ChannelPtr channel = co_await find_node(options);
  if (!channel) co_return std::nullopt;
  run_to_ask(channel);
  const Handover question;
  std::optional<bool> leaves;
  try {
    const WayMade made = co_await channel->request(question, seconds(5));
    leaves = made.leaves;
  } catch (const Error&) {
    // It went in that moment.
  }
  co_return leaves;
}

}  // namespace

std::unique_ptr<StateDir> take_turn(const NodeOptions& options, const std::function<void(const std::string&)>& say) {
  constexpr auto silent_for = seconds(10);
  bool said = false;
  for (auto answered = std::chrono::steady_clock::now();;) {
    if (auto state = take_state(options)) return state;
    std::optional<bool> leaves;
    {
      asio::io_context io(1);  // gone before the wait: a node stays for as long as a command is connected
      leaves = *run_to_end(io, ask_to_make_way(options));
    }
    const auto now = std::chrono::steady_clock::now();
    if (leaves) answered = now;
    if (leaves == false || now - answered > silent_for) throw already_runs(options);
    if (leaves && !std::exchange(said, true)) say("waits for the node that a meshget started here to leave");
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

HeldNode::HeldNode(const NodeOptions& options, bool alone) {
  constexpr auto leaves_within = seconds(20);
  for (const auto begun = std::chrono::steady_clock::now(); !find(options);) {
    if (!options.key_trouble.empty())
      throw Error(Status::usage, options.key_trouble + ", and no node runs on " + options.files.string());
    // One that was in the mesh before remembers others.
    if (std::error_code ec; !alone && options.trackers.empty() && options.peers.empty() &&
                            !std::filesystem::exists(options.state_dir() / "state.db", ec))
      throw Error(Status::unreachable,
                  "no node runs on " + options.files.string() +
                      ", and no tracker is known; start meshseed, or name one with --tracker HOST:PORT, or a node with "
                      "--peer HOST:PORT");
    if (::geteuid() == 0 && !options.user.empty() && options.user != "root")
      throw Error(Status::unreachable, "no node runs on " + options.files.string() + ", whose files are to be user " +
                                           options.user + "'s; start it: systemctl start meshseed");
    try {
      start_private_node(options);
    } catch (const Error& error) {
      // Another command was quicker, or the last node is just going.
      if (error.code() != std::errc::device_or_resource_busy ||
          std::chrono::steady_clock::now() - begun > leaves_within)
        throw;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
}

HeldNode::~HeldNode() = default;

/// One that answers does not leave before this connection's end.
bool HeldNode::find(const NodeOptions& options) {
  auto io = std::make_unique<asio::io_context>(1);
  auto ask = [](const NodeOptions& node, ChannelPtr& channel) -> Task<bool> {
    channel = co_await find_node(node);
    if (!channel) co_return false;
    run_to_ask(channel);
    const PlacesAsk question;
    bool stays = false;
    try {
      const NodePaths places = co_await channel->request(question, seconds(10));
      stays = !places.leaving;
    } catch (const Error&) {
      // It went in that moment.
    }
    co_return stays;
  };
  ChannelPtr channel;
  if (!*run_to_end(*io, ask(options, channel))) return false;
  io_ = std::move(io);
  channel_ = std::move(channel);
  return true;
}

}  // namespace mesh
