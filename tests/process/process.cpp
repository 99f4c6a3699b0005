#include "process.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace mesh::test {
namespace {

/// How many times as long as this project's own build may the programs take for everything? A sanitizer's take several.
int patience() {
  static const int times = std::getenv("MESH_BIN") != nullptr ? 4 : 1;
  return times;
}

/// Keeps a port from other test programs that run at the same time, for as long as this one runs.
bool reserve(int port) {
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  const std::string name = "meshswarm-test-port-" + std::to_string(port);
  std::copy(name.begin(), name.end(), at.sun_path + 1);  // an abstract name: gone with the process
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&at), size) == 0) return true;
  ::close(fd);
  return false;
}

/// A port from which this one and the next are free now.
int free_port_pair() {
  static std::mt19937 random{std::random_device{}()};
  const auto is_free = [](int port) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(static_cast<std::uint16_t>(port));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const bool good = ::bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0;
    ::close(fd);
    return good;
  };
  for (;;) {
    const int port = std::uniform_int_distribution<int>(20000, 31000)(random);
    if (is_free(port) && is_free(port + 1) && reserve(port) && reserve(port + 1)) return port;
  }
}

std::string big_endian(std::uint64_t value, int bytes) {
  std::string out;
  for (int i = bytes - 1; i >= 0; --i) out += static_cast<char>(value >> (8 * i) & 0xff);
  return out;
}

}  // namespace

std::string program(const std::string& name) {
  const char* elsewhere = std::getenv("MESH_BIN");
  return std::string(elsewhere != nullptr ? elsewhere : MESH_BIN_DIR) + "/" + name;
}

Process::Process(std::vector<std::string> argv, const fs::path& directory, const fs::path& log) {
  std::vector<char*> args;
  for (auto& arg : argv) args.push_back(arg.data());
  args.push_back(nullptr);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ != 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // no test leaves a daemon behind
  if (::getppid() != parent) ::_exit(127);
  const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  const int null = ::open("/dev/null", O_RDONLY);
  ::dup2(null, 0);
  ::dup2(out, 1);
  ::dup2(out, 2);
  if (::chdir(directory.c_str()) != 0) ::_exit(127);
  ::setenv("HOME", directory.c_str(), 1);
  ::execvp(args[0], args.data());
  ::_exit(127);
}

Process::~Process() {
  if (!status_) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
}

void Process::signal(int number) const { ::kill(pid_, number); }

bool Process::is_running() {
  if (status_) return false;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return true;
  status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return false;
}

std::optional<int> Process::wait(std::chrono::seconds limit) {
  if (!eventually([&] { return !is_running(); }, limit)) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    status_ = 137;
    return std::nullopt;
  }
  return status_;
}

bool Mesh::can_have_namespace() {
  return ::geteuid() == 0 &&
         std::system("ip netns add meshswarm-probe-$$ 2>/dev/null && ip netns del meshswarm-probe-$$") == 0;
}

Mesh::Mesh(std::string host) : host_(std::move(host)) {
  if (host_ != "127.0.0.1") {
    namespace_ = "meshswarm-" + std::to_string(::getpid());
    const auto in = "ip netns exec " + namespace_ + " ip ";
    if (std::system(("ip netns add " + namespace_ + " && " + in + "link set lo up && " + in + "addr add " + host_ +
                     "/24 dev lo")
                        .c_str()) != 0)
      throw std::runtime_error("cannot make the namespace " + namespace_);
  }
  std::string name = (fs::temp_directory_path() / "meshswarm-test-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make " + name);
  root_ = name;
  tracker_port_ = free_port_pair();
  start_tracker();
}

Mesh::~Mesh() {
  nodes_.clear();
  tracker_.reset();
  // Nodes that meshget started on its own have no parent here; they are told by their lock files' owner.
  run({"pkill", "-9", "-f", root_.string()});
  std::error_code ec;
  for (const auto& item : fs::recursive_directory_iterator(root_, fs::directory_options::skip_permission_denied, ec))
    if (item.is_directory(ec) && !item.is_symlink(ec))
      fs::permissions(item.path(), fs::perms::owner_all, fs::perm_options::add, ec);
  // MESH_TEST_KEEP=1 leaves files and logs for a look.
  if (std::getenv("MESH_TEST_KEEP") == nullptr) fs::remove_all(root_, ec);
  if (!namespace_.empty() && std::system(("ip netns del " + namespace_).c_str()) != 0) std::perror("ip netns del");
}

std::unique_ptr<Process> Mesh::start(std::vector<std::string> argv, const std::string& log) {
  if (!namespace_.empty()) argv.insert(argv.begin(), {"ip", "netns", "exec", namespace_});
  return std::make_unique<Process>(std::move(argv), root_, root_ / (log + ".log"));
}

void Mesh::start_tracker(std::vector<std::string> extra) {
  std::vector<std::string> argv = {program("meshtracker"), "--listen", tracker()};
  argv.insert(argv.end(), extra.begin(), extra.end());
  if (!namespace_.empty()) argv.emplace_back("--open");
  if (!key_.empty()) argv.insert(argv.end(), {"--key", key_});
  tracker_ = start(argv, "tracker");
  if (!eventually([&] { return run({"curl", "-sf", "http://" + tracker() + "/healthz"}).status == 0; }))
    throw std::runtime_error("the tracker does not serve: " + log("tracker"));
}

void Mesh::close(const std::string& key) {
  stop_tracker(SIGKILL);
  use_key(key);
  start_tracker();
}

void Mesh::stop_tracker(int number) {
  tracker_->signal(number);
  tracker_->wait(std::chrono::seconds(10));
  tracker_.reset();
}

std::string Mesh::start_second() {
  const std::string at = host_ + ":" + std::to_string(free_port_pair());
  second_ = start({program("meshtracker"), "--listen", at}, "second");
  if (!eventually([&] { return run({"curl", "-sf", "http://" + at + "/healthz"}).status == 0; }))
    throw std::runtime_error("the second tracker does not serve: " + log("second"));
  return at;
}

void Mesh::stop_second(int number) {
  second_->signal(number);
  second_->wait(std::chrono::seconds(10));
  second_.reset();
}

void Mesh::set_environment(const std::string& node, std::vector<std::string> variables) {
  environment_[node] = std::move(variables);
}

std::string Mesh::listen(const std::string& node) {
  if (!ports_.contains(node)) ports_[node] = free_port_pair();
  return host_ + ":" + std::to_string(ports_[node]);
}

void Mesh::start_node(const std::string& name, std::vector<std::string> extra) {
  extra.insert(extra.begin(), {"--tracker", tracker()});
  start_node_with(name, std::move(extra), "registered");
}

void Mesh::start_node_with(const std::string& name, std::vector<std::string> extra, const std::string& until) {
  fs::create_directories(files(name));
  const auto before = log(name);
  std::vector<std::string> argv;
  if (const auto set = environment_.find(name); set != environment_.end()) {
    argv.emplace_back("env");
    argv.insert(argv.end(), set->second.begin(), set->second.end());
  }
  argv.insert(argv.end(), {program("meshseed"), "--files", files(name).string(), "--listen", listen(name)});
  if (std::ranges::find(extra, "--name") == extra.end()) argv.insert(argv.end(), {"--name", name});
  if (!namespace_.empty()) argv.emplace_back("--open");
  if (!key_.empty()) argv.insert(argv.end(), {"--key", key_});
  argv.insert(argv.end(), extra.begin(), extra.end());
  nodes_[name] = start(argv, name);
  const auto serves = [&] {
    const auto said = log(name).substr(before.size());
    return said.find("scanned") != std::string::npos && said.find(until) != std::string::npos;
  };
  static_cast<void>(eventually([&] { return serves() || !nodes_[name]->is_running(); }, std::chrono::seconds(60)));
  if (!serves()) throw std::runtime_error(name + " does not serve: " + log(name));
}

void Mesh::stop_node(const std::string& name, int number) {
  nodes_.at(name)->signal(number);
  nodes_.at(name)->wait(std::chrono::seconds(15));
  nodes_.erase(name);
}

std::string Mesh::log(const std::string& name) const { return read_file(root_ / (name + ".log")); }

Ran Mesh::run(std::vector<std::string> argv, std::chrono::seconds limit) const {
  static std::atomic<int> counter = 0;
  const auto stem = root_ / (".run-" + std::to_string(counter++));
  const auto out = stem.string() + ".out", err = stem.string() + ".err";
  // The shell parts the two streams; arguments travel untouched.
  std::vector<std::string> wrapped = {"/bin/sh", "-c", "exec \"$@\" >\"$0.out\" 2>\"$0.err\"", stem.string()};
  if (!namespace_.empty()) wrapped.insert(wrapped.begin(), {"ip", "netns", "exec", namespace_});
  wrapped.insert(wrapped.end(), argv.begin(), argv.end());
  Process process(wrapped, root_, "/dev/null");
  Ran ran;
  ran.status = process.wait(limit).value_or(-1);
  ran.out = read_file(out);
  ran.err = read_file(err);
  fs::remove(out);
  fs::remove(err);
  return ran;
}

Ran Mesh::get(const std::string& name, std::vector<std::string> arguments, std::chrono::seconds limit) const {
  std::vector<std::string> argv = {program("meshget"), "--files", files(name).string(), "--quiet"};
  if (!key_.empty()) argv.insert(argv.end(), {"--key", key_});
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return run(argv, limit);
}

Ran Mesh::file(const std::string& name, std::vector<std::string> arguments) const {
  std::vector<std::string> argv = {program("meshfile"), "--files", files(name).string()};
  if (!key_.empty()) argv.insert(argv.end(), {"--key", key_});
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return run(argv);
}

bool Mesh::copies_become(int count) const {
  return eventually([&] {
    return run({"curl", "-s", "http://" + tracker() + "/healthz"}).out.find(" copies=" + std::to_string(count) + " ") !=
           std::string::npos;
  });
}

bool Mesh::lists(const std::string& node, const std::string& path, std::size_t size) const {
  const auto wanted = "\"size\": " + std::to_string(size) + "\n";
  return eventually([&] { return file(node, {"info", path, "--json"}).out.find(wanted) != std::string::npos; });
}

std::string megabytes_a_second(int rate) { return std::to_string(rate * 1024 / patience()) + "K"; }

std::string image(const std::string& backing, std::size_t size, std::uint64_t seed) {
  std::string out = "QFI\xfb" + big_endian(3, 4) + big_endian(backing.empty() ? 0 : 200, 8) +
                    big_endian(backing.size(), 4) + big_endian(16, 4);
  out.resize(200, '\0');
  out += backing;
  return out + noise(size, seed);
}

std::size_t partials(const Mesh& mesh, const std::string& node) {
  std::error_code ec;
  std::size_t count = 0;
  for (const auto& item : fs::directory_iterator(mesh.files(node) / ".mesh/parts", ec))
    if (item.exists(ec)) ++count;
  return count;
}

bool can_mount() {
  static const bool can = ::geteuid() == 0 && ::access("/dev/fuse", R_OK | W_OK) == 0 && ::unshare(CLONE_NEWNS) == 0 &&
                          ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
  return can;
}

bool eventually(const std::function<bool()>& done, std::chrono::seconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + patience() * limit;
  while (!done()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return true;
}

void write_file(const fs::path& path, const std::string& bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

std::string noise(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string out(size, '\0');
  for (std::size_t i = 0; i + 8 <= size; i += 8) {
    const auto word = random();
    std::copy(reinterpret_cast<const char*>(&word), reinterpret_cast<const char*>(&word) + 8, out.data() + i);
  }
  for (std::size_t i = size / 8 * 8; i < size; ++i) out[i] = static_cast<char>(random());
  return out;
}

}  // namespace mesh::test
