// One get under way, as the parts of the getter share it. On the node's loop.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/glob.h"
#include "core/mesh_path.h"
#include "core/url.h"
#include "library/installer.h"
#include "wire/messages.h"
#include "wire/pacer.h"

namespace mesh {

struct FileJob;
using FileJobPtr = std::shared_ptr<FileJob>;

/// Where a file comes from that the mesh does not have.
struct UrlSource {
  Url url;
  std::string ca;
  int timeout = 0;                   ///< seconds
  bool ordered = false;              ///< another node has this one get it
  bool local = true;                 ///< then also from loopback and link-local addresses
  std::shared_ptr<RateLimit> limit;  ///< of the get that asks
};

/// One file of a get: what the tracker chose, and what is here.
struct Planned {
  ResolvedFile file;
  int what = 0;
  bool print = false;
  LocalState before;
  bool no_image = false;            ///< its bytes were seen, and are no disk image
  std::optional<UrlSource> origin;  ///< where it may be had if the mesh loses it
  std::optional<UrlSource> url;     ///< to be had from there; then `file` names no more than the path
  std::string sha256;               ///< that the file must have, in hex; empty: none was asked for
};

/// What a get may do about what is here already.
class LocalRules {
 public:
  virtual ~LocalRules() = default;
  /// Whether what is here stays and is what the get is about; false: the mesh's version is to be brought. Throws Error
  /// where a local file is in the way and is kept.
  [[nodiscard]] virtual bool keeps(const Planned& planned, bool force) const = 0;
  /// Why a local file is kept: what is here, what the mesh has, and who has it.
  [[nodiscard]] virtual std::string conflict(const FileEntry& wanted, const LocalState& local,
                                             const std::vector<std::uint32_t>& holders) const = 0;
};

struct GetTask {
  Get request;
  std::vector<What> wanted;             ///< the request's WHATs, read
  std::int64_t number = 0;              ///< in the state database
  std::atomic<bool> cancelled = false;  ///< all of it
  std::vector<What> except;             ///< what was cancelled of it
  std::vector<FileJobPtr> jobs;         ///< of large files, under way
  Pacer pacer;                          ///< of what comes neither from a swarm nor by one
  std::int64_t settled_bytes = 0;       ///< of files that are done
  std::int64_t total_bytes = 0;
  int files_done = 0;
  int files_total = 0;
  std::string phase;         ///< what is being waited for when nothing moves
  bool running = false;      ///< past its first question to the tracker
  std::size_t unplaced = 0;  ///< small files that have arrived and have no name yet

  /// Whether this path of it was cancelled.
  [[nodiscard]] bool excludes(std::string_view path) const {
    if (cancelled) return true;
    for (const auto& what : except)
      if (names(what, path)) return true;
    return false;
  }
  /// A get that nobody waits for does not fail for want of room: it pauses.
  [[nodiscard]] bool waits_for_room() const { return request.wait || request.detach; }
};
using GetTaskPtr = std::shared_ptr<GetTask>;

}  // namespace mesh
