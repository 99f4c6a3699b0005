// What is asked of a transfer, and by whom.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/entry.h"
#include "core/rate_limit.h"
#include "core/url.h"
#include "library/installer.h"
#include "store/object_store.h"

namespace mesh {

class Download;
using DownloadPtr = std::shared_ptr<Download>;

/// Where a file comes from that the mesh does not have.
struct UrlSource {
  Url url;
  std::string ca;
  int timeout = 0;                         ///< seconds
  bool ordered = false;                    ///< another node has this one get it
  bool local = true;                       ///< then also from loopback and link-local addresses
  std::shared_ptr<RateLimit> limit;        ///< of the get that asks
  std::shared_ptr<ObjectAccess> object{};  ///< of an object: how this node asks for it; null where it cannot
};

/// One file that is to be in the files directory.
struct FileOrder {
  FileEntry wanted;                    ///< of a URL: its path, until the origin has said more
  std::vector<std::uint32_t> holders;  ///< nodes that have it, by the tracker's keys
  LocalState before;                   ///< what is at its path here
  std::optional<UrlSource> url;        ///< to be had from there
  std::string sha256;                  ///< that the file must have, in hex; empty: none was asked for
  bool force = false;                  ///< a file that was made or changed here is replaced
  std::vector<std::string> seeds{};    ///< paths here of files that may have some of its bytes, the likeliest first
};

/// Who wants files, and how. Each of its transfers is wanted for as long as one asker wants it. On the node's loop.
class Asker {
 public:
  virtual ~Asker() = default;
  /// Whether it wants this path still.
  [[nodiscard]] virtual bool wants(std::string_view path) const = 0;
  /// Waits for whatever it takes: that nobody can be reached is no error.
  [[nodiscard]] virtual bool is_patient() const = 0;
  /// Pauses while the disk is full.
  [[nodiscard]] virtual bool waits_for_room() const = 0;
  /// Reads the file while it arrives.
  [[nodiscard]] virtual bool reads_along() const = 0;
  /// Bytes per second over all its transfers; 0: no limit.
  [[nodiscard]] virtual std::int64_t max_down() const = 0;
  [[nodiscard]] virtual std::int64_t max_up() const = 0;

  std::vector<DownloadPtr> downloads;  ///< under way
};
using AskerPtr = std::shared_ptr<Asker>;

}  // namespace mesh
