// The commands of meshfile, one a file: ask, and print. Each returns the exit status; throws Error. What they are given
// must live until they have returned.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "client.h"
#include "core/error.h"
#include "wire/channel.h"
#include "wire/messages.h"

namespace mesh::meshfile {

/// What the command line says.
struct Asked {
  std::string path;
  std::vector<std::string> whats;
  Get get;
  Stream stream;
  std::vector<std::string> on;
  bool recursive = false;
  bool local = false;
  bool mesh = false;
  bool watch = false;
  bool discard = false;
  bool drop = false;
  bool quiet = false;
  bool as_json = false;
  bool force = false;
  std::string output;
  std::int64_t seconds = 0;
  std::string cacert;
  std::string url;
};

Task<Status> list(const NodeOptions& node, const Asked& asked, const Handlers& handlers);
/// Whether it names something in an object store. Throws Error(usage).
[[nodiscard]] bool is_object_url(const std::string& text);
Task<Status> list_objects(const NodeOptions& node, const Asked& asked, const Handlers& handlers);
Task<Status> put(const NodeOptions& node, const Asked& asked, const Handlers& handlers);
Task<Status> delete_objects(const NodeOptions& node, const Asked& asked, const Handlers& handlers);
Task<Status> get(const NodeOptions& node, const Asked& asked, const Handlers& handlers);
Task<Status> wait(const NodeOptions& node, const Asked& asked, const Handlers& handlers,
                  std::shared_ptr<std::vector<GetOutcome>> outcomes);
Task<Status> cancel(const NodeOptions& node, const Asked& asked, const Handlers& handlers);
Task<Status> remove(const NodeOptions& node, const Asked& asked, const Handlers& handlers);
Task<Status> stream(const NodeOptions& node, const Asked& asked, const Handlers& handlers);
Task<Status> status(const NodeOptions& node, const Asked& asked, const Handlers& handlers);
Task<Status> cache(const NodeOptions& node, const Asked& asked, const Handlers& handlers);
Task<Status> diff(const NodeOptions& node, const Asked& asked, const Handlers& handlers);
/// Looks for what is amiss (status 0: nothing, 1: something, 4: no node runs). After that this process may be another
/// user's.
Task<Status> doctor(const NodeOptions& node, const Asked& asked, const Handlers& handlers);
/// The same, where the configuration itself is.
Status diagnose_configuration(const Error& error, bool as_json);
Task<Status> info(const NodeOptions& node, const Asked& asked, const Handlers& handlers);
Task<Status> torrent(const NodeOptions& node, const Asked& asked, const Handlers& handlers);
/// What a shell may put in place of the word that is being typed: one path a line, directories with a '/'.
Task<Status> complete(const NodeOptions& node, const Asked& asked, const Handlers& handlers);

/// Straight to stdout: a reader that is slow holds up the node in turn.
void write_out(const std::string& data);

}  // namespace mesh::meshfile
