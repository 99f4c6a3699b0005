// A command's side of the local socket: connects to the node of the files dir, or, where a question needs no node, to a
// tracker. Everything here runs on one io_context that the command drives.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "disk/state_dir.h"
#include "options.h"
#include "wire/channel.h"
#include "wire/flow.h"

namespace mesh {

/// The node that runs on this files dir; null when none does. Only root's, this user's, or, with --control-group, that
/// of whoever the socket's directory belongs to. Throws Error where one runs but cannot be asked, or is not believed.
Task<ChannelPtr> find_node(const NodeOptions& options, std::string path = "/local");

/// The same, of one that may be just going or coming back: then it is waited for, `node_comes_back` at most. It is
/// where its state directory is held by a process that does not listen, or where it ended without saying so; or, with
/// `is_lost`, in any case.
inline constexpr std::chrono::seconds node_comes_back{15};
Task<ChannelPtr> find_node_patiently(const NodeOptions& options, bool is_lost);

/// Whether a node holds this lock of a state directory, as far as this user may look.
[[nodiscard]] bool is_locked(const std::filesystem::path& lock);

/// The first tracker that answers, for what needs no node. Throws Error(unreachable).
Task<ChannelPtr> find_tracker(const NodeOptions& options);

/// A number for a request that is to be done once (node/once.h).
[[nodiscard]] std::string new_once();

/// Starts a node for this files dir in a child of its own, which lives for as long as it is needed. To be called before
/// this process has threads. Returns when the child serves; throws what kept it from doing so.
void start_private_node(const NodeOptions& options);

/// A node that stays for as long as this lives: it counts as a command of it.
class HeldNode {
 public:
  /// The one that runs here, or a private one, which is started; one that just leaves is waited for. To be made before
  /// this process has threads. Throws Error(unreachable) where none runs and no tracker is known to a new one.
  /// `alone`: what is asked for may be had without any tracker (a URL).
  HeldNode(const NodeOptions& options, bool alone);
  ~HeldNode();
  HeldNode(const HeldNode&) = delete;
  HeldNode& operator=(const HeldNode&) = delete;

 private:
  bool find(const NodeOptions& options);
  std::unique_ptr<asio::io_context> io_;
  ChannelPtr channel_;
};

/// take_state, for a meshseed: a node that runs here for a command alone is asked to leave when that has ended, and
/// waited for; so is, for a few seconds, one that does not answer, as it may just be going. `say` is told of a wait.
std::unique_ptr<StateDir> take_turn(const NodeOptions& options, const std::function<void(const std::string&)>& say);

}  // namespace mesh
