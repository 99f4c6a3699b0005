// The backing files of disk images: without them an image is of no use, so a get brings them, too, down the chain. On
// the node's loop; the images are read on the pool.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/qcow2.h"
#include "get/get_task.h"
#include "get/resolver.h"
#include "library/library.h"
#include "wire/workers.h"

namespace mesh {

/// A disk image, and the file that it says its bytes lie on top of.
struct BackedImage {
  std::string path;
  int what = 0;  ///< as in Planned
  Backing backing;
};
/// Those of `files` that are here and name a backing file (core/qcow2.h). Blocks; any thread.
[[nodiscard]] std::vector<BackedImage> find_backed(const PathGate& gate, const std::vector<const Planned*>& files);

class BackingFiles {
 public:
  /// Brings what is planned.
  using Fulfil = std::function<Task<void>(GetTaskPtr, Plan&, Results&)>;
  BackingFiles(Workers& workers, const Library& library, Resolver& resolver, Fulfil fulfil)
      : workers_(workers), library_(library), resolver_(resolver), fulfil_(std::move(fulfil)) {}

  /// Brings those of the images that are here now, and theirs.
  Task<void> get(GetTaskPtr task, const Plan& plan, Results& results);

 private:
  Task<std::optional<Error>> resolve(GetTaskPtr task, const BackedImage& image, Plan& plan);

  Workers& workers_;
  const Library& library_;
  Resolver& resolver_;
  Fulfil fulfil_;
};

}  // namespace mesh
