// Whole swarms of real processes on loopback, for tests: a temporary directory, trackers, nodes and commands, each with
// ports of its own. Everything is stopped and removed when the Mesh goes. Polls with a deadline; nothing sleeps
// blindly.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace mesh::test {

namespace fs = std::filesystem;

/// A program that was run to its end.
struct Ran {
  int status = -1;
  std::string out;
  std::string err;
};

class Process {
 public:
  Process(std::vector<std::string> argv, const fs::path& directory, const fs::path& log);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  void signal(int number) const;
  /// Waits for the end; kills it and returns nothing when the time is up.
  std::optional<int> wait(std::chrono::seconds limit);
  [[nodiscard]] bool is_running();
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  std::optional<int> status_;
};

class Mesh {
 public:
  /// On loopback, or, with another address, in a network namespace that has it.
  explicit Mesh(std::string host = "127.0.0.1");
  ~Mesh();
  [[nodiscard]] static bool can_have_namespace();
  Mesh(const Mesh&) = delete;
  Mesh& operator=(const Mesh&) = delete;

  [[nodiscard]] const fs::path& root() const { return root_; }
  [[nodiscard]] fs::path files(const std::string& node) const { return root_ / node; }
  [[nodiscard]] std::string tracker() const { return host_ + ":" + std::to_string(tracker_port_); }

  /// From now on nodes and commands have this key; empty: none.
  void use_key(const std::string& key) { key_ = key; }
  /// The same, and the tracker begins anew with it.
  void close(const std::string& key);
  void start_tracker(std::vector<std::string> extra = {});
  void stop_tracker(int signal);
  /// Another one; `stop_second` ends it.
  [[nodiscard]] std::string start_second();
  void stop_second(int signal);
  /// Variables ("NAME=value") of the next start of a node; replaces what was said before.
  void set_environment(const std::string& node, std::vector<std::string> variables);
  /// A node's --listen.
  [[nodiscard]] std::string listen(const std::string& node);
  /// Starts meshseed and waits until its tracker knows its files.
  void start_node(const std::string& node, std::vector<std::string> extra = {});
  /// The same with other trackers, or none, and waits until its log says `until`.
  void start_node_with(const std::string& node, std::vector<std::string> extra, const std::string& until);
  void stop_node(const std::string& node, int signal);
  Process& node(const std::string& name) { return *nodes_.at(name); }
  [[nodiscard]] std::string log(const std::string& name) const;

  Ran run(std::vector<std::string> argv, std::chrono::seconds limit = std::chrono::seconds(60)) const;
  /// meshget on a node's files dir.
  Ran get(const std::string& node, std::vector<std::string> arguments,
          std::chrono::seconds limit = std::chrono::seconds(60)) const;
  Ran file(const std::string& node, std::vector<std::string> arguments) const;
  std::unique_ptr<Process> start(std::vector<std::string> argv, const std::string& log);

  /// Waits until the tracker counts this many copies in its catalog.
  [[nodiscard]] bool copies_become(int count) const;
  /// Waits until `node` would be given a version of `path` of this size: news of a change takes a moment to get around.
  [[nodiscard]] bool lists(const std::string& node, const std::string& path, std::size_t size) const;

 private:
  std::string host_;
  std::string key_;
  std::string namespace_;  ///< empty: the machine's own network
  fs::path root_;
  int tracker_port_ = 0;
  int next_port_ = 0;
  std::unique_ptr<Process> tracker_;
  std::unique_ptr<Process> second_;
  std::map<std::string, std::vector<std::string>> environment_;
  std::map<std::string, std::unique_ptr<Process>> nodes_;
  std::map<std::string, int> ports_;
};

/// A rate limit, "4M" for 4, at which a test can act while a file is on its way: a part of that where the programs are
/// a sanitizer's, as everything that the test does meanwhile takes longer as well.
[[nodiscard]] std::string megabytes_a_second(int rate);
/// The header of a qcow2 image with this backing file, and something behind it.
[[nodiscard]] std::string image(const std::string& backing, std::size_t size, std::uint64_t seed);
/// How many downloads this node has a part of.
[[nodiscard]] std::size_t partials(const Mesh& mesh, const std::string& node);
/// A namespace in which this process, which runs one test, may mount what nobody else sees. False: it may not, or there
/// is no FUSE.
[[nodiscard]] bool can_mount();
/// Polls until `done` or the time is up; returns what it said last.
bool eventually(const std::function<bool()>& done, std::chrono::seconds limit = std::chrono::seconds(20));

void write_file(const fs::path& path, const std::string& bytes);
[[nodiscard]] std::string read_file(const fs::path& path);
/// `size` bytes that differ by seed and do not compress.
[[nodiscard]] std::string noise(std::size_t size, std::uint64_t seed);
[[nodiscard]] std::string program(const std::string& name);

}  // namespace mesh::test
