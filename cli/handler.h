// What a prefix of WHAT does with a file once it is on this node, in the command that asked for it and with its rights.
// A further prefix is a class here and a line in handler_for.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "unpack/unpacker.h"
#include "wire/messages.h"

namespace mesh {

/// All calls come from one thread.
class Handler {
 public:
  virtual ~Handler() = default;

  /// The WHAT that the node is to bring; nothing where it is on this node, outside the files directory.
  [[nodiscard]] virtual std::optional<std::string> source() const = 0;
  /// Where the node keeps its files and its state. Before what follows; not called without a source.
  virtual void set_places(const NodePaths& places) = 0;
  /// The source's bytes while they arrive, from the beginning after each begin; perhaps none of them. They are not
  /// proved to be what the mesh has until `finish`. False: it has seen enough and will fail.
  virtual bool begin(const StreamBegin& file) = 0;
  virtual bool take(std::string bytes) = 0;
  /// The source is in place: does the rest, and says what to print. Without a source, of an empty outcome. Throws
  /// Error.
  virtual GetOutcome finish(GetOutcome source) = 0;
};

struct HandlerOptions {
  FilesDir files;                                ///< the files directory, absolute
  std::string state;                             ///< the state directory, where no node says so
  std::string group;                             ///< --control-group
  bool force = false;                            ///< replace what was made or changed here
  std::function<void(const std::string&)> tell;  ///< a line for the user
  UnpackLimits limits;
};

/// Null for a WHAT that is brought and left as it is. Throws Error(usage).
[[nodiscard]] std::unique_ptr<Handler> handler_for(const std::string& what, const HandlerOptions& options);

}  // namespace mesh
