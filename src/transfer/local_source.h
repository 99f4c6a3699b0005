// A download's bytes from another path of the files directory that has the same ones: nobody is asked. On the node's
// loop.
#pragma once

#include "core/log.h"
#include "library/library.h"
#include "transfer/download.h"
#include "transfer/source.h"

namespace mesh {

class LocalSource final : public Source {
 public:
  LocalSource(Library& library, Parts& parts, const Log& log, Download& download)
      : library_(library), parts_(parts), log_(log), download_(download) {}

  /// False where there is none, or where it does not work out: then they are to come from elsewhere. The wanted file
  /// has its content id. Throws Error(interrupted).
  Task<bool> tend() override;

 private:
  Library& library_;
  Parts& parts_;
  const Log& log_;
  Download& download_;
};

}  // namespace mesh
